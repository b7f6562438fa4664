"""Records of the same features, in one order or in any, read in step: each part of all of them at once, by NumPy.

A record is one header and one payload a feature after another. Where the payloads of a feature have one length, its headers
are equal, and are compared; where they have not, the length of an entry says all that its header holds but the name. So the
place of each payload follows from the place of the entry before it, for all records at once.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .dtypes import AnyArray
from .example_wire import BYTES, FLOATS, INTEGERS, Entry, header, varint
from .joined import Flags, Joined, Payloads, Places

_LEAST_LENGTH: Final = np.array([0, 0, 1 << 7, 1 << 14, 1 << 21])
"""Least length that is written in so many bytes."""

_SHORT: Final = 1 << 13
"""Lengths below this one have two bytes at most, and the headers of such entries are looked up in tables."""

_LENGTH_BYTES: Final = 4
"""Most bytes of a length that is read in step, which then is below 2**28; longer features are read record by record."""

_LEAST_TABLE: Final = 1 << 8
"""Lengths for which a table has headers at least."""

_SPARE: Final = 64
"""Bytes that may be read past the end of the last record, besides those of the longest header."""

_ENTRY, _FEATURE, _PAYLOAD = 0x0A, 0x12, 0x0A  # tags of an entry, of the feature in it, and of the payload in its list


def in_step(records: Sequence[bytes], lengths: Places, layout: Sequence[Entry]) -> tuple[Flags | bool, list[Payloads]]:
    """Return which records are like ``layout`` (True: all of them), and the payloads of each feature in all records.

    A record is like the layout if it has features of the same names and kinds in the same order, and nothing else. Places in
    other records mean nothing, but are inside the joined bytes.
    """
    joined = Joined(records, lengths, max(len(entry.prefix) for entry in layout) + _SPARE)
    try:
        return _payloads(joined, layout)
    except IndexError:  # a damaged length leads past the end of all records
        return np.zeros(joined.count, np.bool_), []


def _payloads(joined: Joined, layout: Sequence[Entry]) -> tuple[Flags | bool, list[Payloads]]:
    at, is_alike = _first_entries(joined)
    payloads = []
    for entry in layout:
        if joined.hold(at, entry.prefix):
            start: Places | int = at + len(entry.prefix)
            size = entry.stop - entry.start
            payloads.append(Payloads(joined, start, size, None))
            at = start + size
        else:
            start, at, is_entry = _of_any_length(joined, joined.places(at), entry)
            is_alike &= is_entry
            payloads.append(Payloads(joined, start, None, at))
    # no place goes back: if a payload ends past its record, the last one does, too
    is_alike &= joined.places(at) == joined.ends
    return (True if is_alike.all() else is_alike), payloads


def in_any_order(
    records: Sequence[bytes], lengths: Places, known: Sequence[Entry]
) -> tuple[Flags, Flags, list[Payloads]]:
    """Return which records have known features only, in any order; which records have each of them; and all its payloads.

    All writers that keep features in a hash table may write them in another order in each record.

    Args:
        records: Bytes of the records.
        lengths: Their lengths, int64 (n,).
        known: Entries of features of other records, of different names: k.

    Returns:
        Flags (n,), flags (k, n), and k payloads of all records, of which those of records without the feature mean nothing.
    """
    joined = Joined(records, lengths, max(len(entry.prefix) for entry in known) + _SPARE)
    sizes, kinds = np.array([len(_key(entry.name)) for entry in known]), np.array([entry.kind for entry in known])
    has = np.zeros((len(known), joined.count), np.bool_)
    starts, stops = np.zeros((2, *has.shape), np.int64)
    at, is_alike = _first_entries(joined)
    at = joined.places(at)
    for _ in known:
        is_open = is_alike & (at < joined.ends)
        if not is_open.any():
            break
        inner, length, is_entry = _tagged(joined, at, _ENTRY)
        which = _which(joined, inner, known)
        is_entry &= is_open & (which >= 0)
        start, is_header = _payload_starts(joined, inner + sizes[which], length - sizes[which], kinds[which], is_entry)
        is_entry &= is_header
        rows = np.flatnonzero(is_entry)
        of_rows, stop = which[rows], np.minimum(inner + length, joined.ends + 1)  # one byte too far is as wrong as many
        is_alike &= is_entry | ~is_open
        is_alike[rows[has[of_rows, rows]]] = False  # twice
        starts[of_rows, rows], stops[of_rows, rows], has[of_rows, rows] = start[rows], stop[rows], True
        at = np.where(is_entry, stop, at)
    is_alike &= at == joined.ends
    return is_alike, has, [Payloads(joined, *span) for span in zip(starts, [None] * len(known), stops, strict=True)]


def _which(joined: Joined, inner: Places, known: Sequence[Entry]) -> Places:
    """Return which of the features has the name at each place; -1 if none has."""
    which = np.full(joined.count, -1)
    for at, entry in enumerate(known):
        key = _key(entry.name)  # its last byte is not 0, which NumPy would not compare
        which[joined.at(inner, len(key)).view(f"S{len(key)}") == key] = at
    return which


def _payload_starts(joined: Joined, at: Places, rest: Places, kinds: Places, is_entry: Flags) -> tuple[Places, Flags]:
    """Return where the payloads start in features of these kinds, and which features are of them and fill their entry.

    Args:
        joined: The records.
        at: Where the length of each feature is.
        rest: Number of bytes from there to the end of the entry.
        kinds: The kinds of the features.
        is_entry: Which of them are looked at.
    """
    rest = np.where(is_entry, rest, 0)
    if rest.view(np.uint64).max() < _SHORT:  # which is not so of negative ones either
        tails, places = _all_tails(), (kinds >> 3) * _SHORT + rest
        is_header = (joined.words[at] & tails.masks[places]) == tails.words[places]
        return at + tails.widths[places], is_header
    start, stop = at - 1, at + rest
    is_header = np.ones(joined.count, np.bool_)
    for tag in (_FEATURE, kinds, _PAYLOAD):
        start, length, is_tag = _tagged(joined, start, tag)
        is_header &= is_tag & (start + length == stop)
        start = np.minimum(start, joined.ends)
    return start, is_header


def _first_entries(joined: Joined) -> tuple[Places | int, Flags]:
    """Return where the first entry of each record is, as one number if that is equal, and which records have a right header."""
    width = len(header(joined.longest))
    if width and joined.shortest == joined.longest and joined.hold(0, header(joined.longest)):
        return width, np.ones(joined.count, np.bool_)
    if width and len(header(joined.shortest)) == width:  # then all headers between them have it, too
        is_alike = joined.words[joined.begins] & ((1 << 8 * width) - 1) == _header_words(joined.lengths, width)
        return (width if joined.stride else joined.begins + width), is_alike
    at, length, is_alike = _tagged(joined, joined.begins, _ENTRY)
    is_alike &= (at + length == joined.ends) & (length >= _LEAST_LENGTH[at - joined.begins - 1])
    return at, is_alike


def _header_words(lengths: Places, width: int) -> Places:
    """Return the headers of records of these lengths, which have ``width`` bytes, as little-endian numbers."""
    rest = lengths - width
    words = rest & 0x7F
    for place in range(1, width - 1):
        rest >>= 7
        words |= (rest & 0x7F) << 8 * place
    continued = sum(0x80 << 8 * place for place in range(width - 2))
    return (words | continued) << 8 | _ENTRY


def _of_any_length(joined: Joined, at: Places, entry: Entry) -> tuple[Places, Places, Flags | bool]:
    """Return start and stop of the payload of the entry at each place, and which entries have this name and kind."""
    lengths = _short_lengths()[joined.pairs[at + 1]].astype(np.int64)  # as an index of another dtype is, each time
    longest = int(lengths.max())
    headers = _headers(entry.name, entry.kind, max(_LEAST_TABLE, 1 << longest.bit_length()))
    found = joined.at(at, headers.rows.itemsize).view(np.uint8) & headers.masks[lengths].view(np.uint8)
    expected = headers.rows[lengths]
    is_entry: Flags | bool = True
    if found.tobytes() != expected.tobytes():
        if not lengths.all():  # one of them is not in the table
            return _of_any_lengths(joined, at, entry)
        is_entry = (found == expected.view(np.uint8)).reshape(joined.count, -1).all(axis=1)
    return at + headers.starts[lengths], at + headers.stops[lengths], is_entry


def _of_any_lengths(joined: Joined, at: Places, entry: Entry) -> tuple[Places, Places, Flags]:
    """Return the same for lengths of more bytes, number by number."""
    start, length, is_entry = _tagged(joined, at, _ENTRY)
    stop = start + length
    key = _key(entry.name)
    found = joined.at(start, len(key)).view(np.uint8).reshape(joined.count, -1)
    is_entry &= (found == np.frombuffer(key, np.uint8)).all(axis=1)
    start = start + len(key) - 1
    for tag in (_FEATURE, entry.kind, _PAYLOAD):
        start, length, is_tag = _tagged(joined, start, tag)
        is_entry &= is_tag & (start + length == stop)
    return start, stop, is_entry


def _tagged(joined: Joined, places: Places, tag: int | Places) -> tuple[Places, Places, Flags]:
    """Return start and length of the value with this tag at each place, and which places have the tag and such a length."""
    word = joined.words[places]
    is_tag = (word & 0xFF) == tag
    word >>= 8
    length, more = word & 0x7F, word & 0x80
    places = places + 2
    for place in range(1, _LENGTH_BYTES):
        if not more.any():
            return places, length, is_tag
        word >>= 8
        more >>= 7
        length += ((word & 0x7F) << (7 * place)) * more
        places += more
        more = (word & 0x80) * more
    return places, length, is_tag & (more == 0)


@lru_cache(maxsize=4096)
def _key(name: str) -> bytes:
    """Return the bytes of an entry between its length and the length of its feature."""
    encoded = name.encode()
    return b"\x0a" + varint(len(encoded)) + encoded + bytes([_FEATURE])


class _Headers(NamedTuple):
    """Bytes of an entry before its payload, by the length that it begins with; 0 is that of no entry."""

    rows: AnyArray
    """The bytes, and zeros up to one number of bytes, void (n,)."""

    masks: AnyArray
    """The bits of these bytes."""

    starts: Places
    """Where the payload starts."""

    stops: Places
    """Where it ends."""


@lru_cache(maxsize=128)
def _headers(name: str, kind: int, count: int) -> _Headers:
    """Return the headers of entries of a name and a kind, of lengths below ``count``, a power of two of up to `_SHORT`."""
    key, lengths = np.frombuffer(_key(name), np.uint8), np.arange(count)
    tails = _tails(kind)
    rest = lengths - len(key)
    is_written = (rest >= 0) & tails.is_written[rest]
    width = 3 + len(key) + tails.words.itemsize
    rows, masks = np.zeros((count, width), np.uint8), np.zeros((count, width), np.uint8)
    starts = np.zeros(count, np.int64)
    for chosen, inner in ((slice(None, 1 << 7), 2), (slice(1 << 7, None), 3)):
        row, of_lengths, at = rows[chosen], lengths[chosen], inner + len(key)
        row[:, 0] = _ENTRY
        row[:, 1] = of_lengths if inner == 2 else of_lengths & 0x7F | 0x80
        if inner == 3:
            row[:, 2] = of_lengths >> 7
        row[:, inner:at] = key
        row[:, at : at + 8] = tails.words[rest[chosen]][:, None].view(np.uint8)
        masks[chosen, :at] = 0xFF
        masks[chosen, at : at + 8] = tails.masks[rest[chosen]][:, None].view(np.uint8)
        starts[chosen] = at + tails.widths[rest[chosen]]
    rows &= masks
    rows[~is_written], masks[~is_written] = 0xFF, 0
    stops = lengths + 2 + (lengths >= 1 << 7)
    void = np.dtype((np.void, width))
    return _Headers(rows.view(void)[:, 0], masks.view(void)[:, 0], starts, stops)


class _Tails(NamedTuple):
    """Bytes of an entry from the length of its feature to its payload, by the number of bytes from there to its end."""

    words: npt.NDArray[np.int64]
    """The bytes as a little-endian number."""

    masks: npt.NDArray[np.int64]
    """The bits of these bytes."""

    widths: npt.NDArray[np.int64]
    """How many they are."""

    is_written: Flags
    """Whether an entry has such a length at all."""


@lru_cache(maxsize=3)
def _tails(kind: int) -> _Tails:
    """Return the bytes before the payload of features of a kind: length, kind, length, tag and length, eight bytes at most."""
    whole = np.arange(_SHORT)
    words, at, rest = np.zeros_like(whole), np.zeros_like(whole), whole
    is_written = np.ones(_SHORT, np.bool_)
    for tag in (kind, _PAYLOAD, None):
        width = np.where(rest >= (1 << 7) + 2, 2, 1)
        length = rest - width
        is_written &= (length >= 0) & ((width == 2) == (length >= 1 << 7))
        words |= np.where(width == 2, (length & 0x7F) | 0x80 | (length >> 7) << 8, length) << 8 * at
        at, rest = at + width, length
        if tag is not None:
            words |= tag << 8 * at
            at, rest = at + 1, rest - 1
    masks = np.where(at == words.itemsize, -1, (1 << 8 * np.minimum(at, words.itemsize - 1)) - 1)
    little = np.dtype("<i8")
    return _Tails(words.astype(little), masks.astype(little), at, is_written)


@lru_cache(maxsize=1)
def _all_tails() -> _Tails:
    """Return the same for all kinds one after another; those of a kind begin at ``kind >> 3`` times `_SHORT`."""
    by_kind = [_tails(kind) for kind in (BYTES, FLOATS, INTEGERS)]
    none = np.zeros(_SHORT, np.int64)  # no tag is below 8
    return _Tails(
        np.concatenate([none - 1, *(tails.words for tails in by_kind)]),
        np.concatenate([none, *(tails.masks for tails in by_kind)]),
        np.concatenate([none, *(tails.widths for tails in by_kind)]),
        np.concatenate([none > 0, *(tails.is_written for tails in by_kind)]),
    )


@lru_cache(maxsize=1)
def _short_lengths() -> npt.NDArray[np.uint16]:
    """Return the length that two bytes begin with; 0 if it is `_SHORT` or more, or has more bytes than necessary."""
    pairs = np.arange(1 << 16)
    low, high = pairs & 0xFF, pairs >> 8
    two = np.where((high > 0) & (high < _SHORT >> 7), low & 0x7F | high << 7, 0)
    return np.where(low < 0x80, low, two).astype(np.uint16)
