"""A batch of tf.train.Examples as columns: by layout where records share one, else by their entries, else by protobuf."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ._dtypes import AnyArray
from ._example_values import Column, Wanted
from ._example_wire import Entry, Payload, Prefixes, entries, header, parsed, prefixes

_CHUNK: Final = 1 << 18
"""Bytes that are joined at a time: they are in the processor's cache still when they are copied to their columns."""

_WORTH_A_LAYOUT: Final = 8  # records; fewer are read one by one sooner than they are compared
_LAYOUTS: Final = 4  # that are tried for records of one length, before the rest is read one by one


def columns(records: Sequence[bytes], features: Sequence[Wanted]) -> dict[str, AnyArray]:
    """Each feature as a column, rows in the order of the records.

    Whether a record is read, and as what, depends on nothing but the record: what `entries` accepts is read by them, on
    whichever way, and the rest is protobuf's.

    Raises:
        ValueError: A record is no Example, or a feature of it is not as wanted; names the feature.
    """
    made = {wanted.name: Column(wanted, len(records)) for wanted in features}
    rest: list[int] = []
    for rows in _by_length(records):
        rest += _put_alike(records, rows, made)
    if rest:
        for group in _groups(records, sorted(rest), made):
            for (name, kind), payloads in zip(group.names, group.payloads, strict=True):
                if column := made.get(name):
                    column.put(group.rows, kind, payloads)
            _put_defaults(group.rows, [name for name, _ in group.names], made)
    return {name: column.finished() for name, column in made.items()}


def features_of(record: bytes) -> dict[str, tuple[int, Payload]]:
    """The kind and payload of each feature of one record.

    Raises:
        ValueError: It is no Example.
    """
    layout = entries(record)
    return parsed(record) if layout is None else {e.name: (e.kind, record[e.start : e.stop]) for e in layout}


def _by_length(records: Sequence[bytes]) -> list[list[int]]:
    lengths = list(map(len, records))
    if len(set(lengths)) == 1:
        return [list(range(len(records)))]
    rows: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows.setdefault(length, []).append(row)
    return list(rows.values())


def _put_alike(records: Sequence[bytes], rows: list[int], made: Mapping[str, Column]) -> list[int]:
    """Put in what shares its layout with many of these rows, whose records have one length; the rows that are left."""
    for _ in range(_LAYOUTS):
        layout = entries(records[rows[0]]) if len(rows) >= _WORTH_A_LAYOUT else None
        if layout is None:
            break
        rows = _put_layout(records, rows, layout, made)
    return rows


def _put_layout(
    records: Sequence[bytes], rows: list[int], layout: list[Entry], made: Mapping[str, Column]
) -> list[int]:
    """Put in the rows whose records have this layout; the others, of which nothing stays.

    Every piece is copied to an array of its own, for all records at once: payloads to their columns where they need no
    conversion, and what stands between payloads to be compared.
    """
    length = len(records[rows[0]])
    places = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else None
    between = b"".join([header(length), *(entry.prefix for entry in layout)])
    structure = np.empty((len(rows), len(between)), np.uint8)
    pieces, blocks, at = [], [], 0
    for entry in layout:
        start = 0 if not at else entry.start - len(entry.prefix)
        pieces.append((start, structure[:, at : at + entry.start - start]))
        at += entry.start - start
        if column := made.get(entry.name):
            block = None if places is None else column.target(places, entry.kind, entry.stop - entry.start)
            if block is None:
                block = np.empty((len(rows), entry.stop - entry.start), np.uint8)
                blocks.append((column, entry.kind, block))
            pieces.append((entry.start, block))
    step = max(1, _CHUNK // length)
    for first in range(0, len(rows), step):
        joined = b"".join([records[row] for row in rows[first : first + step]])
        for start, block in pieces:
            part = block[first : first + step]
            part[...] = np.ndarray(part.shape, np.uint8, joined, start, (length, 1))
    alike = (structure == np.frombuffer(between, np.uint8)).all(axis=1)
    others: list[int] = []
    if not alike.all():
        others = np.asarray(rows)[~alike].tolist()
        rows = np.asarray(rows)[alike].tolist()
        blocks, places = [(column, kind, block[alike]) for column, kind, block in blocks], None
    for column, kind, block in blocks:
        column.put_block(places or rows, kind, block)
    _put_defaults(rows, [entry.name for entry in layout], made)
    return others


class _Group:
    """Rows whose records have features of the same names and kinds in the same order, and the payloads of each."""

    def __init__(self, names: Sequence[tuple[str, int]], made: Mapping[str, Column]) -> None:
        self.names = names
        self.rows: list[int] = []
        self.payloads: list[list[Payload]] = [[] for _ in names]
        self.steps: list[tuple[Prefixes, list[Payload] | None]] = [
            (prefixes(name, kind), into if name in made else None)
            for (name, kind), into in zip(names, self.payloads, strict=True)
        ]

    def take(self, row: int, record: bytes) -> bool:
        """Put in a record that has them, in the form that `entries` reads; False if it has not, and nothing is changed."""
        length, begin = len(record), header(len(record))
        at, spans = len(begin), []
        if not at or not record.startswith(begin):
            return False
        for lengths, into in self.steps:
            prefix, skip, size = lengths[record[at + 1 : at + 4]]
            if not skip or not record.startswith(prefix, at):
                return False
            start = at + skip
            at = start + size
            if into is not None:
                spans.append((into, start, at))
        if at != length:
            return False
        for into, start, stop in spans:
            into.append(record[start:stop])
        self.rows.append(row)
        return True


def _groups(records: Sequence[bytes], rows: Sequence[int], made: Mapping[str, Column]) -> list[_Group]:
    """The rows, grouped by what their records hold. Each is expected to be like the one before it."""
    groups: dict[tuple[tuple[str, int], ...], _Group] = {}
    group: _Group | None = None
    for row in rows:
        record = records[row]
        if group is not None and group.take(row, record):
            continue
        features = features_of(record)
        names = tuple((name, kind) for name, (kind, _) in features.items())
        group = groups.get(names)
        if group is None:
            group = groups[names] = _Group(names, made)
        group.rows.append(row)
        for (_, into), (_, payload) in zip(group.steps, features.values(), strict=True):
            if into is not None:
                into.append(payload)
    return list(groups.values())


def _put_defaults(rows: list[int], found: Sequence[str], made: Mapping[str, Column]) -> None:
    for name in made.keys() - set(found):
        made[name].put_default(rows, sorted(found))
