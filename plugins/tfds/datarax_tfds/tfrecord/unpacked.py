"""Compressed TFRecord files, gzip or zlib: unpacked once into the cache folder, since a compressed file has no random access.

Cost: the time to inflate the file, some 200 MB a second, when it is first opened, and the disk space of its content until the
cache folder is cleared. The name of an entry notes its own size, and the size and the time of last change of the file; it is
used as long as all three are so. The checksums of the records are verified at each read, as for other files.
"""

import fcntl
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from datarax_core.errors import DataFileError
from datarax_core.sources import Stamp
from datarax_tfds.files.tfrecord_index import FOLDER_VARIABLE, HEADER, begins_with_record, cache_folder

_CHUNK: Final = 1 << 20
_COMPRESSED: Final = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


def is_compressed(path: str) -> bool:
    """Return whether a file is compressed; a record's length may have the same first bytes, but not its checksum."""
    with open(path, "rb") as file:  # noqa: PTH123 - takes any name
        head = file.read(HEADER)
    return head.startswith(_COMPRESSED) and not begins_with_record(head)


def unpacked(path: str, stamp: Stamp) -> str:
    """Return the path of the content of a compressed file, which is unpacked now if it was not before.

    Of several processes, one unpacks and the others wait.

    Raises:
        DataFileError: The file is damaged or cut off.
        OSError: The cache folder cannot be written to, or has too little room.
    """
    folder = cache_folder() / "unpacked"
    name = hashlib.sha256(os.path.abspath(path).encode(errors="surrogateescape")).hexdigest()[:32]  # noqa: PTH100 - Path.resolve() would follow symbolic links
    begin = f"{name}-{stamp.size}-{stamp.changed_ns}-"
    if (found := _whole_entry(folder, begin)) is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"):
            if (found := _whole_entry(folder, begin)) is not None:
                return found
            for old in folder.glob(f"{name}-*"):
                old.unlink(missing_ok=True)
            return _unpack(path, stamp, folder, begin)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} is compressed, and cannot be unpacked in {folder} ({error.strerror}): set {FOLDER_VARIABLE} to a folder "
            "that has room for it, or decompress it",
        ) from error


def _whole_entry(folder: Path, begin: str) -> str | None:
    """Return the path of an entry whose name begins so, and has the size that its name ends with; None if there is none."""
    found = (entry for entry in folder.glob(f"{begin}*") if entry.name == f"{begin}{entry.stat().st_size}")
    return next(map(str, found), None)


def _unpack(path: str, stamp: Stamp, folder: Path, begin: str) -> str:
    """Write the content of a file; the entry appears whole or not at all. A machine that stops may cut it off all the same."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as target:
        try:
            size = sum(target.write(piece) for piece in _inflated(path))
            target.close()
            stamp.require_same(path)
            entry = folder / f"{begin}{size}"
            os.replace(target.name, entry)  # noqa: PTH105 - as a Path object is needed nowhere else
            return str(entry)
        finally:
            Path(target.name).unlink(missing_ok=True)


def _inflated(path: str) -> Iterator[bytes]:
    """Yield the content of a compressed file in pieces; a gzip file may have several members.

    Raises:
        DataFileError: It is damaged or cut off.
    """
    inflate, held = zlib.decompressobj(_GZIP_OR_ZLIB), b""
    with open(path, "rb") as file:  # noqa: PTH123 - takes any name
        try:
            while held := held or file.read(_CHUNK):
                yield inflate.decompress(held, _CHUNK)
                held = inflate.unconsumed_tail
                if inflate.eof:
                    held = inflate.unused_data.lstrip(b"\0") or file.read(_CHUNK).lstrip(b"\0")  # members may be padded
                    if not held:
                        return
                    inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        except zlib.error as error:
            raise DataFileError(
                path, f"{path} is damaged: it does not inflate ({error}); copy the file again"
            ) from error
    if not inflate.eof:
        raise DataFileError(path, f"{path} is cut off: its compressed data has no end; copy the file again")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # releases the lock
