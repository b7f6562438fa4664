"""Segments of a cache: sparse files, each with some of the blocks of one object, and a checksum of each block that is there.

A block is written first, its checksum after it, with one write of eight bytes: a process that is killed in between leaves a
block that is not there. Two processes that write one block write the same bytes. A checksum is looked at when a process reads a
block for the first time, and no more as long as it has the segment open: what it reads then is the file that it has checked.

The checksum is `zlib.crc32`, 3.9 GB/s on the machine where this was written: a block of 256 KiB takes 68 us, once. (CRC-32C of
google-crc32c is seven times as fast, and not worth another package for core.)
"""

import os
import struct
import time
import zlib
from array import array
from contextlib import suppress
from typing import Final

HEADER_BYTES: Final = 4096
BLOCKS: Final = 256
"""Blocks of a segment, at most: as many as have an entry in the header, with room to spare."""

_ENTRY: Final = struct.Struct("<II")
_MARK: Final = 0x6B8B4567
"""What tells an entry from zeros: a checksum stands beside its exclusive or with this number."""

_TOUCH_SECONDS: Final = 5.0


class Segment:
    """Open segment, which any number of threads may use; closed when nobody refers to it any more.

    Args:
        path: The file, which is made if there is none and ``writes``.
        block_bytes: Bytes of a block.
        writes: Whether blocks may be added.

    Raises:
        OSError: The file cannot be opened or made.
    """

    def __init__(self, path: str, block_bytes: int, *, writes: bool) -> None:
        self.fd = -1
        self.path, self.block_bytes, self.writes = path, block_bytes, writes
        self.ready = bytearray(BLOCKS)
        """1 for each block that this process has checked or written."""
        self._entries = b""
        self.fd = _made(path) if writes else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.used = self._touched = time.monotonic()

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def place(self, block: int) -> int:
        """Return the position of a block in the file."""
        return HEADER_BYTES + block * self.block_bytes

    def read(self, begin: int, size: int) -> bytes:
        """Return bytes of the blocks, from ``begin`` on; fewer if the disk fails, or if somebody cut the file."""
        try:
            return os.pread(self.fd, size, HEADER_BYTES + begin)
        except OSError:
            return b""

    def check(self, block: int, size: int) -> bool:
        """Return whether a block of so many bytes is there and is as it was written; reads it all, if it is there."""
        if self.ready[block]:
            return True
        for look_again in (False, True):  # another process may have added it
            if look_again or not self._entries:
                self._entries = os.pread(self.fd, HEADER_BYTES, 0)
            at = block * _ENTRY.size
            entry = self._entries[at : at + _ENTRY.size]
            if len(entry) == _ENTRY.size:
                checksum, mark = _ENTRY.unpack(entry)
                if mark == checksum ^ _MARK:
                    content = os.pread(self.fd, size, self.place(block))
                    if len(content) == size and zlib.crc32(content) == checksum:
                        self.ready[block] = 1
                        return True
                    if look_again:
                        return False
        return False

    def write(self, block: int, content: bytes) -> None:
        """Add a block, or write it anew.

        Raises:
            OSError: The disk is full, for example; the block is not there then.
        """
        if os.pwrite(self.fd, content, self.place(block)) != len(content):
            raise OSError(f"{self.path}: the disk took a part of a block only")
        checksum = zlib.crc32(content)
        os.pwrite(self.fd, _ENTRY.pack(checksum, checksum ^ _MARK), block * _ENTRY.size)
        self.ready[block] = 1

    def touch(self, now: float) -> None:
        """Note that the segment is used ``now``, for other processes at most once in a few seconds."""
        self.used = now
        if now - self._touched > _TOUCH_SECONDS:
            self.touch_file()

    def touch_file(self) -> None:
        """Note in the file that the segment was used, if it was since that was noted."""
        if self.used > self._touched:
            self._touched = self.used
            ago = int((time.monotonic() - self.used) * 1e9)
            with suppress(OSError):  # of another user, or on a disk that is read only
                os.utime(self.fd, ns=(time.time_ns() - ago,) * 2)

    def is_removed(self) -> bool:
        """Return whether the file was removed; what is in it can be read on, and nothing added that others would find."""
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True


def _made(path: str) -> int:
    """Return the descriptor of a segment, which is made if there is none."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    for _ in range(3):
        with suppress(FileNotFoundError):  # another process removes a folder in which it has removed the last segment
            return os.open(path, flags, 0o644)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - called for each segment
    return os.open(path, flags, 0o644)


def bytes_in_segment(path: str, block_bytes: int) -> int:
    """Return the bytes that a segment takes: its header, and the blocks that are there.

    Raises:
        OSError: The file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = array("Q")
        entries.frombytes(os.pread(fd, BLOCKS * _ENTRY.size, 0).ljust(BLOCKS * _ENTRY.size, b"\0"))
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    return min(size, HEADER_BYTES + (BLOCKS - entries.count(0)) * block_bytes)
