"""BMP images, as TensorFlow reads them: 8, 24 or 32 bits a pixel, without palette or compression.

By NumPy: the decoder of imagecodecs crashes the process on some damaged headers.
"""

import struct
from typing import Any, Final

import numpy as np

from ._numbers import AnyArray

_HEADER: Final = 54  # bytes
_CHANNELS: Final = {8: 1, 24: 3, 32: 4}


def bmp_decode(encoded: bytes, out: AnyArray | None = None) -> AnyArray:
    """(height, width, channels), colors as RGB or RGBA; (height, width) of grey.

    Raises:
        ValueError: It is no such image, or not as ``out``.
    """
    if len(encoded) < _HEADER:
        raise ValueError(f"a header of {len(encoded)} bytes")
    (start,) = struct.unpack_from("<I", encoded, 10)
    width, height = struct.unpack_from("<ii", encoded, 18)
    bits, compression = struct.unpack_from("<HI", encoded, 28)
    if bits not in _CHANNELS or compression or width <= 0 or not height:
        raise ValueError(f"{width} x {height} pixels of {bits} bits, compression {compression}")
    channels, rows = _CHANNELS[bits], abs(height)
    row_size = -(-width * channels // 4) * 4
    if start < _HEADER or start + rows * row_size > len(encoded):
        raise ValueError(f"{len(encoded)} bytes for {width} x {height} pixels of {bits} bits")
    stored: np.ndarray[Any, Any] = np.frombuffer(encoded, np.uint8, rows * row_size, start).reshape(rows, row_size)
    pixels = stored[:, : width * channels].reshape(rows, width, channels)[:: -1 if height > 0 else 1]
    pixels = pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels[..., 0]
    if out is None:
        return pixels
    if (out.shape, out.dtype) != (pixels.shape, pixels.dtype):
        raise ValueError(f"an image of the shape {pixels.shape} for {out.dtype} of the shape {out.shape}")
    out[...] = pixels
    return out
