"""TFRecord files made by hand, whole and damaged."""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import google_crc32c

from datarax_tfds.files import RecordFiles
from datarax_tfds.splits import FilePart


def record(content: bytes) -> bytes:
    """A record as it stands in a file."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def write(path: Path, contents: Iterable[bytes]) -> str:
    """A file of these records; gives its path."""
    path.write_bytes(b"".join(map(record, contents)))
    return str(path)


def contents(count: int, *, size: int = 20) -> list[bytes]:
    """Records that tell their number, of about a size."""
    return [f"record {number} ".encode() + bytes(number % size) for number in range(count)]


def whole(path: str | Path, count: int) -> FilePart:
    """All records of a file that is said to have so many."""
    return FilePart(str(path), 0, count, count)


def opened(*parts: FilePart, file_format: str = "tfrecord") -> RecordFiles:
    """The records of these parts."""
    return RecordFiles(parts, file_format, "Source 'a'")  # type: ignore[arg-type]  # it is one of the two


def begin_of(records: list[bytes], number: int) -> int:
    """The byte at which a record begins."""
    return sum(len(record(content)) for content in records[:number])


def flip(path: str | Path, at: int) -> None:
    """Change a byte of a file, and nothing by which a file is told: size and time of writing stay."""
    before = os.stat(path)  # noqa: PTH116 - takes text as well
    with open(path, "r+b") as file:  # noqa: PTH123 - likewise
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x55]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _checksum(content: bytes) -> bytes:
    crc: int = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
