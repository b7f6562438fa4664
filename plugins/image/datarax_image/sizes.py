"""Stages that bring pictures to a size: `resize`, and the crops, central and random."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from datarax_core.config import NOT_NULL, Count, Flag, Integer, NonNegative, Real, having, never, only_if
from datarax_core.errors import StageError

from .columns import Struct
from .geometry import CUTS_NOTHING, Geometric, Padding
from .pixels import Method, PadMode, Placement, Resampling

Size: TypeAlias = Count | tuple[Count, Count]
"""(height, width), or one number for both."""

Positive: TypeAlias = Annotated[Real, Field(gt=0)]

_FILL: Final[Any] = Field(default=0, ge=0, le=255, description="Value of what stands outside the picture.")
_MASK_FILL: Final[Any] = Field(
    default=0, description="Value of what stands outside masks, such as 255 for pixels without a class."
)
_WITHOUT_POINTS: Final = ("box", "hamming", "lanczos")
_TRIES: Final = 10
_NOT_ZERO: Final = {"not": {"const": 0}}
_IS_PADDED: Final = {"anyOf": [having(padding={"minimum": 1}), having(pad_if_needed={"const": True})]}


def _fills_need(condition: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the JSON Schemas of configs in which the fills have an effect under a condition only."""
    return (
        only_if(condition, fill=_NOT_ZERO),
        only_if(condition, mask_fill=_NOT_ZERO),
        only_if(having(masks={"minItems": 1}), mask_fill=_NOT_ZERO),
    )


def _require_fills_seen(stage: "Resize | Cropped", *, is_padded: bool, without: str) -> None:
    """Raise ``ValueError`` if a fill has no effect."""
    for option in ("fill", "mask_fill"):
        if getattr(stage, option) and not is_padded:
            raise ValueError(f"{option} has no effect without {without}; leave it out")
    if stage.mask_fill and not stage.masks:
        raise ValueError("mask_fill is about masks; name their fields, masks, or leave it out")


def _pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


class Resized(Geometric):
    """Base of the stages that resize."""

    schema_rules: ClassVar = (
        *Geometric.schema_rules,
        never(antialias={"const": False}, method={"enum": list(_WITHOUT_POINTS)}),
    )

    method: Method = Field(default="bilinear", description="The filter, by Pillow's name.")
    antialias: Flag = Field(
        default=True,
        description="Widen the filter where the picture becomes smaller, so that each pixel counts; else it takes the "
        "pixels next to each point, which nearest, bilinear and bicubic can.",
    )

    @model_validator(mode="after")
    def _filter_has_points(self) -> "Resized":
        if not self.antialias and self.method in _WITHOUT_POINTS:
            raise ValueError(
                f"the method {self.method} is always antialiased; leave antialias out, or take nearest, bilinear or bicubic"
            )
        return self

    @property
    def resampling(self) -> Resampling:
        """How pictures are resized."""
        return Resampling(self.method, self.antialias)

    def require_dtype(self, struct: Struct, name: str) -> None:
        """Raise ``StageError`` unless the pictures are uint8 or float32, or nearest pixels are taken."""
        if self.method != "nearest" and struct.dtype not in (np.uint8, np.float32):
            raise StageError(
                f"field {name!r} is {struct.dtype}, and the method {self.method} takes uint8 or float32; take nearest, make "
                "floats of it before, by astype, or name the field among the masks of a picture",
                ("field",),
            )


