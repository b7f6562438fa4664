"""What one stored value of bytes becomes: an array of a declared shape and dtype."""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from .numbers import AnyArray
from .stored import Unfit, counted


class Item(Protocol):
    """What takes values of bytes to arrays."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """None where any size will do."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the arrays."""

    def fill(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """Fill the rows of a contiguous array of the declared shape; or, if that varies, of objects, with an array each.

        Raises:
            Unfit: Bytes are no such array.
        """


class TensorItem(NamedTuple):
    """Tensors as their little-endian bytes, deflated or not."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    is_deflated: bool = False

    def fill(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """See `Item`."""
        if None in self.shape:
            for row, value in enumerate(encoded):
                out[row] = self.array(value)
        else:
            self._copy(encoded, out.reshape(-1).view(np.uint8))

    def array(self, encoded: bytes) -> AnyArray:
        """The tensor of one value, as an array of its own; raises as `fill` does."""
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
        try:
            return zlib.decompress(encoded)
        except zlib.error as error:
            raise Unfit(f"bytes that do not inflate ({error})") from error

    def _check(self, raw: AnyArray) -> None:
        if self.dtype == np.bool_ and raw.size and raw.max() > 1:
            raise Unfit(f"the byte {raw.max()}")


def stacked(item: Item, encoded: Sequence[bytes]) -> AnyArray:
    """The items of a sequence as one array; as an array of arrays, where they differ in shape."""
    if None not in item.shape:
        whole = np.empty((len(encoded), *item.shape), item.dtype)  # type: ignore[type-var]  # all are declared
        item.fill(encoded, whole)
        return whole
    arrays = np.empty(len(encoded), object)
    item.fill(encoded, arrays)
    if not encoded:
        return np.empty((0, *(size or 0 for size in item.shape)), item.dtype)
    return np.stack(list(arrays)) if len({array.shape for array in arrays}) == 1 else arrays


def objects(values: Sequence[Any]) -> AnyArray:
    """An array of these objects, whatever they are."""
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):  # an assignment in one would look into arrays
        cells[place] = value
    return cells
