"""TFRecord files made by hand, whole and damaged."""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import google_crc32c

from datarax_tfds.files import RecordFiles
from datarax_tfds.splits import FilePart


def record(content: bytes) -> bytes:
    """Return a record as a TFRecord file holds it."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def write(path: Path, contents: Iterable[bytes]) -> str:
    """Write a TFRecord file of these records, and return its path."""
    path.write_bytes(b"".join(map(record, contents)))
    return str(path)


def contents(count: int, *, size: int = 20) -> list[bytes]:
    """Return records that contain their number, of about one size."""
    return [f"record {number} ".encode() + bytes(number % size) for number in range(count)]


def whole(path: str | Path, count: int) -> FilePart:
    """Return the part of all records of a file that should have ``count`` records."""
    return FilePart(str(path), 0, count, count)


def opened(*parts: FilePart, file_format: str = "tfrecord") -> RecordFiles:
    """Open the records of these parts."""
    return RecordFiles(parts, file_format, "Source 'a'")  # type: ignore[arg-type]  # it is one of the two


def begin_of(records: list[bytes], number: int) -> int:
    """Return the offset of a record in its file."""
    return sum(len(record(content)) for content in records[:number])


def flip(path: str | Path, at: int) -> None:
    """Change a byte of a file, and keep its stamp: size and modification time stay."""
    before = os.stat(path)  # noqa: PTH116 - takes text as well
    with open(path, "r+b") as file:  # noqa: PTH123 - takes text as well
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x55]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _checksum(content: bytes) -> bytes:
    crc: int = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
