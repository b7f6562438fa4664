"""Consecutive records that a thread reads while the records before them are decoded."""

import contextlib
from typing import Any, Final
from weakref import WeakSet

from datarax_core.background import Ahead

_MOST_THREADS: Final = 16
"""Files of this process that have such a thread at once, at most: loops over more of them read without."""

_open: Final[WeakSet[Ahead[list[bytes]]]] = WeakSet()


class NextRange:
    """Range of records that a thread reads, of a file that is read in sequence; one at a time.

    array_record reads one range by several threads of its own, without the interpreter's lock; what Python does with the
    records before, such as decoding, then costs no time of reading. Memory: the records of one range.

    Args:
        reader: Reader of array_record, which nobody else uses before `take` or `close` returns.
    """

    def __init__(self, reader: Any) -> None:
        self._thread: Ahead[list[bytes]] = Ahead(lambda rows: reader.read(*rows), name="range")
        _open.add(self._thread)

    @classmethod
    def of(cls, reader: Any) -> "NextRange | None":
        """Return one for a reader; None if the process has as many threads as it may have, or the system starts no more."""
        if len(_open) >= _MOST_THREADS:
            return None
        with contextlib.suppress(RuntimeError):
            return cls(reader)
        return None

    def begin(self, start: int, stop: int) -> None:
        """Begin to read the records ``start .. stop``. What was begun before must have been taken."""
        self._thread.request((start, stop))

    def take(self, start: int) -> list[bytes] | None:
        """Wait for the records that are being read, and return them; None if there are none, or they begin elsewhere.

        Raises:
            RuntimeError, IndexError, MemoryError: array_record raised it.
        """
        if not len(self._thread):
            return None
        begun: Any = self._thread.first
        records = self._thread.take()
        return records if begun[0] == start else None

    def close(self) -> None:
        """Wait for the records that are being read, leave them, and end the thread."""
        with contextlib.suppress(Exception):  # whoever reads them next gets the error
            self.take(-1)
        self._thread.close()
        _open.discard(self._thread)
