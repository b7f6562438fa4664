"""A batch of tf.train.Examples to columns: by layout where records share one, else in step, else record by record.

Records of one *layout* have every feature at the same place, and are copied together. Records that can be read *in step* have
the same features in the same order, but of any length: NumPy reads each feature in all of them at once. The results of the
three ways are equal; the first two are fast.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from datarax_core.records import Ragged

from .dtypes import AnyArray
from .example_ragged import RaggedFeatureColumn
from .example_sequences import Feature, parsed_features, sequence_features
from .example_specs import FeatureSpec
from .example_values import FeatureColumn
from .example_wire import Entry, Payload, entries, header, varint

_CHUNK: Final = 1 << 19
"""Bytes that are joined at a time: few enough to stay in the processor's cache until they are copied to their columns."""

_MOST_IN_STEP_BYTES: Final = 1 << 20
"""Bytes of records that are read in step at a time."""

_LEAST_BY_LAYOUT: Final = 8
_LEAST_IN_STEP: Final = 24
"""Records from which on a way is faster than the next one."""

UNKNOWN: Final = "which the first record does not have; declare the features: fields: {name: {dtype: ...}}"

_MOST_LAYOUTS: Final = 4
"""Layouts that are tried before the other records are read in the next way."""

_WORD_BYTES: Final = 8
"""Bytes that are read at once: a tag and a length, or more."""

_LENGTH_BYTES: Final = 4
"""Most bytes of a length that is read in step, which then is below 2**28; longer features are read record by record."""

_LEAST_LENGTH: Final = np.array([0, 0, 1 << 7, 1 << 14, 1 << 21])
"""Least length that is written in so many bytes."""

_Places: TypeAlias = npt.NDArray[np.int64]
_Flags: TypeAlias = npt.NDArray[np.bool_]


class _Columns(dict[str, FeatureColumn | RaggedFeatureColumn]):
    """Columns by the names of their features."""

    def __init__(self, columns: dict[str, FeatureColumn | RaggedFeatureColumn], takes_others: bool) -> None:  # noqa: FBT001 - of one caller
        super().__init__(columns)
        self._takes_others = takes_others

    def check_names(self, rows: list[int], names: Sequence[str]) -> None:
        """Take the names of the features that these rows have: put defaults for those they lack, refuse unknown ones."""
        if not self._takes_others and (others := sorted(set(names) - self.keys())):
            raise ValueError(f"the record has the feature {others[0]!r}, {UNKNOWN}")
        for name, column in self.items():
            if name not in names:
                column.put_default(rows, sorted(names))


_Put: TypeAlias = Callable[[Sequence[bytes], list[int], list[Entry], _Columns], list[int]]


