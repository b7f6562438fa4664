"""Reader of one open ArrayRecord file, which chooses the fastest of the three calls that array_record offers.

Microseconds a record for records of 3 KB in a file of 50,000, on two cores with a warm page cache, medians
(``benchmarks/arrayrecord.py`` goes on measuring them):

===============================================  ============  ============
call                                             compressed    uncompressed
===============================================  ============  ============
``seek`` and ``read`` one by one                 7.2           3.5
``read([...])``, 32 in a call                    16            11
``read([...])``, 256 in a call                   5.6           3.9
``read([...])``, 2,560 in a call                 4.6           3.2
``read(start, stop)``, 256                       4.9           3.8
``read(start, stop)``, 256, tasks of 256 KiB     3.1           1.2
===============================================  ============  ============

A call of ``read([...])`` wakes up to 64 threads of array_record and looks through the index of the whole file, 1.7 us for
each thousand of its records, before it reads anything: so it pays off only for many records, and more so if they are
compressed. The calls for many records use all cores, and release the interpreter's lock. A range is cut into tasks of
``readahead_buffer_size``; with 0, which single rows need, each task is one record. All figures are with a small file buffer:
with the default of 1 MB every read copies a megabyte, which is five times as slow.

Where a disk or a network is waited for, a list takes one wait for all of its records, and lets other threads run meanwhile;
`RowWays` finds that out by the clock.
"""

import contextlib
import errno
import os
import re
import resource
from time import perf_counter, thread_time
from typing import Any, Final

from array_record.python.array_record_module import ArrayRecordReader

from datarax_core.background import usable_cores
from datarax_core.config import redacted
from datarax_core.errors import PASSING_ERRNOS, DataFileError
from datarax_core.files import RowWays, format_clause
from datarax_core.record_files import ReadError

from .next_range import NextRange

_FEW_CORES: Final = 2
_THREADS: Final = "0" if usable_cores() <= _FEW_CORES else "auto"
_BUFFER: Final = 1024
_LEAST_RANGE: Final = 16
"""Consecutive records from which on they are read as a range."""

_LEAST_LIST, _LEAST_LIST_UNCOMPRESSED = 128, 512
"""Records from which on they are read as a list."""

_ROWS_A_LISTED: Final = 700
"""Records of the file for each that is read as a list, at most: a call looks through the whole index of the file."""

_RANGE_BUFFER: Final = 1 << 18
"""Bytes that one task of a range reads: with a task for each record, to hand them out takes as long as to read."""

_RANGE_BYTES: Final = min(2 * _RANGE_BUFFER * usable_cores(), 1 << 22)
"""Bytes that one call for a range reads: two tasks for each core; more do not stay in its cache until they are decoded."""

_RANGE_RECORDS: Final = 4096
"""Records that one call for a range reads at most."""

_LEAST_RANGES: Final = 2
"""Ranges in sequence from which on the file is opened anew for ranges; four times as many after each return to rows."""

_MEMORY_LIMITS: Final = (resource.RLIMIT_AS, resource.RLIMIT_DATA)


_NO_MEMORY: Final = "the record is larger than the memory that is left"


