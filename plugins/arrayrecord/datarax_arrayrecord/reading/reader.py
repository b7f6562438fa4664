"""One open ArrayRecord file, read by the quickest of the ways that its reader offers.

Measured once, on two cores, page cache warm, records of 3 KB; microseconds a record, the best of twelve runs (what stays
measured, the first two ways and ranges, is in ``benchmarks/arrayrecord.py``):

===================================  ============  ============
way                                  compressed    uncompressed
===================================  ============  ============
``seek`` and ``read`` one by one     11            5
``read([...])``, 256 in a call       9             7
``read([...])``, 32 in a call        16            15
``read(start, stop)``, 256           6.6           4.4
``read(start, stop)``, 1,024         5.3           3.0
===================================  ============  ============

A call of ``read([...])`` costs a fifth of a millisecond before it reads anything, so that it pays for many compressed
records at once only. All of it with a file buffer of 4 KB: with the default of 1 MB every read copies that much, which
is five times as slow. Without the reader's own threads (``max_parallelism:0``), which gain nothing on two cores; a
machine with more of them has them decompress what is read at once.
"""

import contextlib
import errno
import os
import re
import resource
from typing import Any, Final

from array_record.python.array_record_module import ArrayRecordReader

from datarax_core.errors import DataFileError

_FEW_CORES: Final = 2
_THREADS: Final = "0" if (os.cpu_count() or 1) <= _FEW_CORES else "auto"
_BUFFER: Final = 4096
_RANGE: Final = 16
"""Neighbours that are read as a range."""

_LIST: Final = 128
"""Compressed records that are read in one call."""

_STRETCH_RECORDS: Final = 1024
_STRETCH_BYTES: Final = 1 << 22
"""What is read at once, at most, of a file that is read from front to back."""

_LIMITS: Final = (resource.RLIMIT_AS, resource.RLIMIT_DATA)


class ReadError(Exception):
    """Some of the records that were asked for cannot be read. The reader is of no use any more."""


class FileReader:
    """An open file; for one thread at a time.

    Raises:
        DataFileError: It is no ArrayRecord file, or damaged so that none of it can be read.
        OSError: This process has too many files open.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        options = f"readahead_buffer_size:0,max_parallelism:{_THREADS}"
        self._reader: Any = ArrayRecordReader(path, options=options, file_reader_buffer_size=_BUFFER)
        if not self._reader.ok():
            reason = self._trouble()
            self.close()
            if os.strerror(errno.EMFILE) in reason:
                raise OSError(
                    errno.EMFILE, "too many open files; lower max_open_files, or raise the limit (ulimit -n)", path
                )
            raise DataFileError(path, f"{path} is no ArrayRecord file, or is damaged or truncated: {reason}")
        self.num_records: int = self._reader.num_records()
        written = self._reader.writer_options_string() or ""
        group = re.search(r"group_size:(\d+)", written)
        self.group_size = int(group[1]) if group else 1
        self._reads_lists = self.group_size > 1 or "uncompressed" not in written
        self._list = 2 if self.group_size > 1 else _LIST  # one by one, each would decompress its whole group again
        self._is_limited = _memory_is_limited()
        self._ahead: tuple[int, list[bytes]] = (-1, [])
        self._record_bytes = 1.0  # of those read last: in the file, compressed, they may be a thousandth of it

    def read(self, rows: list[int]) -> list[bytes]:
        """The records in these rows, in their order.

        Args:
            rows: At least one, all less than `num_records`; some may be the same.

        Raises:
            ReadError: One of them cannot be read, or is larger than the memory.
        """
        try:
            return self._read(rows)
        except (RuntimeError, IndexError, MemoryError) as error:  # array_record raises them for damage of any kind
            raise ReadError(_reason(error)) from error

    def close(self) -> None:
        """Give the file back."""
        with contextlib.suppress(RuntimeError):  # which a reader that has failed before raises again
            self._reader.close()

    def _read(self, rows: list[int]) -> list[bytes]:
        if self._is_limited:
            return self._one_by_one(rows)
        first, count = rows[0], len(rows)
        begin, held = self._ahead
        pays = count >= _RANGE or begin <= first < begin + len(held)  # else the end of a file would stay held
        if pays and rows[-1] - first == count - 1 and rows == list(range(first, first + count)):  # rows may repeat
            return self._range(first, first + count)
        if self._reads_lists and count >= self._list:
            listed: list[bytes] = self._reader.read(rows)
            return listed
        return self._one_by_one(rows)

    def _one_by_one(self, rows: list[int]) -> list[bytes]:
        reader, records = self._reader, []
        for row in rows:
            reader.seek(row)
            records.append(reader.read())
        return records

    def _range(self, start: int, stop: int) -> list[bytes]:
        """The records ``start .. stop``. Whoever goes on where they end is reading it all, and finds the next ones read."""
        begin, held = self._ahead
        end = begin + len(held)
        if not begin <= start <= end:
            records: list[bytes] = self._reader.read(start, stop)
            self._ahead, self._record_bytes = (stop, []), _mean_bytes(records)
            return records
        if stop > end:
            ahead = min(_STRETCH_RECORDS, int(_STRETCH_BYTES / self._record_bytes))
            more = self._reader.read(end, min(max(stop, end + ahead), self.num_records))
            records = held[start - begin :] + more[: stop - end]
            self._ahead, self._record_bytes = (end, more), _mean_bytes(more)
        else:
            records = held[start - begin : stop - begin]
        if stop == self.num_records:
            self._ahead = (-1, [])
        return records

    def _trouble(self) -> str:
        try:
            self._reader.read([0])
        except (RuntimeError, MemoryError) as error:
            return _reason(error)
        return "its end is missing"


def _memory_is_limited() -> bool:
    """Whether the system may refuse memory: a thread of array_record's own that is refused any ends the process."""
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in _LIMITS)


def _mean_bytes(records: list[bytes]) -> float:
    return max(sum(map(len, records)) / len(records), 1.0)


def _reason(error: Exception) -> str:
    """The first sentence of what array_record says: the rest repeats it for each layer that it came through."""
    if isinstance(error, MemoryError) or "allocate" in str(error):
        return "the record is larger than the memory that is left"
    return str(error).partition("; ")[0].strip() or "its end is missing"
