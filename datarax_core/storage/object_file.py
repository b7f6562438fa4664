"""Objects of stores as file objects, for libraries that read from such: parts are fetched before they are asked for."""

import errno
import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

_WINDOW: Final = 64 << 10
"""Bytes that a read fetches at least: a request costs more than these."""


class ObjectFile(io.RawIOBase):
    """A file object over the ranges of an object, for one thread at a time.

    What `fetch` fetched stays in memory until this object is dropped; other reads fetch what they ask for, a request each.

    Args:
        size: Bytes of the object.
        read_ranges: Returns the bytes of ranges, given their starts and ends.
    """

    def __init__(self, size: int, read_ranges: Callable[[Sequence[int], Sequence[int]], list[bytes]]) -> None:
        super().__init__()
        self._size, self._read_ranges = size, read_ranges
        self._at = 0
        self._starts: list[int] = []
        self._parts: list[bytes] = []

    def fetch(self, starts: Sequence[int], ends: Sequence[int]) -> None:
        """Fetch ranges that will be read, many at once; what lies beyond the end of the object is left out."""
        wanted = [(max(0, start), min(end, self._size)) for start, end in zip(starts, ends, strict=True)]
        wanted = [(start, end) for start, end in wanted if start < end]
        if wanted:
            parts = self._read_ranges([start for start, _ in wanted], [end for _, end in wanted])
            for (start, _), part in zip(wanted, parts, strict=True):
                self.hold(start, part)

    def hold(self, start: int, part: bytes) -> None:
        """Keep bytes of the object that the caller has, from an offset on."""
        number = bisect_right(self._starts, start)
        self._starts.insert(number, start)
        self._parts.insert(number, part)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, f"there is no position {base + offset} in a file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # of a buffer
        """Read into a buffer, fewer bytes than it takes if fewer are at hand; 0 at the end."""
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        part, first = self._part_at(self._at, wanted)
        found = part[first : first + wanted]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _part_at(self, at: int, wanted: int) -> tuple[bytes, int]:
        """Return a part that holds the byte at a position, and the place of that byte in it; fetched if there is none."""
        for _ in range(2):
            number = bisect_right(self._starts, at) - 1
            if number >= 0 and at < self._starts[number] + len(self._parts[number]):
                return self._parts[number], at - self._starts[number]
            self.fetch([at], [at + max(wanted, _WINDOW)])
        raise EOFError(f"byte {at} of {self._size} was not returned")
