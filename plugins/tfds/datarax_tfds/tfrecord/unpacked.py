"""Compressed TFRecord files, gzip or zlib: unpacked once into the cache folder, since a compressed file has no random access.

Cost: the time to inflate the file, some 200 MB a second, when it is first opened, and the disk space of its content until the
cache folder is cleared. The name of an entry notes its own size, and the size and the time of last change of the file; it is
used as long as all three are so. Of a file at an address, a digest of its etag stands for the time. The checksums of the
records are verified at each read, as for other files.
"""

import fcntl
import os
import tempfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from datarax_core.errors import DataFileError
from datarax_core.sources import Stamp
from datarax_core.storage import RangeReader, redacted
from datarax_tfds.files.tfrecord_index import (
    FOLDER_VARIABLE,
    HEADER,
    begins_with_record,
    cache_folder,
    change_of,
    key_of,
)

_CHUNK: Final = 1 << 20
_COMPRESSED: Final = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


def is_compressed(path: str) -> bool:
    """Return whether a file of this machine is compressed."""
    with open(path, "rb") as file:  # noqa: PTH123 - takes any name
        return begins_compressed(file.read(HEADER))


def begins_compressed(head: bytes) -> bool:
    """Return whether these are the first bytes of a compressed file; a record's length may be so, but not its checksum."""
    return head.startswith(_COMPRESSED) and not begins_with_record(head)


def unpacked(path: str, stamp: Stamp, reader: RangeReader | None = None) -> str:
    """Return the path of the content of a compressed file, which is unpacked now if it was not before.

    Of several processes, one unpacks and the others wait.

    Args:
        path: The file, or its address.
        stamp: Its stamp.
        reader: Reads the file; None opens it, on this machine.

    Raises:
        DataFileError: The file is damaged or cut off.
        OSError: The cache folder cannot be written to, or has too little room; or a file at an address cannot be read.
    """
    folder = cache_folder() / "unpacked"
    name = key_of(path)
    begin = f"{name}-{stamp.size}-{change_of(stamp)}-"
    if (found := _whole_entry(folder, begin)) is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"):
            if (found := _whole_entry(folder, begin)) is not None:
                return found
            for old in folder.glob(f"{name}-*"):
                old.unlink(missing_ok=True)
            return _unpack(path, stamp, folder, begin, reader)
    except (ConnectionError, TimeoutError, FileNotFoundError, PermissionError) as error:
        if error.filename is None:
            raise  # of a store, and not of the folder
        raise _no_room(path, folder, error) from error
    except OSError as error:
        raise _no_room(path, folder, error) from error


def _no_room(path: str, folder: Path, error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"{redacted(path)} is compressed, and cannot be unpacked in {folder} ({error.strerror}): set {FOLDER_VARIABLE} to a "
        "folder that has room for it, or decompress it",
    )


def _whole_entry(folder: Path, begin: str) -> str | None:
    """Return the path of an entry whose name begins so, and has the size that its name ends with; None if there is none."""
    found = (entry for entry in folder.glob(f"{begin}*") if entry.name == f"{begin}{entry.stat().st_size}")
    return next(map(str, found), None)


def _unpack(path: str, stamp: Stamp, folder: Path, begin: str, reader: RangeReader | None) -> str:
    """Write the content of a file; the entry appears whole or not at all. A machine that stops may cut it off all the same."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as target:
        try:
            pieces = _pieces(path) if reader is None else reader.pieces(path, stamp)
            with closing(pieces):
                size = sum(target.write(piece) for piece in _inflated(path, pieces))
            target.close()
            if reader is None:
                stamp.require_same(path)
            entry = folder / f"{begin}{size}"
            os.replace(target.name, entry)  # noqa: PTH105 - as a Path object is needed nowhere else
            return str(entry)
        finally:
            Path(target.name).unlink(missing_ok=True)


def _pieces(path: str) -> Generator[bytes]:
    with open(path, "rb") as file:  # noqa: PTH123 - takes any name
        while piece := file.read(_CHUNK):
            yield piece


def _inflated(path: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of a compressed file, given in pieces, in pieces; a gzip file may have several members.

    Raises:
        DataFileError: It is damaged or cut off.
    """
    inflate, held = zlib.decompressobj(_GZIP_OR_ZLIB), b""
    try:
        while held := held or next(pieces, b""):
            yield inflate.decompress(held, _CHUNK)
            held = inflate.unconsumed_tail
            if inflate.eof:
                held = inflate.unused_data.lstrip(b"\0") or next(pieces, b"").lstrip(b"\0")  # members may be padded
                if not held:
                    return
                inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
    except zlib.error as error:
        raise DataFileError(
            path, f"{redacted(path)} is damaged: it does not inflate ({error}); copy the file again"
        ) from error
    if not inflate.eof:
        raise DataFileError(path, f"{redacted(path)} is cut off: its compressed data has no end; copy the file again")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # releases the lock
