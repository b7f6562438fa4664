"""Reading an order chunk by chunk: the record indices of many positions are computed at once and served in small parts."""

from collections.abc import Callable
from typing import Final

import numpy as np

from datarax_core.background import Ahead

_EPOCHS_HELD: Final = 16


class OrderReader:
    """Record indices at O(1) a record, however large the epoch. Bounded, and never part of a state.

    Args:
        compute: The records at positions ``(start, size)``.
        capacity: How many positions are held; a request for more is computed and not held.
        background: Whether a stream that outlasts the first stretch has the next one computed on a thread, while one is
            served. The thread ends when the window is dropped.
    """

    def __init__(self, compute: Callable[[int, int], np.ndarray], *, capacity: int, background: bool = False) -> None:
        self._compute = compute
        self._capacity = capacity
        self._background = background
        self._start = 0
        self._held = np.empty(0, np.int64)
        self._ahead: Ahead[np.ndarray] | None = None

    def take(self, start: int, size: int) -> np.ndarray:
        """int64 (size,): the records at ``start .. start + size``; a read-only view."""
        at = start - self._start
        if 0 <= at <= len(self._held) - size:
            return self._held[at : at + size]
        if size > self._capacity:
            return _read_only(self._compute(start, size))
        is_first = not len(self._held)
        self._held, self._start = _read_only(self._stretch(start)), start
        if self._background and not is_first:
            self._begin(start + self._capacity // max(size, 1) * size)
        return self._held[:size]

    def _stretch(self, start: int) -> np.ndarray:
        if self._ahead is not None and self._ahead.first == start:
            return self._ahead.take()
        return self._compute(start, self._capacity)

    def _begin(self, start: int) -> None:
        """Have the stretch from ``start`` on computed; it is what batches of one size ask for next."""
        if self._ahead is None:
            compute, capacity = self._compute, self._capacity
            self._ahead = Ahead(lambda begin: compute(begin, capacity), name="order")
        self._ahead.cancel()
        self._ahead.request(start)


def chunk_size_of(epoch: int, batch: int, *, at_most: int) -> int:
    """How many positions to hold: whole epochs, but no more than a loop may want soon, or an even part of a long one.

    So the last stretch of a loop does not reach far past its end.
    """
    held = max(batch, min(at_most, _EPOCHS_HELD * epoch))
    wanted = held // epoch * epoch or -(-epoch // -(-epoch // held))
    return -(-wanted // batch) * batch


def _read_only(indices: np.ndarray) -> np.ndarray:
    indices.flags.writeable = False
    return indices
