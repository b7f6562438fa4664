"""Records of the same features in the same order, read in step: each part of all of them at once, by NumPy.

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
from .example_wire import Entry, header, varint
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
    is_alike &= (
        joined.places(at) == joined.ends
    )  # no place goes back: if a payload ends past its record, this one does, too
    return (True if is_alike.all() else is_alike), payloads


def _first_entries(joined: Joined) -> tuple[Places | int, Flags]:
    """Return where the first entry of each record is, as one number if that is equal, and which records have a right header."""
    width = len(header(joined.longest))
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
    lengths = _short_lengths()[joined.pairs[at + 1]]
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


def _tagged(joined: Joined, places: Places, tag: int) -> tuple[Places, Places, Flags]:
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
def _short_lengths() -> npt.NDArray[np.uint16]:
    """Return the length that two bytes begin with; 0 if it is `_SHORT` or more, or has more bytes than necessary."""
    pairs = np.arange(1 << 16)
    low, high = pairs & 0xFF, pairs >> 8
    two = np.where((high > 0) & (high < _SHORT >> 7), low & 0x7F | high << 7, 0)
    return np.where(low < 0x80, low, two).astype(np.uint16)
