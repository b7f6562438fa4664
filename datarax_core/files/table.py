"""Table of the files of a source: the records of each, and the stamp that shows whether a file was changed since.

Records count from 0 over all files, file after file; a row is the number of a record in its file.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, zip_longest
from typing import Any, Self, TypeVar

import numpy as np

from datarax_core.config.addresses import scheme_of
from datarax_core.errors import DataFileError, RecordError
from datarax_core.storage.stores.stamps import Stamp, stamp_of

ResultT = TypeVar("ResultT")


def require_file(path: str, advice: str = "", options: Mapping[str, Any] | None = None) -> Stamp:
    """Return the stamp of an ordinary file that this process may read, or of an object at an address, which costs a request.

    Args:
        path: The file, or the address of the object.
        advice: How to get the file, appended to the message if there is none, such as ``"prepare the data set anew"``.
        options: Options of the store of an address, as `RemoteOptions.storage_options`.

    Raises:
        FileNotFoundError: The file does not exist.
        PermissionError: The file may not be read.
        DataFileError: The path is that of a folder, a pipe or a device.
        ConfigError, ConnectionError, TimeoutError: As `storage.ranges`, for an address.
    """
    if scheme_of(path) is not None:
        try:
            return stamp_of(path, options)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}{advice and f'; {advice}'}") from error
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - see `Stamp.of`
            raise DataFileError(path, f"{path} is no ordinary file, but a folder, a pipe or a device")
        with open(path, "rb"):  # noqa: PTH123 - see `Stamp.of`
            return Stamp.of(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {path}{advice and f'; {advice}'}") from error
    except PermissionError as error:
        raise PermissionError(f"permission denied: {path}; make the file readable for this user") from error


@dataclass(frozen=True, eq=False, slots=True)
class FileTable:
    """Files in their order, with the number of records of each, and the stamp that each had when they were counted.

    A part is a run of consecutive records of one file: mostly the whole file. A source that serves only some rows of a file,
    such as a split of a data set, has parts with those rows; several parts may belong to one file. Record i of the table is
    the i-th record of all parts, part after part. A table is picklable, and unpickling does not look at the files.
    """

    paths: tuple[str, ...]
    """File of each part."""

    counts: np.ndarray
    """int64 (parts,): number of records of each part."""

    offsets: np.ndarray
    """int64 (parts,): record index minus row, the same for all records of a part."""

    ends: np.ndarray
    """int64 (parts,): record index after the last record of each part."""

    stamps: tuple[Stamp | None, ...]
    """Stamp of each file, or object at an address; None for a file that is never checked for changes."""

    options: Mapping[str, Any] | None = None
    """Options of the stores of addresses, as `RemoteOptions.storage_options`."""

    def __getstate__(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]

    def __setstate__(self, state: Sequence[Any]) -> None:
        for field, value in zip_longest(fields(self), state):  # tables were saved without options before
            object.__setattr__(self, field.name, value)

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        counts: Sequence[int],
        stamps: Sequence[Stamp | None],
        first_rows: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the table of parts in their order.

        Args:
            paths: File of each part.
            counts: Number of records of each part.
            stamps: Stamp of each file, taken before its records were counted (see `require_file`).
            first_rows: Row of the first record of each part; None for whole files, which begin at row 0.
            options: Options of the stores of addresses, as `RemoteOptions.storage_options`.

        Raises:
            ValueError: The arguments differ in length.
        """
        rows = [0] * len(paths) if first_rows is None else first_rows
        if not len(paths) == len(counts) == len(stamps) == len(rows):
            raise ValueError(
                f"a file table has one count, stamp and first row for each of its {len(paths)} paths, "
                f"not {len(counts)}, {len(stamps)} and {len(rows)}"
            )
        sizes = np.asarray(counts, np.int64)
        ends = np.cumsum(sizes)
        return cls(tuple(paths), sizes, ends - sizes - np.asarray(rows, np.int64), ends, tuple(stamps), options)

    @property
    def num_records(self) -> int:
        """Number of records of all parts."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def parts_of(self, records: np.ndarray) -> np.ndarray:
        """Return the part of each record, int64 (k,), for int64 (k,) record indices."""
        parts: np.ndarray = self.ends.searchsorted(records, side="right")  # faster than np.searchsorted for few records
        return parts

    def rows_of(self, records: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Return the row of each record in its file, int64 (k,), for int64 (k,) record indices and the part of each."""
        rows: np.ndarray = records - self.offsets[parts]
        return rows

    def place(self, record: int) -> tuple[str, int]:
        """Return (path, row) of a record."""
        records = np.asarray([record])
        parts = self.parts_of(records)
        return self.paths[int(parts[0])], int(self.rows_of(records, parts)[0])

    def require_unchanged(self, part: int) -> None:
        """Raise if the file of a part is not the one whose records were counted. Costs a microsecond, of an object a request.

        A reader of a file that was changed under it may return anything. Call this after each read, before the records are
        used, as `OpenFiles.use` does. Objects are better read by `storage.ranges` with their stamps, which
        checks each answer.

        Raises:
            DataFileError: The file shrank, grew, was written to, replaced or removed.
        """
        stamp = self.stamps[part]
        if stamp is not None:
            stamp.require_same(self.paths[part], options=self.options)

    def read_by_part(
        self, records: np.ndarray, read_rows: Callable[[int, list[int]], Sequence[ResultT]]
    ) -> list[ResultT]:
        """Return one value for each record, in the order of ``records``, read with one call for each part.

        Args:
            records: int64 (k,) record indices, each in range; they may repeat.
            read_rows: Called with a part and the rows to read of its file; returns a value for each row, in their order. If
                several parts are read, the rows of each ascend, since files are read fastest from front to back.
        """
        if not len(records):
            return []
        parts = self.parts_of(records)
        rows = self.rows_of(records, parts)
        if (parts == parts[0]).all():
            return list(read_rows(int(parts[0]), rows.tolist()))
        order = np.argsort(records)
        sorted_parts = parts[order]
        edges = [0, *(np.flatnonzero(sorted_parts[1:] != sorted_parts[:-1]) + 1).tolist(), len(order)]
        sorted_rows: list[int] = rows[order].tolist()
        places: list[int] = order.tolist()
        values: list[Any] = [None] * len(places)
        for part, (begin, end) in zip(sorted_parts[edges[:-1]].tolist(), pairwise(edges), strict=True):
            for place, value in zip(places[begin:end], read_rows(part, sorted_rows[begin:end]), strict=True):
                values[place] = value
        return values

    def record_error(
        self, record: int, problem: str, reason: str, *, title: str, index: int | None = None
    ) -> RecordError:
        """Return the error of a record that cannot be served, which names its file, its row and its record index.

        Args:
            record: Record index in this table.
            problem: Predicate of the message, such as ``"cannot be read: its checksum is wrong"``.
            reason: The cause alone, for the error's ``reason``.
            title: Title of the source, which the message names.
            index: Record index in the source, if it differs from that in the table.
        """
        path, row = self.place(record)
        index = record if index is None else index
        return RecordError(
            f"record {row} of {path} {problem} (record {index} of {title})",
            record=index,
            reason=reason,
            path=path,
            row=row,
        )
