"""Records of msgpack that are maps of the same names to the same types, read in step: each value of all of them at once.

Bytes that are equal in all records (the maps, the names, the headers of arrays of one dtype and shape) are compared; numbers,
text and bytes are read by NumPy, whatever the width that each of them is written with.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from datarax_core.records import aligned_empty, dotted_name

from .dtypes import AnyArray, is_number
from .joined import Flags, Joined, Payloads, Places
from .msgpack_arrays import ARRAY, SCALAR, dtype_named, parts_of

_INTEGER, _FLOAT, _BOOL, _TEXT, _BYTES, _EXTENSION = range(6)

_LEAST: Final = 24
"""Records from which on reading in step is faster."""

_MOST_STRUCTURES: Final = 4
"""Structures that are tried before the other records are read one by one."""

_MOST_BYTES: Final = 1 << 21
"""Bytes of records that are read in step at a time."""

_CHUNKED: Final = "__msgpack_chunked_array__"
_MAPS: Final = {0xDE: 2, 0xDF: 4}
"""Tags of large maps, with the bytes of their length; other maps have it in their tag."""

_SPARE: Final = 64
"""Bytes that may be read past the end of the last record, besides those of the longest header."""

_FLOAT64, _TRUE, _FALSE, _UINT64 = 0xCB, 0xC3, 0xC2, 0xCF
_LEAST_FIX: Final = -32
"""Least integer that is a byte of its own, its tag."""


def _table(default: int, values: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """Return a value for each first byte of a value of msgpack."""
    table = np.full(256, default)
    table[list(values)] = list(values.values())
    return table


_INTEGERS: Final = {0xCC + at: 1 << at % 4 for at in range(8)}
"""Bytes after the tag of unsigned integers, then of signed ones."""

_WIDTHS: Final = _table(0, _INTEGERS)
_SHIFTS: Final = _table(0, {tag: 64 - 8 * width for tag, width in _INTEGERS.items()})
_SIGNS: Final = _table(0, dict.fromkeys(range(0xD0, 0xD4), 1)) == 1
_FIX_TEXT: Final = dict.fromkeys(range(0xA0, 0xC0), 0)
_LENGTH_WIDTHS: Final = {
    _TEXT: _table(-1, _FIX_TEXT | {0xD9: 1, 0xDA: 2, 0xDB: 4}),
    _BYTES: _table(-1, {0xC4: 1, 0xC5: 2, 0xC6: 4}),
    _EXTENSION: _table(-1, {0xC7: 1, 0xC8: 2, 0xC9: 4}),
}
"""Bytes of the length after the tag, 0 where the tag has it, -1 where the tag is that of another type."""

_LENGTH_SHIFTS: Final = np.array([0, 56, 48, 0, 32, 0])
_LENGTH_MASKS: Final = np.array([0, 0xFF, 0xFFFF, 0, 0xFFFFFFFF, 0])
"""How a length of so many bytes, or -1, is brought down from the highest bytes of a word, and its bits."""

_MOST_MAPS: Final = 32
"""Maps in maps that are read in step."""

_Columns: TypeAlias = dict[str, AnyArray]


class _Leaf(NamedTuple):
    """Value in a record; its content is ``start .. stop``, which includes the tag of integers and bools."""

    name: str
    kind: int
    head: bytes
    """The bytes that are equal in all records, from the value before on."""

    start: int
    stop: int
    length: bytes = b""
    """Tag and length of text and bytes, which may be equal in all records."""

    is_array: bool = False
    """Whether the bytes are those of an array of numbers, of one size in all records."""

    dtype: np.dtype[Any] | None = None
    """Dtype of an array."""

    shape: tuple[int, ...] = ()


def columns_in_step(
    records: Sequence[bytes], structs: Mapping[str, Any], *, takes_others: bool
) -> tuple[_Columns, Places]:
    """Return the fields as columns, with the rows of records of a few structures filled, and the other rows.

    The values of a record are those of `msgpack.unpackb`; records that it refuses are among the other rows.

    Args:
        records: Bytes of the records.
        structs: Dtype and shape of each field, by dotted name.
        takes_others: Whether records may have other fields, which are skipped, and bytes for an array of numbers.
    """
    columns: _Columns = {}
    rows = np.arange(len(records))
    if len(records) < _LEAST or sys.byteorder == "big" or any(None in struct.shape for struct in structs.values()):
        return columns, rows
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    for _ in range(_MOST_STRUCTURES):
        layout = _structure(records[rows[0]]) if len(rows) >= _LEAST else None
        layout = layout and _fitting(layout, structs, takes_others=takes_others)
        if not layout:
            break
        columns = columns or {name: _empty(len(records), struct) for name, struct in structs.items()}
        rows = np.concatenate([_put(records, lengths, chunk, layout, columns) for chunk in _chunks(lengths, rows)])
    return columns, rows


def _empty(count: int, struct: Any) -> AnyArray:
    shape = (count, *struct.shape)
    return np.empty(shape, object) if struct.dtype == object else aligned_empty(shape, struct.dtype)


def _chunks(lengths: Places, rows: Places) -> Iterator[Places]:
    """Yield rows in groups whose records have about two megabytes together."""
    chunks = np.cumsum(lengths[rows]) // _MOST_BYTES
    yield from np.split(rows, np.flatnonzero(chunks[1:] != chunks[:-1]) + 1)


# -- the structure of one record ------------------------------------------------------------------------------------------


def _structure(record: bytes) -> list[_Leaf] | None:
    """Return the values of a record; None if it is damaged, has a name twice, or a value of another type."""
    leaves: list[_Leaf] = []
    try:
        stop, _ = _walk(record, 0, (), leaves, 0) if _is_map(record[0]) else (0, 0)
    except (IndexError, ValueError):
        return None
    return leaves if stop == len(record) else None


def _walk(record: bytes, at: int, path: tuple[str, ...], leaves: list[_Leaf], head: int) -> tuple[int, int]:
    """Append the values of the map at a byte; return where it stops, and where the last value in it stops.

    Args:
        record: The record.
        at: Where the map begins.
        path: The names of the maps around it.
        leaves: The values found up to here.
        head: Where the last of them stops.
    """
    tag = record[at]
    width = _MAPS.get(tag, 0)
    count = int.from_bytes(record[at + 1 : at + 1 + width], "big") if width else tag & 0x0F
    if not count or len(path) > _MOST_MAPS:
        raise ValueError
    at += 1 + width
    names: set[str] = set()
    for _ in range(count):
        start, at = _span(record, at, _TEXT)
        name = record[start:at].decode()
        if not name or name == _CHUNKED or name in names:
            raise ValueError
        names.add(name)
        if _is_map(record[at]):
            at, head = _walk(record, at, (*path, name), leaves, head)
        else:
            leaves.append(_leaf(record, at, dotted_name([*path, name]), head))
            at = head = leaves[-1].stop
    return at, head


def _is_map(tag: int) -> bool:
    return tag & 0xF0 == 0x80 or tag in _MAPS


def _leaf(record: bytes, at: int, name: str, head: int) -> _Leaf:
    """Return the value at a byte; its tag is part of the head only if the type says no more than the tag."""
    tag = record[at]
    if tag < 0x80 or tag >= 256 + _LEAST_FIX or tag in _INTEGERS:
        return _Leaf(name, _INTEGER, record[head:at], at, at + 1 + _INTEGERS.get(tag, 0))
    if tag == _FLOAT64:
        return _Leaf(name, _FLOAT, record[head : at + 1], at + 1, at + 9)
    if tag in (_TRUE, _FALSE):
        return _Leaf(name, _BOOL, record[head:at], at, at + 1)
    for kind in (_TEXT, _BYTES):
        if _LENGTH_WIDTHS[kind][tag] >= 0:
            start, stop = _span(record, at, kind)
            return _Leaf(name, kind, record[head:at], start, stop, record[at:start])
    start, stop = _span(record, at, _EXTENSION)
    if record[start] not in (ARRAY, SCALAR):
        raise ValueError
    shape, dtype, content = parts_of(record[start + 1 : stop + 1])
    stop += 1  # the length is that without the code
    start = stop - len(content)
    return _Leaf(name, _EXTENSION, record[head:start], start, stop, dtype=dtype_named(dtype), shape=tuple(shape))


def _span(record: bytes, at: int, kind: int) -> tuple[int, int]:
    """Return start and stop of the content at a byte; raise ValueError if it is of another type, or cut off."""
    tag = record[at]
    width = int(_LENGTH_WIDTHS[kind][tag])
    if width < 0:
        if kind == _EXTENSION and 0xD4 <= tag <= 0xD8:
            return at + 1, at + 1 + (1 << tag - 0xD4)
        raise ValueError
    start = at + 1 + width
    length = int.from_bytes(record[at + 1 : start], "big") if width else tag & 0x1F
    if start + length > len(record):
        raise ValueError
    return start, start + length


def _fitting(layout: list[_Leaf], structs: Mapping[str, Any], *, takes_others: bool) -> list[_Leaf] | None:
    """Return the values of a structure; None unless they are those of the fields, of types that need no conversion."""
    found = {leaf.name: leaf for leaf in layout}
    if structs.keys() - found.keys() or (not takes_others and found.keys() - structs.keys()):
        return None
    if not all(_fits(found[name], struct, takes_others=takes_others) for name, struct in structs.items()):
        return None
    return [leaf._replace(is_array=leaf.name in structs and structs[leaf.name].dtype != object) for leaf in layout]


def _fits(leaf: _Leaf, struct: Any, *, takes_others: bool) -> bool:
    if leaf.kind == _EXTENSION:
        return leaf.stop > leaf.start and (leaf.dtype, leaf.shape) == (struct.dtype, struct.shape)
    if leaf.kind == _BYTES and is_number(struct.dtype):
        return takes_others and 0 < _array_bytes(struct) == leaf.stop - leaf.start
    dtype = {_INTEGER: np.int64, _FLOAT: np.float64, _BOOL: np.bool_, _TEXT: object, _BYTES: object}[leaf.kind]
    return bool(struct.shape == () and struct.dtype == dtype)


def _array_bytes(struct: Any) -> int:
    return int(np.prod(struct.shape, dtype=np.int64)) * int(struct.dtype.itemsize)


# -- all records of a structure -------------------------------------------------------------------------------------------


def _put(records: Sequence[bytes], lengths: Places, rows: Places, layout: Sequence[_Leaf], columns: _Columns) -> Places:
    """Put the records of a structure into their rows; return the other rows."""
    first, last = int(rows[0]), int(rows[-1])
    is_run = last - first == len(rows) - 1
    chosen = records[first : last + 1] if is_run else [records[row] for row in rows.tolist()]
    joined = Joined(chosen, lengths[rows], max(len(leaf.head) for leaf in layout) + _SPARE)
    try:
        is_alike, contents = _contents(joined, layout)
    except IndexError:  # a damaged length leads past the end of all records
        return rows
    places: Any = slice(first, last + 1) if is_run else rows
    left: Places = rows[:0]
    if not is_alike.all():
        places, left = rows[is_alike], rows[~is_alike]
        contents = [c.of(is_alike) if isinstance(c, Payloads) else c[is_alike] for c in contents]
    if not len(left) < len(rows):
        return rows
    try:
        for leaf, content in zip(layout, contents, strict=True):
            _put_content(leaf, content, columns.get(leaf.name), places)
    except UnicodeDecodeError:
        return rows
    return left


def _put_content(leaf: _Leaf, content: "Payloads | AnyArray", column: AnyArray | None, places: Any) -> None:
    """Put the values of a field into these rows of its column, if it has one."""
    if isinstance(content, np.ndarray):
        if column is not None:
            column[places] = content
    elif leaf.kind == _TEXT:
        _put_objects(content.texts(), column, places)  # text that is skipped is UTF-8, too
    elif column is not None and column.dtype == object:
        _put_objects(content.each(), column, places)
    elif column is not None:
        column.reshape(len(column), -1).view(np.uint8)[places] = content.block()


def _put_objects(values: list[Any], column: AnyArray | None, places: Any) -> None:
    if column is not None:
        made = np.empty(len(values), object)
        made[:] = values
        column[places] = made


def _contents(joined: Joined, layout: Sequence[_Leaf]) -> tuple[Flags, "list[Payloads | AnyArray]"]:
    """Return which records have the structure, and of each value the content in all records, or the numbers themselves.

    What stands there for other records means nothing.
    """
    at: Places | int = 0 if joined.stride else joined.begins
    is_alike: Flags = np.ones(joined.count, np.bool_)
    contents: list[Payloads | AnyArray] = []
    for leaf in layout:
        if leaf.head and not joined.hold(at, leaf.head):
            found = np.frombuffer(joined.at(at, len(leaf.head)).tobytes(), np.uint8)
            is_alike &= (found.reshape(joined.count, -1) == np.frombuffer(leaf.head, np.uint8)).all(axis=1)
        content, at, is_right = _content(joined, at + len(leaf.head), leaf)
        contents.append(content)
        is_alike &= is_right
    is_alike &= (
        joined.places(at) == joined.ends
    )  # no place goes back: of a value past its record, this one is past it, too
    return is_alike, contents


def _content(joined: Joined, at: Places | int, leaf: _Leaf) -> "tuple[Payloads | AnyArray, Places | int, Flags | bool]":
    """Return the content of a value, where it stops, and which records have a value of this type there."""
    size = leaf.stop - leaf.start
    if leaf.kind == _INTEGER:
        return _integers(joined, at)
    if leaf.kind in (_TEXT, _BYTES):
        return _of_any_length(joined, at, leaf)
    if leaf.kind == _FLOAT:
        return np.frombuffer(joined.at(at, size).tobytes(), ">f8").astype(np.float64), at + size, True
    if leaf.kind == _BOOL:
        tags = _tags(joined, at)
        return tags == _TRUE, at + size, (tags == _TRUE) | (tags == _FALSE)
    return Payloads(joined, at, size, None), at + size, True


def _of_any_length(joined: Joined, at: Places | int, leaf: _Leaf) -> tuple[Payloads, Places | int, Flags | bool]:
    """Return the same of text and bytes."""
    size = leaf.stop - leaf.start
    if joined.hold(at, leaf.length):
        start = at + len(leaf.length)
        return Payloads(joined, start, size, None), start + size, True
    tags, places = _tags(joined, at), joined.places(at)
    widths = _LENGTH_WIDTHS[leaf.kind][tags]
    lengths = _following(joined, places).view(np.int64) >> _LENGTH_SHIFTS[widths] & _LENGTH_MASKS[widths]
    starts = places + 1 + np.maximum(widths, 0)
    stops = starts + np.where(widths == 0, tags & 0x1F, lengths)
    if leaf.is_array:
        return Payloads(joined, starts, size, None), stops, (widths >= 0) & (stops - starts == size)
    return Payloads(joined, starts, None, stops), stops, widths >= 0


def _integers(joined: Joined, at: Places | int) -> tuple[AnyArray, Places | int, Flags | bool]:
    """Return the integers at these places, whatever their widths, where they stop, and which of them int64 holds."""
    tags = _tags(joined, at)
    small = tags.view(np.int8)
    if (is_small := small >= _LEAST_FIX).all():
        return small.astype(np.int64), at + 1, True
    places = joined.places(at)
    word, shifts = _following(joined, places), _SHIFTS[tags]
    unsigned = (word >> shifts.view(np.uint64)).view(np.int64)
    values = np.where(_SIGNS[tags], word.view(np.int64) >> shifts, unsigned)
    is_right = (is_small | (_WIDTHS[tags] > 0)) & ((tags != _UINT64) | (values >= 0))
    return np.where(is_small, small, values), places + 1 + _WIDTHS[tags], is_right


def _tags(joined: Joined, at: Places | int) -> npt.NDArray[np.uint8]:
    """Return the byte at each place."""
    return joined.at(at, 1).view(np.uint8)


def _following(joined: Joined, places: Places) -> npt.NDArray[np.uint64]:
    """Return the eight bytes after each place, as a number with its highest byte first."""
    return joined.words[places + 1].byteswap().view(np.uint64)