def columns_of(
    records: Sequence[bytes], features: Sequence[FeatureSpec], *, takes_others: bool = True
) -> dict[str, AnyArray | Ragged]:
    """Return each feature as a column, rows in the order of the records.

    The values of a record do not depend on the other records: records that `entries` accepts are read by their entries, in any
    of the three ways, and all others by protobuf.

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
    rest: list[int] = []
    for rows in _by_length(records):
        rest += _put_by_layouts(_put_layout, records, rows, made, least=_LEAST_BY_LAYOUT)
    for rows in _chunks(records, sorted(rest)):
        _put_each(records, _put_by_layouts(_put_in_step, records, rows, made, least=_LEAST_IN_STEP), made)
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


def _by_length(records: Sequence[bytes]) -> list[list[int]]:
    """Return the rows of the records grouped by length, since only records of one length can share a layout."""
    lengths = list(map(len, records))
    if len(set(lengths)) == 1:
        return [list(range(len(records)))]
    rows: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows.setdefault(length, []).append(row)
    return list(rows.values())


def _chunks(records: Sequence[bytes], rows: list[int]) -> Iterator[list[int]]:
    """Yield rows in groups whose records have about a megabyte together."""
    chunk: list[int] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(records[row])
        if size >= _MOST_IN_STEP_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _put_by_layouts(put: _Put, records: Sequence[bytes], rows: list[int], made: _Columns, *, least: int) -> list[int]:
    """Put records like the first one into their columns, then those like the first of the others; return the rows left."""
    for _ in range(_MOST_LAYOUTS):
        layout = entries(records[rows[0]]) if len(rows) >= least else None
        if layout is None:
            break
        rows = put(records, rows, layout, made)
    return rows


def _put_layout(records: Sequence[bytes], rows: list[int], layout: list[Entry], made: _Columns) -> list[int]:
    """Put the records of this layout into their columns; return the other rows, whose columns are overwritten later.

    Each piece of the layout is copied for all records at once: payloads without conversion to their columns, other payloads
    to an array that is converted, and the bytes between payloads to an array that is compared with the layout.
    """
    length, index = len(records[rows[0]]), np.asarray(rows)
    between = b"".join([header(length), *(entry.prefix for entry in layout)])
    structure = np.empty((len(rows), len(between)), np.uint8)
    # of each piece: its first byte in a record, the array that it is copied to, and the rows of that array
    pieces: list[tuple[int, AnyArray, AnyArray | None]] = []
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
            if places is None:  # all rows: a plain copy takes half the time of one by row numbers
                into[first : first + count] = found
            else:
                into[places[first : first + count]] = found
    alike = (structure == np.frombuffer(between, np.uint8)).all(axis=1)
    for column, kind, block in blocks:
        column.put_block(index[alike], kind, block[alike])
    made.check_names(index[alike].tolist(), [entry.name for entry in layout])
    others: list[int] = index[~alike].tolist()
    return others


def _put_in_step(records: Sequence[bytes], rows: list[int], layout: list[Entry], made: _Columns) -> list[int]:
    """Put the records with these features in this order, of any length, into their columns; return the other rows."""
    chosen = [records[row] for row in rows]
    joined, is_alike, spans = _spans_in_step(chosen, layout)
    left: list[int] = []
    if not is_alike.all():
        left = np.asarray(rows)[~is_alike].tolist()
        rows = np.asarray(rows)[is_alike].tolist()
        spans = [(starts[is_alike], stops[is_alike]) for starts, stops in spans]
    if not rows:  # a length has more bytes than `_spans_in_step` reads
        return left
    for entry, (starts, stops) in zip(layout, spans, strict=True):
        if column := made.get(entry.name):
            column.put_spans(rows, entry.kind, joined, starts, stops)
    made.check_names(rows, [entry.name for entry in layout])
    return left


def _put_each(records: Sequence[bytes], rows: Sequence[int], made: _Columns) -> None:
    """Put records of any form into their columns, record by record."""
    groups: dict[tuple[str, int], tuple[list[int], list[Payload]]] = {}
    for row in rows:
        features = features_of(records[row])
        for name, (kind, payload, _) in features.items():
            if name in made:
                of_rows, payloads = groups.setdefault((name, kind), ([], []))
                of_rows.append(row)
                payloads.append(payload)
        made.check_names([row], list(features))
    for (name, kind), (of_rows, payloads) in groups.items():
        made[name].put(of_rows, kind, payloads)


def _spans_in_step(
    records: Sequence[bytes], layout: Sequence[Entry]
) -> tuple[bytes, _Flags, list[tuple[_Places, _Places]]]:
    """Return the records joined, which of them are like ``layout``, and for each feature the span of its payload in each.

    A record is like the layout if it has features of the same names and kinds in the same order, and nothing else.
    """
    longest = max(len(entry.prefix) for entry in layout)
    joined = b"".join([*records, bytes(longest + 4 * _WORD_BYTES)])  # so that reads past the last record stay inside
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    begins = np.concatenate([[0], ends[:-1]])
    words = np.ndarray((len(joined) - _WORD_BYTES + 1,), "<i8", joined, 0, (1,))
    at, length, is_alike = _tagged(words, begins, 0x0A)
    is_alike &= (at + length == ends) & (length >= _LEAST_LENGTH[at - begins - 1])
    spans = []
    for entry in layout:
        inner, length, is_entry = _tagged(words, at, 0x0A)
        stop = np.minimum(inner + length, ends)
        is_alike &= is_entry & (stop == inner + length)
        expected = _length_of(entry)
        if (length == expected).all():
            is_alike &= _holds(joined, at, entry.prefix)
            start = at + len(entry.prefix)
        else:
            start, holds = _payload_starts(joined, words, inner, stop, entry)
            is_alike &= holds
        spans.append((start, stop))
        at = stop
    is_alike &= at == ends
    return joined, is_alike, spans


def _length_of(entry: Entry) -> int:
    """Return the length that the entry declares for the bytes after it; -1 if it has more than five bytes."""
    whole = len(entry.prefix) + entry.stop - entry.start
    return next((whole - 1 - width for width in range(1, 6) if entry.prefix[width] < 0x80), -1)


def _payload_starts(
    joined: bytes, words: AnyArray, inner: _Places, stop: _Places, entry: Entry
) -> tuple[_Places, _Flags]:
    """Return where the payloads of entries of any length start, and which entries have this name and kind."""
    key = b"\x0a" + varint(len(entry.name.encode())) + entry.name.encode()
    holds = _holds(joined, inner, key)
    at = inner + len(key)
    for tag in (0x12, entry.kind, 0x0A):  # tags of the feature, of its list, and of the payload
        at, length, is_tag = _tagged(words, at, tag)
        holds &= is_tag & (at + length == stop)
    return at, holds


def _tagged(words: AnyArray, at: _Places, tag: int) -> tuple[_Places, _Places, _Flags]:
    """Return start and length of the value with this tag at each place, and which places have the tag and such a length."""
    word = words[at]
    is_tag = (word & 0xFF) == tag
    word >>= 8
    length, more = word & 0x7F, word & 0x80
    at = at + 2
    for place in range(1, _LENGTH_BYTES):
        if not more.any():
            return at, length, is_tag
        word >>= 8
        more >>= 7
        length += ((word & 0x7F) << (7 * place)) * more
        at += more
        more = (word & 0x80) * more
    return at, length, is_tag & (more == 0)


def _holds(joined: bytes, at: _Places, expected: bytes) -> _Flags:
    """Return which places hold these bytes."""
    size = len(expected)
    windows = np.ndarray((len(joined) - size + 1, size), np.uint8, joined, 0, (1, 1))
    holds: _Flags = (windows[at] == np.frombuffer(expected, np.uint8)).all(axis=1)
    return holds
