"""Reader of one open ArrayRecord file, which chooses the fastest of the three calls that array_record offers.

Microseconds a record for records of 3 KB, on two cores with a warm page cache, the best of twelve runs
(``benchmarks/arrayrecord.py`` goes on measuring the first two calls and ranges):

===================================  ============  ============
call                                 compressed    uncompressed
===================================  ============  ============
``seek`` and ``read`` one by one     11            5
``read([...])``, 256 in a call       9             7
``read([...])``, 32 in a call        16            15
``read(start, stop)``, 256           6.6           4.4
``read(start, stop)``, 1,024         5.3           3.0
===================================  ============  ============

A call of ``read([...])`` takes a fifth of a millisecond before it reads anything, so that it pays off only for many
compressed records. All figures are with a file buffer of 4 KB: with the default of 1 MB every read copies a megabyte, which
is five times as slow. They are without the reader's own threads (``max_parallelism:0``), which gain nothing on two cores; on a
machine with more cores, threads decompress the records of one call.

Where a disk or a network is waited for, a list takes one wait for all of its records, and lets other threads run meanwhile;
`RowWays` finds that out by the clock.
"""

import contextlib
import errno
import os
import re
import resource
from functools import partial
from time import perf_counter, thread_time
from typing import Any, Final

from array_record.python.array_record_module import ArrayRecordReader

from datarax_core.config import redacted
from datarax_core.errors import PASSING_ERRNOS, DataFileError
from datarax_core.files import RowWays, format_clause
from datarax_core.record_files import ReadError

_FEW_CORES: Final = 2
_THREADS: Final = "0" if (os.cpu_count() or 1) <= _FEW_CORES else "auto"
_BUFFER: Final = 4096
_LEAST_RANGE: Final = 16
"""Consecutive records from which on they are read as a range."""

_LEAST_LIST: Final = 128
"""Compressed records from which on they are read as a list."""

_MOST_AHEAD_RECORDS: Final = 1024
_MOST_AHEAD_BYTES: Final = 1 << 22
"""Records and bytes that are read ahead, at most, of a file that is read from front to back."""

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
        options = f"readahead_buffer_size:0,max_parallelism:{_THREADS}"
        self._reader: Any = ArrayRecordReader(local, options=options, file_reader_buffer_size=_BUFFER)
        if not self._reader.ok():
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
        self.num_records: int = self._reader.num_records()
        written = self._reader.writer_options_string() or ""
        group = re.search(r"group_size:(\d+)", written)
        self.group_size = int(group[1]) if group else 1
        self._reads_lists = self.group_size > 1 or "uncompressed" not in written
        # one by one, each read of a grouped record decompresses its whole group
        self._least_list = 2 if self.group_size > 1 else _LEAST_LIST
        self._is_limited = _memory_is_limited()
        waited = perf_counter() - began - (thread_time() - worked)
        self._ways = RowWays(partial(_one_by_one, self._reader), self._reader.read, seconds_to_open=waited)
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
        with contextlib.suppress(RuntimeError):  # a reader that failed raises its error again
            self._reader.close()

    def _read(self, rows: list[int]) -> list[bytes]:
        if self.users > 1:
            return self._ways.read(rows, is_shared=True)
        if self._is_limited:
            return _one_by_one(self._reader, rows)
        first, count = rows[0], len(rows)
        begin, held = self._ahead
        # a short range is read as one if it uses up records that were read ahead, which would stay in memory otherwise
        is_worth_it = count >= _LEAST_RANGE or begin <= first < begin + len(held)
        if (
            is_worth_it and rows[-1] - first == count - 1 and rows == list(range(first, first + count))
        ):  # rows may repeat
            return self._range(first, first + count)
        if self._reads_lists and count >= self._least_list:
            listed: list[bytes] = self._reader.read(rows)
            return listed
        return self._ways.read(rows)

    def _range(self, start: int, stop: int) -> list[bytes]:
        """Return the records ``start .. stop``, and read ahead if they continue the previous range."""
        begin, held = self._ahead
        end = begin + len(held)
        if not begin <= start <= end:
            records: list[bytes] = self._reader.read(start, stop)
            self._ahead, self._record_bytes = (stop, []), _mean_bytes(records)
            return records
        if stop > end:
            ahead = min(_MOST_AHEAD_RECORDS, int(_MOST_AHEAD_BYTES / self._record_bytes))
            more = self._reader.read(end, min(max(stop, end + ahead), self.num_records))
            records = held[start - begin :] + more[: stop - end]
            self._ahead, self._record_bytes = (end, more), _mean_bytes(more)
        else:
            records = held[start - begin : stop - begin]
        if stop == self.num_records:
            self._ahead = (-1, [])
        return records

    def _reason_of_failure(self) -> str:
        """Return why the file could not be opened, which array_record says only when a record is read."""
        try:
            self._reader.read([0])
        except (RuntimeError, MemoryError) as error:
            return _first_sentence(error)
        return "its end is missing"


def _one_by_one(reader: Any, rows: list[int]) -> list[bytes]:
    records = []
    for row in rows:
        reader.seek(row)
        records.append(reader.read())
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
