"""Encoded images: PNG, JPEG, WebP, GIF and BMP opened by their header and decoded by Pillow, damaged ones refused."""

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from datarax_core.errors import StageError, is_passing

from .pixels import MODES, Array, Picture, size_of

FORMATS: Final = "PNG, JPEG, WebP, GIF or BMP"

_OPENERS: Final[tuple[tuple[bytes, str, Callable[[io.BytesIO], Image.Image]], ...]] = (
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"RIFF", "WebP", WebPImageFile),
    (b"GIF8", "GIF", GifImageFile),
    (b"BM", "BMP", BmpImageFile),
)
"""First bytes of each format, its name, and the class of Pillow that reads it; it reads the header, and no pixels yet."""

_TRANSPOSED: Final[Mapping[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, for each orientation that EXIF knows."""

_FIRST_ON_ITS_SIDE: Final = 5
"""Orientations from this one on exchange height and width."""

_BIT_DEPTH: Final = 24  # offset of the byte of a PNG
_ORIENTATION_TAG, _SHORT = 0x112, 3


class Decoding(NamedTuple):
    """How images are decoded: the options of a `decode_image` stage that change pixels, and its limit."""

    channels: Literal[1, 3, 4]
    dtype: np.dtype[Any]
    is_upright: bool
    is_palette_kept: bool
    is_lossy: bool
    is_reduced: bool
    max_pixels: int


class EncodedImage:
    """An image whose header was read, and whose pixels are not decoded yet.

    Raises:
        StageError: The bytes are no image of a known format, or the header says more pixels than the limit.
    """

    def __init__(self, encoded: Any, decoding: Decoding) -> None:
        if not isinstance(encoded, bytes | bytearray | memoryview | np.bytes_):
            raise StageError(f"an image is {type(encoded).__name__}, not bytes of a {FORMATS} file", ("field",))
        data = bytes(encoded)
        self._decoding = decoding
        opener = next((known for known in _OPENERS if data.startswith(known[0])), None)
        if opener is None or (opener[1] == "WebP" and data[8:12] != b"WEBP"):
            begin = f"begin with {data[:8]!r}" if data else "are none"
            raise StageError(f"the bytes of an image {begin}: that is no {FORMATS}", ("field",))
        _, self._format, self._open_header = opener
        self._data = data
        if self._format == "WebP" and (canvas := _webp_canvas(data)) is not None:
            self._require_pixels(*canvas)  # before Pillow makes a canvas
        opened = self._open()
        width, height = opened.size
        self._require_pixels(width, height)
        self._is_16_bit = self._format == "PNG" and data[_BIT_DEPTH] == 16
        self._turn = _TRANSPOSED.get(self._orientation(opened)) if decoding.is_upright else None
        is_on_side = self._turn is not None and self._turn not in _UPRIGHT
        self.height, self.width = (width, height) if is_on_side else (height, width)
        self._opened: Image.Image | None = opened

    def decoded(self, at_least: tuple[int, int] | None = None) -> Picture:
        """Return the picture in the channels and dtype that are asked for.

        Args:
            at_least: (height, width) that suffices for what follows; a JPEG may come in half, a quarter or an eighth of
                its size if that is not smaller, and ``reduced`` is set.

        Raises:
            StageError: The file is cut off or damaged, or has 16 bits and no option says what they become.
        """
        opened = self._opened or self._open()
        self._opened = None  # so that the pixels are not kept
        self._require_depth(opened.mode)
        if at_least is not None and self._decoding.is_reduced and self._format == "JPEG":
            height, width = at_least[::-1] if self._turn not in (None, *_UPRIGHT) else at_least
            opened.draft(None, (width, height))  # None keeps the mode
        self._load(opened)
        picture = self._converted(opened)
        return picture if self._turn is None else _turned(picture, self._turn)

    def _open(self) -> Image.Image:
        try:
            return self._open_header(io.BytesIO(self._data))
        except Exception as error:
            if is_passing(error):  # which says nothing about the file
                raise
            raise self._damaged(error) from error

    def _load(self, opened: Image.Image) -> None:
        try:
            opened.load()
        except Exception as error:
            if is_passing(error):  # which says nothing about the file
                raise
            raise self._damaged(error) from error

    def _orientation(self, opened: Image.Image) -> int:
        if self._format == "PNG" and "exif" not in opened.info and b"eXIf" in self._data:
            self._load(opened)  # EXIF may stand behind the pixels
        exif = opened.info.get("exif")
        return orientation_of(exif) if isinstance(exif, bytes) else 1

    def _require_pixels(self, width: int, height: int) -> None:
        if width * height > (limit := self._decoding.max_pixels):
            raise StageError(
                f"{len(self._data)} bytes say that they are an image of {height} x {width} pixels, more than max_pixels, "
                f"which is {limit}; set max_pixels higher if such images are meant",
                ("max_pixels",),
            )

    def _require_depth(self, mode: str) -> None:
        dtype = self._decoding.dtype
        if dtype == np.uint16 and not self._is_16_bit:
            raise StageError(
                f"a {self._format} of 8 bits a value, and dtype is uint16; decode such images with dtype uint8",
                ("dtype",),
            )
        if dtype == np.uint16 and mode != "I;16":
            raise StageError("a PNG of 16 bits with colors or alpha; dtype uint16 is for grey ones", ("dtype",))
        if dtype == np.uint8 and self._is_16_bit and not self._decoding.is_lossy:
            raise StageError(
                "a PNG of 16 bits a value, which uint8 does not hold; set lossy to take the high 8 bits, or dtype uint16, "
                "which grey ones fit",
                ("lossy",),
            )

    def _damaged(self, error: Exception) -> StageError:
        """Return the error for a file that cannot be decoded, given that of the library."""
        told = f"a {self._format} of {len(self._data)} bytes is damaged or cut off: {error}"
        if (declared := self._declared_size()) > len(self._data):
            told += (
                f"; its header says {declared} bytes: zeros at the end are lost where bytes are stored with NumPy's dtype S, "
                "not in a list or an array of objects"
            )
        return StageError(told, ("field",))

    def _declared_size(self) -> int:
        """Return the number of bytes that the header says, of formats that may end with zeros; 0 for others."""
        if self._format == "WebP":
            return int.from_bytes(self._data[4:8], "little") + 8
        return int.from_bytes(self._data[2:6], "little") if self._format == "BMP" else 0

    def _converted(self, opened: Image.Image) -> Picture:
        channels = self._decoding.channels
        if opened.mode.startswith("I"):
            grey: Array = np.asarray(opened).astype(np.uint16)
            if self._decoding.dtype == np.uint16:
                return grey[..., None]
            opened = Image.fromarray((grey >> 8).astype(np.uint8))
        if opened.mode == "P" and self._decoding.is_palette_kept:
            return np.asarray(opened)[..., None]
        mode = MODES[channels]
        if channels != 4 and "transparency" in opened.info:
            del opened.info["transparency"]  # which Pillow would warn of
        if opened.mode == "CMYK" and mode == "L":
            opened = opened.convert("RGB")
        return opened if opened.mode == mode else opened.convert(mode)


_UPRIGHT: Final = tuple(turn for number, turn in _TRANSPOSED.items() if number < _FIRST_ON_ITS_SIDE)


def _turned(picture: Picture, turn: Image.Transpose) -> Picture:
    if isinstance(picture, Image.Image):
        return picture.transpose(turn)
    return np.asarray(Image.fromarray(picture[..., 0]).transpose(turn))[..., None]


def orientation_of(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that EXIF data name; 1, upright, if they name none or are damaged."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for start in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, start)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and value in _TRANSPOSED else 1
    except struct.error:  # past the end
        return 1
    return 1


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of the header of a WebP; None if its first chunk says none."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def height_and_width(picture: "EncodedImage | Picture") -> tuple[int, int]:
    """Return (height, width) of a picture, decoded or not."""
    return (picture.height, picture.width) if isinstance(picture, EncodedImage) else size_of(picture)


def note_row(error: StageError, row: int) -> None:
    """Note on an error the row of its batch."""
    error.add_note(f"in row {row} of the batch")
