"""A batch of tf.train.Examples as columns: by layout where records share one, else in step, else one by one.

Records of one *layout* have everything at the same place; records that can be read *in step* have the same features in the
same order, of any length. All ways give the same: the first two are the quick ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .dtypes import AnyArray
from .example_values import Column, Wanted
from .example_wire import Entry, Payload, entries, header, parsed, varint

_CHUNK: Final = 1 << 19
"""Bytes that are joined at a time: they are in the processor's cache still when they are copied to their columns."""

_TOGETHER: Final = 1 << 20
"""Bytes of records that are read in step."""

_WORTH_A_LAYOUT: Final = 8
_IN_STEP: Final = 24
"""Records; fewer are read sooner in the next way."""

_TRIES: Final = 4
"""Layouts that are tried before the rest is read in the next way."""

_WORD: Final = 8  # bytes that are read at once: a tag and a length, or more of what follows
_MOST: Final = 4  # bytes of a length, which then is below a quarter of a gigabyte
_LEAST: Final = np.array([0, 0, 1 << 7, 1 << 14, 1 << 21])
"""The least length that is written in so many bytes."""


_Places: TypeAlias = npt.NDArray[np.int64]
_Flags: TypeAlias = npt.NDArray[np.bool_]
_Put: TypeAlias = Callable[[Sequence[bytes], list[int], list[Entry], Mapping[str, Column]], list[int]]


def columns(records: Sequence[bytes], features: Sequence[Wanted]) -> dict[str, AnyArray]:
    """Each feature as a column, rows in the order of the records.

    Whether a record is read, and as what, depends on nothing but the record: what `entries` accepts is read by its entries,
    in step with others or not, and the rest is protobuf's.

    Raises:
        ValueError: A record is no Example, or a feature of it is not as wanted; names the feature.
    """
    made = {wanted.name: Column(wanted, len(records)) for wanted in features}
    rest: list[int] = []
    for rows in _by_length(records):
        rest += _tried(_put_layout, records, rows, made, least=_WORTH_A_LAYOUT)
    for rows in _chunks(records, sorted(rest)):
        _put_each(records, _tried(_put_in_step, records, rows, made, least=_IN_STEP), made)
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


def _chunks(records: Sequence[bytes], rows: list[int]) -> Iterator[list[int]]:
    """Rows whose records are few enough bytes to be looked at together."""
    chunk: list[int] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(records[row])
        if size >= _TOGETHER:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _tried(
    put: _Put, records: Sequence[bytes], rows: list[int], made: Mapping[str, Column], *, least: int
) -> list[int]:
    """The rows that are left when those like the first one were put in, then those like the first of the others, and so on."""
    for _ in range(_TRIES):
        layout = entries(records[rows[0]]) if len(rows) >= least else None
        if layout is None:
            break
        rows = put(records, rows, layout, made)
    return rows


