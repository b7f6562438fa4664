"""Records of ArrayRecord files by array_record's own reader, whole batches of each file in one call.

What its reader is silent about is looked after here: a file that changed is read as ``b""``, and in a forked process its
threads are not there, so that it would wait for ever.
"""

import contextlib
import os
import threading
from collections import OrderedDict
from itertools import pairwise
from typing import Any, Final

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from datarax_core.errors import DataFileError

from .table import FileTable, UnreadableError

_MAX_IDLE: Final = 256
_FEW_CORES: Final = 2
_OPTIONS: Final = f"readahead_buffer_size:0,max_parallelism:{'0' if (os.cpu_count() or 1) <= _FEW_CORES else 'auto'}"
_BUFFER: Final = 4096
"""Bytes; with the default of a megabyte every read of a record copies that much."""

_LIST: Final = 64
_RANGE: Final = 16
"""So many rows, or neighbours, are read in one call: it costs a fifth of a millisecond, and a read by itself 5 to 10 us."""


class ArrayRecordFiles:
    """Reads records of the parts of a table; from any number of threads, each of which has readers of its own by turns.

    Args:
        table: The parts.

    Raises:
        DataFileError: A file is damaged or foreign, or has not as many records as it should.
    """

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._idle = _Idle()
        self._process = os.getpid()
        for part in range(len(table.parts)):
            reader = self._take(part)
            table.require_count(part, int(reader.num_records()))
            table.require_same(part)
            self._give_back(part, reader)

    def __getstate__(self) -> dict[str, Any]:
        return {"table": self._table}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._table = state["table"]
        self._idle = _Idle()
        self._process = os.getpid()

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records, in the order of ``indices``.

        Raises:
            UnreadableError: One of them cannot be read.
            DataFileError: A file is not the one that it was.
            RuntimeError: This process is a fork of the one that the source was built in.
        """
        self._require_own_process()
        if not len(indices):
            return []
        parts = self._table.parts_of(indices)
        rows = self._table.rows_of(indices, parts)
        if (parts == parts[0]).all():
            return self._read(int(parts[0]), rows.tolist(), range(len(rows)))
        order = np.argsort(indices, kind="stable")
        sorted_parts = parts[order]
        edges = [0, *(np.flatnonzero(np.diff(sorted_parts)) + 1).tolist(), len(order)]
        places: list[int] = order.tolist()
        sorted_rows: list[int] = rows[order].tolist()
        records = [b""] * len(places)
        for begin, end in pairwise(edges):
            here = places[begin:end]
            found = self._read(int(sorted_parts[begin]), sorted_rows[begin:end], here)
            for place, record in zip(here, found, strict=True):
                records[place] = record
        return records

    def close(self) -> None:
        """Close all readers that nobody uses; they are opened again when they are needed."""
        self._idle.close()

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _read(self, part: int, rows: list[int], places: Any) -> list[bytes]:
        """The records in these rows of the file of a part; ``places`` says where in the call each of them stands."""
        reader = self._take(part)
        try:
            records = _rows(reader, rows)
        except BaseException as error:  # an interrupted reader, too, may stand anywhere
            _close(reader)
            self._table.require_same(part)  # if it changed, that is what went wrong
            if not isinstance(error, RuntimeError | IndexError | MemoryError):
                raise
            self._find_unreadable(part, rows, places)
            raise
        self._table.require_same(part)
        self._give_back(part, reader)
        return records

    def _find_unreadable(self, part: int, rows: list[int], places: Any) -> None:
        """Say which of the rows it is that cannot be read: a call that fails does not."""
        for place, row in zip(places, rows, strict=True):
            reader = self._take(part)  # one that failed is of no use any more
            try:
                reader.read([row])
            except (RuntimeError, IndexError, MemoryError) as error:
                _close(reader)
                raise UnreadableError(place, str(error).partition("; ")[0].strip() or "its end is missing") from error
            self._give_back(part, reader)

    def _take(self, part: int) -> Any:
        path = self._table.parts[part].path
        reader = self._idle.take(path)
        if reader is None:
            self._table.require_same(part)
            reader = _opened(path)
        return reader

    def _give_back(self, part: int, reader: Any) -> None:
        self._idle.give_back(self._table.parts[part].path, reader)

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this source was built in process {self._process} and is used in a fork of it, {os.getpid()}, where readers "
                "of ArrayRecord files hang; start processes by 'spawn' or 'forkserver' (of a PyTorch DataLoader: "
                "multiprocessing_context='spawn'), or build the source in the child"
            )


class _Idle:
    """Open readers that nobody uses, a bounded number of them: those unused for longest are closed."""

    def __init__(self) -> None:
        self._readers: OrderedDict[str, list[Any]] = OrderedDict()  # by path, those used last at the end
        self._count = 0
        self._lock = threading.Lock()

    def take(self, path: str) -> Any:
        """An open reader of a file; None if there is none."""
        with self._lock:
            readers = self._readers.pop(path, None)
            if readers is None:
                return None
            self._count -= 1
            reader = readers.pop()
            if readers:  # several threads read this file at once
                self._readers[path] = readers
            return reader

    def give_back(self, path: str, reader: Any) -> None:
        """Keep a reader for the next one who takes it."""
        unused = None
        with self._lock:
            self._readers.setdefault(path, []).append(reader)
            self._readers.move_to_end(path)
            self._count += 1
            if self._count > _MAX_IDLE:
                oldest, readers = next(iter(self._readers.items()))
                unused = readers.pop()
                self._count -= 1
                if not readers:
                    del self._readers[oldest]
        if unused is not None:
            _close(unused)

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            idle = [reader for readers in self._readers.values() for reader in readers]
            self._readers.clear()
            self._count = 0
        for reader in idle:
            _close(reader)


def _opened(path: str) -> Any:
    reader = ArrayRecordReader(path, options=_OPTIONS, file_reader_buffer_size=_BUFFER)
    if reader.ok():
        return reader
    reason = "its end is missing"
    try:
        reader.read([0])
    except (RuntimeError, MemoryError) as error:
        reason = str(error).partition("; ")[0].strip() or reason
    _close(reader)
    raise DataFileError(
        path,
        f"{path} is no ArrayRecord file, or is damaged or truncated: {reason}; copy the file again, or prepare the data set "
        "anew",
    )


def _rows(reader: Any, rows: list[int]) -> list[bytes]:
    first, count = rows[0], len(rows)
    records: list[bytes]
    if (
        count >= _RANGE and rows[-1] - first == count - 1 and rows == list(range(first, first + count))
    ):  # they may repeat
        records = reader.read(first, first + count)
    elif count >= _LIST:
        records = reader.read(rows)
    else:
        records = []
        for row in rows:
            reader.seek(row)
            records.append(reader.read())
    return records


def _close(reader: Any) -> None:
    with contextlib.suppress(RuntimeError):  # which a reader that has failed before raises again
        reader.close()
