"""A batch of tf.train.Examples as columns: by layout where records share one, else by their entries, else by protobuf."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ._dtypes import AnyArray
from ._example_values import Column, Wanted
from ._example_wire import Entry, Payload, entries, entry_at, entry_like, header, parsed

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
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(map(len, records)):
        by_length.setdefault(length, []).append(row)
    rest: list[int] = []
    for rows in by_length.values():
        rest += _put_alike(records, rows, made)
    if rest:
        _put_each(records, sorted(rest), made)
    return {name: column.finished() for name, column in made.items()}


def _put_alike(records: Sequence[bytes], rows: list[int], made: Mapping[str, Column]) -> list[int]:
    """Put in what shares its layout with many of these rows, whose records have one length; the rows that are left."""
    for _ in range(_LAYOUTS):
        if len(rows) < _WORTH_A_LAYOUT:
            break
        layout = entries(records[rows[0]])
        if layout is None:
            break
        step = max(1, _CHUNK // len(records[rows[0]]))
        left = []
        for start in range(0, len(rows), step):
            left += _put_layout(records, rows[start : start + step], layout, made)
        rows = left
    return rows


def _put_layout(
    records: Sequence[bytes], rows: list[int], layout: list[Entry], made: Mapping[str, Column]
) -> list[int]:
    """Put in the rows whose records have this layout; the others."""
    joined = b"".join([records[row] for row in rows])
    matrix = np.frombuffer(joined, np.uint8).reshape(len(rows), -1)
    begin = header(matrix.shape[1])
    alike = (matrix[:, : len(begin)] == np.frombuffer(begin, np.uint8)).all(axis=1)
    at, spans = len(begin), []
    for entry in layout:
        start = at + len(entry.prefix)
        alike &= (matrix[:, at:start] == np.frombuffer(entry.prefix, np.uint8)).all(axis=1)
        at = start + entry.size
        spans.append((entry, slice(start, at)))
    left: list[int] = []
    if not alike.all():
        left = [row for row, is_alike in zip(rows, alike.tolist(), strict=True) if not is_alike]
        rows = [row for row, is_alike in zip(rows, alike.tolist(), strict=True) if is_alike]
        matrix = matrix[alike]
    if not rows:
        return left
    places: slice | list[int] = rows
    if rows[-1] - rows[0] == len(rows) - 1:  # ascending, so without a gap
        places = slice(rows[0], rows[-1] + 1)
    names = {entry.name for entry in layout}
    for name in made.keys() - names:
        made[name].put_default(places, sorted(names))
    for entry, span in spans:
        if column := made.get(entry.name):
            column.put_block(places, entry.kind, matrix[:, span])
    return left


def _put_each(records: Sequence[bytes], rows: Sequence[int], made: Mapping[str, Column]) -> None:
    """Put in rows of any form."""
    found: dict[tuple[str, int], tuple[list[int], list[Payload]]] = {}
    names = made.keys()
    for row, features in zip(rows, _features(records, rows), strict=True):
        for name, kind, payload in features:
            if name in names:
                group = found.get((name, kind))
                if group is None:
                    group = found[name, kind] = [], []
                group[0].append(row)
                group[1].append(payload)
    for (name, kind), (of_rows, payloads) in found.items():
        made[name].put(of_rows, kind, payloads)
    for name, column in made.items():
        given = {row for (other, _), (of_rows, _) in found.items() if other == name for row in of_rows}
        if lacking := [row for row in rows if row not in given]:
            column.put_default(lacking, sorted(features_of(records[lacking[0]])))


def _features(records: Sequence[bytes], rows: Sequence[int]) -> Iterator[list[tuple[str, int, Payload]]]:
    """The (name, kind, payload) of each feature of each row.

    The entry at each place of a record is expected to be named as in the record before; only its length is read then.
    """
    expected: list[tuple[str, int]] = []
    for row in rows:
        record = records[row]
        length, begin = len(record), header(len(record))
        at, found = len(begin), []
        if at and record.startswith(begin):
            place = 0
            while at < length:
                entry = None
                if place < len(expected):
                    entry = entry_like(*expected[place], record[at + 1 : at + 4])
                if entry is None or not record.startswith(entry.prefix, at):
                    entry = entry_at(record, at)
                    if entry is None:
                        break
                    expected[place:] = [(entry.name, entry.kind)]
                start = at + len(entry.prefix)
                at = start + entry.size
                found.append((entry.name, entry.kind, record[start:at]))
                place += 1
        if at != length or not found or len({name for name, _, _ in found}) != len(found):
            found = [(name, kind, payload) for name, (kind, payload) in parsed(record).items()]
        yield found


def features_of(record: bytes) -> dict[str, tuple[int, Payload]]:
    """The kind and payload of each feature of one record.

    Raises:
        ValueError: It is no Example.
    """
    return {name: (kind, payload) for name, kind, payload in next(_features([record], [0]))}
