"""Records whose features stand in one order, read in step: each thing of a record at once in all of them.

Lengths may differ from record to record, and with them where everything stands: there is a place in each record, and all
go on together. What is read is what `_example_wire.entries` reads of one record.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ._dtypes import AnyArray
from ._example_wire import Entry, varint

_WORD: Final = 8  # bytes that are read at once: a tag and a length, or more of what follows
_MOST: Final = 4  # bytes of a length, which then is below a quarter of a gigabyte
_LEAST: Final = np.array([0, 0, 1 << 7, 1 << 14, 1 << 21])
"""The least length that is written in so many bytes."""

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def step_through(records: Sequence[bytes], layout: Sequence[Entry]) -> tuple[bytes, Flags, list[tuple[Places, Places]]]:
    """The records joined, which of them are like ``layout``, and for each feature from where to where its payload stands.

    A record is like it that has features of the same names and kinds in the same order, and nothing else.
    """
    longest = max(len(entry.prefix) for entry in layout)
    joined = b"".join([*records, bytes(longest + 4 * _WORD)])  # an entry begins in its record, if it ends anywhere
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    begins = np.concatenate([[0], ends[:-1]])
    words = np.ndarray((len(joined) - _WORD + 1,), "<i8", joined, 0, (1,))
    at, length, is_alike = _opened(words, begins, 0x0A)
    is_alike &= (at + length == ends) & (length >= _LEAST[at - begins - 1])
    spans = []
    for entry in layout:
        inner, length, is_entry = _opened(words, at, 0x0A)
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


def _into(joined: bytes, words: AnyArray, inner: Places, stop: Places, entry: Entry) -> tuple[Places, Flags]:
    """Where the payload of entries of any length starts, and which of them are of this name and kind."""
    key = b"\x0a" + varint(len(entry.name.encode())) + entry.name.encode()
    holds = _holds(joined, inner, key)
    at = inner + len(key)
    for tag in (0x12, entry.kind, 0x0A):  # the feature, the list in it, and the payload of that
        at, length, is_tag = _opened(words, at, tag)
        holds &= is_tag & (at + length == stop)
    return at, holds


def _opened(words: AnyArray, at: Places, tag: int) -> tuple[Places, Places, Flags]:
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


def _holds(joined: bytes, at: Places, expected: bytes) -> Flags:
    """Where these bytes stand."""
    size = len(expected)
    windows = np.ndarray((len(joined) - size + 1, size), np.uint8, joined, 0, (1, 1))
    holds: Flags = (windows[at] == np.frombuffer(expected, np.uint8)).all(axis=1)
    return holds
