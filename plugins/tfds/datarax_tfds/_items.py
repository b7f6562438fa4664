"""What one stored value of bytes becomes: an array of a declared shape and dtype."""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ._numbers import AnyArray
from ._undecodable import Unfit


class Item(Protocol):
    """What takes a value of bytes to an array. Both ways raise `Unfit` for bytes that are no such array."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """None where any size will do."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the arrays."""

    def put_rows(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """Fill the rows of a contiguous array, each of the declared shape."""

    def new(self, encoded: bytes) -> AnyArray:
        """The value as an array of its own."""


class TensorItem(NamedTuple):
    """Tensors as their little-endian bytes, deflated or not."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    is_deflated: bool = False

    def put_rows(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """See `Item`."""
        memory = out.reshape(-1).view(np.uint8).data
        size, start = memory.nbytes // max(1, len(encoded)), 0
        for value in encoded:
            raw = self._raw(value)
            if len(raw) != size:
                raise Unfit(f"{len(raw)} bytes")
            memory[start : start + size] = raw
            start += size
        self._check(out.reshape(-1).view(np.uint8))

    def new(self, encoded: bytes) -> AnyArray:
        """See `Item`."""
        raw = self._raw(encoded)
        sizes = [-1 if size is None else size for size in self.shape]
        self._check(np.frombuffer(raw, np.uint8))
        try:
            return np.frombuffer(raw, self.dtype).reshape(sizes).copy()
        except ValueError:
            raise Unfit(f"{len(raw)} bytes") from None

    def _raw(self, encoded: bytes) -> bytes:
        if not self.is_deflated:
            return encoded
        try:
            return zlib.decompress(encoded)
        except zlib.error as error:
            raise Unfit(f"bytes that do not inflate ({error})") from error

    def _check(self, memory: AnyArray) -> None:
        if self.dtype == np.bool_ and memory.size and memory.max() > 1:
            raise Unfit(f"the byte {memory.max()}, which is no bool")


def put_all(item: Item, encoded: Sequence[bytes], out: AnyArray) -> None:
    """Fill the rows of ``out``, of the declared shape or, if that varies, objects."""
    if None not in item.shape:
        item.put_rows(encoded, out)
        return
    for row, value in enumerate(encoded):
        out[row] = item.new(value)


def stacked(item: Item, values: list[bytes]) -> AnyArray:
    """The items of a sequence as one array; as an array of arrays, where they differ in shape."""
    if None not in item.shape:
        whole = np.empty((len(values), *item.shape), item.dtype)  # type: ignore[arg-type]  # all are declared
        item.put_rows(values, whole)
        return whole
    arrays = [item.new(value) for value in values]
    if not arrays:
        return np.empty((0, *(size or 0 for size in item.shape)), item.dtype)
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else objects(arrays)


def objects(values: list[Any]) -> AnyArray:
    """An array of these objects, whatever they are."""
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):  # an assignment in one would look into arrays
        cells[place] = value
    return cells
