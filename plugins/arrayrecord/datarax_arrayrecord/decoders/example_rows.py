"""A batch of tf.train.Examples to columns: in step where records have the same features, else one by one.

The results of the two ways are equal; the first one is fast.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from datarax_core.records import Ragged

from .dtypes import AnyArray
from .example_ragged import RaggedFeatureColumn
from .example_sequences import Feature, parsed_features, sequence_features
from .example_specs import FeatureSpec
from .example_step import in_any_order, in_step
from .example_values import FeatureColumn, Rows
from .example_wire import Entry, Payload, entries
from .joined import Flags, Places

_MOST_IN_STEP_BYTES: Final = 1 << 21
"""Bytes of records that are read in step at a time."""

_LEAST_IN_STEP: Final = 8
"""Records from which on reading in step is faster."""

_MOST_ATTEMPTS: Final = 4
"""How often records are read in step before the others are read one by one."""

UNKNOWN: Final = "which the first record does not have; declare the features: fields: {name: {dtype: ...}}"


class _Columns(dict[str, FeatureColumn | RaggedFeatureColumn]):
    """Columns by the names of their features."""

    def __init__(self, columns: dict[str, FeatureColumn | RaggedFeatureColumn], takes_others: bool) -> None:  # noqa: FBT001 - of one caller
        super().__init__(columns)
        self._takes_others = takes_others

    def check_names(self, rows: Rows, names: Sequence[str]) -> None:
        """Take the names of the features that these rows have: put defaults for those they lack, refuse unknown ones."""
        if not self._takes_others and (others := sorted(set(names) - self.keys())):
            raise ValueError(f"the record has the feature {others[0]!r}, {UNKNOWN}")
        for name, column in self.items():
            if name not in names:
                column.put_default(rows, sorted(names))

    def check_each(self, rows: Places, names: Sequence[str], has: Flags) -> None:
        """Do the same for rows that have some of the named features: each in ``has``, flags (names, rows)."""
        there = {name: has_it for name, has_it in zip(names, has, strict=True) if has_it.any()}
        if not self._takes_others and (others := sorted(there.keys() - self.keys())):
            raise ValueError(f"the record has the feature {others[0]!r}, {UNKNOWN}")
        for name, column in self.items():
            lacks = ~there[name] if name in there else np.ones(len(rows), np.bool_)
            if lacks.any():
                first = int(np.argmax(lacks))
                column.put_default(rows[lacks], sorted(other for other, flags in there.items() if flags[first]))


def columns_of(
    records: Sequence[bytes], features: Sequence[FeatureSpec], *, takes_others: bool = True
) -> dict[str, AnyArray | Ragged]:
    """Return each feature as a column, rows in the order of the records.

    The values of a record do not depend on the other records: records that `entries` accepts are read by their entries, in both
    ways, and all others by protobuf.

    Args:
        records: Bytes of the records.
        features: Features to decode.
        takes_others: Whether records may have other features, which are skipped.

    Raises:
        ValueError: A record is no Example, or a feature differs from its spec; names the feature.
    """
    count = len(records)
    columns = {f.name: RaggedFeatureColumn(f, count) if f.is_ragged else FeatureColumn(f, count) for f in features}
    made = _Columns(columns, takes_others)
    lengths = np.fromiter(map(len, records), np.int64, count)
    for rows in _chunks(lengths):
        _put_each(records, _put_in_step(records, lengths, rows, made), made)
    return {name: column.result() for name, column in made.items()}


def features_of(record: bytes) -> dict[str, Feature]:
    """Return each feature of one record: of an Example, or of the context and the feature lists of a SequenceExample.

    Raises:
        ValueError: The record is neither.
    """
    layout = entries(record)
    if layout is not None:
        return {e.name: Feature(e.kind, record[e.start : e.stop]) for e in layout}
    found = sequence_features(record)
    return parsed_features(record) if found is None else found


def _chunks(lengths: Places) -> Iterator[Places]:
    """Yield rows in groups whose records, which have these lengths, have about two megabytes together."""
    rows = np.arange(len(lengths))
    if lengths.sum() <= _MOST_IN_STEP_BYTES:
        yield rows
        return
    chunks = np.cumsum(lengths) // _MOST_IN_STEP_BYTES
    yield from np.split(rows, np.flatnonzero(chunks[1:] != chunks[:-1]) + 1)


def _put_in_step(records: Sequence[bytes], lengths: Places, rows: Places, made: _Columns) -> Places:
    """Put records like the first one into their columns, then those with its features in any order; return the rows left."""
    known: dict[str, Entry] = {}
    for attempt in range(_MOST_ATTEMPTS):
        layout = entries(records[rows[0]]) if len(rows) >= _LEAST_IN_STEP else None
        if layout is None:
            break
        known |= {entry.name: entry for entry in layout}
        put = _put_any_order if attempt else _put_alike
        rows = put(records, lengths, rows, list(known.values()), made)
    return rows


def _put_alike(records: Sequence[bytes], lengths: Places, rows: Places, layout: list[Entry], made: _Columns) -> Places:
    """Put the records with these features in this order into their columns; return the other rows."""
    chosen, places = _chosen(records, rows)
    is_alike, payloads = in_step(chosen, lengths[places], layout)
    left: Places = rows[:0]
    if is_alike is not True:
        flags = np.asarray(is_alike)
        left = rows[~flags]
        if len(left) == len(rows):  # a length has more bytes than are read in step, or one leads past the end of all
            return left
        places = rows[flags]
        payloads = [each.of(flags) for each in payloads]
    made.check_names(places, [entry.name for entry in layout])
    for entry, of_feature in zip(layout, payloads, strict=True):
        if column := made.get(entry.name):
            column.put_payloads(places, entry.kind, of_feature)
    return left


def _put_any_order(
    records: Sequence[bytes], lengths: Places, rows: Places, known: list[Entry], made: _Columns
) -> Places:
    """Put the records with some of these features in any order into their columns; return the other rows."""
    chosen, places = _chosen(records, rows)
    is_alike, has, payloads = in_any_order(chosen, lengths[places], known)
    made.check_each(rows[is_alike], [entry.name for entry in known], has[:, is_alike])
    for entry, has_it, of_feature in zip(known, has, payloads, strict=True):
        flags = has_it & is_alike
        if (column := made.get(entry.name)) and flags.any():
            column.put_payloads(rows[flags], entry.kind, of_feature.of(flags))
    left: Places = rows[~is_alike]
    return left


def _chosen(records: Sequence[bytes], rows: Places) -> tuple[Sequence[bytes], Rows]:
    """Return the records of these rows, and the rows, as a slice if they are consecutive."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1:
        return records[first : last + 1], slice(first, last + 1)
    return [records[row] for row in rows.tolist()], rows


def _put_each(records: Sequence[bytes], rows: Places, made: _Columns) -> None:
    """Put records of any form into their columns, record by record."""
    groups: dict[tuple[str, int], tuple[list[int], list[Payload]]] = {}
    for row in rows.tolist():
        features = features_of(records[row])
        for name, (kind, payload, _) in features.items():
            if name in made:
                of_rows, payloads = groups.setdefault((name, kind), ([], []))
                of_rows.append(row)
                payloads.append(payload)
        made.check_names([row], list(features))
    for (name, kind), (of_rows, payloads) in groups.items():
        made[name].put(of_rows, kind, payloads)
