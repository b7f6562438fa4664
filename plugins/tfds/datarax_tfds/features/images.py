"""Images: decoded to arrays of the declared size, channels and dtype, as TFDS decodes them, PNG to the exact pixel.

JPEG is decoded by the accurate transform of libjpeg-turbo, as Pillow and OpenCV do; TensorFlow uses the fast transform, whose
pixels differ by a few levels. BMP is decoded here by NumPy: the decoder of imagecodecs crashes the process on some damaged
headers.
"""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from datarax_core.records import Ragged, aligned_empty

from .layouts import Slices
from .numbers import AnyArray
from .png import PngForm, codecs
from .png_streams import SIGNATURE as PNG
from .stored import Unfit
from .threads import run_on_rows

_JPEG: Final = b"\xff\xd8\xff"
_END_OF_JPEG, _SCAN_OF_JPEG = b"\xff\xd9", b"\xff\xda"
_COLOR_TYPE: Final = 25  # offset of the byte that says which channels a PNG has
_NO_ALPHA: Final = (0, 2)

_MOST_PIXELS: Final = 1 << 13
"""Pixels that a byte may stand for: deflated at most 1,032 times, PNG of one bit has 8,256; JPEG has 512 at most."""

_FEW_PIXELS: Final = 1 << 16

_BMP_HEADER: Final = 54  # bytes
_BMP_CHANNELS: Final = {8: 1, 24: 3, 32: 4}  # by bits a pixel


