"""Records of TFRecord files by their index, without TensorFlow, each verified by its checksums as it is read.

Files are read with ``pread``, not mapped: a file that is truncated under a map ends the process, whatever was checked
before. Measured with records of 3 KB in the page cache, that costs a microsecond a record more where they lie apart, and
nothing where they are neighbours, which are read in one call.
"""

import os
import threading
from collections import OrderedDict
from typing import Any, Final

import google_crc32c
import numpy as np

from .table import FileTable, Stamp, UnreadableError
from .tfrecord_index import HEADER, OVERHEAD, kept_offsets, length_checksums, masked, record_offsets

_FOOTER: Final = OVERHEAD - HEADER
_HEADER: Final = np.dtype([("length", "<u8"), ("checksum", "<u4")])
_RUN_BYTES: Final = 1 << 20
"""Neighbours are read together up to the next multiple of this in their file."""


class TFRecordFiles:
    """Reads records of the parts of a table; from any number of threads.

    Args:
        table: The parts.

    Raises:
        DataFileError: A file is compressed, truncated, damaged or foreign, or has not as many records as it should.
    """

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._offsets = _joined_offsets(table)
        self._open = Descriptors(table)

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records, in the order of ``indices``; those that lie beside one another in a file are read at once.

        Raises:
            UnreadableError: One of them is not as its checksums say.
            DataFileError: A file is not the one that it was.
        """
        if not len(indices):
            return []
        parts = self._table.parts_of(indices)
        at = indices + parts  # each part has one more offset than records
        order = np.argsort(at, kind="stable")
        sorted_at = at[order]
        begins, ends = self._offsets[sorted_at], self._offsets[sorted_at + 1]
        starts_run = np.diff(sorted_at, prepend=-2) > 1
        starts_run[1:] |= begins[1:] // _RUN_BYTES != begins[:-1] // _RUN_BYTES
        runs = np.flatnonzero(starts_run)
        found = _Found(order, begins, ends)
        run_parts = parts[order[runs]].tolist()
        for first, last, part in zip(runs.tolist(), [*runs[1:].tolist(), len(order)], run_parts, strict=True):
            base = int(begins[first])
            found.take(first, last, self._open.read(part, base, int(ends[last - 1])), base)
        wrong = found.first_wrong()
        for part in set(run_parts):
            self._open.require_same(part)
        if wrong is not None:
            raise UnreadableError(*wrong)
        return found.records

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        self._open.close()


def _joined_offsets(table: FileTable) -> np.ndarray:
    """int64 (n + parts,): where the records of each part begin, and the last one of it ends, part after part."""
    by_path: dict[str, np.ndarray] = {}
    joined = [np.empty(0, np.int64)]
    for number, (part, stamp) in enumerate(zip(table.parts, table.stamps, strict=True)):
        if part.path not in by_path:
            by_path = {part.path: _offsets_of(part.path, stamp)}  # the parts of one file stand together
            table.require_count(number, len(by_path[part.path]) - 1)
        joined.append(by_path[part.path][part.start : part.stop + 1])
    return np.concatenate(joined)


def _offsets_of(path: str, stamp: Stamp) -> np.ndarray:
    def find() -> np.ndarray:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offsets = record_offsets(path, descriptor, stamp.size)
        finally:
            os.close(descriptor)
            stamp.require_same(path)  # if it changed, that is what went wrong, if anything did
        return offsets

    return kept_offsets(path, stamp, find)


class _Found:
    """What was read of the records of one call, and whether it is as the checksums say."""

    def __init__(self, order: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        self.records = [b""] * len(order)
        self._order: list[int] = order.tolist()
        self._begins: list[int] = begins.tolist()
        self._ends: list[int] = ends.tolist()
        self._lengths = ends - begins - OVERHEAD
        self._headers: list[bytes] = []
        self._footers: list[bytes] = []
        self._checksums: list[int] = []

    def take(self, first: int, last: int, buffer: bytes, base: int) -> None:
        """Note the records ``first .. last`` of the call, in the order of the files, which ``buffer`` has from ``base`` on."""
        missing = self._ends[last - 1] - base - len(buffer)
        if missing > 0:  # the file became shorter this moment
            buffer += bytes(missing)
        checksum = google_crc32c.value
        for number in range(first, last):
            begin, end = self._begins[number] - base, self._ends[number] - base
            content = begin + HEADER, end - _FOOTER
            record = buffer[content[0] : content[1]]
            self.records[self._order[number]] = record
            self._headers.append(buffer[begin : content[0]])
            self._footers.append(buffer[content[1] : end])
            self._checksums.append(checksum(record))

    def first_wrong(self) -> tuple[int, str] | None:
        """(its place in the call, what is wrong with it) of a record that is not as its checksums say."""
        headers = np.frombuffer(b"".join(self._headers), _HEADER)
        footers = np.frombuffer(b"".join(self._footers), "<u4")
        is_elsewhere = (headers["length"] != self._lengths) | (headers["checksum"] != length_checksums(self._lengths))
        wrong = is_elsewhere | (masked(np.asarray(self._checksums, np.uint32)) != footers)
        if not wrong.any():
            return None
        first = int(np.argmax(wrong))
        if is_elsewhere[first]:
            return self._order[
                first
            ], "its length does not have the checksum, or the value, that the index of its file has"
        return self._order[first], "its content does not have the checksum that is stored with it"


_MAX_OPEN: Final = 256


class Descriptors:
    """Reads bytes of the files of a table, which are opened when they are first needed. Pickles without those."""

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._files: OrderedDict[str, _Descriptor] = OrderedDict()  # those used last at the end
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Descriptors, (self._table,)

    def read(self, part: int, begin: int, end: int) -> bytes:
        """The bytes ``begin .. end`` of the file of a part; fewer if it ends before.

        Raises:
            DataFileError: The file is not the one that it was.
        """
        return self._file(part).read(begin, end)

    def require_same(self, part: int) -> None:
        """Refuse the file of a part if it was written to since the table was made."""
        path = self._table.parts[part].path
        self._table.stamps[part].require_same(path, self._file(part).stamp())

    def close(self) -> None:
        """Close all files; those that are being read, when that is over."""
        with self._lock:
            self._files.clear()

    def _file(self, part: int) -> "_Descriptor":
        path = self._table.parts[part].path
        with self._lock:
            if path in self._files:
                self._files.move_to_end(path)
                return self._files[path]
        self._table.require_same(part)
        try:
            file = _Descriptor(path)
        except OSError:  # too many files are open, and these for nobody's use
            self.close()
            file = _Descriptor(path)
        self._table.stamps[part].require_same(path, file.stamp())
        with self._lock:
            self._files[path] = file
            if len(self._files) > _MAX_OPEN:
                self._files.popitem(last=False)
        return file


class _Descriptor:
    """An open file. It is closed when nobody refers to it any more, so that no thread reads by the number of another file."""

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def read(self, begin: int, end: int) -> bytes:
        return os.pread(self._number, end - begin, begin)

    def stamp(self) -> Stamp:
        return Stamp.of(self._number)
