"""Where the windows of a source lie, and how their elements are found: in whole columns, or by reading records.

There are three layouts: windows over records that follow one another, inside each record, and across records, whose values are
one sequence. What is held of a source is at most one number a record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from datarax_core.errors import RecordError
from datarax_core.records import Batch, Ragged, named_fields
from datarax_views.sequences.plan_once import checksum_of

from .fields import WindowFields
from .gather import gather_windows, num_valid, window_rows
from .plan import Cut, Windows, WindowsOfAlike

Columns = Mapping[str, Any]


class Reader(Protocol):
    """The view that windows are read for."""

    def whole_columns(self, fields: tuple[str, ...], others: tuple[str, ...] = ()) -> Columns | None:
        """Return the columns of these fields over all records of the parent; None unless it has all of them in one piece.

        Args:
            fields: Fields that windows are cut of.
            others: Fields that are taken a record at a time.
        """

    def read_parent(self, indices: np.ndarray) -> Batch:
        """Return the records of the parent at these indices."""

    def parent_title(self) -> str:
        """Return the title of the parent."""


@dataclass(frozen=True, slots=True)
class Found:
    """The elements of windows, in columns that were read or are held."""

    values: dict[str, np.ndarray]
    """Elements of each field that is cut, one sequence after another."""

    starts: dict[str, np.ndarray]
    """int64 (k,) for each field: where the windows begin among the values."""

    left: np.ndarray
    """int64 (k,): elements from the beginning of each window to the end of its sequence."""

    kept: Columns
    """Fields that are served as they are, a row for each window."""

    def windows(self, fields: WindowFields, cut: Cut) -> dict[str, Any]:
        """Return the fields of the windows, by dotted name."""
        pads = cut.remainder == "pad"

        def gathered(name: str, shift: int = 0) -> np.ndarray:
            valid = num_valid(0, self.left, cut.length, shift) if pads else None
            padding = fields.pad_value(name) if pads else 0
            return gather_windows(self.values[name], self.starts[name] + shift, cut.length, valid, padding)

        made = {**self.kept, **{name: gathered(name) for name in fields.cut if name in self.values}}
        if fields.target_field is not None and fields.target_of in self.values:
            made[fields.target_field] = gathered(fields.target_of, cut.shift)
        if fields.mask_field is not None:
            made[fields.mask_field] = np.arange(cut.length) < num_valid(0, self.left, cut.length, cut.shift)[:, None]
        return made


class Layout:
    """Where windows lie. Views hold it aside of their graph, and twins share it.

    Args:
        windows: Their places.
        num_records: Number of records of the parent.
        lengths: int64 (n,): what was found out about the records, for the checksum; None if nothing was.
        summary: What `describe_view` says.
    """

    def __init__(self, windows: Windows, num_records: int, lengths: np.ndarray | None, summary: str) -> None:
        self.windows = windows
        self.num_records = num_records
        self.summary = summary
        self.checksum = None if lengths is None else checksum_of(lengths)

    def found(self, fields: WindowFields, indices: np.ndarray, epochs: np.ndarray, reader: Reader) -> Found:
        """Return the elements of the windows at int64 (k,) ``indices``, all in range.

        Args:
            fields: The fields to find.
            indices: Numbers of windows.
            epochs: int64 (k,): the epoch of each, for a parent whose records vary by epoch; else a single 0.
            reader: Reads the records.

        Raises:
            RecordError: A record has another length than is known of it.
        """
        raise NotImplementedError


class RowLayout(Layout):
    """Windows of records that follow one another: an element is a record."""

    windows: WindowsOfAlike

    def found(self, fields: WindowFields, indices: np.ndarray, epochs: np.ndarray, reader: Reader) -> Found:
        """Return the elements of the windows at ``indices``; of columns that are held, without a read."""
        starts = self.windows.cut.starts(indices, self.num_records)
        left = self.num_records - starts
        columns = reader.whole_columns(fields.cut)
        if columns is None:
            cut = self.windows.cut
            rows = window_rows(starts, cut.span, self.num_records)
            rows += np.reshape(self.num_records * epochs, (-1, 1))
            wanted, starts = rows.ravel(), np.arange(len(indices)) * cut.span
            if cut.stride < cut.span:  # windows share records, which are read once
                wanted, places = np.unique(wanted, return_inverse=True)
                starts = places.reshape(rows.shape)[:, 0]
            columns = named_fields(reader.read_parent(wanted))
        values = {name: np.asarray(columns[name]) for name in fields.cut}
        return Found(values, dict.fromkeys(fields.cut, starts), left, {})


class RecordLayout(Layout):
    """Windows inside each record: none goes on to the next."""

    def found(self, fields: WindowFields, indices: np.ndarray, epochs: np.ndarray, reader: Reader) -> Found:
        """Return the elements of the windows at ``indices``; the records that they are of are read whole, unless held."""
        records, starts = self.windows.places(indices)
        columns, rows = reader.whole_columns(fields.cut, fields.kept), records
        if columns is None:
            wanted, rows = np.unique(records + self.num_records * epochs, return_inverse=True)
            columns = named_fields(reader.read_parent(wanted))
        values, begins, ends = {}, {}, {}
        for name in fields.cut:
            values[name], begins[name], ends[name] = _runs(columns[name], rows)
        lengths = {name: ends[name] - begins[name] for name in fields.cut}
        first = fields.cut[0]
        for name in fields.cut[1:]:
            _require_equal(reader.parent_title(), records, (first, lengths[first]), (name, lengths[name]))
        left = lengths[first] - starts
        are_whole = left >= self.windows.cut.shortest
        require_planned(reader.parent_title(), records, first, np.where(are_whole, lengths[first], -1), lengths[first])
        kept = {name: columns[name][rows] for name in fields.kept}
        return Found(values, {name: begins[name] + starts for name in fields.cut}, left, kept)


class CrossLayout(Layout):
    """Windows across records: the values of all records, one after another, are one sequence.

    Args:
        windows: Their places.
        offsets: int64 (n + 1,): the first element of each record, and the number of all elements.
        checks: Whether ``offsets`` tell records apart for saved states.
        summary: What `describe_view` says.
    """

    windows: WindowsOfAlike

    def __init__(self, windows: WindowsOfAlike, offsets: np.ndarray, *, checks: bool, summary: str) -> None:
        super().__init__(windows, len(offsets) - 1, offsets if checks else None, summary)
        self.offsets = offsets

    def found(self, fields: WindowFields, indices: np.ndarray, epochs: np.ndarray, reader: Reader) -> Found:
        """Return the elements of the windows at ``indices``; the records that they go over are read whole, unless held."""
        starts = self.windows.places(indices).starts
        offsets, total = self.offsets, int(self.offsets[-1])
        records = offsets.searchsorted(starts, side="right") - 1
        columns, rows = reader.whole_columns(fields.cut, fields.kept), records
        if columns is None:
            ends = np.minimum(starts + self.windows.cut.span, total)
            counts = offsets.searchsorted(ends, side="left") - records
            first_of_all = np.repeat(np.cumsum(counts) - counts, counts)
            going_on = np.arange(int(counts.sum())) - first_of_all + np.repeat(records, counts)
            epoch_rows = np.broadcast_to(self.num_records * epochs, records.shape)
            wanted = np.unique(going_on + np.repeat(epoch_rows, counts))
            rows = wanted.searchsorted(records + epoch_rows)
            columns = named_fields(reader.read_parent(wanted))
            read = wanted % self.num_records
            for name in fields.cut:
                _, begins, ends = _runs(columns[name], np.arange(len(read)))
                require_planned(reader.parent_title(), read, name, offsets[read + 1] - offsets[read], ends - begins)
        values, firsts = {}, {}
        for name in fields.cut:
            values[name], begins, _ = _runs(columns[name], rows)
            firsts[name] = begins + starts - offsets[records]
        kept = {name: columns[name][rows] for name in fields.kept}
        return Found(values, firsts, total - starts, kept)


def _runs(column: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of all records of a column, one after another, and where these rows of it begin and end."""
    if isinstance(column, Ragged):
        return column.values, column.offsets[rows], column.offsets[rows + 1]
    column = np.asarray(column)
    size = column.shape[1]
    return column.reshape(-1, *column.shape[2:]), rows * size, (rows + 1) * size


