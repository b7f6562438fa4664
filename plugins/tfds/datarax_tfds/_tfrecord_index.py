"""Where each record of a TFRecord file is, found by going from length to length, without TensorFlow.

A record is its length (8 bytes), the length's checksum (4), the content, and the content's checksum (4). The lengths are all
that leads from one record to the next, so that a file is walked through once; their checksums are verified, a chunk at
a time. The file is read, not mapped: one that is truncated under a map ends the process.
"""

import os
import struct
from typing import Final

import numpy as np

from datarax_core.errors import DataFileError

from ._checksums import length_checksums

HEADER: Final = 12
OVERHEAD: Final = 16
"""Bytes of a record besides its content, in front of it and in all."""

_LENGTH: Final = struct.Struct("<Q")
_CHUNK: Final = 1 << 20
_SMALL_CHUNK: Final = 1 << 12
_FEW: Final = 8
"""A chunk with fewer records is followed by a small one: of large records nothing but the headers is read."""

_COMPRESSIONS: Final = {b"\x1f\x8b": "GZIP", b"\x78\x01": "ZLIB", b"\x78\x9c": "ZLIB", b"\x78\xda": "ZLIB"}


def record_offsets(path: str, descriptor: int, size: int) -> np.ndarray:
    """int64 (n + 1,): where each record of an open file begins, and behind the last one where that ends: ``size``.

    Cost: 0.4 us a record, and reading the file, but for the contents of large records; 8 bytes a record.

    Raises:
        DataFileError: The file is compressed, truncated, no TFRecord file, or damaged; says from which record on.
    """
    found, count, at, window = [], 0, 0, _CHUNK
    while at < size:
        chunk = os.pread(descriptor, window, at)
        begins, ahead = _walk(chunk)
        lengths, is_wrong = _lengths(chunk, begins)
        if is_wrong.any():
            raise _damaged(path, count + int(np.argmax(is_wrong)), chunk)
        if len(begins):
            end = at + int(begins[-1]) + OVERHEAD + int(lengths[-1])
        if not len(begins) or end > size:
            first = at + int(begins[-1]) if len(begins) else at
            raise _truncated(path, count + max(len(begins) - 1, 0), first, end if len(begins) else None, size)
        found.append(at + begins)
        count += len(begins)
        at += ahead
        window = _CHUNK if len(begins) >= _FEW else _SMALL_CHUNK
    return np.concatenate([*found, [size]]).astype(np.int64, copy=False)


def _walk(chunk: bytes) -> tuple[np.ndarray, int]:
    """(where records begin whose headers the chunk has, where the next one does)."""
    begins: list[int] = []
    note, length_at = begins.append, _LENGTH.unpack_from
    at, last = 0, len(chunk) - HEADER
    while at <= last:
        note(at)
        at += length_at(chunk, at)[0] + OVERHEAD
    return np.asarray(begins, np.int64), at


def _lengths(chunk: bytes, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 (k,): the lengths, bool (k,): whether the checksum of each is wrong)."""
    headers = np.frombuffer(chunk, np.uint8)[begins[:, None] + np.arange(HEADER)]
    lengths = np.ascontiguousarray(headers[:, :8]).view("<u8")[:, 0]
    checksums = np.ascontiguousarray(headers[:, 8:]).view("<u4")[:, 0]
    return lengths, length_checksums(lengths) != checksums


def _damaged(path: str, record: int, chunk: bytes) -> DataFileError:
    if record:
        return DataFileError(
            path,
            f"{path} is damaged: the length of record {record} does not have the checksum that is stored with it, and "
            "records behind it cannot be found; copy the file again, or prepare the data set anew",
        )
    compression = _COMPRESSIONS.get(chunk[:2])
    if compression is not None:
        return DataFileError(
            path,
            f"{path} is compressed ({compression}), which TFDS does not write and which has no random access; "
            "decompress it, or prepare the data set anew",
        )
    return DataFileError(
        path,
        f"{path} is no TFRecord file: it begins with {chunk[:8]!r}, which is no length with its checksum; prepare the "
        "data set anew",
    )


def _truncated(path: str, record: int, begin: int, end: int | None, size: int) -> DataFileError:
    needs = "the header of a record needs 12" if end is None else f"the record needs {end - begin}"
    return DataFileError(
        path,
        f"{path} is truncated: it ends in record {record}, which begins at byte {begin}; {needs} bytes and {size - begin} "
        "are there; copy the file again, or prepare the data set anew",
    )
