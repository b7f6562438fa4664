"""Base of the stages that place pictures: masks and boxes follow the picture, record by record."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from flax import nnx
from pydantic import Field, model_validator

from datarax_core.config import NOT_NULL, Flag, Name, Real, having, never, only_if
from datarax_core.errors import StageError
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Stage
from datarax_core.stages import leaf_of, path_of, struct_of, value_at, with_value_at

from .boxes import BoxForm, BoxFormat, box_dtype, moved_boxes, require_boxes, rows_column
from .codec import EncodedImage, height_and_width, note_row
from .columns import Pictures, Struct, pictures_column, require_picture, with_struct
from .pixels import Array, PadMode, Picture, Placement, Resampling, placed, size_of

_NEAREST: Final = Resampling("nearest")
_BOXES: Final = having(boxes=NOT_NULL)
CUTS_NOTHING: Final = never(min_visible={"not": {"const": 0}})
"""JSON Schema of the configs of stages that cut nothing off."""


class Padding(NamedTuple):
    """What stands where a window reaches past the picture."""

    fill: int = 0
    mode: PadMode = "constant"


class Geometric(Stage):
    """Base of stages that cut, resize or flip a picture, and whatever belongs to it.

    A subclass defines `place`, which computes the placement of one picture, and `result_size`.
    """

    on_host: ClassVar[bool] = True
    releases_gil: ClassVar[bool] = True

    schema_rules: ClassVar[tuple[Mapping[str, Any], ...]] = (
        only_if(_BOXES, format={"not": {"const": "xyxy"}}),
        only_if(_BOXES, relative={"const": True}),
        only_if(_BOXES, box_labels={"minItems": 1}),
        only_if(_BOXES, min_visible={"not": {"const": 0}}),
    )

    cuts: ClassVar[bool] = False
    """Whether parts of a picture may be cut off, so that boxes are clipped and dropped."""

    field: Name = Field(
        description="The field of pictures, by dotted name: (height, width) or (height, width, channels)."
    )
    masks: tuple[Name, ...] = Field(
        default=(), description="Fields of masks of the height and width of the picture; nearest values are taken."
    )
    boxes: Name | None = Field(
        default=None, description="The field of boxes (n, 4) in each record, which may be ragged."
    )
    format: BoxFormat = Field(
        default="xyxy",
        description="What the numbers of a box are: corners, x or y first; corner and size; or center and size.",
    )
    relative: Flag = Field(
        default=False, description="The numbers of boxes are shares of width and height, from 0 to 1, not pixels."
    )
    box_labels: tuple[Name, ...] = Field(
        default=(), description="Fields with a value for each box, such as its class, which are dropped with it."
    )
    min_visible: Real = Field(
        default=0.0,
        ge=0,
        le=1,
        description="A crop drops a box of which a smaller share of its area is left, or nothing.",
    )

    @model_validator(mode="after")
    def _boxes_are_named(self) -> "Geometric":
        if self.boxes is None:
            for option in ("format", "relative", "box_labels", "min_visible"):
                if getattr(self, option) != type(self).model_fields[option].default:
                    raise ValueError(f"{option} is about boxes; name their field, boxes, or leave {option} out")
        if self.min_visible and not self.cuts:
            raise ValueError(f"min_visible has no effect: {self.type} cuts nothing off; leave it out")
        return self

    # -- of subclasses ------------------------------------------------------------------------------------------------------

    def place(self, size: tuple[int, int], rng: np.random.Generator | None) -> Placement:
        """Return the placement of a picture of this size (height, width).

        Raises:
            StageError: Such a picture cannot be placed.
        """
        raise NotImplementedError

    def result_size(self, size: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
        """Return (height, width) of results for pictures of a size, None where it varies."""
        raise NotImplementedError

    @property
    def resampling(self) -> Resampling:
        """How pictures are resized."""
        return _NEAREST

    @property
    def padding_of_pictures(self) -> Padding:
        """What stands outside pictures."""
        return Padding()

    @property
    def padding_of_masks(self) -> Padding:
        """What stands outside masks."""
        return Padding()

    def require_dtype(self, struct: Struct, name: str) -> None:
        """Raise ``StageError`` if pictures of this dtype cannot be placed."""

    # -- of pipelines -------------------------------------------------------------------------------------------------------

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - keyed by record
        """Return the stage itself, after a check of the fields."""
        self.element_spec(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of a record after this stage."""
        made = spec
        for name, option in ((self.field, "field"), *((mask, "masks") for mask in self.masks)):
            struct = struct_of(spec, name, (option,))
            require_picture(struct, name, option)
            if option == "field":
                self.require_dtype(struct, name)
                _require_fill(struct, name, self.padding_of_pictures.fill, "fill")
            else:
                _require_fill(struct, name, self.padding_of_masks.fill, "mask_fill")
            size = self.result_size(struct.shape[:2])
            made = with_struct(made, name, (*size, *struct.shape[2:]), struct.dtype)
        if self.boxes is None:
            return made
        struct = struct_of(spec, self.boxes, ("boxes",))
        require_boxes(struct.shape, struct.dtype, self.boxes)
        made = with_struct(made, self.boxes, self._count(struct) + struct.shape[1:], box_dtype(struct.dtype))
        for name in self.box_labels:
            labels = struct_of(spec, name, ("box_labels",))
            if not labels.shape or labels.dtype.hasobject:
                raise StageError(
                    f"field {name!r} is {labels.dtype}{list(labels.shape)}; labels of boxes are numbers (n, ...), one for each "
                    "box of a record",
                    ("box_labels",),
                )
            if self.cuts:
                made = with_struct(made, name, self._count(labels) + labels.shape[1:], labels.dtype)
        return made

    def __call__(self, batch: Batch, *rngs: Sequence[np.random.Generator]) -> Batch:
        """Return the batch with all pictures placed; ``rngs`` has a generator for each record if the stage is stochastic."""
        names = (self.field, *self.masks)
        return self.apply(batch, {name: leaf_of(batch, name) for name in names}, *rngs)

    def apply(
        self, batch: Batch, pictures: dict[str, Pictures], rngs: Sequence[np.random.Generator] | None = None
    ) -> Batch:
        """Return the batch with the given pictures placed: of the picture field and of each mask, by name."""
        images = pictures[self.field]
        sizes: list[tuple[int, int]] = []
        placements = []
        for row, image in enumerate(images):
            try:
                sizes.append(height_and_width(image))
                placements.append(self.place(sizes[-1], None if rngs is None else rngs[row]))
            except StageError as error:
                note_row(error, row)
                raise
        made = batch
        for name in (self.field, *self.masks):
            column = self._placed(name, pictures[name], sizes, placements)
            made = with_value_at(made, path_of(batch, name, ("field",)), column)
        return made if self.boxes is None else self._with_boxes(made, sizes, placements)

    # -- parts --------------------------------------------------------------------------------------------------------------

    def _placed(self, name: str, pictures: Pictures, sizes: list[tuple[int, int]], placements: list[Placement]) -> Any:
        """Return the column of one field after the placements."""
        is_mask = name != self.field
        resampling, padding = (
            (_NEAREST, self.padding_of_masks) if is_mask else (self.resampling, self.padding_of_pictures)
        )

        def rows() -> Iterator[Array]:
            for row, (picture, size, placement) in enumerate(zip(pictures, sizes, placements, strict=True)):
                if is_mask:
                    _require_size(name, height_and_width(picture), size, row)
                pixels, stands = decoded(picture, row, placement)
                yield placed(pixels, stands, resampling, fill=padding.fill, pad_mode=padding.mode)

        _, height, width, *inner = pictures.shape
        shape = (*self.result_size((height, width)), *inner)
        return pictures_column(rows(), [placement.result_size for placement in placements], shape, pictures.dtype)

    def _with_boxes(self, batch: Batch, sizes: list[tuple[int, int]], placements: list[Placement]) -> Batch:
        """Return the batch with boxes, and what is said of them, after the placements."""
        assert self.boxes is not None  # noqa: S101 - for type checkers
        form = BoxForm(self.format, self.relative, self.min_visible)
        path = path_of(batch, self.boxes, ("boxes",))
        column = value_at(batch, path)
        moved = []
        for row, (boxes, size, placement) in enumerate(zip(column, sizes, placements, strict=True)):
            try:
                moved.append(moved_boxes(boxes, size, placement, form, is_cut=self.cuts))
            except StageError as refused:
                raise _noted(refused, row) from None
        shape = (None if self.cuts else column.shape[1], 4)
        batch = with_value_at(batch, path, rows_column([boxes for boxes, _ in moved], shape, box_dtype(column.dtype)))
        for name in self.box_labels if self.cuts else ():
            path = path_of(batch, name, ("box_labels",))
            labels = value_at(batch, path)
            rows = []
            for row, (values, boxes, (_, kept)) in enumerate(zip(labels, column, moved, strict=True)):
                if len(values) != len(boxes):
                    raise _noted(
                        StageError(f"{len(values)} values of {name!r} for {len(boxes)} boxes", ("box_labels",)), row
                    )
                rows.append(values[kept])
            batch = with_value_at(batch, path, rows_column(rows, (None, *labels.shape[2:]), labels.dtype))
        return batch

    def _count(self, struct: Struct) -> tuple[int | None]:
        """Return the first axis of boxes, or of labels of them, after this stage."""
        return (None if self.cuts else struct.shape[0],)