class Resize(Resized):
    """Stage that resizes pictures to one size, or so that their shorter side is of one length."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "resize", "field": "image", "size": 224, "method": "bicubic"}]}
    )

    schema_rules: ClassVar = (
        *Resized.schema_rules,
        CUTS_NOTHING,
        {"anyOf": [having(size=NOT_NULL), having(shorter_side=NOT_NULL)]},
        never(size=NOT_NULL, shorter_side=NOT_NULL),
        only_if(having(size=NOT_NULL), fit={"const": "pad"}),
        *_fills_need(having(fit={"const": "pad"})),
    )

    type: Literal["resize"] = "resize"
    size: Size | None = Field(default=None, description="(height, width) of the results, or one number for both.")
    shorter_side: Count | None = Field(
        default=None, description="Length of the shorter side, in place of size; the other one keeps the proportions."
    )
    fit: Literal["stretch", "pad"] = Field(
        default="stretch", description="With size: stretch to it, or keep the proportions and pad evenly on two sides."
    )
    fill: Annotated[Integer, _FILL] = 0
    mask_fill: Annotated[Integer, _MASK_FILL] = 0

    @model_validator(mode="after")
    def _is_one_size(self) -> "Resize":
        if (self.size is None) == (self.shorter_side is None):
            raise ValueError("give size or shorter_side, one of them")
        if self.fit == "pad" and self.size is None:
            raise ValueError("fit is about size; a shorter_side keeps the proportions already")
        _require_fills_seen(self, is_padded=self.fit == "pad", without="fit: pad")
        return self

    @property
    def padding_of_pictures(self) -> Padding:
        """What stands around pictures that are padded."""
        return Padding(self.fill)

    @property
    def padding_of_masks(self) -> Padding:
        """What stands around masks that are padded."""
        return Padding(self.mask_fill)

    def result_size(self, size: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
        """Return (height, width) of results."""
        if self.size is not None:
            return _pair(self.size)
        height, width = size
        return (None, None) if height is None or width is None else self._of_shorter((height, width))

    def place(self, size: tuple[int, int], rng: np.random.Generator | None) -> Placement:  # noqa: ARG002 - draws nothing
        """Return the placement of a picture."""
        whole = (0, 0, *_not_empty(size))
        if self.size is None:
            return Placement(*whole, size=self._of_shorter(size))
        height, width = wanted = _pair(self.size)
        if self.fit == "stretch":
            return Placement(*whole, size=wanted)
        scale = min(height / size[0], width / size[1])
        scaled = min(height, max(1, round(size[0] * scale))), min(width, max(1, round(size[1] * scale)))
        return Placement(
            *whole, size=scaled, canvas=(height, width, (height - scaled[0]) // 2, (width - scaled[1]) // 2)
        )

    def _of_shorter(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size by torchvision's rule: the longer side is rounded down."""
        height, width = size
        short = self.shorter_side or 1
        if height <= width:
            return short, max(1, int(short * width / height))
        return max(1, int(short * height / width)), short


class Cropped(Geometric):
    """Base of the stages that cut a window of one size, at the scale of the picture."""

    cuts: ClassVar[bool] = True

    size: Size = Field(description="(height, width) of the results, or one number for both.")
    pad_if_needed: Flag = Field(
        default=False, description="Pad pictures that are smaller than the window evenly; else they are refused."
    )
    fill: Annotated[Integer, _FILL] = 0
    mask_fill: Annotated[Integer, _MASK_FILL] = 0

    @property
    def padding_of_pictures(self) -> Padding:
        """What stands outside pictures."""
        return Padding(self.fill)

    @property
    def padding_of_masks(self) -> Padding:
        """What stands outside masks."""
        return Padding(self.mask_fill, self.padding_of_pictures.mode)

    def result_size(self, size: tuple[int | None, int | None]) -> tuple[int | None, int | None]:  # noqa: ARG002 - always one
        """Return (height, width) of results."""
        return _pair(self.size)

    def _require_room(self, size: tuple[int, int], wanted: tuple[int, int], padded: str = "") -> None:
        _not_empty(size)
        if not self.pad_if_needed and (size[0] < wanted[0] or size[1] < wanted[1]):
            raise StageError(
                f"a picture of {size[0]} x {size[1]}{padded} is smaller than the window of {wanted[0]} x {wanted[1]}; resize "
                "pictures before, or set pad_if_needed",
                ("size",),
            )