class FileReader:
    """Open ArrayRecord file; for one thread at a time, unless it `may_be_shared`.

    Args:
        path: The file, for messages.
        local: Where it is on this machine; None if that is ``path``.

    Raises:
        DataFileError: The file is not an ArrayRecord file, or so damaged that none of its records can be read.
        OSError: This process has too many open files.
    """

    def __init__(self, path: str, local: str | None = None) -> None:
        self.path, local = path, local or path
        began, worked = perf_counter(), thread_time()
        self._local = local
        self._next: NextRange | None = None
        opened = [_opened(local, 0)]
        self._open = opened
        if not opened[0].ok():
            reason = self._reason_of_failure()
            self.close()
            if os.strerror(errno.EMFILE) in reason:
                raise OSError(
                    errno.EMFILE, "too many open files; lower max_open_files, or raise the limit (ulimit -n)", path
                )
            clause = format_clause(local, "arrayrecord")
            raise DataFileError(
                path, f"{redacted(path)} is no ArrayRecord file, or is damaged or truncated: {reason}{clause}"
            )
        self.num_records: int = opened[0].num_records()
        written = opened[0].writer_options_string() or ""
        group = re.search(r"group_size:(\d+)", written)
        self.group_size = int(group[1]) if group else 1
        least = _LEAST_LIST_UNCOMPRESSED if "uncompressed" in written else _LEAST_LIST
        # one by one, each read of a grouped record decompresses its whole group
        self._least_list = 2 if self.group_size > 1 else max(least, self.num_records // _ROWS_A_LISTED)
        self._is_limited = _memory_is_limited()
        waited = perf_counter() - began - (thread_time() - worked)
        self._ways = RowWays(
            lambda rows: _one_by_one(opened[0], rows),
            lambda rows: opened[0].read(rows),  # noqa: PLW0108 - another reader may take its place
            seconds_to_open=waited,
        )
        self._has_large_buffer = False
        self._ranges_in_sequence, self._least_ranges = 0, _LEAST_RANGES
        self.users = 1
        self._ahead: tuple[int, list[bytes]] = (-1, [])  # records that were read ahead, and the row of the first
        self._record_bytes = 1.0  # mean of the last range; the size of the file says little, since it is compressed

    def read(self, rows: list[int]) -> list[bytes]:
        """Return the records of these rows, in their order.

        Args:
            rows: One row or more, each less than `num_records`; they may repeat.

        Raises:
            ReadError: A record cannot be read, or is larger than the memory that is left. This reader cannot be used any more.
        """
        try:
            return self._read(rows)
        except MemoryError as error:
            raise ReadError(_NO_MEMORY) from error
        except (RuntimeError, IndexError) as error:  # array_record raises both for damage
            reason = _first_sentence(error)
            raise ReadError(reason) from _system_error(reason, self.path) or error

    @property
    def may_be_shared(self) -> bool:
        """Whether several threads may read at once: while rows are read as lists, since they are waited for."""
        return self._ways.is_slow and not self._is_limited

    def close(self) -> None:
        """Close the file."""
        self._leave_next()
        with contextlib.suppress(RuntimeError):  # a reader that failed raises its error again
            self._open[0].close()

    def _read(self, rows: list[int]) -> list[bytes]:
        if self.users > 1:
            return self._ways.read(rows, is_shared=True)
        if self._is_limited:
            return _one_by_one(self._open[0], rows)
        first, count = rows[0], len(rows)
        begin, held = self._ahead
        # a short range is read as one if it uses up records that were read ahead, which would stay in memory otherwise
        is_worth_it = count >= _LEAST_RANGE or begin <= first < begin + len(held)
        if (
            is_worth_it and rows[-1] - first == count - 1 and rows == list(range(first, first + count))
        ):  # rows may repeat
            return self._range(first, first + count)
        reader = self._for_rows()
        if count >= self._least_list:
            listed: list[bytes] = reader.read(rows)
            return listed
        return self._ways.read(rows)

    def _range(self, start: int, stop: int) -> list[bytes]:
        """Return the records ``start .. stop``, and read ahead if they continue the previous range and are few."""
        begin, held = self._ahead
        end = begin + len(held)
        if not begin <= start <= end:
            records = self._read_range(start, stop)
            self._ahead = (stop, [])
            return records
        if stop > end:
            more = self._read_range(end, max(stop, min(end + self._at_once, self.num_records)))
            records = held[start - begin :] + more[: stop - end]
            self._ahead = (stop, more[stop - end :])
            self._begin_next(end + len(more))
        else:
            records = held[start - begin : stop - begin]
        if stop == self.num_records:
            self._ahead = (-1, [])
            self._leave_next()
        return records

    def _begin_next(self, start: int) -> None:
        """Have a thread read the records that come after those that were read, while these are decoded."""
        if not self._has_large_buffer or self.may_be_shared or start >= self.num_records:
            return
        if self._next is None:
            self._next = NextRange.of(self._open[0])
        if self._next is not None:
            self._next.begin(start, min(start + self._at_once, self.num_records))

    def _leave_next(self) -> None:
        following, self._next = self._next, None
        if following is not None:
            following.close()

    def _read_range(self, start: int, stop: int) -> list[bytes]:
        records = (self._next and self._next.take(start)) or []
        reader, at_once = self._for_ranges(), self._at_once
        for begin in range(start + len(records), stop, at_once):
            records += reader.read(begin, min(begin + at_once, stop))
        self._record_bytes = _mean_bytes(records)
        return records

    @property
    def _at_once(self) -> int:
        """Number of consecutive records that one call reads."""
        return max(1, min(_RANGE_RECORDS, int(_RANGE_BYTES / self._record_bytes)))

    def _for_ranges(self) -> Any:
        """Return the reader for a range; once several were read in sequence, one that is opened with a large buffer."""
        self._ranges_in_sequence += 1
        if not self._has_large_buffer and self._ranges_in_sequence >= self._least_ranges and not self.may_be_shared:
            self._open_anew(large_buffer=True)
        return self._open[0]

    def _for_rows(self) -> Any:
        """Return the reader for single rows, of which one with a large buffer would read many others as well."""
        self._leave_next()
        self._ranges_in_sequence = 0
        if self._has_large_buffer:
            self._least_ranges *= 4
            self._open_anew(large_buffer=False)
        return self._open[0]

    def _open_anew(self, *, large_buffer: bool) -> None:
        """Open the file by other options, if it is still the same and there is room for one more open file."""
        reader = _opened(self._local, _RANGE_BUFFER if large_buffer else 0)
        if not reader.ok() or reader.num_records() != self.num_records:
            return
        before, self._open[0], self._has_large_buffer = self._open[0], reader, large_buffer
        before.close()

    def _reason_of_failure(self) -> str:
        """Return why the file could not be opened, which array_record says only when a record is read."""
        try:
            self._open[0].read([0])
        except (RuntimeError, MemoryError) as error:
            return _first_sentence(error)
        return "its end is missing"


def _opened(path: str, buffer: int) -> Any:
    """Return a reader whose tasks for ranges read so many bytes at once, and those for rows one record each."""
    options = f"readahead_buffer_size:{buffer},max_parallelism:{_THREADS}"
    return ArrayRecordReader(path, options=options, file_reader_buffer_size=_BUFFER)


def _one_by_one(reader: Any, rows: list[int]) -> list[bytes]:
    seek, read = reader.seek, reader.read
    records = []
    for row in rows:
        seek(row)
        records.append(read())
    return records


def _memory_is_limited() -> bool:
    """Return whether the process has a memory limit: a thread of array_record that gets no memory ends the process."""
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in _MEMORY_LIMITS)


def _mean_bytes(records: list[bytes]) -> float:
    return max(sum(map(len, records)) / len(records), 1.0)


def _system_error(reason: str, path: str) -> Exception | None:
    """Return the error of the system that array_record tells of as text, such as a failing disk; None if there is none."""
    if reason == _NO_MEMORY:
        return MemoryError(reason)
    number = next((number for number in PASSING_ERRNOS if os.strerror(number) in reason), None)
    return None if number is None else OSError(number, os.strerror(number), path)


def _first_sentence(error: Exception) -> str:
    """Return the first sentence of an error of array_record; the others repeat it for each layer that it passed."""
    if isinstance(error, MemoryError) or "allocate" in str(error):
        return _NO_MEMORY
    return str(error).partition("; ")[0].strip() or "its end is missing"