def _require_equal(title: str, records: np.ndarray, one: tuple[str, np.ndarray], other: tuple[str, np.ndarray]) -> None:
    """Raise for the first record in which two fields that are cut together differ in length."""
    wrong = np.flatnonzero(one[1] != other[1])
    if not wrong.size:
        return
    row = int(wrong[0])
    record = int(records[row])
    reason = f"fields {one[0]!r} and {other[0]!r} have {int(one[1][row]):,} and {int(other[1][row]):,} elements"
    raise RecordError(
        f"record {record} of {title}: {reason}; windows are cut of fields as long as one another: name these, field=",
        record=record,
        reason=reason,
    )


def require_equal_lengths(title: str, one: tuple[str, np.ndarray], other: tuple[str, np.ndarray]) -> None:
    """Raise for the first record in which two fields that are cut together differ in length, by all of their lengths."""
    _require_equal(title, np.arange(len(one[1])), one, other)


def require_planned(title: str, records: np.ndarray, field: str, planned: np.ndarray, found: np.ndarray) -> None:
    """Raise for the first record that has another length than its windows were counted by."""
    wrong = np.flatnonzero(planned != found)
    if not wrong.size:
        return
    record, length = int(records[wrong[0]]), int(found[wrong[0]])
    reason = f"field {field!r} has {length:,} elements, which is not the length that its windows were counted by"
    raise RecordError(
        f"record {record} of {title}: {reason}; the records, or the lengths that were noted of them, changed: write the note "
        "anew, or leave out length_field",
        record=record,
        reason=reason,
    )
