"""Boxes of objects in a picture: read in four formats, moved with the picture, clipped, and dropped with their labels."""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from datarax_core.errors import StageError
from datarax_core.records import Ragged

from .pixels import Array, Placement

BoxFormat: TypeAlias = Literal["xyxy", "yxyx", "xywh", "cxcywh"]
"""What the four numbers of a box are: two corners, x or y first; the upper left corner and size; center and size."""

_GREATEST_SHARE: Final = 2
"""Numbers above are no shares of a picture, though a box may reach a little beyond its edges."""


class BoxForm(NamedTuple):
    """How the numbers of boxes are to be read, and which boxes a crop keeps."""

    box_format: BoxFormat
    is_relative: bool
    min_visible: float


def box_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of boxes after they were moved: that of floats, float32 of integers."""
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


def moved_boxes(
    boxes: Array, size: tuple[int, int], placement: Placement, form: BoxForm, *, is_cut: bool
) -> tuple[Array, Array]:
    """Return boxes after a placement, and the numbers of the boxes that are left.

    A box is clipped to the window. A crop drops it if nothing is left of it, or less than ``min_visible`` of its area.

    Args:
        boxes: Boxes (n, 4) of a picture.
        size: (height, width) of the picture.
        placement: What was done with the picture.
        form: How the numbers are to be read.
        is_cut: Whether parts of the picture are cut off, so that boxes are clipped and dropped; else all stay.

    Raises:
        StageError: The numbers are no boxes of this form.
    """
    corners = _corners(boxes.astype(np.float64), form, size)
    _require_corners(corners, boxes, form)
    kept: Array = np.arange(len(corners))
    if is_cut:
        edges = placement.left, placement.top, placement.left + placement.width, placement.top + placement.height
        least, most = np.maximum(edges[:2], 0), np.minimum(edges[2:], size[::-1])
        clipped = corners.reshape(-1, 2, 2).clip(least, np.maximum(least, most)).reshape(-1, 4)
        left, area = _area(clipped), _area(corners)
        kept = np.flatnonzero((left > 0) & (left >= form.min_visible * area))
        corners = clipped[kept]
    result = _placed(corners, placement)
    return _written(result, form, placement.result_size).astype(box_dtype(boxes.dtype)), kept


def _require_corners(corners: Array, boxes: Array, form: BoxForm) -> None:
    """Raise ``StageError`` if a box ends before it begins, is not finite, or is of pixels where shares are expected."""
    are_boxes = (corners[:, 2:] >= corners[:, :2]).all(1) & np.isfinite(corners).all(1)
    if not are_boxes.all():
        number = int(np.argmin(are_boxes))
        numbers = boxes[number].tolist()
        if not np.isfinite(numbers).all():
            told = "its numbers are not finite; correct it, or leave it out"
        elif form.box_format in ("xyxy", "yxyx"):
            told = "its second corner is before its first; name the format that it has, such as xywh, or correct it"
        else:
            told = "its size is negative; name the format that it has, or correct it"
        raise StageError(f"box {number} is {numbers} in the format {form.box_format}: {told}", ("boxes",))
    if form.is_relative and (are_pixels := (boxes > _GREATEST_SHARE).any(1)).any():
        number = int(np.argmax(are_pixels))
        raise StageError(
            f"box {number} is {boxes[number].tolist()}, and shares of width and height go from 0 to 1; leave relative out if "
            "these are pixels",
            ("relative",),
        )


def _area(corners: Array) -> Array:
    sides: Array = (corners[:, 2:] - corners[:, :2]).clip(0)
    return sides[:, 0] * sides[:, 1]


def _placed(corners: Array, placement: Placement) -> Array:
    (high, wide), (scaled_high, scaled_wide) = (placement.height, placement.width), placement.size
    _, _, top, left = placement.canvas or (0, 0, 0, 0)
    scale = np.array([scaled_wide / wide, scaled_high / high] * 2)
    moved: Array = (corners - np.array([placement.left, placement.top] * 2)) * scale + np.array([left, top] * 2)
    height, width = placement.result_size
    left_to_right, top_to_bottom = placement.flips
    if left_to_right:
        moved[:, [0, 2]] = width - moved[:, [2, 0]]
    if top_to_bottom:
        moved[:, [1, 3]] = height - moved[:, [3, 1]]
    return moved


def _corners(boxes: Array, form: BoxForm, size: tuple[int, int]) -> Array:
    """Return boxes as (left, top, right, bottom) in pixels."""
    if form.box_format == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if form.is_relative:
        boxes = boxes * np.array([size[1], size[0]] * 2)
    first, second = boxes[:, :2], boxes[:, 2:]
    if form.box_format == "xywh":
        second = first + second
    elif form.box_format == "cxcywh":
        first, second = first - second / 2, first + second / 2
    return np.concatenate([first, second], axis=1)


def _written(corners: Array, form: BoxForm, size: tuple[int, int]) -> Array:
    """Return boxes in their own format."""
    first, second = corners[:, :2], corners[:, 2:]
    if form.box_format == "xywh":
        second = second - first
    elif form.box_format == "cxcywh":
        first, second = (first + second) / 2, second - first
    boxes: Array = np.concatenate([first, second], axis=1)
    if form.is_relative:
        boxes = boxes / np.array([size[1], size[0]] * 2)
    return boxes[:, [1, 0, 3, 2]] if form.box_format == "yxyx" else boxes


def require_boxes(shape: Sequence[int | None], dtype: np.dtype[Any], name: str) -> None:
    """Raise ``StageError`` unless the boxes of a record are numbers (n, 4)."""
    if dtype.kind not in "fiu" or len(shape) != 2 or shape[1] != 4:
        raise StageError(f"field {name!r} is {dtype}{list(shape)}; boxes are numbers (n, 4) in each record", ("boxes",))


def rows_column(rows: Sequence[Array], shape: Sequence[int | None], dtype: np.dtype[Any]) -> Array | Ragged:
    """Return boxes, or what is said of each, as the column that an element spec says."""
    if shape[0] is None:
        return Ragged.from_list(rows, dtype, shape)
    return np.stack(rows).astype(dtype, copy=False) if rows else np.empty((0, *shape), dtype)
