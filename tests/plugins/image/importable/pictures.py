"""Small pictures for tests of the image stages, encoded in all formats, and columns of them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from datarax_core.records import Ragged

ORIENTATION = 0x112


def colors(height: int = 12, width: int = 16, channels: int = 3) -> np.ndarray:
    """Return smooth colors, which survive JPEG, and differ under every flip and turn."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 15 % 256, columns * 13 % 256, (rows * 4 + columns * 9) % 256, 255 - rows * 7 % 256]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return pixels as a file of a format; ``orientation`` is written as EXIF."""
    if isinstance(pixels, np.ndarray):
        pixels = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    if orientation := options.pop("orientation", None):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    pixels.save(file, kind, **options)
    return file.getvalue()


def png(height: int, width: int, depth: int, color_type: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """Return a PNG written by hand: ``rows`` with their filter bytes, and chunks between header and rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def png_16(values: np.ndarray) -> bytes:
    """Return uint16 values, (height, width) or (height, width, 3), as a PNG of 16 bits, written by hand."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(*values.shape[:2], 16, 0 if values.ndim == 2 else 2, rows)


def column(files: list[Any]) -> np.ndarray:
    """Return a column of objects."""
    made = np.empty(len(files), object)
    made[:] = files
    return made


def boxes_column(boxes: list[list[list[float]]], dtype: Any = np.float32) -> Ragged:
    """Return a ragged column of boxes."""
    return Ragged.from_list([np.array(each, dtype).reshape(-1, 4) for each in boxes], dtype, (None, 4))


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, row]) for row in range(count)]
