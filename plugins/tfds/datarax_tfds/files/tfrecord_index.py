"""Offsets of the records of a TFRecord file: found without TensorFlow, and kept in the user's cache folder.

A record is its length (8 bytes), the length's checksum (4), the content, and the content's checksum (4). Only the lengths lead
from one record to the next, so a file is walked through once; the checksums of the lengths are verified, a chunk at a time.
Files are read, not mapped: truncating a mapped file ends the process that maps it.
"""

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import google_crc32c
import numpy as np
import platformdirs

from datarax_core.config import without_query
from datarax_core.errors import DataFileError
from datarax_core.files import format_clause, is_remote
from datarax_core.sources import Stamp

HEADER: Final = 12
"""Bytes of a record in front of its content: the length and its checksum."""

OVERHEAD: Final = 16
"""Bytes of a record besides its content: the header, and behind the content its checksum."""

FOLDER_VARIABLE: Final = "DATARAX_CACHE_DIR"
"""Environment variable that names another folder for the indices than the user's cache folder."""

Read: TypeAlias = Callable[[int, int], bytes]
"""Reads (bytes, offset) of a file, as ``os.pread`` does."""

_LENGTH: Final = struct.Struct("<Q")
_CHUNK: Final = 1 << 20
SMALL_CHUNK: Final = 1 << 12
"""Bytes that are read at once, mostly, and where records are large."""
_LARGE: Final = 1 << 17
"""Bytes of a record that take longer to read than one call."""

_COMPRESSIONS: Final = {b"\x1f\x8b": "GZIP", b"\x78\x01": "ZLIB", b"\x78\x9c": "ZLIB", b"\x78\xda": "ZLIB"}

_MAGIC: Final = b"drxtfri1"
_FACTS: Final = struct.Struct("<8sQQQ")
"""Head of a kept index: magic, size of the data file, time of its last change in ns, count of the offsets that follow.

Of an object, a digest of its etag stands for the time.
"""

_CHECKSUM: Final = struct.Struct("<I")
"""Checksum of the head and the offsets, stored between them."""

_LOOKED_AT: Final = 16
"""Records whose headers are held against a kept index before it is used."""

_SECONDS_OF_UNFINISHED: Final = 3600
"""Seconds after which an entry that is being written is one of a process that was killed."""

_CRC_MASK: Final = np.uint32(0xA282EAD8)

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder in which indices are kept: ``$DATARAX_CACHE_DIR/tfrecord``, or one in the user's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return (Path(named) if named else platformdirs.user_cache_path("datarax")) / "tfrecord"


def cached_offsets(
    path: str, stamp: Stamp, find: Callable[[], np.ndarray], *, is_compressed: bool = False, read: Read | None = None
) -> np.ndarray:
    """Return the offsets of the records of a file, int64 (n + 1,): from the cache, or else from ``find``, and cache them.

    The cache has one file for each path. An entry is used only if the data file has the size and the time of last change that
    the entry notes, if the entry's own checksum is right, and if some of its offsets are those of records: a file that was
    replaced by one of the same size and time has others. Otherwise the entry is made anew; but if the file is damaged, so that
    offsets cannot be found any more, the entry is used, which leads to all other records. If the cache cannot be written,
    nothing is kept. Entries are read, not mapped, so that clearing the cache ends no process.

    Args:
        path: The file, or its address.
        stamp: Its stamp.
        find: Finds the offsets.
        is_compressed: Whether they are those in its content.
        read: Reads parts of the file; None opens it, on this machine.
    """
    kept = cache_folder() / key_of(path)
    offsets = _read(kept, stamp)
    if offsets is not None and (
        is_compressed or _is_of_content(stamp) or _are_offsets_in(path, offsets, stamp.size, read)
    ):
        return offsets
    try:
        found = find()
    except DataFileError:
        if offsets is None:
            raise
        return offsets
    _write(kept, stamp, found)
    return found


def key_of(path: str) -> str:
    """Return the name of the entry of a file, or of an object, in the cache folder."""
    name = without_query(path) if is_remote(path) else os.path.abspath(path)  # noqa: PTH100 - Path.resolve() would follow symbolic links
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


