"""The zlib streams in PNG files, whose rows of pixels they hold: found, and their chunks checked."""

import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from .layouts import Slices
from .numbers import AnyArray

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""The last chunk of every file."""

NAME, DATA, CHECKSUM = 4, 8, 4
"""Offsets of name and data in a chunk, and the bytes behind the data; those behind a zlib stream are as many."""

_FIRST: Final = 33
"""Offset of the first chunk behind signature and header."""

_WITHOUT_EFFECT: Final = frozenset(
    (b"bKGD", b"cHRM", b"eXIf", b"gAMA", b"iCCP", b"iTXt", b"pHYs", b"sBIT", b"sRGB", b"tEXt", b"tIME", b"zTXt")
)
"""Chunks that change no stored value: neither TensorFlow nor imagecodecs applies them, and damage in them is no error."""

Stream: TypeAlias = bytes | memoryview


class Streams(NamedTuple):
    """Zlib streams in one buffer, which is given in pieces."""

    pieces: Sequence[Stream]
    starts: AnyArray
    """int64 (streams,): offsets in the buffer."""
    lengths: AnyArray
    first_bytes: AnyArray
    checksums: AnyArray
    """int64 (streams,): the last bytes of each, Adler-32 of what it holds."""

    @classmethod
    def of(cls, streams: Sequence[Stream]) -> "Streams":
        """Return streams, each of which is a piece."""
        lengths = np.fromiter(map(len, streams), np.int64, len(streams))
        first = np.array([stream[0] if stream else 0 for stream in streams], np.uint8)
        last = b"".join([bytes(stream[-CHECKSUM:]).rjust(CHECKSUM, b"\0") for stream in streams])
        return cls(streams, np.cumsum(lengths) - lengths, lengths, first, np.frombuffer(last, ">u4").astype(np.int64))

    @classmethod
    def within(cls, files: Slices, head: bytes) -> "Streams | None":
        """Return the streams of files that begin with ``head`` and have one chunk; None if one of the files is no such file."""
        starts, ends = files.starts + (_FIRST + DATA), files.ends - (len(END) + CHECKSUM)
        lengths = ends - starts
        if lengths.min() < DATA:  # two bytes of header, two of a block, and the checksum
            return None
        heads = files.bytes_at(files.starts, _FIRST + DATA)
        is_right = (heads[:, :_FIRST] == np.frombuffer(head, np.uint8)).all() and (
            files.bytes_at(files.ends - len(END), len(END)) == np.frombuffer(END, np.uint8)
        ).all()
        named = heads[:, _FIRST:].copy().view([("length", ">u4"), ("name", "S4")])[:, 0]
        if not is_right or (named["length"] != lengths).any() or (named["name"] != b"IDAT").any():
            return None
        sums = (
            files.bytes_at(ends - CHECKSUM, 2 * CHECKSUM).view(">u4").astype(np.int64)
        )  # of the stream, and of the chunk
        view, crc32 = memoryview(files.joined), zlib.crc32
        spans = zip((starts - NAME).tolist(), ends.tolist(), strict=True)
        if [crc32(view[start:end]) for start, end in spans] != sums[:, 1].tolist():
            return None
        first = int(files.starts.min())
        piece = view[first : int(files.ends.max())]
        return cls([piece], starts - first, lengths, files.bytes_at(starts, 1)[:, 0], sums[:, 0])


def stream_of(encoded: bytes, head: bytes) -> Stream | None:
    """Return the zlib stream of a PNG that begins with ``head``; None if other chunks change its pixels, or it is damaged."""
    if not encoded.startswith(head):
        return None
    view, first = memoryview(encoded), _FIRST + DATA
    end = len(encoded) - len(END) - CHECKSUM
    is_only = int.from_bytes(encoded[_FIRST : _FIRST + NAME]) == end - first and encoded.endswith(END)
    if is_only:
        return view[first:end] if encoded[_FIRST + NAME : first] == b"IDAT" and _is_whole(view, _FIRST, end) else None
    pieces, at = [], _FIRST
    while at + DATA + CHECKSUM <= len(encoded):
        end = at + DATA + int.from_bytes(encoded[at : at + NAME])
        name = encoded[at + NAME : at + DATA]
        if name == b"IDAT":
            if not _is_whole(view, at, end):
                return None
            pieces.append(view[at + DATA : end])
        elif pieces:
            return b"".join(pieces)
        elif name not in _WITHOUT_EFFECT:
            return None
        at = end + CHECKSUM
    return None


def _is_whole(encoded: memoryview, start: int, end: int) -> bool:
    """Return whether name and data of a chunk, which end at ``end``, have the checksum behind them."""
    stored = encoded[end : end + CHECKSUM]
    return len(stored) == CHECKSUM and zlib.crc32(encoded[start + NAME : end]) == int.from_bytes(stored)
