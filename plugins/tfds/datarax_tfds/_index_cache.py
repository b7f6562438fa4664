"""Indices of TFRecord files, kept in the user's cache folder: found once, read back in milliseconds."""

import functools
import hashlib
import logging
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np
import platformdirs

from ._file_table import Stamp

FOLDER_VARIABLE: Final = "DATARAX_CACHE_DIR"
"""The environment variable that names another folder than the user's cache folder."""

_logger = logging.getLogger(__name__)

_MAGIC: Final = b"drxtfri1"
_FACTS: Final = struct.Struct("<8sQQQ")
"""Magic, the size of the data file, when it was last written to, and how many numbers follow."""

_CHECKSUM: Final = struct.Struct("<I")
"""Of the facts and the numbers; it stands between them."""


def cache_folder() -> Path:
    """Where indices are kept: ``$DATARAX_CACHE_DIR``, or the user's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return (Path(named) if named else platformdirs.user_cache_path("datarax")) / "tfrecord"


def kept_offsets(path: str, stamp: Stamp, find: Callable[[], np.ndarray]) -> np.ndarray:
    """int64 (n + 1,): the index of the file at ``path`` as it was kept, or else as ``find`` finds it, which is kept then.

    One file of the cache belongs to one path; it is of use only to a file of the size and time of writing that it notes,
    and only if its own checksum is right. Where the cache cannot be written, nothing is kept. It is read, not mapped, so that
    nobody who clears the cache ends this process.
    """
    kept = cache_folder() / f"{hashlib.sha256(os.path.abspath(path).encode(errors='surrogateescape')).hexdigest()[:32]}"  # noqa: PTH100 - keeps symbolic links
    offsets = _read(kept, stamp)
    if offsets is None:
        offsets = find()
        _write(kept, stamp, offsets)
    return offsets


def _read(kept: Path, stamp: Stamp) -> np.ndarray | None:
    try:
        content = kept.read_bytes()
    except OSError:
        return None
    begin = _FACTS.size + _CHECKSUM.size
    if len(content) < begin:
        return None
    facts = content[: _FACTS.size]
    magic, size, changed_ns, count = _FACTS.unpack(facts)
    if magic != _MAGIC or (size, changed_ns) != (stamp.size, stamp.changed_ns) or len(content) != begin + 8 * count:
        return None
    offsets = np.frombuffer(content, "<i8", offset=begin)
    if _CHECKSUM.unpack_from(content, _FACTS.size) != (_checksum(facts, offsets),):
        return None
    return offsets


def _write(kept: Path, stamp: Stamp, offsets: np.ndarray) -> None:
    """Keep an index; two processes that do so at once write the same, one after the other, each in whole."""
    offsets = offsets.astype("<i8", copy=False)
    facts = _FACTS.pack(_MAGIC, stamp.size, stamp.changed_ns, len(offsets))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".", delete=False) as file:
            try:
                file.write(facts + _CHECKSUM.pack(_checksum(facts, offsets)))
                file.write(offsets.data)
                file.close()
                os.replace(file.name, kept)  # noqa: PTH105 - both are names
            finally:
                Path(file.name).unlink(missing_ok=True)  # it is not there any more, unless something went wrong
    except OSError as error:
        _say_once(str(kept.parent), error.strerror or str(error))


def _checksum(facts: bytes, offsets: np.ndarray) -> int:
    checksum: int = google_crc32c.extend(google_crc32c.value(facts), offsets)
    return checksum


@functools.cache
def _say_once(folder: str, reason: str) -> None:
    _logger.warning(
        "indices of TFRecord files cannot be kept in %s (%s), and are found anew by each process; set %s to a folder that can "
        "be written to",
        folder,
        reason,
        FOLDER_VARIABLE,
    )