def change_of(stamp: Stamp) -> int:
    """Return a number of 64 bits that changes with a file, besides its size: its time, or a digest of what its store says."""
    if not stamp.is_of_object:
        return stamp.changed_ns
    said = stamp.version or stamp.etag or str(stamp.changed_ns // 10**9)
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "little")


def _is_of_content(stamp: Stamp) -> bool:
    """Return whether a stamp is that of one content, and not of a size and a time alone."""
    return bool(stamp.version or stamp.etag)


def _are_offsets_in(path: str, offsets: np.ndarray, size: int, read: Read | None) -> bool:
    """Return whether some of the offsets, spread over the file, are those of its records."""
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < OVERHEAD).any():
        return not len(offsets) - 1 and not size
    some = np.unique(np.linspace(0, len(offsets) - 2, _LOOKED_AT).astype(np.int64)) if size else np.empty(0, np.int64)
    with _reading(path, read) as read_at:
        heads = b"".join(read_at(HEADER, offset) for offset in offsets[some].tolist())
    if len(heads) != HEADER * len(some):
        return False
    lengths, is_wrong = _lengths(heads, np.arange(len(some)) * HEADER)
    return not is_wrong.any() and bool((lengths == offsets[some + 1] - offsets[some] - OVERHEAD).all())


@contextlib.contextmanager
def _reading(path: str, read: Read | None) -> Iterator[Read]:
    if read is not None:
        yield read
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield functools.partial(os.pread, descriptor)
    finally:
        os.close(descriptor)


def _read(kept: Path, stamp: Stamp) -> np.ndarray | None:
    try:
        content = kept.read_bytes()
    except OSError:
        return None
    begin = _FACTS.size + _CHECKSUM.size
    if len(content) < begin:
        return None
    facts = content[: _FACTS.size]
    magic, size, change, count = _FACTS.unpack(facts)
    if magic != _MAGIC or (size, change) != (stamp.size, change_of(stamp)) or len(content) != begin + 8 * count:
        return None
    offsets = np.frombuffer(content, "<i8", offset=begin)
    if _CHECKSUM.unpack_from(content, _FACTS.size) != (_checksum(facts, offsets),):
        return None
    return offsets


def _write(kept: Path, stamp: Stamp, offsets: np.ndarray) -> None:
    """Write an entry, atomically: two processes that write it at once write the same bytes, and one replaces the other."""
    offsets = offsets.astype("<i8", copy=False)
    facts = _FACTS.pack(_MAGIC, stamp.size, change_of(stamp), len(offsets))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(kept.parent)
        if kept.is_dir():  # whatever made it, it would stay in the way for ever
            shutil.rmtree(kept)
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".tmp", delete=False) as file:
            try:
                file.write(facts + _CHECKSUM.pack(_checksum(facts, offsets)))
                file.write(offsets.data)
                file.close()
                os.replace(file.name, kept)  # noqa: PTH105 - as Path objects are needed nowhere else
            finally:
                Path(file.name).unlink(missing_ok=True)  # it is gone, unless an error came before the replacement
    except OSError as error:
        _warn_once(str(kept.parent), error.strerror or str(error))


def _remove_unfinished(folder: Path) -> None:
    """Remove the files of processes that were killed while they wrote an entry."""
    for entry in folder.glob(".tmp*"):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > _SECONDS_OF_UNFINISHED:
                entry.unlink()


def _checksum(facts: bytes, offsets: np.ndarray) -> int:
    checksum: int = google_crc32c.extend(google_crc32c.value(facts), offsets)
    return checksum


@functools.cache
def _warn_once(folder: str, reason: str) -> None:
    _logger.warning(
        "indices of TFRecord files cannot be kept in %s (%s), and are found anew by each process; set %s to a folder that can "
        "be written to",
        folder,
        reason,
        FOLDER_VARIABLE,
    )


def begins_with_record(head: bytes) -> bool:
    """Return whether the first 12 bytes of a file are the length of a record and its checksum."""
    return len(head) >= HEADER and not _lengths(head, np.zeros(1, np.int64))[1][0]