def _require_fill(struct: Struct, name: str, fill: int, option: str) -> None:
    """Raise ``StageError`` if the dtype of pictures does not hold the value that they are filled with."""
    dtype = struct.dtype
    if dtype.kind in "iu":
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    elif dtype.kind == "b":
        least, most = 0, 1
    else:
        return
    if not least <= fill <= most:
        raise StageError(f"field {name!r} is {dtype}, which does not hold {fill}; choose another {option}", (option,))


def _require_size(name: str, found: tuple[int, int], size: tuple[int, int], row: int) -> None:
    """Raise ``StageError`` if a mask has not the size of its picture."""
    if found != size:
        refused = StageError(
            f"the mask {name!r} is {found[0]} x {found[1]} and its picture {size[0]} x {size[1]}; a mask has the height and "
            "width of the picture",
            ("masks",),
        )
        raise _noted(refused, row)


def _noted(error: StageError, row: int) -> StageError:
    note_row(error, row)
    return error


def decoded(picture: EncodedImage | Array, row: int, placement: Placement) -> tuple[Picture, Placement]:
    """Return a picture, decoded, and its placement: another one if the picture was decoded at a part of its size."""
    if not isinstance(picture, EncodedImage):
        return picture, placement
    height, width = placement.size
    at_least = (
        math.ceil(picture.height * height / placement.height),
        math.ceil(picture.width * width / placement.width),
    )
    try:
        pixels = picture.decoded(at_least)
    except StageError as error:
        note_row(error, row)
        raise
    found = size_of(pixels)
    if found == (picture.height, picture.width):
        return pixels, placement
    return pixels, _reduced(placement, found[0] / picture.height, found[1] / picture.width, found)


def _reduced(placement: Placement, down: float, across: float, size: tuple[int, int]) -> Placement:
    """Return a placement with the window scaled, and within a picture of ``size``."""
    top, left = round(placement.top * down), round(placement.left * across)
    bottom, right = round((placement.top + placement.height) * down), round((placement.left + placement.width) * across)
    top, left = min(top, size[0] - 1), min(left, size[1] - 1)
    bottom, right = min(max(bottom, top + 1), size[0]), min(max(right, left + 1), size[1])
    return placement._replace(top=top, left=left, height=bottom - top, width=right - left)
