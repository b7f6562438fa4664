"""Layouts of Examples: where the features of many records lie, found for all of them at once.

Records that one program wrote have their features in one order, so that they differ only in the lengths that stand before keys,
features and values. These lengths are read from all records together, by some calls of NumPy for each feature, where protobuf
parses record by record. The values are not copied either, until they are used.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, overload

import numpy as np

_Array: TypeAlias = np.ndarray[Any, Any]

_LEAST_RECORDS: Final = 64
"""Records from which on the calls of NumPy cost less than protobuf."""

_MOST_BYTES: Final = 1 << 16
"""Bytes of a record up to which it matters how it is parsed; all records are copied once, to lie one after another."""

_MOST_FEATURES: Final = 16
_MOST_FORMS: Final = 6  # of one feature: its lengths are numbers of one, two or three bytes
_MOST_OF_KEY: Final = 0x7F
_PADDING: Final = bytes(256)  # behind all records, where the longest header of a feature may end
_FEATURES, _ENTRY, _KEY, _VALUE, _IN_LIST = 0x0A, 0x0A, 0x0A, 0x12, 0x0A
"""Tags: of the map in an Example, an entry of it, the key and the feature in an entry, and the value in a feature's list."""


class Slices(Sequence[bytes]):
    """Values that lie in one buffer, ``joined[start:end]`` each; a value is copied when it is looked at.

    Args:
        joined: The buffer.
        starts: int64 (values,).
        ends: int64 (values,).
    """

    def __init__(self, joined: bytes, starts: _Array, ends: _Array) -> None:
        self.joined, self.starts, self.ends = joined, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> "Slices": ...
    def __getitem__(self, place: int | slice) -> "bytes | Slices":
        if isinstance(place, slice):
            return Slices(self.joined, self.starts[place], self.ends[place])
        return self.joined[self.starts[place] : self.ends[place]]

    def __iter__(self) -> Iterator[bytes]:
        joined = self.joined
        return (joined[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return int((self.ends - self.starts).sum())

    def bytes_at(self, places: _Array, count: int) -> _Array:
        """Return uint8 (values, count): some bytes of each value, or behind it, from offsets in the buffer on."""
        return np.frombuffer(self.joined, np.uint8)[places[:, None] + np.arange(count)]


class RecordsOfOneLayout:
    """Records whose features have the same keys, in the same order, each in the form that common writers choose.

    Args:
        features: For each key, the type of the feature and its values: one of bytes in each record, or all numbers, packed.
    """

    def __init__(self, features: dict[str, tuple[int, Slices]]) -> None:
        self._features = features

    @classmethod
    def found_in(cls, records: Sequence[bytes | memoryview]) -> "RecordsOfOneLayout | None":
        """Return records with their places; None if they are not of one layout, or are too few, too large or damaged."""
        if len(records) < _LEAST_RECORDS:
            return None
        lengths = np.fromiter(map(len, records), np.int64, len(records))
        if lengths.max() > _MOST_BYTES:
            return None
        joined, ends = b"".join((*records, _PADDING)), np.cumsum(lengths)
        features = _features_of(joined, ends - lengths, ends)
        return None if features is None else cls(features)

    def values(self, key: str, feature_type: int) -> Slices | None:
        """Return what `single_value` returns of each record; None if they lack the feature, or have one of another type."""
        found = self._features.get(key)
        return found[1] if found is not None and found[0] == feature_type else None


def _features_of(joined: bytes, starts: _Array, ends: _Array) -> dict[str, tuple[int, Slices]] | None:
    """Return the places of all features of records, by key; None if they are of several layouts, or damaged."""
    found: dict[str, tuple[int, Slices]] = {}
    stored = np.frombuffer(joined, np.uint8)
    at = _start_of_entries(stored, starts, ends)
    while at is not None and not (is_over := at == ends).all():
        entries = None if is_over.any() or len(found) == _MOST_FEATURES else _Entries.at(joined, stored, at, ends)
        if entries is None or entries.key in found:
            return None
        found[entries.key] = entries.type, Slices(joined, entries.starts, entries.ends)
        at = entries.ends
    return None if at is None else found


def _start_of_entries(stored: _Array, starts: _Array, ends: _Array) -> _Array | None:
    """Return where the map in each Example begins, if it takes the whole record."""
    head = stored[starts[:, None] + np.arange(5)]
    lengths, goes_on = (head[:, 1:] & 0x7F).astype(np.int64), head[:, 1:] > 0x7F
    is_read = np.cumprod(goes_on, axis=1, dtype=np.int64)  # whether the byte behind belongs to the number
    length = lengths[:, 0] + (lengths[:, 1:] * is_read[:, :-1] << np.array([7, 14, 21])).sum(axis=1)
    at: _Array = starts + 2 + is_read.sum(axis=1)
    is_right = (head[:, 0] == _FEATURES).all() and not is_read[:, -1].any() and (at + length == ends).all()
    return at if is_right else None


class _Form(NamedTuple):
    """The bytes of an entry before its value: which of them are fixed, and where the four lengths are."""

    key: str
    type: int
    mask: _Array
    """uint8 (bytes,): the bits that all entries of the form have in common."""
    pattern: _Array
    weights: _Array
    """float64 (bytes, 4): by what a byte without its highest bit counts in each length."""
    behind: _Array
    """int64 (4,): the offset behind each length, where what it is the length of begins."""

    @classmethod
    def of(cls, joined: bytes, at: int, end: int) -> "_Form | None":
        """Return the form of the entry at an offset; None if it is of another form than writers choose, or damaged."""
        lengths: list[tuple[int, int]] = []
        first, tags = at, {}

        def enter(tag: int | None) -> None:
            nonlocal at
            tags[at - first] = joined[at] if tag is None else tag
            at += 1
            start = at
            while joined[at] > 0x7F and at - start < 4:
                at += 1
            at += 1
            lengths.append((start - first, at - first))

        enter(_ENTRY)
        key_at = at
        length = joined[at + 1]
        at += 2 + length
        if joined[key_at] != _KEY or length > _MOST_OF_KEY or at > end:
            return None
        enter(_VALUE)
        enter(None)
        enter(_IN_LIST)
        if at > end or any(stop - start > 4 for start, stop in lengths):
            return None
        size = at - first
        mask, weights = np.full(size, 0xFF, np.uint8), np.zeros((size, 4))
        pattern: _Array = np.frombuffer(joined, np.uint8, size, first).copy()
        for place, tag in tags.items():
            pattern[place] = tag
        for number, (start, stop) in enumerate(lengths):
            mask[start:stop] = 0x80
            weights[start:stop, number] = 128.0 ** np.arange(stop - start)
        try:
            key = joined[key_at + 2 : key_at + 2 + length].decode()
        except UnicodeDecodeError:
            return None
        type_at = lengths[2][0] - 1
        behind = np.array([stop for _, stop in lengths], np.int64)
        return cls(key, joined[first + type_at], mask, pattern & mask, weights, behind)


class _Entries(NamedTuple):
    """One feature of all records: its key and type, and where its values begin and end."""

    key: str
    type: int
    starts: _Array
    ends: _Array

    @classmethod
    def at(cls, joined: bytes, stored: _Array, at: _Array, ends: _Array) -> "_Entries | None":
        """Return the entries at an offset in each record; None if they are not of one key and type, or damaged."""
        starts, stops = np.empty_like(at), np.empty_like(at)
        left: Any = slice(None)
        first = None
        for _ in range(_MOST_FORMS):
            places = at[left]
            form = _Form.of(joined, int(places[0]), int(ends[left][0]))
            if form is None or (first is not None and (form.key, form.type) != (first.key, first.type)):
                return None
            first = form
            heads = stored[places[:, None] + np.arange(len(form.mask))]
            is_alike = ((heads & form.mask) == form.pattern).all(axis=1)
            lengths = ((heads & 0x7F).astype(np.float64) @ form.weights).astype(np.int64) + form.behind
            is_right = (lengths == lengths[:, :1]).all(axis=1) & (places + lengths[:, 0] <= ends[left])
            if (is_alike & ~is_right).any():
                return None
            rows = np.flatnonzero(is_alike) if isinstance(left, slice) else left[is_alike]
            starts[rows] = (places + form.behind[-1])[is_alike]
            stops[rows] = (places + lengths[:, 0])[is_alike]
            if is_alike.all():
                return cls(form.key, form.type, starts, stops)
            left = np.flatnonzero(~is_alike) if isinstance(left, slice) else left[~is_alike]
        return None