class ImageItem(NamedTuple):
    """Images of one declaration: ``shape`` is (height, width, channels), None for each that varies."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    def check(self, encoded: bytes) -> None:
        """Raise `Unfit` if an image's header says another size than is declared, or than its bytes can be; see `Item.check`."""
        found = size_in_header(encoded)
        if found is None:
            return
        if any(wanted not in (None, size) for wanted, size in zip(self.shape[:2], found, strict=True)):
            raise Unfit(f"an image of {found[0]} x {found[1]} pixels")
        if math.prod(found) > _MOST_PIXELS * len(encoded) + _FEW_PIXELS:
            raise Unfit(f"{len(encoded)} bytes that say they are an image of {found[0]} x {found[1]} pixels")

    def fill(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        """Decode images, in several threads if there is much to decode; see `Item.fill`."""
        put = self._put_new if None in self.shape else self._put
        form = self._form(encoded)
        self._run(
            lambda start, stop: put(encoded[start:stop], out[start:stop]),
            encoded,
            piece=1 if form is None else form.group,
        )

    def ragged(self, encoded: Sequence[bytes]) -> Ragged | None:
        """Return images as a ragged column, each decoded where it belongs; None if their headers do not say enough.

        Raises:
            Unfit: A value cannot be decoded to such an image.
        """
        channels = self.shape[-1]
        sizes = [size_in_header(value) for value in encoded]
        if channels is None or not sizes or any(size is None for size in sizes):
            return None
        for value in encoded:
            self.check(value)
        shapes = np.array([(*size, channels) for size in sizes if size is not None], np.int64)
        ends = np.cumsum(shapes.prod(axis=1)).tolist()
        values = aligned_empty((ends[-1],), self.dtype)
        rows = [values[start:end].reshape(shape) for start, end, shape in zip([0, *ends], ends, shapes, strict=False)]
        self._run(lambda start, stop: self._put_rows(encoded[start:stop], rows[start:stop]), encoded)
        leading = 1 + max(axis for axis, size in enumerate(self.shape) if size is None)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(shapes[:, :leading].prod(axis=1))])
        inner = self.shape[leading:]
        return Ragged(
            values.reshape(-1, *inner),
            offsets,
            None if leading == 1 else shapes[:, :leading],
            record_shape=self.shape,
        )

    def _form(self, encoded: Sequence[bytes]) -> PngForm | None:
        """Return the form of PNG files as they are declared; None if the first file is no PNG, or a size varies."""
        if None in self.shape or not encoded or not encoded[0].startswith(PNG):
            return None
        shape: Sequence[Any] = self.shape
        return PngForm.of(shape, np.dtype(np.uint8)) if self.dtype == np.float32 else PngForm.of(shape, self.dtype)

    def _put(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        pixels = out.view(np.uint8) if self.dtype == np.float32 else out  # TFDS stores the four bytes as RGBA
        targets = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        form = self._form(encoded)
        rows = range(len(encoded)) if form is None else form.decode(encoded, pixels)
        self._decode_each(rows, encoded, pixels, targets)

    def _put_rows(self, encoded: Sequence[bytes], rows: Sequence[AnyArray]) -> None:
        pixels = [row.view(np.uint8) for row in rows] if self.dtype == np.float32 else rows
        targets = [row[..., 0] if row.shape[-1] == 1 else row for row in pixels]
        left = [row for row, value in enumerate(encoded) if not _decoded_quickly(value, pixels[row])]
        self._decode_each(left, encoded, pixels, targets)

    def _decode_each(
        self,
        rows: Iterable[int],
        encoded: Sequence[bytes],
        pixels: Sequence[AnyArray] | AnyArray,
        targets: Sequence[AnyArray] | AnyArray,
    ) -> None:
        """Decode the images of some rows into ``targets``, which are ``pixels`` without an axis of one channel."""
        for row in rows:
            value = encoded[row]
            decode = _decoder_of(value)
            try:
                decode(value, out=targets[row])
            except Exception:  # noqa: BLE001 - codecs raise any error; `_fitted` decodes again, and says what is wrong
                fitted = self._fitted(value)
                if fitted.shape != pixels[row].shape:
                    raise Unfit(f"an image of {fitted.shape[0]} x {fitted.shape[1]} pixels") from None
                pixels[row][...] = fitted

    def _run(self, put: Callable[[int, int], None], encoded: Sequence[bytes], *, piece: int = 1) -> None:
        size = encoded.size if isinstance(encoded, Slices) else sum(map(len, encoded))
        run_on_rows(put, len(encoded), size=size, piece=piece)

    def _put_new(self, encoded: Sequence[bytes], out: AnyArray) -> None:
        for row, value in enumerate(encoded):
            pixels = np.ascontiguousarray(self._fitted(value))
            out[row] = pixels.view(np.float32) if self.dtype == np.float32 else pixels

    def _fitted(self, encoded: bytes) -> AnyArray:
        """Return the pixels of one image, with channels and dtype as declared."""
        dtype = np.dtype(np.uint8) if self.dtype == np.float32 else self.dtype
        channels = 4 if self.dtype == np.float32 else self.shape[-1]
        self.check(encoded)
        pixels = _with_channels(_decoded(encoded, channels), channels or _own_channels(encoded))
        if pixels.dtype != dtype:
            if not encoded.startswith(PNG):
                raise Unfit(f"an image of {pixels.dtype}")
            pixels = (pixels >> 8).astype(np.uint8) if dtype == np.uint8 else pixels.astype(np.uint16) * np.uint16(257)
        if any(wanted not in (None, found) for wanted, found in zip(self.shape[:2], pixels.shape, strict=False)):
            raise Unfit(f"an image of {pixels.shape[0]} x {pixels.shape[1]} pixels")
        return pixels


def _decoded_quickly(encoded: bytes, out: AnyArray) -> bool:
    """Decode an image into ``out`` if it is a PNG that is inflated faster apart; return whether it was."""
    form = PngForm.of(out.shape, out.dtype) if encoded.startswith(PNG) else None
    return form is not None and not form.decode([encoded], out[None])


def size_in_header(encoded: bytes) -> tuple[int, int] | None:
    """Return (height, width) as the header of a PNG or JPEG says; None for other images, and for headers that are damaged."""
    if encoded.startswith(PNG):
        width, height = struct.unpack_from(">II", encoded[:24].ljust(24, b"\0"), 16)
        return height, width
    if not encoded.startswith(_JPEG):
        return None
    at = 2
    while at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker == 0xFF:  # a marker may begin with several of them
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack_from(">HH", encoded, at + 5)
            return height, width
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return None


def _decoder_of(encoded: bytes) -> Callable[..., AnyArray]:
    library = codecs()
    if encoded.startswith(PNG):
        return library.png_decode  # type: ignore[no-any-return]  # no types
    if encoded.startswith(_JPEG):
        _require_end(encoded)
        return library.jpeg8_decode  # type: ignore[no-any-return]  # no types
    if encoded.startswith(b"BM"):
        return bmp_decode
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return library.webp_decode  # type: ignore[no-any-return]  # no types
    found = "a GIF" if encoded.startswith(b"GIF8") else f"the bytes {encoded[:8]!r}"
    raise Unfit(f"{found} instead of an image as PNG, JPEG, BMP or WebP")


def _decoded(encoded: bytes, channels: int | None) -> AnyArray:
    """Return (height, width, channels) pixels with the channels of the file; only a JPEG is converted, to grey or from CMYK."""
    decode = _decoder_of(encoded)
    try:
        options = {"outcolorspace": "GRAYSCALE"} if encoded.startswith(_JPEG) and channels == 1 else {}
        pixels = decode(encoded, **options)
    except Exception as error:  # codecs raise any error
        raise Unfit(f"an image that cannot be decoded ({type(error).__name__}: {error})") from error
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if encoded.startswith(_JPEG) and pixels.shape[-1] == 4:
        pixels = _from_cmyk(pixels)
    return pixels


def _require_end(encoded: bytes) -> None:
    """Raise `Unfit` if a JPEG is cut off: it would decode without an error to an image whose end is grey."""
    if encoded.endswith(_END_OF_JPEG):
        return
    if encoded.rfind(_END_OF_JPEG) < encoded.rfind(_SCAN_OF_JPEG):
        raise Unfit(f"a JPEG that is cut off after {len(encoded)} bytes")


def _from_cmyk(pixels: AnyArray) -> AnyArray:
    """Return RGB pixels of CMYK inks, which Adobe writes inverted."""
    inks = pixels.astype(np.uint16)
    return (inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8)


def _own_channels(encoded: bytes) -> int | None:
    """Return the channels of an image whose declaration leaves them open: of a PNG without alpha, 1 or 3; else None, for all.

    The decoder would add an alpha channel to a PNG that names a transparent color; TensorFlow does not.
    """
    if encoded.startswith(PNG) and encoded[_COLOR_TYPE] in _NO_ALPHA:
        return 1 if encoded[_COLOR_TYPE] == 0 else 3
    return None


def _with_channels(pixels: AnyArray, channels: int | None) -> AnyArray:
    """Return pixels with ``channels``: grey is repeated, alpha dropped or added. Colors become no grey: there are many ways."""
    found = pixels.shape[-1]
    if channels in (None, found):
        return pixels
    colors = pixels[..., :-1] if found in (2, 4) else pixels
    if channels in (3, 4) and colors.shape[-1] == 1:
        colors = np.repeat(colors, 3, axis=-1)
    if channels == colors.shape[-1]:
        return colors
    if channels == colors.shape[-1] + 1:
        opaque = np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
        return np.concatenate([colors, pixels[..., -1:] if found in (2, 4) else opaque], axis=-1)
    raise Unfit(f"an image of {found} channel{'s'[: found > 1]}")


def bmp_decode(encoded: bytes, out: AnyArray | None = None) -> AnyArray:
    """Decode a BMP of 8, 24 or 32 bits a pixel, without palette or compression: the forms that TensorFlow reads.

    Returns:
        uint8 (height, width, channels), RGB or RGBA; (height, width) for grey. ``out``, if it is given, filled.

    Raises:
        ValueError: The file is no such image, or shape and dtype of ``out`` are not those of the image.
    """
    if len(encoded) < _BMP_HEADER:
        raise ValueError(f"a header of {len(encoded)} bytes")
    (start,) = struct.unpack_from("<I", encoded, 10)
    width, height = struct.unpack_from("<ii", encoded, 18)
    bits, compression = struct.unpack_from("<HI", encoded, 28)
    if bits not in _BMP_CHANNELS or compression or width <= 0 or not height:
        raise ValueError(f"{width} x {height} pixels of {bits} bits, compression {compression}")
    channels, rows = _BMP_CHANNELS[bits], abs(height)
    row_size = -(-width * channels // 4) * 4
    if start < _BMP_HEADER or start + rows * row_size > len(encoded):
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
