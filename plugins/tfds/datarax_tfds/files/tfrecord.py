"""Records of TFRecord files by record index, without TensorFlow; each read verifies the checksums of the record.

Files of this machine are read with ``pread``, not mapped: truncating a mapped file ends the process that maps it, whatever was
checked before. Measured with records of 3 KB in the page cache, ``pread`` costs 1 us a record more if the records lie apart,
and nothing if they are neighbours, which are read in one call. Records at addresses are read by ranges, all of a call at once.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, Self

import google_crc32c
import numpy as np

from datarax_core.files import is_remote
from datarax_core.sources import FileTable, OpenFiles, Stamp
from datarax_core.storage import RangeReader
from datarax_tfds.splits import FilePart

from .table import UnreadableError, require_count
from .tfrecord_index import HEADER, OVERHEAD, cached_offsets, length_checksums, masked, record_offsets

_MAX_IDLE: Final = 256
_FOOTER: Final = OVERHEAD - HEADER
_HEADER: Final = np.dtype([("length", "<u8"), ("checksum", "<u4")])
_RUN_BYTES: Final = 1 << 20
"""Neighbouring records are read in one call, up to the next multiple of this offset in their file."""


class TFRecordFiles:
    """Records of the parts of a table; any number of threads may read.

    Args:
        table: The parts.
        offsets: For each part, the offsets of its records, and the end of its last one.
        open_file: Opens a file of the table by its path; picklable.
        limit: Number of files that stay open between reads; None is 256.
        reader: Reads the files at addresses; None if there are none.
        opened: Files at addresses that ``open_file`` opens all the same, as those of which there is an unpacked copy.
    """

    def __init__(
        self,
        table: FileTable,
        offsets: Sequence[np.ndarray],
        open_file: "Callable[[str], TFRecordFile] | None" = None,
        limit: int | None = None,
        *,
        reader: RangeReader | None = None,
        opened: Collection[str] = (),
    ) -> None:
        self._table = table
        self._offsets = np.concatenate([np.empty(0, np.int64), *offsets])
        option = None if limit is None else "max_open_files"
        self._ranges = reader
        self._by_ranges = np.array([is_remote(path) and path not in opened for path in table.paths], np.bool_)
        if opened:  # a copy of an object is the same whatever becomes of the object
            stamps = [None if path in opened else stamp for path, stamp in zip(table.paths, table.stamps, strict=True)]
            table = dataclasses.replace(table, stamps=tuple(stamps))
        self._files = OpenFiles(table, open_file or TFRecordFile, limit=limit or _MAX_IDLE, option=option)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_by_ranges" not in state:  # pickled before addresses were read
            self._ranges, self._by_ranges = None, np.zeros(len(self._table.paths), np.bool_)

    @classmethod
    def of_parts(cls, table: FileTable, parts: Sequence[FilePart]) -> Self:
        """Return the records of the parts of a table, given the number of records that each file should have.

        Raises:
            DataFileError: A file is compressed, truncated, damaged, no TFRecord file, or has another number of records than
                it should.
        """
        return cls(table, _offsets_of_parts(table, parts))

    def read(self, records: np.ndarray) -> list[bytes]:
        """Return the records at int64 (k,) record indices, in their order; neighbours in a file are read in one call.

        Those at addresses are read by ranges, all at once.

        Raises:
            UnreadableError: A record does not have the checksums that are stored with it.
            DataFileError: A file changed since the table was made.
            ConnectionError, TimeoutError, PermissionError: A file at an address cannot be read.
        """
        if not len(records):
            return []
        parts = self._table.parts_of(records)
        at = records + parts  # `_offsets` has one more entry for each part than records
        order = np.argsort(at, kind="stable")
        sorted_at = at[order]
        begins, ends = self._offsets[sorted_at], self._offsets[sorted_at + 1]
        starts_run = np.diff(sorted_at, prepend=-2) > 1
        starts_run[1:] |= begins[1:] // _RUN_BYTES != begins[:-1] // _RUN_BYTES
        runs = np.flatnonzero(starts_run)
        batch = _ReadBatch(order, begins, ends)
        run_parts: list[int] = parts[order[runs]].tolist()
        all_runs = list(zip(run_parts, runs.tolist(), [*runs[1:].tolist(), len(order)], strict=True))
        if self._by_ranges.any():
            self._read_by_ranges(batch, [run for run in all_runs if self._by_ranges[run[0]]])
            all_runs = [run for run in all_runs if not self._by_ranges[run[0]]]
        for part, runs_of_part in groupby(all_runs, key=lambda run: run[0]):
            spans = [(first, last) for _, first, last in runs_of_part]
            self._files.use(part, lambda file, spans=spans: batch.read(file, spans))  # type: ignore[misc]  # binds spans
        wrong = batch.first_wrong()
        if wrong is not None:
            place, reason = wrong
            raise UnreadableError(int(records[place]), reason)
        return batch.records

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self._files.close()

    def _read_by_ranges(self, batch: "_ReadBatch", runs: Sequence[tuple[int, int, int]]) -> None:
        """Read runs of records, each (part, first, last), from files at addresses."""
        if not runs or self._ranges is None:
            return
        spans = [batch.span(first, last) for _, first, last in runs]
        paths, stamps = self._table.paths, self._table.stamps
        buffers = self._ranges.ranges(
            [paths[part] for part, _, _ in runs],
            [begin for begin, _ in spans],
            [end for _, end in spans],
            [stamps[part] for part, _, _ in runs],
        )
        for (_, first, last), (begin, _), buffer in zip(runs, spans, buffers, strict=True):
            batch.take(first, last, buffer, begin)


class TFRecordFile:
    """An open TFRecord file, which any number of threads may read at once."""

    may_be_shared = True

    def __init__(self, path: str) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        self.close()

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes ``begin .. end``; fewer if the file ends before ``end``."""
        assert self._descriptor is not None  # noqa: S101 - the pool lends no closed file
        return os.pread(self._descriptor, end - begin, begin)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = getattr(self, "_descriptor", None), None
        if descriptor is not None:
            os.close(descriptor)


