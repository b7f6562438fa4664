"""Stored records of the batches that a loop fetches next, those of many batches read by one call."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from datarax_core.background import renew_in_forks
from datarax_core.sources.reading_ahead import Watch

_MOST_BYTES: Final = 16 << 20
"""Bytes of the batches that are read by one call, at most."""

_MOST_BATCHES: Final = 64
"""Batches that are read by one call, at most."""


class StoredAhead:
    """Stored records of the batches that a loop fetches next: the first that is fetched is read together with others.

    A call for many records costs less a record than one for few: most of all where they lie in several files, each of which
    has few records of a batch. No thread is used. Memory: the bytes of the batches that were read and not fetched, 16 MiB at
    most; larger batches are read by themselves.

    The first call is for one batch, and each for four times as many as the one before, so that a loop need not wait long.

    Args:
        read: Returns the stored records at int64 (k,) indices. If it raises, the batches are read again when they are
            fetched, each by itself, which raises the error at its batch.
        record_bytes: Mean size of a record, as far as known.
        watch: Measures each call of ``read``.
    """

    def __init__(self, read: Callable[[np.ndarray], list[bytes]], record_bytes: float, watch: Watch) -> None:
        self._read = read
        self._record_bytes = max(1.0, record_bytes)
        self._watch = watch
        self._batches_at_once = 1
        self._lock = threading.Lock()  # another loop over the same files may take a batch, which is then read for both
        self._waiting: deque[ExpectedRecords] = deque()
        self._rows_waiting = 0
        self._expected: dict[bytes, deque[ExpectedRecords]] = {}
        self._readings: list[tuple[Any, int]] = []
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave all batches: the loop is the parent's."""
        self._lock = threading.Lock()
        self.close()

    @property
    def has_room(self) -> bool:
        """Whether more batches are worth beginning: those for the next call are not all known."""
        return len(self._waiting) < _MOST_BATCHES and self._rows_waiting * self._record_bytes < _MOST_BYTES

    def begin(self, indices: np.ndarray) -> "ExpectedRecords | None":
        """Note the records at int64 (k,) ``indices``, which are fetched after all that were begun before.

        Returns None for a batch that is read by itself.
        """
        if not self.has_room or len(indices) * self._record_bytes > _MOST_BYTES or _are_neighbours(indices):
            return None
        expected = ExpectedRecords(self, indices)
        with self._lock:
            self._waiting.append(expected)
            self._rows_waiting += len(indices)
            self._expected.setdefault(expected.key, deque()).append(expected)
        return expected

    def take(self, indices: np.ndarray) -> list[bytes] | None:
        """Return the records of a batch that was begun; None if it was not, or could not be read with others."""
        key = indices.tobytes()
        if key not in self._expected:
            return None
        with self._lock:
            if key not in self._expected:
                return None
            expected = self._expected[key][0]
            self._leave(expected)
            if not expected.was_read:
                self._read_with_others(expected)
        stored, expected.stored = expected.stored, None
        return stored

    def take_readings(self) -> list[tuple[Any, int]]:
        """Return what was measured since the last call, with the number of batches that each reading was for."""
        readings, self._readings = self._readings, []
        return readings

    def leave(self, expected: "ExpectedRecords") -> None:
        """Leave a batch that nobody is going to fetch."""
        with self._lock:
            if expected in self._expected.get(expected.key, ()):
                self._leave(expected)

    def close(self) -> None:
        """Leave all batches that were begun."""
        with self._lock:
            self._waiting.clear()
            self._expected.clear()
            self._rows_waiting = 0

    def _leave(self, expected: "ExpectedRecords") -> None:
        batches = self._expected[expected.key]
        batches.remove(expected)
        if not batches:
            del self._expected[expected.key]
        if not expected.was_read:
            self._waiting.remove(expected)
            self._rows_waiting -= len(expected.indices)

    def _read_with_others(self, first: "ExpectedRecords") -> None:
        batches, rows = [first], len(first.indices)
        while self._waiting and len(batches) < self._batches_at_once:
            more = len(self._waiting[0].indices)
            if (rows + more) * self._record_bytes > _MOST_BYTES:
                break
            batches.append(self._waiting.popleft())
            rows += more
            self._rows_waiting -= more
        for batch in batches:
            batch.was_read = True
        self._batches_at_once = min(4 * self._batches_at_once, _MOST_BATCHES)
        if len(batches) == 1:
            return  # whoever takes it reads it, and raises what reading raises
        try:
            watch = self._watch()
            stored = self._read(np.concatenate([batch.indices for batch in batches]))
            self._readings.append((watch.read(rows), len(batches)))
        except Exception:  # noqa: BLE001 - each batch is read again by whoever takes it, and its own error is raised
            return
        self._record_bytes = max(1.0, sum(map(len, stored)) / max(1, rows))
        start = 0
        for batch in batches:
            stop = start + len(batch.indices)
            batch.stored = stored[start:stop]
            start = stop


class ExpectedRecords:
    """A batch that is fetched soon.

    Args:
        ahead: Of the loop that fetches it.
        indices: int64 (k,): its records.
    """

    __slots__ = ("_ahead", "indices", "key", "stored", "was_read")

    def __init__(self, ahead: StoredAhead, indices: np.ndarray) -> None:
        self._ahead = ahead
        self.indices = indices
        self.key = indices.tobytes()
        self.stored: list[bytes] | None = None
        self.was_read = False

    def cancel(self) -> None:
        """Note that nobody is going to fetch it."""
        self._ahead.leave(self)


def _are_neighbours(indices: np.ndarray) -> bool:
    """Return whether the records are one after another, or none: no others make reading them faster."""
    return not len(indices) or bool(
        indices[-1] - indices[0] == len(indices) - 1 and (indices[1:] - indices[:-1] == 1).all()
    )
