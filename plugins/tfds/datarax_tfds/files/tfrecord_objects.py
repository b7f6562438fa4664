"""Offsets of the records of TFRecord files at addresses: each is read once in large ranges, several at once, and they are kept.

Only the lengths of records lead from one to the next, so that an object whose offsets are not known has to be read whole, but
for the contents of large records.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np

from datarax_core.sources import Stamp
from datarax_core.storage import RangeReader, redacted

from .tfrecord_index import HEADER, SMALL_CHUNK, cache_folder, cached_offsets, record_offsets

_AT_ONCE: Final = 8
"""Objects that are read at once."""

_PIECE, _PIECES_AT_ONCE = 8 << 20, 32 << 20
"""Bytes of a piece of an object, at least, and of one piece of each of the objects that are read at once, at most."""

_LARGE: Final = 4 << 20
"""Bytes of a record that take longer to fetch than the answer to one more request."""

_WORTH_A_WORD: Final = 1 << 30

_logger = logging.getLogger(__name__)


def offsets_at_addresses(reader: RangeReader, addresses: Sequence[str], stamps: Sequence[Stamp]) -> list[np.ndarray]:
    """Return, for each object, the offsets of its records and the end of the last one; from the cache folder if they are there.

    Bytes that are read go into the reader's cache, if it has room for all of them.

    Raises:
        DataFileError: An object is truncated, damaged, no TFRecord file, or was changed.
        FileNotFoundError, PermissionError, ConnectionError, TimeoutError: An object cannot be read.
    """
    total, at_once = sum(stamp.size for stamp in stamps), min(len(addresses), _AT_ONCE)
    if not at_once:
        return []
    if reader.cache is not None and (reader.cache.limit or total) < total:
        reader = replace(reader, cache=None)
    piece = max(_PIECE, _PIECES_AT_ONCE // at_once)

    def offsets_of(address: str, stamp: Stamp) -> np.ndarray:
        def find() -> np.ndarray:
            if total >= _WORTH_A_WORD:
                _logger.warning(
                    "%s is read once, to find its records; their offsets are then kept in %s",
                    redacted(address),
                    cache_folder(),
                )
            object_ = _FrontToBack(reader, address, stamp, piece)
            try:
                return record_offsets(redacted(address), object_.read, stamp.size, chunk_bytes=piece, large=_LARGE)
            finally:
                object_.close()

        def read(size: int, at: int) -> bytes:
            return reader.ranges([address], [at], [min(at + size, stamp.size)], [stamp])[0]

        return cached_offsets(address, stamp, find, read=read)

    with ThreadPoolExecutor(at_once, thread_name_prefix="datarax-tfrecord-index") as pool:
        return list(pool.map(offsets_of, addresses, stamps))


class _FrontToBack:
    """Reads of an object at offsets that never go down; the piece that follows is fetched meanwhile.

    Args:
        reader: Reads the object.
        address: The object.
        stamp: Its stamp.
        piece_bytes: Bytes of a piece.
    """

    def __init__(self, reader: RangeReader, address: str, stamp: Stamp, piece_bytes: int) -> None:
        self._reader, self._address, self._stamp, self._piece_bytes = reader, address, stamp, piece_bytes
        self._begin, self._piece = 0, b""
        self._following: Iterator[bytes] | None = None

    def read(self, size: int, at: int) -> bytes:
        """Return bytes from an offset on: as many as are here, and those of a header at least unless the object ends."""
        end = self._begin + len(self._piece)
        if size <= SMALL_CHUNK and at + HEADER > end:
            self.close()
            return self._reader.ranges([self._address], [at], [min(at + size, self._stamp.size)], [self._stamp])[0]
        while min(at + HEADER, self._stamp.size) > self._begin + len(self._piece):
            self._go_on(at)
        return self._piece[at - self._begin :]

    def close(self) -> None:
        """Fetch no more."""
        following, self._following = self._following, None
        if following is not None:
            following.close()  # type: ignore[attr-defined]  # of a generator

    def _go_on(self, at: int) -> None:
        """Take the next piece behind the rest of this one from ``at`` on; or begin at ``at``, if that is far ahead."""
        end = self._begin + len(self._piece)
        if self._following is None or at >= end + self._piece_bytes:
            self.close()
            begin = max(at, end) if self._piece else at
            self._following = self._reader.pieces(self._address, self._stamp, begin, self._piece_bytes)
            rest, self._begin = (self._piece[at - self._begin :], at) if at < end else (b"", begin)
        else:
            rest, self._begin = (self._piece[at - self._begin :], at) if at < end else (b"", end)
        self._piece = rest + next(self._following)
