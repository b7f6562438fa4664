"""Packets of a sensor: bytes with a head, samples, and a checksum of both; all numbers are little-endian."""

import struct
import zlib
from typing import Final, NamedTuple

import numpy as np

_HEAD: Final = struct.Struct("<2sBxIII")
"""Magic bytes, version, a byte of padding, number of the sensor, second since 1970, number of samples."""

_CHECKSUM: Final = struct.Struct("<I")
_MAGIC, _VERSION = b"AC", 1

SAMPLE: Final = np.dtype("<f4")


class Packet(NamedTuple):
    """What a packet holds."""

    sensor: int
    second: int
    samples: np.ndarray
    """float32 (n,)."""


def unpacked(packet: bytes) -> Packet:
    """Return what a packet holds; the samples share its memory.

    Raises:
        ValueError: The bytes are no packet, or are damaged; says what was expected and what was found.
    """
    least = _HEAD.size + _CHECKSUM.size
    if len(packet) < least:
        raise ValueError(f"the record has {len(packet)} bytes where a packet has {least} at least")
    magic, version, sensor, second, count = _HEAD.unpack_from(packet)
    if magic != _MAGIC:
        raise ValueError(f"the record begins with {magic!r} where a packet begins with {_MAGIC!r}")
    if version != _VERSION:
        raise ValueError(
            f"the packet has version {version}, and this decoder reads version {_VERSION}; look for a newer one"
        )
    size = least + count * SAMPLE.itemsize
    if len(packet) != size:
        raise ValueError(f"the record has {len(packet)} bytes where its {count} samples make {size}")
    (expected,) = _CHECKSUM.unpack_from(packet, size - _CHECKSUM.size)
    found = zlib.crc32(memoryview(packet)[: -_CHECKSUM.size])
    if found != expected:
        raise ValueError(f"the checksum of the packet is {found:#010x} where it says {expected:#010x}")
    return Packet(sensor, second, np.frombuffer(packet, SAMPLE, count, _HEAD.size))


def packed(packet: Packet) -> bytes:
    """Return the bytes of a packet."""
    samples = np.ascontiguousarray(packet.samples, SAMPLE)
    body = _HEAD.pack(_MAGIC, _VERSION, packet.sensor, packet.second, len(samples)) + samples.tobytes()
    return body + _CHECKSUM.pack(zlib.crc32(body))
