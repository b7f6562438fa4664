"""Row groups: which of them holds a record, and their decoded columns, of which those used last are kept."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from datarax_core import RecordError

from ._columns import Column
from ._files import ParquetFile


class RowGroups:
    """The row groups of all files, one after another; record i is the i-th row of all.

    Any thread may read. A row group is decoded once, however many threads ask for it.

    Args:
        files: In the order of their records.
        spec: The columns to read, and what they look like.
        fill: What stands in for a null, by column.
        limit: Bytes of decoded row groups that are kept; the one used last is kept whatever its size.
    """

    def __init__(
        self,
        files: Sequence[ParquetFile],
        spec: Mapping[str, jax.ShapeDtypeStruct],
        fill: Mapping[str, Any],
        limit: int,
    ) -> None:
        self._arguments = files, spec, fill, limit
        self._files, self._spec, self._fill, self._limit = self._arguments
        self._places = [(file, number) for file in files for number in range(file.footer.num_row_groups)]
        self._ends = np.cumsum([rows for file in files for rows in file.rows_of_groups()], dtype=np.int64)
        self._kept: OrderedDict[int, dict[str, Column]] = OrderedDict()
        self._kept_bytes = 0
        self._lock, self._process = threading.Lock(), os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return RowGroups, self._arguments  # whoever gets the pickle decodes for itself

    @property
    def num_rows(self) -> int:
        """Rows in all of them."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_rows_of_each(self) -> np.ndarray:
        """int64 (groups,): how many each has; none for empty ones."""
        rows: np.ndarray = np.diff(self._ends, prepend=0)
        return rows

    def take(self, records: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        """Write the columns of ``records`` into the rows of ``out``. Each row group is looked at once.

        Raises:
            DataFileError: A row group cannot be read, or its file changed.
            RecordError: A value is null; names file, row group, column and record.
        """
        for group, where in self._by_group(records):
            columns, rows = self.decoded(group), records[where] - self._start(group)
            for name, column in columns.items():
                if column.nulls is not None and column.nulls[rows].any():
                    raise self._null(name, group, int(rows[column.nulls[rows]][0]))
            places, rows = _run(where), _run(rows)
            for name, column in columns.items():
                out[name][places] = column.values[rows]

    def around(self, records: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """All records of the row groups that hold ``records``, group by group, with their columns; those with a null apart."""
        for group, _ in self._by_group(records):
            columns = self.decoded(group)
            absent = [column.nulls for column in columns.values() if column.nulls is not None]
            rows = np.arange(int(self._ends[group]) - self._start(group))
            rows = rows[~np.any(absent, axis=0)] if absent else rows
            if len(rows):
                yield self._start(group) + rows, {name: column.values[_run(rows)] for name, column in columns.items()}

    def decoded(self, group: int) -> dict[str, Column]:
        """The columns of a row group, as they are kept or read anew."""
        if os.getpid() != self._process:  # a fork may have been made while another thread held the lock
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            if group not in self._kept:
                self._keep(group)
            self._kept.move_to_end(group)
            return self._kept[group]

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()
            self._kept_bytes = 0

    def _keep(self, group: int) -> None:
        file, number = self._places[group]
        table = file.read(number, list(self._spec))
        columns = {name: Column.of(table[name], struct, self._fill.get(name)) for name, struct in self._spec.items()}
        self._kept[group] = columns
        self._kept_bytes += _nbytes(columns)
        while self._kept_bytes > self._limit and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= _nbytes(oldest)

    def _by_group(self, records: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The row groups that hold ``records``, and where in ``records`` those of each are."""
        if not len(records):
            return
        groups = np.searchsorted(self._ends, records, side="right")
        in_turn = np.argsort(groups, kind="stable")
        for where in np.split(in_turn, np.flatnonzero(np.diff(groups[in_turn])) + 1):
            yield int(groups[where[0]]), where

    def _start(self, group: int) -> int:
        return int(self._ends[group - 1]) if group else 0

    def _null(self, name: str, group: int, row: int) -> RecordError:
        file, number = self._places[group]
        record = self._start(group) + row
        in_file = record - self._start(self._places.index((file, 0)))
        reason = f"column {name!r} is null"
        return RecordError(
            f"record {record} cannot be served: {reason} in row {row} of row group {number} of {file.path}; say what "
            f"stands in for it, fill_null={{{name!r}: ...}}, or leave the column out",
            record=record,
            reason=reason,
            path=file.path,
            row=in_file,
        )


def _nbytes(columns: Mapping[str, Column]) -> int:
    return sum(column.nbytes for column in columns.values())


def _run(numbers: np.ndarray) -> np.ndarray | slice:
    """A slice of the same, if they are one after the other: NumPy copies a slice faster than it gathers."""
    first, size = int(numbers[0]), len(numbers)
    is_run = int(numbers[-1]) - first + 1 == size and bool((np.diff(numbers) == 1).all())
    return slice(first, first + size) if is_run else numbers
