"""CRC-32C as TFRecord files have it: of lengths a whole array at once."""

import functools
from typing import Final

import google_crc32c
import numpy as np

_MASK: Final = np.uint32(0xA282EAD8)


def masked(checksums: np.ndarray) -> np.ndarray:
    """uint32 (k,): checksums as they are stored, rotated and shifted so that one of checksums is no weak one.

    See ``tensorflow/core/lib/hash/crc32c.h``.
    """
    return ((checksums >> np.uint32(15)) | (checksums << np.uint32(17))) + _MASK


def length_checksums(lengths: np.ndarray) -> np.ndarray:
    """uint32 (k,): the stored checksum of each length, which is stored in eight bytes.

    A CRC is linear but for a constant: that of eight bytes is the exclusive or of what each of them contributes. Cost:
    some nanoseconds a length for each byte that is not 0 in all of them.
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
    """(uint32 (8, 256): what each value of each byte contributes, the checksum of eight bytes that are 0)."""
    constant: int = google_crc32c.value(bytes(8))
    of_bytes = [[google_crc32c.value(bytes(p) + bytes([v]) + bytes(7 - p)) for v in range(256)] for p in range(8)]
    return np.asarray(of_bytes, np.uint32) ^ np.uint32(constant), constant