def _put_layout(
    records: Sequence[bytes], rows: list[int], layout: list[Entry], made: Mapping[str, Column]
) -> list[int]:
    """Put in the rows whose records have this layout; the others, of which nothing stays.

    Every piece is copied to an array of its own, for all records at once: payloads to their columns where they need no
    conversion, and what stands between payloads to be compared.
    """
    length, index = len(records[rows[0]]), np.asarray(rows)
    between = b"".join([header(length), *(entry.prefix for entry in layout)])
    structure = np.empty((len(rows), len(between)), np.uint8)
    pieces: list[tuple[int, AnyArray, AnyArray | None]] = []  # where it stands, where it is copied to, the rows there
    blocks, at = [], 0
    places = None if len(rows) == len(records) else index
    for entry in layout:
        start = entry.start - len(entry.prefix) if at else 0
        pieces.append((start, structure[:, at : at + entry.start - start], None))
        at += entry.start - start
        if column := made.get(entry.name):
            target = column.target(entry.kind, entry.stop - entry.start)
            if target is None:
                block = np.empty((len(rows), entry.stop - entry.start), np.uint8)
                blocks.append((column, entry.kind, block))
            pieces.append((entry.start, block, None) if target is None else (entry.start, target, places))
    step = max(1, _CHUNK // length)
    for first in range(0, len(rows), step):
        joined = b"".join([records[row] for row in rows[first : first + step]])
        count = len(joined) // length
        for start, into, places in pieces:
            found = np.ndarray((count, into.shape[1]), np.uint8, joined, start, (length, 1))
            if places is None:  # all rows: a plain copy takes half of what one by numbers does
                into[first : first + count] = found
            else:
                into[places[first : first + count]] = found
    alike = (structure == np.frombuffer(between, np.uint8)).all(axis=1)
    for column, kind, block in blocks:
        column.put_block(index[alike], kind, block[alike])
    _put_defaults(index[alike].tolist(), [entry.name for entry in layout], made)
    others: list[int] = index[~alike].tolist()
    return others


def _put_in_step(
    records: Sequence[bytes], rows: list[int], layout: list[Entry], made: Mapping[str, Column]
) -> list[int]:
    """Put in the rows whose records have these features in this order, of whatever length; the others, untouched."""
    chosen = [records[row] for row in rows]
    joined, is_alike, spans = _step_through(chosen, layout)
    left: list[int] = []
    if not is_alike.all():
        left = np.asarray(rows)[~is_alike].tolist()
        rows = np.asarray(rows)[is_alike].tolist()
        spans = [(starts[is_alike], stops[is_alike]) for starts, stops in spans]
    if not rows:  # lengths that `entries` reads, and `_step_through` does not
        return left
    for entry, (starts, stops) in zip(layout, spans, strict=True):
        if column := made.get(entry.name):
            column.put_spans(rows, entry.kind, joined, starts, stops)
    _put_defaults(rows, [entry.name for entry in layout], made)
    return left


def _put_each(records: Sequence[bytes], rows: Sequence[int], made: Mapping[str, Column]) -> None:
    """Put in rows of any form, one by one."""
    groups: dict[tuple[str, int], tuple[list[int], list[Payload]]] = {}
    for row in rows:
        features = features_of(records[row])
        for name, (kind, payload) in features.items():
            if name in made:
                of_rows, payloads = groups.setdefault((name, kind), ([], []))
                of_rows.append(row)
                payloads.append(payload)
        _put_defaults([row], list(features), made)
    for (name, kind), (of_rows, payloads) in groups.items():
        made[name].put(of_rows, kind, payloads)


def _put_defaults(rows: list[int], found: Sequence[str], made: Mapping[str, Column]) -> None:
    for name, column in made.items():
        if name not in found:
            column.put_default(rows, sorted(found))


def _step_through(
    records: Sequence[bytes], layout: Sequence[Entry]
) -> tuple[bytes, _Flags, list[tuple[_Places, _Places]]]:
    """The records joined, which of them are like ``layout``, and for each feature from where to where its payload stands.

    A record is like it that has features of the same names and kinds in the same order, and nothing else.
    """
    longest = max(len(entry.prefix) for entry in layout)
    joined = b"".join([*records, bytes(longest + 4 * _WORD)])  # an entry begins in its record, if it ends anywhere
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    begins = np.concatenate([[0], ends[:-1]])
    words = np.ndarray((len(joined) - _WORD + 1,), "<i8", joined, 0, (1,))
    at, length, is_alike = _tagged(words, begins, 0x0A)
    is_alike &= (at + length == ends) & (length >= _LEAST[at - begins - 1])
    spans = []
    for entry in layout:
        inner, length, is_entry = _tagged(words, at, 0x0A)
        stop = np.minimum(inner + length, ends)
        is_alike &= is_entry & (stop == inner + length)
        expected = _expected(entry)
        if (length == expected).all():
            is_alike &= _holds(joined, at, entry.prefix)
            start = at + len(entry.prefix)
        else:
            start, holds = _into(joined, words, inner, stop, entry)
            is_alike &= holds
        spans.append((start, stop))
        at = stop
    is_alike &= at == ends
    return joined, is_alike, spans


def _expected(entry: Entry) -> int:
    """What the length of the entry says."""
    whole = len(entry.prefix) + entry.stop - entry.start
    return next((whole - 1 - width for width in range(1, 6) if entry.prefix[width] < 0x80), -1)


def _into(joined: bytes, words: AnyArray, inner: _Places, stop: _Places, entry: Entry) -> tuple[_Places, _Flags]:
    """Where the payload of entries of any length starts, and which of them are of this name and kind."""
    key = b"\x0a" + varint(len(entry.name.encode())) + entry.name.encode()
    holds = _holds(joined, inner, key)
    at = inner + len(key)
    for tag in (0x12, entry.kind, 0x0A):  # the feature, the list in it, and the payload of that
        at, length, is_tag = _tagged(words, at, tag)
        holds &= is_tag & (at + length == stop)
    return at, holds


def _tagged(words: AnyArray, at: _Places, tag: int) -> tuple[_Places, _Places, _Flags]:
    """Where what has this tag starts, how long it is, and where that can be said."""
    word = words[at]
    is_tag = (word & 0xFF) == tag
    word >>= 8
    length, more = word & 0x7F, word & 0x80
    at = at + 2
    for place in range(1, _MOST):
        if not more.any():
            return at, length, is_tag
        word >>= 8
        more >>= 7
        length += ((word & 0x7F) << (7 * place)) * more
        at += more
        more = (word & 0x80) * more
    return at, length, is_tag & (more == 0)


def _holds(joined: bytes, at: _Places, expected: bytes) -> _Flags:
    """Where these bytes stand."""
    size = len(expected)
    windows = np.ndarray((len(joined) - size + 1, size), np.uint8, joined, 0, (1, 1))
    holds: _Flags = (windows[at] == np.frombuffer(expected, np.uint8)).all(axis=1)
    return holds
