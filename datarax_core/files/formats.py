"""Formats of files by their first bytes, so that the error about a file of another format names it, and what reads it."""

import os
import struct
from importlib.util import find_spec
from typing import Final

_TYPES: Final = {
    b"\x83\xaf\x70\xd1\x0d\x88\x4a\x3f": ("an ArrayRecord file", "type: arrayrecord of datarax-arrayrecord reads it"),
    b"PAR1": (
        "a Parquet file",
        "read it by datasets.load_dataset('parquet', ...) and from_sequence, or by a plugin: drx peek asks those installed",
    ),
    b"ARROW1": ("an Arrow file", "read it by datasets.load_dataset('arrow', ...) and from_sequence"),
    b"PK\x03\x04": ("a zip archive or .npz file", "type: memory reads .npz files"),
    b"\x93NUMPY": ("an .npy file", "type: memory reads folders of them"),
    b"\x89HDF": ("an HDF5 file", "read it by h5py, and write its arrays with datarax_arrayrecord.write"),
    b"\x28\xb5\x2f\xfd": ("a file compressed by zstd", "decompress it"),
    b"version https://git-lfs": ("a pointer of Git LFS, and not the file itself", "run git lfs pull"),
}
_HOMES: Final = {"arrayrecord": "datarax-arrayrecord", "memory": "datarax-memory", "tfrecord": "datarax-tfds"}
"""Distributions of the types that the advice names."""

_GZIP: Final = b"\x1f\x8b"
_HEADER: Final = 12
_POLYNOMIAL: Final = 0x82F63B78
_MASK_DELTA: Final = 0xA282EAD8


def format_clause(path: str, own: str = "") -> str:
    """Return what a file is and what reads it, as the end of a message: "; it is a ..."; "" if it is of no known format.

    Args:
        path: The file.
        own: The type of the source that could not read it: formats that this type reads are left out.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - a pipe would be waited for
        return ""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - takes any name
            head = file.read(64)
    except OSError:
        return ""
    if begins_as_tfrecord(head):
        clauses = ["; it is a TFRecord file, which type: tfrecord of datarax-tfds reads"]
    elif head.startswith(_GZIP):
        clauses = [
            "; it is compressed by gzip: type: tfrecord of datarax-tfds reads TFRecord files so, decompress others"
        ]
    else:
        clauses = [f"; it is {name}: {advice}" for magic, (name, advice) in _TYPES.items() if head.startswith(magic)]
    clause = next((clause for clause in clauses if not own or f"type: {own} " not in clause), "")
    return clause + next((_installing(kind, home) for kind, home in _HOMES.items() if f"type: {kind} " in clause), "")


def _installing(kind: str, home: str) -> str:
    """Return how to install a source that is not there, as the end of a message; "" if it is."""
    return "" if find_spec(home.replace("-", "_")) else f" (type: {kind} is not installed; pip install {home})"


def begins_as_tfrecord(head: bytes) -> bool:
    """Return whether the first bytes of a file are a record's length and its checksum, as a TFRecord file has them."""
    if len(head) < _HEADER:
        return False
    (stored,) = struct.unpack_from("<I", head, 8)
    checksum = _crc32c(head[:8])
    return bool(stored == ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _crc32c(content: bytes) -> int:
    """Return the CRC-32C of a few bytes, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
