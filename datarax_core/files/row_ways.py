"""Choice between reading rows of a file one by one and as a list, made by timing the reads of that file on this machine."""

from collections.abc import Callable
from time import perf_counter
from typing import Final

_SLOW: Final = 3e-4
"""Seconds of a row from which on rows are waited for: one call, which waits for all of them at once, is quicker."""

_SLOW_TO_OPEN: Final = 10e-3
"""Seconds that opening a file waited from which on its rows are taken to be waited for, too."""

_AS_GOOD: Final = 1.5
"""Factor of the time of a row by which it may be slower in a list."""

_AT_ONCE: Final = 16
"""Rows that are read one by one before the clock is looked at."""

_QUICK_LISTS: Final = 64
"""Lists in sequence, of a slow file, that did not wait, after which it is taken to be quick."""


class RowWays:
    """Chooses, for one open file, between two ways to read rows: one by one, and as a list.

    One by one is the quickest way to rows that lie in memory, and the slowest to rows that are waited for: a network or a disk
    answers many requests of a list at the same time. Which it is is found with the first row, and again as the file is read.

    Several threads may read lists at once.

    Args:
        read_singly: Returns the records of some rows, read one after another.
        read_list: Returns the same, read by one call.
        seconds_to_open: How long opening the file waited.
    """

    def __init__(
        self,
        read_singly: Callable[[list[int]], list[bytes]],
        read_list: Callable[[list[int]], list[bytes]],
        *,
        seconds_to_open: float = 0.0,
    ) -> None:
        self._read_singly = read_singly
        self._read_list = read_list
        self._is_known = False
        self.is_slow = seconds_to_open > _SLOW_TO_OPEN
        """Whether rows are waited for, as far as known."""
        self._quick_lists = 0

    def read(self, rows: list[int], *, is_shared: bool = False) -> list[bytes]:
        """Return the records of rows, in their order, by the way that is quicker here; by a list if other threads read, too."""
        if self.is_slow or is_shared:
            return self._listed(rows)
        records: list[bytes] = []
        at_once, was_slow = _AT_ONCE if self._is_known else 1, 0.0
        while len(records) < len(rows):
            at, began = len(records), perf_counter()
            records += self._read_singly(rows[at : at + at_once])
            of_row = (perf_counter() - began) / (len(records) - at)
            if of_row > _SLOW and (was_slow or len(rows) == 1):  # twice: another process may have had the processor
                records += self._rest_as_list(rows[len(records) :], min(of_row, was_slow or of_row))
                break
            was_slow = of_row if of_row > _SLOW else 0.0
            self._is_known, at_once = True, 1 if was_slow else _AT_ONCE
        return records

    def _rest_as_list(self, rows: list[int], of_single: float) -> list[bytes]:
        """Return the rest of the rows as a list, and go on with lists unless they are slower than rows one by one.

        A list of one row is as good, since it lets other threads run while it waits.
        """
        began = perf_counter()
        records = self._read_list(rows) if rows else []
        if not rows or (perf_counter() - began) / len(rows) < _AS_GOOD * of_single:
            self.is_slow, self._quick_lists = True, 0
        return records

    def _listed(self, rows: list[int]) -> list[bytes]:
        began = perf_counter()
        records = self._read_list(rows)
        self._quick_lists = self._quick_lists + 1 if perf_counter() - began < _SLOW * len(rows) ** 0.5 else 0
        if self._quick_lists > _QUICK_LISTS:
            self.is_slow, self._is_known = False, False
        return records
