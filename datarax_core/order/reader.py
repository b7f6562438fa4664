"""Reading an order chunk by chunk: many record indices are computed at once and handed out in small parts."""

from collections.abc import Callable
from typing import Final

import numpy as np

from datarax_core.background import Ahead

_EPOCHS_HELD: Final = 16


class OrderReader:
    """Reader of the record indices of an order, which computes one chunk of positions at a time.

    Costs O(1) a record in time, and the memory of at most two chunks, however long the epoch is. No saved state holds it.

    Args:
        compute: Function of (start, size) that returns the record indices at positions ``start`` to ``start + size``.
        capacity: Positions in a chunk; a larger request is computed and not kept.
        background: Whether a thread computes the next chunk while one is handed out, from the second chunk on. The thread
            ends when this reader is dropped.
    """

    end: int | None = None
    """The position from which on nothing is going to be asked for; None if there is none, or it is not known."""

    def __init__(self, compute: Callable[[int, int], np.ndarray], *, capacity: int, background: bool = False) -> None:
        self._compute = compute
        self._capacity = capacity
        self._background = background
        self._chunk_start = 0
        self._chunk = np.empty(0, np.int64)
        self._ahead: Ahead[np.ndarray] | None = None

    def take(self, start: int, size: int) -> np.ndarray:
        """Return the record indices at positions ``start`` to ``start + size``: int64 (size,), a read-only view."""
        offset = start - self._chunk_start
        if 0 <= offset <= len(self._chunk) - size:
            return self._chunk[offset : offset + size]
        if size > self._capacity:
            return _read_only(self._compute(start, size))
        is_first = not len(self._chunk)
        self._chunk, self._chunk_start = _read_only(self._chunk_from(start)), start
        if self._background and not is_first:  # a stream that ends in its first chunk needs no thread
            following = start + self._capacity // max(size, 1) * size
            if self.end is None or following < self.end:
                self._compute_ahead(following)
        return self._chunk[:size]

    def held(self, start: int) -> int:
        """Return how many record indices from ``start`` on are computed."""
        return max(0, len(self._chunk) - max(0, start - self._chunk_start)) if start >= self._chunk_start else 0

    def _chunk_from(self, start: int) -> np.ndarray:
        if self._ahead is not None and self._ahead.first == start:
            return self._ahead.take()
        return self._compute(start, self._capacity)

    def _compute_ahead(self, start: int) -> None:
        """Compute the chunk from ``start`` on a thread; batches of one size ask for that chunk next."""
        if self._ahead is None:
            compute, capacity = self._compute, self._capacity  # not `self`, which the thread would keep alive
            self._ahead = Ahead(lambda begin: compute(begin, capacity), name="order")
        self._ahead.cancel()
        self._ahead.request(start)


def chunk_size_of(epoch: int, batch: int, *, at_most: int) -> int:
    """Return how many positions a chunk has: whole epochs, or an even part of a long epoch, rounded up to whole batches.

    A chunk has at most ``at_most`` positions (or one batch) and 16 epochs before rounding, so that the last chunk of a loop
    does not reach far past the loop's end.
    """
    held = max(batch, min(at_most, _EPOCHS_HELD * epoch))
    wanted = held // epoch * epoch or -(-epoch // -(-epoch // held))
    return -(-wanted // batch) * batch


def _read_only(indices: np.ndarray) -> np.ndarray:
    indices.flags.writeable = False
    return indices