class CenterCrop(Cropped):
    """Stage that cuts the center of pictures, by torchvision's rule for odd margins."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "center_crop", "field": "image", "size": 224}]})

    schema_rules: ClassVar = (
        *Cropped.schema_rules,
        *_fills_need(having(pad_if_needed={"const": True})),
    )

    type: Literal["center_crop"] = "center_crop"

    @model_validator(mode="after")
    def _fill_is_seen(self) -> "CenterCrop":
        _require_fills_seen(self, is_padded=self.pad_if_needed, without="pad_if_needed")
        return self

    def place(self, size: tuple[int, int], rng: np.random.Generator | None) -> Placement:  # noqa: ARG002 - draws nothing
        """Return the placement of a picture."""
        wanted = _pair(self.size)
        self._require_room(size, wanted)
        top, left = (_margin(have - want) for have, want in zip(size, wanted, strict=True))
        return Placement(top, left, *wanted, size=wanted)


def _margin(room: int) -> int:
    """Return the margin before a centered window, by torchvision's rule; less than 0 if the window is larger."""
    return round(room / 2.0) if room >= 0 else -(-room // 2)


class RandomCrop(Cropped):
    """Stage that cuts a window at a random place of pictures, which may be padded before."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "random_crop", "field": "image", "size": 32, "padding": 4}]}
    )

    schema_rules: ClassVar = (
        *Cropped.schema_rules,
        *_fills_need(_IS_PADDED),
        only_if(_IS_PADDED, pad_mode={"not": {"const": "constant"}}),
        never(fill=_NOT_ZERO, pad_mode={"not": {"const": "constant"}}),
        never(mask_fill=_NOT_ZERO, pad_mode={"not": {"const": "constant"}}),
    )
    stochastic: ClassVar[bool] = True

    type: Literal["random_crop"] = "random_crop"
    padding: NonNegative = Field(default=0, description="Pixels by which pictures are padded on every side.")
    pad_mode: PadMode = Field(
        default="constant", description="Pad with fill, with the pixels of the edge, or with the mirrored picture."
    )

    @model_validator(mode="after")
    def _padding_is_seen(self) -> "RandomCrop":
        is_padded, without = bool(self.padding) or self.pad_if_needed, "padding or pad_if_needed"
        _require_fills_seen(self, is_padded=is_padded, without=without)
        if self.pad_mode != "constant":
            if not is_padded:
                raise ValueError(f"pad_mode has no effect without {without}; leave it out")
            for option in ("fill", "mask_fill"):
                if getattr(self, option):
                    raise ValueError(f"{option} has no effect with pad_mode {self.pad_mode}; leave it out")
        return self

    @property
    def padding_of_pictures(self) -> Padding:
        """What stands outside pictures."""
        return Padding(self.fill, self.pad_mode)

    def place(self, size: tuple[int, int], rng: np.random.Generator | None) -> Placement:
        """Return the placement of a picture."""
        wanted = _pair(self.size)
        padded = size[0] + 2 * self.padding, size[1] + 2 * self.padding
        self._require_room(padded, wanted, " (with padding)" if self.padding else "")
        rooms = (have - want for have, want in zip(padded, wanted, strict=True))
        top, left = (_start(room, rng) - self.padding for room in rooms)
        return Placement(top, left, *wanted, size=wanted)


class RandomResizedCrop(Resized):
    """Stage that cuts a random window of pictures and resizes it, with the rule and the defaults of torchvision.

    A window has a random share of the picture's area and a random aspect ratio (drawn by its logarithm). After ten that do not
    fit into the picture, the center is cut, with the aspect ratio that is nearest to the allowed ones.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "random_resized_crop", "field": "image", "size": 224}]}
    )

    stochastic: ClassVar[bool] = True
    cuts: ClassVar[bool] = True

    type: Literal["random_resized_crop"] = "random_resized_crop"
    size: Size = Field(description="(height, width) of the results, or one number for both.")
    scale: tuple[Positive, Positive] = Field(
        default=(0.08, 1.0), description="Least and greatest share of the picture's area."
    )
    ratio: tuple[Positive, Positive] = Field(
        default=(3 / 4, 4 / 3), description="Least and greatest aspect ratio of a window, width to height."
    )

    @model_validator(mode="after")
    def _ranges_go_up(self) -> "RandomResizedCrop":
        for option, (least, greatest) in (("scale", self.scale), ("ratio", self.ratio)):
            if least > greatest:
                raise ValueError(f"{option} is from a least to a greatest number, not {[least, greatest]}")
        return self

    def result_size(self, size: tuple[int | None, int | None]) -> tuple[int | None, int | None]:  # noqa: ARG002 - always one
        """Return (height, width) of results."""
        return _pair(self.size)

    def place(self, size: tuple[int, int], rng: np.random.Generator | None) -> Placement:
        """Return the placement of a picture."""
        return Placement(*self._window(_not_empty(size), _drawing(rng)), size=_pair(self.size))

    def _window(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        high, wide = size
        logs = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = high * wide * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(*logs))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= wide and 0 < height <= high:
                return int(rng.integers(high - height + 1)), int(rng.integers(wide - width + 1)), height, width
        width, height = wide, high
        if wide / high < self.ratio[0]:
            height = max(1, round(wide / self.ratio[0]))
        elif wide / high > self.ratio[1]:
            width = max(1, round(high * self.ratio[1]))
        return (high - height) // 2, (wide - width) // 2, height, width


def _start(room: int, rng: np.random.Generator | None) -> int:
    """Return the start of a window that has this much room, which is less than 0 if the window is centered on less."""
    if room <= 0:
        return _margin(room)
    return int(_drawing(rng).integers(room + 1))


def _drawing(rng: np.random.Generator | None) -> np.random.Generator:
    if rng is None:
        raise ValueError(
            "this stage draws random numbers: a pipeline passes rngs, a generator for each record; call stage(batch, rngs)"
        )
    return rng


def _not_empty(size: tuple[int, int]) -> tuple[int, int]:
    if not all(size):
        raise StageError(f"a picture of {size[0]} x {size[1]} has no pixels", ("field",))
    return size
