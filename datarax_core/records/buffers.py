"""Memory of batches that is used again once nobody refers to it: new memory is mapped and cleared page by page."""

import math
from collections import deque
from typing import Any, Final

import numpy as np

from .gathers import aligned_empty

_MOST_RESTING: Final = 32 << 20
"""Bytes of one shape that are kept between two uses at most."""


class Buffers:
    """Arrays of one shape and dtype in memory that arrays before them had, aligned as JAX takes it over on a CPU.

    `new` returns an array that nobody else refers to. Its memory comes back when the array is gone, and with it all views of it
    and all JAX arrays that took it over: an array is never written to while anyone can read it. The allocator would give memory
    of a megabyte back to the system instead, and the next batch would cost a page fault for each 4 KiB of it: up to twice the
    time of the copy, in some processes and not in others.

    Args:
        shape: Of the arrays.
        dtype: Of the arrays, one that NumPy has itself.
        kept: Arrays whose memory is kept while nobody uses them, at most.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, kept: int) -> None:
        self._shape, self._dtype = shape, dtype
        self._kept = _Kept(kept)

    def new(self) -> np.ndarray:
        """Return an array, not filled; write to it only before JAX takes it over."""
        kept = self._kept
        try:
            memory = kept.free.pop()
        except IndexError:
            array = aligned_empty(self._shape, self._dtype)
            memory = array, array.__array_interface__
        return np.asarray(_Lent(memory, kept))

    def rest(self) -> None:
        """Keep little memory until the next `new`, and none of large arrays."""
        if self._kept.most * math.prod(self._shape) * np.dtype(self._dtype).itemsize > _MOST_RESTING:
            self._kept.free.clear()


class _Kept:
    """Memory that nobody uses, each an array and its interface, as arrays give it back."""

    __slots__ = ("free", "most")

    def __init__(self, most: int) -> None:
        self.free: deque[tuple[np.ndarray, dict[str, Any]]] = deque()
        self.most = most


class _Lent:
    """The owner of the memory of an array: the ``base`` of the array, which goes with the last that refers to it."""

    __slots__ = ("__array_interface__", "_array", "_kept")

    def __init__(self, memory: tuple[np.ndarray, dict[str, Any]], kept: _Kept) -> None:
        self._array, self.__array_interface__ = memory
        self._kept = kept

    def __del__(self) -> None:
        kept = self._kept
        if len(kept.free) < kept.most:
            kept.free.append((self._array, self.__array_interface__))