def record_offsets(path: str, read: Read, size: int, *, chunk_bytes: int = _CHUNK, large: int = _LARGE) -> np.ndarray:
    """Find the offset of each record of a file, int64 (n + 1,); the last number is the end of the last record, ``size``.

    Cost: 0.4 us a record, and reading the file except the contents of large records. Memory: 8 bytes a record.

    Args:
        path: The file, for errors.
        read: Reads from the file: (bytes, offset) -> as many bytes, or fewer at the end; offsets never go down.
        size: Bytes of the file.
        chunk_bytes: Bytes that are read at once.
        large: Bytes of a record from which on a small chunk is read next, so that only the headers of large records are read.

    Raises:
        DataFileError: The file is compressed, truncated, no TFRecord file, or damaged; the message says from which record on.
    """
    found, count, at, window = [], 0, 0, chunk_bytes
    while at < size:
        chunk = read(window, at)
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
        window = chunk_bytes if ahead < large * len(begins) else SMALL_CHUNK
    return np.concatenate([*found, [size]]).astype(np.int64, copy=False)


def _walk(chunk: bytes) -> tuple[np.ndarray, int]:
    """Return (offsets in the chunk of the records whose headers it holds, offset of the next record)."""
    begins: list[int] = []
    note, length_at = begins.append, _LENGTH.unpack_from
    at, last = 0, len(chunk) - HEADER
    while at <= last:
        note(at)
        at += length_at(chunk, at)[0] + OVERHEAD
    return np.asarray(begins, np.int64), at


def _lengths(chunk: bytes, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (uint64 (k,): the lengths of the records, bool (k,): whether the checksum of each length is wrong)."""
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
            "decompress it, read it by type: tfrecord, or prepare the data set anew",
        )
    return DataFileError(
        path,
        f"{path} is no TFRecord file: it begins with {chunk[:8]!r}, which is no length with its checksum"
        f"{format_clause(path, 'tfrecord') or '; copy the file again, or prepare the data set anew'}",
    )


def _truncated(path: str, record: int, begin: int, end: int | None, size: int) -> DataFileError:
    needs = "the header of a record needs 12" if end is None else f"the record needs {end - begin}"
    return DataFileError(
        path,
        f"{path} is truncated: it ends in record {record}, which begins at byte {begin}; {needs} bytes and {size - begin} "
        "are there; copy the file again, or prepare the data set anew",
    )


def masked(checksums: np.ndarray) -> np.ndarray:
    """Return checksums, uint32 (k,), in their stored form.

    They are rotated and a constant is added, since the CRC of data that contains CRCs is weak: ``Mask`` in
    ``tensorflow/core/lib/hash/crc32c.h``.
    """
    return ((checksums >> np.uint32(15)) | (checksums << np.uint32(17))) + _CRC_MASK


def length_checksums(lengths: np.ndarray) -> np.ndarray:
    """Return the stored CRC-32C of each length, uint32 (k,), all at once; a length takes eight bytes.

    A CRC is linear but for a constant: the CRC of eight bytes is the exclusive or of one contribution per byte. Cost: some
    nanoseconds a length for each byte position that is not 0 in every length.
    """
    tables, constant = _tables()
    checksums = np.full(len(lengths), constant, np.uint32)
    rest, place = lengths.astype(np.uint64), 0
    while rest.any():
        checksums ^= tables[place][rest & np.uint64(255)]
        rest >>= np.uint64(8)
        place += 1
    return masked(checksums)


@functools.cache
def _tables() -> tuple[np.ndarray, int]:
    """Return (uint32 (8, 256): the contribution of each value of each byte, the CRC of eight bytes that are 0)."""
    constant: int = google_crc32c.value(bytes(8))
    of_bytes = [[google_crc32c.value(bytes(p) + bytes([v]) + bytes(7 - p)) for v in range(256)] for p in range(8)]
    return np.asarray(of_bytes, np.uint32) ^ np.uint32(constant), constant