def _offsets_of_parts(table: FileTable, parts: Sequence[FilePart]) -> list[np.ndarray]:
    """Return, for each part, the offsets of its records, and the end of its last one."""
    of_file: dict[str, np.ndarray] = {}
    of_parts = []
    for part, stamp in zip(parts, table.stamps, strict=True):
        if part.path not in of_file:
            assert stamp is not None  # noqa: S101 - the files are on this machine
            of_file = {part.path: _offsets_of(part.path, stamp)}  # one file at a time: its parts follow one another
            require_count(part, len(of_file[part.path]) - 1)
        of_parts.append(of_file[part.path][part.start : part.stop + 1])
    return of_parts


def _offsets_of(path: str, stamp: Stamp) -> np.ndarray:
    def find() -> np.ndarray:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offsets = record_offsets(path, partial(os.pread, descriptor), stamp.size)
        finally:
            os.close(descriptor)
            stamp.require_same(path)  # the error of a changed file takes precedence over any other
        return offsets

    return cached_offsets(path, stamp, find)


class _ReadBatch:
    """The records of one call, in the order of their files while they are read, and their checksums.

    Args:
        order: int64 (k,): for each record in the order of the files, its place in the call.
        begins: int64 (k,): offset of each record in its file, in the order of the files.
        ends: int64 (k,): end of each record.
    """

    def __init__(self, order: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        self.records = [b""] * len(order)
        self._order: list[int] = order.tolist()
        self._begins: list[int] = begins.tolist()
        self._ends: list[int] = ends.tolist()
        self._lengths = ends - begins - OVERHEAD
        self._headers: list[bytes] = []
        self._footers: list[bytes] = []
        self._checksums: list[int] = []

    def read(self, file: TFRecordFile, runs: Sequence[tuple[int, int]]) -> None:
        """Read runs of records, each ``first .. last`` in the order of the files, and contiguous in ``file``."""
        for first, last in runs:
            begin, end = self.span(first, last)
            self.take(first, last, file.read(begin, end), begin)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return (begin, end) in their file of the records ``first .. last``, which are contiguous."""
        return self._begins[first], self._ends[last - 1]

    def first_wrong(self) -> tuple[int, str] | None:
        """Return (place in the call, reason) of the first record that does not have its checksums; None if all have them."""
        headers = np.frombuffer(b"".join(self._headers), _HEADER)
        footers = np.frombuffer(b"".join(self._footers), "<u4")
        is_elsewhere = (headers["length"] != self._lengths) | (headers["checksum"] != length_checksums(self._lengths))
        wrong = is_elsewhere | (masked(np.asarray(self._checksums, np.uint32)) != footers)
        if not wrong.any():
            return None
        first = int(np.argmax(wrong))
        if is_elsewhere[first]:
            reason = "its length does not have the checksum, or the value, that the index of its file has"
            return self._order[first], reason
        return self._order[first], "its content does not have the checksum that is stored with it"

    def take(self, first: int, last: int, buffer: bytes, base: int) -> None:
        """Cut the records ``first .. last`` out of ``buffer``, which begins at the offset ``base``."""
        missing = self._ends[last - 1] - base - len(buffer)
        if missing > 0:  # the file was truncated a moment ago
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
