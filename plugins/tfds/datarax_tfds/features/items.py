"""Items: arrays of a declared shape and dtype that are stored as one value of bytes each."""

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from datarax_core.records import Ragged

from .numbers import AnyArray
from .stored import Unfit, counted


class Item(Protocol):
    """Decoder of values of bytes to arrays."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of the arrays; None for a size that varies."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the arrays."""

    def check(self, encoded: bytes) -> None:
        """Look, without decoding, whether a value can be an array of the declared shape: a declared size is not trusted.

        Raises:
            Unfit: It cannot be one.
        """

    def fill(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """Decode values into the rows of ``out``: a contiguous array of the declared shape or, if that varies, of objects.

        Raises:
            Unfit: A value cannot be decoded to such an array.
        """

    def ragged(self, encoded: Sequence[bytes]) -> Ragged | None:
        """Return values of varying shape as a ragged column, each decoded where it belongs; None if there is no such way.

        Raises:
            Unfit: A value cannot be decoded to such an array.
        """


class TensorItem(NamedTuple):
    """Tensors stored as their little-endian bytes, deflated (zlib) or not."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    is_deflated: bool = False

    def check(self, encoded: bytes) -> None:
        """Raise `Unfit` if a value has not as many bytes as the array takes; see `Item.check`."""
        size = self._size
        if size is not None and len(raw := self._raw(encoded)) != size:
            raise Unfit(counted(len(raw), "byte"))

    @property
    def _size(self) -> int | None:
        """Bytes of an array; None if a size of it varies."""
        sizes = [size for size in self.shape if size is not None]
        return math.prod(sizes) * self.dtype.itemsize if len(sizes) == len(self.shape) else None

    def fill(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """Copy or inflate the tensors; see `Item.fill`."""
        if None in self.shape:
            for row, value in enumerate(encoded):
                out[row] = self.array(value)
        else:
            self._copy(encoded, out.reshape(-1).view(np.uint8))

    def ragged(self, encoded: Sequence[bytes]) -> Ragged | None:  # noqa: ARG002 - the signature of Item
        """Return None: tensors are copied in any case."""
        return None

    def array(self, encoded: bytes) -> AnyArray:
        """Return the tensor of one value as a new array; raises as `fill` does."""
        raw = self._raw(encoded)
        self._check(np.frombuffer(raw, np.uint8))
        try:
            return np.frombuffer(raw, self.dtype).reshape([-1 if size is None else size for size in self.shape]).copy()
        except ValueError:
            raise Unfit(counted(len(raw), "byte")) from None

    def _copy(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        memory = out.data
        size, start = out.size // max(1, len(encoded)), 0
        for value in encoded:
            raw = self._raw(value)
            if len(raw) != size:
                raise Unfit(counted(len(raw), "byte"))
            memory[start : start + size] = raw
            start += size
        self._check(out)

    def _raw(self, encoded: bytes) -> bytes:
        if not self.is_deflated:
            return encoded
        # A value is inflated up to the size that it should have, and not beyond.
        inflate, size = zlib.decompressobj(), self._size
        try:
            raw = inflate.decompress(encoded, 0 if size is None else size + 1)
        except zlib.error as error:
            raise Unfit(f"bytes that do not inflate ({error})") from error
        if not inflate.eof:
            is_long = size is not None and len(raw) > size
            raise Unfit(f"more than {counted(size or 0, 'byte')}" if is_long else "bytes that do not inflate (cut off)")
        return raw

    def _check(self, raw: AnyArray) -> None:
        if self.dtype == np.bool_ and raw.size and raw.max() > 1:
            raise Unfit(f"the byte {raw.max()}")


def sequence_array(item: Item, encoded: Sequence[bytes]) -> AnyArray:
    """Return the items of a sequence as one array; as an array of arrays if they differ in shape."""
    if encoded:
        item.check(encoded[0])
    if None not in item.shape:
        whole = np.empty((len(encoded), *item.shape), item.dtype)  # type: ignore[type-var]  # all are declared
        item.fill(encoded, whole)
        return whole
    arrays = np.empty(len(encoded), object)
    item.fill(encoded, arrays)
    if not encoded:
        return np.empty((0, *(size or 0 for size in item.shape)), item.dtype)
    return np.stack(list(arrays)) if len({array.shape for array in arrays}) == 1 else arrays


def object_array(values: Sequence[Any]) -> AnyArray:
    """Return a one-dimensional array of objects with these values, whatever they are."""
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):  # one assignment of all would make NumPy look into arrays
        cells[place] = value
    return cells
