"""Pictures: images of Pillow, or arrays (height, width, ...), cut, resized, padded and turned around."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

Array: TypeAlias = np.ndarray[Any, Any]

Picture: TypeAlias = Image.Image | Array
"""An image of Pillow in one of `MODES`, or an array (height, width) or (height, width, channels)."""

MODES: Final[Mapping[int, str]] = {1: "L", 3: "RGB", 4: "RGBA"}
"""Modes of Pillow by the number of channels."""

Method: TypeAlias = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Names of the filters that an image can be resized with."""

_FILTERS: Final[Mapping[str, Image.Resampling]] = {method.name.lower(): method for method in Image.Resampling}

PadMode: TypeAlias = Literal["constant", "edge", "reflect"]
"""What stands outside an image: a constant, the pixel at its edge, or the image mirrored at its edge pixel."""


class Resampling(NamedTuple):
    """How pictures are resized: the filter, and whether it is widened where the picture becomes smaller."""

    method: Method
    antialias: bool = True


class Placement(NamedTuple):
    """Where a picture comes to stand: a window is cut of it, scaled, put on a canvas, and flipped.

    The window may reach past the picture, whose outside is then filled. ``canvas`` is (height, width, top, left): the size of
    the result, and where the scaled window stands in it; None if the window is all of it.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    canvas: tuple[int, int, int, int] | None = None
    flips: tuple[bool, bool] = (False, False)
    """Whether the result is flipped (left to right, top to bottom)."""

    @property
    def result_size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.size if self.canvas is None else self.canvas[:2]


def size_of(picture: Picture) -> tuple[int, int]:
    """Return (height, width) of a picture."""
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def as_array(picture: Picture) -> Array:
    """Return the pixels of a picture: (height, width, channels) of an image of Pillow."""
    if not isinstance(picture, Image.Image):
        return picture
    pixels: Array = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def placed(
    picture: Picture,
    placement: Placement,
    resampling: Resampling,
    *,
    fill: int = 0,
    pad_mode: PadMode = "constant",
) -> Array:
    """Return the pixels of a picture after a placement.

    Args:
        picture: The picture.
        placement: Its placement.
        resampling: How it is scaled.
        fill: Value of the pixels outside the picture, and of those of the canvas around it.
        pad_mode: What stands outside the picture.
    """
    window = _window(picture, placement, fill, pad_mode)
    scaled = window if size_of(window) == placement.size else resized(window, placement.size, resampling)
    pixels = as_array(scaled)
    if placement.canvas is not None:
        height, width, top, left = placement.canvas
        canvas: Array = np.full((height, width, *pixels.shape[2:]), fill, pixels.dtype)
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        pixels = canvas
    return flipped(pixels, *placement.flips)


def flipped(pixels: Array, left_to_right: bool, top_to_bottom: bool) -> Array:  # noqa: FBT001 - the two of a placement
    """Return a view of an array (height, width, ...), flipped."""
    return pixels[:: -1 if top_to_bottom else 1, :: -1 if left_to_right else 1]


def _window(picture: Picture, placement: Placement, fill: int, pad_mode: PadMode) -> Picture:
    top, left, height, width = placement[:4]
    high, wide = size_of(picture)
    if (top, left, height, width) == (0, 0, high, wide):
        return picture
    if top >= 0 and left >= 0 and top + height <= high and left + width <= wide:
        if isinstance(picture, Image.Image):
            return picture.crop((left, top, left + width, top + height))
        return picture[top : top + height, left : left + width]
    pixels = as_array(picture)
    if pad_mode == "constant":
        cut: Array = np.full((height, width, *pixels.shape[2:]), fill, pixels.dtype)
        first, last = max(0, top), min(high, top + height)
        left_most, right_most = max(0, left), min(wide, left + width)
        if first < last and left_most < right_most:
            cut[first - top : last - top, left_most - left : right_most - left] = pixels[
                first:last, left_most:right_most
            ]
        return cut
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    return pixels[_inside(rows, high, pad_mode)[:, None], _inside(columns, wide, pad_mode)]


def _inside(places: Array, length: int, pad_mode: PadMode) -> Array:
    """Return the places within an axis that stand for places past its ends."""
    if pad_mode != "reflect" or length == 1:
        clipped: Array = places.clip(0, length - 1)
        return clipped
    folded: Array = places % (2 * (length - 1))
    mirrored: Array = np.minimum(folded, 2 * (length - 1) - folded)
    return mirrored


def resized(picture: Picture, size: tuple[int, int], resampling: Resampling) -> Picture:
    """Return a picture of the size (height, width).

    Pillow resizes uint8 of 1, 3 and 4 channels, colors weighted by the alpha of RGBA; channels of other arrays are resized one
    by one, in float32 if that is their dtype. "nearest" takes, of any dtype, the pixel under the center of each new one; Pillow
    adds up rounding errors there.
    """
    if resampling.method == "nearest":
        pixels = as_array(picture)
        return pixels[_nearest(pixels.shape[0], size[0])[:, None], _nearest(pixels.shape[1], size[1])]
    if isinstance(picture, Image.Image):
        return _resized_image(picture, size, resampling)
    channels = picture.shape[2] if picture.ndim > 2 else 1
    if picture.dtype == np.uint8 and channels in MODES:
        return _array_like(picture, _resized_image(_image_of(picture), size, resampling))
    parts = picture.reshape(*picture.shape[:2], -1)
    done = [np.asarray(_resized_image(_image_of(parts[..., channel]), size, resampling)) for channel in range(channels)]
    return np.stack(done, axis=-1).reshape(*size, *picture.shape[2:])


def _nearest(length: int, wanted: int) -> Array:
    """Return the place in an axis of ``length`` for each of ``wanted`` places: the one under its center."""
    return (2 * np.arange(wanted) + 1) * length // (2 * wanted)


def _image_of(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _array_like(picture: Array, image: Image.Image) -> Array:
    return np.asarray(image).reshape(image.height, image.width, *picture.shape[2:])


def _resized_image(image: Image.Image, size: tuple[int, int], resampling: Resampling) -> Image.Image:
    height, width = size
    kind = _FILTERS[resampling.method]
    if resampling.antialias:
        return image.resize((width, height), kind)
    scale = (image.width / width, 0.0, 0.0, 0.0, image.height / height, 0.0)
    return image.transform((width, height), Image.Transform.AFFINE, scale, kind)
