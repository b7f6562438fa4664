"""Row groups: where each record is, and a cache of decoded columns."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from datarax_core import RecordError
from datarax_core.records import Ragged, empty_batch, joined_columns

from ._columns import Column
from ._files import ParquetFile


class RowGroups:
    """The row groups of all files, one after another; record i is the i-th row of all.

    Any thread may read. A row group is decoded once, however many threads ask for it.

    Args:
        files: The files, in the order of their records.
        spec: The columns to read, with dtype and shape.
        fill: Replacement of nulls, by column.
        limit: Bytes of decoded row groups that are kept; the row group used last is kept whatever its size.
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
        self._decoding: dict[int, _Decoding] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return RowGroups, self._arguments  # a copy decodes for itself

    @property
    def num_rows(self) -> int:
        """Rows of all row groups."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def rows_by_group(self) -> np.ndarray:
        """int64 (groups,): rows of each row group."""
        rows: np.ndarray = np.diff(self._ends, prepend=0)
        return rows

    def take(self, records: np.ndarray, out: Mapping[str, np.ndarray]) -> dict[str, Ragged]:
        """Write the columns of ``records`` into the rows of ``out``, and return those of lists of any length.

        Each row group is decoded once at most.

        Raises:
            DataFileError: A row group cannot be read, or its file changed.
            RecordError: A value is null; names file, row group, column and record.
        """
        ragged: dict[str, list[Any]] = {name: [] for name, struct in self._spec.items() if None in struct.shape}
        order: list[np.ndarray] = []
        for group, where in self._by_group(records):
            order.append(where)
            columns, rows = self.decoded(group), records[where] - self._start(group)
            for name, column in columns.items():
                if column.nulls is not None and column.nulls[rows].any():
                    raise self._null(name, group, int(rows[column.nulls[rows]][0]))
            places, rows = _as_slice(where), _as_slice(rows)
            for name, column in columns.items():
                if name in ragged:
                    ragged[name].append(column.values[rows])
                else:
                    out[name][places] = column.values[rows]
        if not order:
            return dict(empty_batch({name: self._spec[name] for name in ragged}))
        rows = _as_slice(np.argsort(np.concatenate(order)))
        return {name: joined_columns(parts)[rows] for name, parts in ragged.items()}

    def around(self, records: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield (records, columns) of each row group that holds some of ``records``: all its rows without a null."""
        for group, _ in self._by_group(records):
            columns = self.decoded(group)
            absent = [column.nulls for column in columns.values() if column.nulls is not None]
            rows = np.arange(int(self._ends[group]) - self._start(group))
            rows = rows[~np.any(absent, axis=0)] if absent else rows
            if len(rows):
                kept = _as_slice(rows)
                yield self._start(group) + rows, {name: column.values[kept] for name, column in columns.items()}

    def decoded(self, group: int) -> dict[str, Column]:
        """Return the columns of a row group, kept or decoded anew; threads decode several row groups at once."""
        if os.getpid() != self._process:  # another thread may have held a lock when the process forked
            self._lock, self._process, self._decoding = threading.Lock(), os.getpid(), {}
        if (columns := self._kept_columns(group)) is not None:
            return columns
        with self._lock:
            decoding = self._decoding.setdefault(group, _Decoding())
        with decoding.lock:
            if decoding.columns is None:
                decoding.columns = self._kept_columns(group) or self._decode(group)
                self._keep(group, decoding.columns)
            return decoding.columns

    def clear(self) -> None:
        """Drop all decoded row groups."""
        with self._lock:
            self._kept.clear()
            self._kept_bytes = 0

    def _kept_columns(self, group: int) -> dict[str, Column] | None:
        with self._lock:
            if group in self._kept:
                self._kept.move_to_end(group)
            return self._kept.get(group)

    def _decode(self, group: int) -> dict[str, Column]:
        file, number = self._places[group]
        table = file.read(number, list(self._spec))
        return {name: Column.of(table[name], struct, self._fill.get(name)) for name, struct in self._spec.items()}

    def _keep(self, group: int, columns: dict[str, Column]) -> None:
        with self._lock:
            self._decoding.pop(group, None)
            if group in self._kept:
                return
            self._kept[group] = columns
            self._kept_bytes += _nbytes(columns)
            while self._kept_bytes > self._limit and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._kept_bytes -= _nbytes(oldest)

    def _by_group(self, records: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row group, places of its records in ``records``) for each row group that holds some of ``records``."""
        if not len(records):
            return
        groups = np.searchsorted(self._ends, records, side="right")
        by_group = np.argsort(groups, kind="stable")
        for where in np.split(by_group, np.flatnonzero(np.diff(groups[by_group])) + 1):
            yield int(groups[where[0]]), where

    def _start(self, group: int) -> int:
        return int(self._ends[group - 1]) if group else 0

    def _null(self, name: str, group: int, row: int) -> RecordError:
        file, number = self._places[group]
        record = self._start(group) + row
        in_file = record - self._start(self._places.index((file, 0)))
        reason = f"column {name!r} is null"
        return RecordError(
            f"record {record} cannot be served: {reason} in row {row} of row group {number} of {file.path}; give a "
            f"replacement, fill_null={{{name!r}: ...}}, or leave the column out",
            record=record,
            reason=reason,
            path=file.path,
            row=in_file,
        )


class _Decoding:
    """The decoding of a row group, by one thread; others wait for its columns, which may not be kept for long."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.columns: dict[str, Column] | None = None


def _nbytes(columns: Mapping[str, Column]) -> int:
    return sum(column.nbytes for column in columns.values())


def _as_slice(numbers: np.ndarray) -> np.ndarray | slice:
    """Return consecutive numbers as a slice, which NumPy copies faster than it gathers; others unchanged."""
    first, size = int(numbers[0]), len(numbers)
    is_run = int(numbers[-1]) - first + 1 == size and bool((np.diff(numbers) == 1).all())
    return slice(first, first + size) if is_run else numbers
