"""What one stored value of bytes becomes: an array of a declared shape and dtype."""

import math
import zlib
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

    def put(self, encoded: bytes, out: AnyArray) -> None:
        """Fill an array of the declared shape, contiguous."""

    def new(self, encoded: bytes) -> AnyArray:
        """The value as an array of its own."""


class TensorItem(NamedTuple):
    """Tensors as their little-endian bytes, deflated or not."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    is_deflated: bool = False

    def put(self, encoded: bytes, out: AnyArray) -> None:
        """See `Item`."""
        raw = self._raw(encoded)
        if len(raw) != out.nbytes:
            raise Unfit(f"{len(raw)} bytes")
        memory = out.reshape(-1).view(np.uint8)
        memory[:] = np.frombuffer(raw, np.uint8)
        self._check(memory)

    def new(self, encoded: bytes, shape: tuple[int | None, ...] | None = None) -> AnyArray:
        """See `Item`; of another shape, if one is given."""
        raw = self._raw(encoded)
        sizes = [-1 if size is None else size for size in (self.shape if shape is None else shape)]
        if len(raw) % self.dtype.itemsize:
            raise Unfit(f"{len(raw)} bytes")
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


def is_fixed(shape: tuple[int | None, ...]) -> bool:
    """Whether every size is declared."""
    return None not in shape


def stacked(item: Item, values: list[bytes]) -> AnyArray:
    """The items of a sequence as one array; as an array of arrays, where they differ in shape."""
    if is_fixed(item.shape):
        whole = np.empty((len(values), *item.shape), item.dtype)  # type: ignore[arg-type]  # it is fixed
        for place, value in enumerate(values):
            item.put(value, whole[place])
        return whole
    arrays = [item.new(value) for value in values]
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    if not arrays:
        return np.empty((0, *(size or 0 for size in item.shape)), item.dtype)
    return objects(arrays)


def objects(values: list[Any]) -> AnyArray:
    """An array of these objects, whatever they are."""
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):  # an assignment in one would look into arrays
        cells[place] = value
    return cells


def size_of(shape: tuple[int, ...]) -> int:
    """How many values."""
    return math.prod(shape)
