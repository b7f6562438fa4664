"""Records of ArrayRecord files, read by array_record's own reader, many rows of a file in one call.

The reader needs two precautions, which core's `OpenFiles` takes: of a file that was changed it returns ``b""``, and in a forked
process, where its threads do not exist, it waits for ever.
"""

import contextlib
from collections.abc import Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import Any, Final

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from datarax_core.background import usable_cores
from datarax_core.errors import DataFileError
from datarax_core.files import RowWays
from datarax_core.sources import FileTable, OpenFiles
from datarax_tfds.splits import FilePart

from .table import UnreadableError, require_count

_MAX_IDLE: Final = 256
_FEW_CORES: Final = 2
_OPTIONS: Final = f"readahead_buffer_size:0,max_parallelism:{'0' if usable_cores() <= _FEW_CORES else 'auto'}"
_BUFFER: Final = 4096
"""Bytes that each read of a record copies; array_record's default is a megabyte."""

_LIST: Final = 64
_RANGE: Final = 16
"""Rows, and neighbouring rows, from which on one call reads all: it costs 0.2 ms, and a read of one row 5 to 10 us."""


class ArrayRecordFiles:
    """Records of the parts of a table; any number of threads may read, each with readers of its own.

    Args:
        table: The parts.
        parts: The same parts, with the number of records that each file should have.

    Raises:
        DataFileError: A file is damaged, is no ArrayRecord file, or has another number of records than it should.
    """

    def __init__(self, table: FileTable, parts: Sequence[FilePart]) -> None:
        self._table = table
        self._files = OpenFiles(table, ArrayRecordFile, limit=_MAX_IDLE, not_in_forks="readers of ArrayRecord files")
        for number, part in enumerate(parts):
            require_count(part, self._files.use(number, lambda file: file.num_records))

    def read(self, records: np.ndarray) -> list[bytes]:
        """Return the records at int64 (k,) record indices, in their order.

        Raises:
            UnreadableError: A record cannot be read.
            DataFileError: A file changed since the table was made.
            RuntimeError: This process is a fork of the one in which the files were opened.
        """
        self._files.require_own_process()
        return self._table.read_by_part(records, self._read_rows)

    def close(self) -> None:
        """Close all readers that are not in use; the next read opens them again."""
        self._files.close()

    def _read_rows(self, part: int, rows: list[int]) -> list[bytes]:
        try:
            return self._files.use(part, lambda file: file.read(rows))
        except UnreadableRow as error:
            record = error.row + int(self._table.offsets[part])
            raise UnreadableError(record, error.reason) from error.__cause__


class UnreadableRow(Exception):  # noqa: N818 - the caller, who knows the part, raises UnreadableError from it
    """Error of a row of one file that cannot be read; ``reason`` is the reader's own."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason


class ArrayRecordFile:
    """An open ArrayRecord file.

    Raises:
        DataFileError: The file is damaged, or is no ArrayRecord file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        began, worked = perf_counter(), thread_time()
        self._reader = _reader_of(path)
        waited = perf_counter() - began - (thread_time() - worked)
        self._ways = RowWays(partial(_one_by_one, self._reader), self._reader.read, seconds_to_open=waited)
        self.users = 1

    @property
    def num_records(self) -> int:
        """Number of records of the file."""
        return int(self._reader.num_records())

    def read(self, rows: list[int]) -> list[bytes]:
        """Return the records in these rows, in their order.

        Raises:
            UnreadableRow: A row cannot be read.
        """
        try:
            return self._read(rows)
        except (RuntimeError, IndexError, MemoryError):
            self._find_unreadable(rows)
            raise

    @property
    def may_be_shared(self) -> bool:
        """Whether several threads may read at once: while rows are read as lists, since they are waited for."""
        return self._ways.is_slow

    def close(self) -> None:
        """Close the file."""
        _close(self._reader)

    def _read(self, rows: list[int]) -> list[bytes]:
        if self.users > 1:
            return self._ways.read(rows, is_shared=True)
        first, count = rows[0], len(rows)
        if count >= _RANGE and _are_neighbours(rows):
            in_range: list[bytes] = self._reader.read(first, first + count)
            return in_range
        if count >= _LIST:
            listed: list[bytes] = self._reader.read(rows)
            return listed
        return self._ways.read(rows)

    def _find_unreadable(self, rows: list[int]) -> None:
        """Read row by row, since the error of a call does not name the row, and raise `UnreadableRow` for the first bad one."""
        reader = _reader_of(self._path)  # a reader that failed once fails for ever
        try:
            for row in rows:
                try:
                    reader.read([row])
                except (RuntimeError, IndexError, MemoryError) as error:
                    raise UnreadableRow(row, _reason_of(error)) from error
        finally:
            _close(reader)


def _reader_of(path: str) -> Any:
    reader = ArrayRecordReader(path, options=_OPTIONS, file_reader_buffer_size=_BUFFER)
    if reader.ok():
        return reader
    reason = "its end is missing"
    try:
        reader.read([0])
    except (RuntimeError, MemoryError) as error:
        reason = _reason_of(error)
    _close(reader)
    raise DataFileError(
        path,
        f"{path} is no ArrayRecord file, or is damaged or truncated: {reason}; copy the file again, or prepare the data set "
        "anew",
    )


def _one_by_one(reader: Any, rows: list[int]) -> list[bytes]:
    records = []
    for row in rows:
        reader.seek(row)
        records.append(reader.read())
    return records


def _are_neighbours(rows: list[int]) -> bool:
    first, count = rows[0], len(rows)
    return rows[-1] - first == count - 1 and rows == list(range(first, first + count))  # rows may repeat


def _reason_of(error: Exception) -> str:
    return str(error).partition("; ")[0].strip() or "its end is missing"


def _close(reader: Any) -> None:
    with contextlib.suppress(RuntimeError):  # a reader that failed before raises its error again
        reader.close()
