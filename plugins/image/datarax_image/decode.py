"""The stage that decodes images, `decode_image`, and its work joined with that of the stage that follows."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Literal

import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field, model_validator

from datarax_core.config import Count, Flag, Name, having, never, only_if
from datarax_core.errors import StageError
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Stage
from datarax_core.stages import leaf_of, path_of, struct_of, with_value_at

from .codec import Decoding, EncodedImage, note_row
from .columns import OpenedImages, ragged_column, with_struct
from .geometry import Geometric
from .pixels import Array, as_array
from .sizes import Resized

_ONE_CHANNEL: Final = having(channels={"const": 1})


class DecodeImage(Stage):
    """Stage that decodes a field of PNG, JPEG, WebP, GIF or BMP files, bytes, to uint8 (height, width, channels).

    Images of different sizes make a ragged column, which `resize` or a crop of one size makes dense. Where such a stage
    follows at once, each image is decoded and placed before the next, and no column of whole images is made.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "decode_image", "field": "image"}]})

    schema_rules: ClassVar = (
        only_if(_ONE_CHANNEL, dtype={"const": "uint16"}),
        only_if(_ONE_CHANNEL, palette={"const": "indices"}),
        never(lossy={"const": True}, dtype={"const": "uint16"}),
    )
    on_host: ClassVar[bool] = True
    releases_gil: ClassVar[bool] = True

    type: Literal["decode_image"] = "decode_image"
    field: Name = Field(description="The field of encoded images, by dotted name.")
    channels: Literal[1, 3, 4] = Field(
        default=3,
        description="1 for grey, 3 for RGB, 4 for RGBA. Colors become grey by ITU-R 601; grey is repeated; alpha is left out, "
        "not blended, or is 255 where an image has none.",
    )
    dtype: Literal["uint8", "uint16"] = Field(
        default="uint8", description="uint16 keeps grey PNG of 16 bits, such as depth or ids, and takes nothing else."
    )
    exif_orientation: Literal["apply", "ignore"] = Field(
        default="apply", description="Whether an image that EXIF says to be turned is turned upright."
    )
    palette: Literal["colors", "indices"] = Field(
        default="colors",
        description="Of a PNG, GIF or BMP with a palette: its colors, or with 1 channel the numbers themselves.",
    )
    lossy: Flag = Field(default=False, description="Take the high 8 bits of PNG of 16 bits, which are refused else.")
    reduced: Flag = Field(
        default=False,
        description="Decode a JPEG at a half, a quarter or an eighth of its size where the resize that follows at once makes "
        "it smaller than that: faster, and other pixels.",
    )
    max_pixels: Count = Field(
        default=100_000_000, description="An image whose header says more pixels is refused before it is decoded."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> "DecodeImage":
        if self.channels != 1 and self.dtype == "uint16":
            raise ValueError("dtype uint16 is for grey images; set channels to 1")
        if self.channels != 1 and self.palette == "indices":
            raise ValueError("the indices of a palette are one channel; set channels to 1, or palette to colors")
        if self.lossy and self.dtype == "uint16":
            raise ValueError("lossy has no effect with dtype uint16, which keeps all 16 bits; leave one of them out")
        return self

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field."""
        self.element_spec(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of a record with decoded images, of any height and width."""
        struct = struct_of(spec, self.field)
        if struct.dtype.kind not in "OS" or struct.shape:
            raise StageError(
                f"field {self.field!r} is {struct.dtype}{list(struct.shape)}, not one image file as bytes; it may be decoded "
                "already, or its source decodes it",
                ("field",),
            )
        return with_struct(spec, self.field, (None, None, self.channels), np.dtype(self.dtype))

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the images decoded, as a ragged column.

        Raises:
            StageError: An image is damaged, too large or none; a note has its row.
        """
        if self.reduced:
            raise StageError(
                "no resize or random_resized_crop of this field follows at once, so that reduced has no effect; leave it out",
                ("reduced",),
            )
        images = self.opened(leaf_of(batch, self.field))
        sizes = [(image.height, image.width) for image in images]
        rows = (_pixels(image, row) for row, image in enumerate(images))
        column = ragged_column(rows, sizes, (self.channels,), images.dtype)
        return with_value_at(batch, path_of(batch, self.field, ("field",)), column)

    def join(self, following: Callable[..., Batch]) -> "JoinedStages | None":
        """Return one stage in place of this one and the one that follows; None if there is none: see `JoinedStages`."""
        return JoinedStages((self,)).join(following)

    def opened(self, column: Sequence[Any]) -> OpenedImages:
        """Return the images of a column, whose headers are read.

        Raises:
            StageError: One is no image, or too large; names its row.
        """
        images, decoding = [], self._decoding
        for row, encoded in enumerate(column):
            try:
                images.append(EncodedImage(encoded, decoding))
            except StageError as error:
                note_row(error, row)
                raise
        return OpenedImages(images, self.channels, decoding.dtype)

    @property
    def _decoding(self) -> Decoding:
        return Decoding(
            channels=self.channels,
            dtype=np.dtype(self.dtype),
            is_upright=self.exif_orientation == "apply",
            is_palette_kept=self.palette == "indices",
            is_lossy=self.lossy,
            is_reduced=self.reduced,
            max_pixels=self.max_pixels,
        )


def _pixels(image: EncodedImage, row: int) -> Array:
    try:
        return as_array(image.decoded())
    except StageError as error:
        note_row(error, row)
        raise


class JoinedStages:
    """Host stage that does the work of `decode_image` stages of several fields, and of the stage that follows them.

    The results are those of the stages one after another, to the pixel, unless a decoding is ``reduced``; but each image is
    decoded and placed before the next, and no column of whole images is made.

    Args:
        decodings: The stages that decode, each another field.
        then: The stage that places pictures of all these fields; None if no such stage follows yet.
    """

    on_host: ClassVar[bool] = True
    releases_gil: ClassVar[bool] = True

    def __init__(self, decodings: Sequence[DecodeImage], then: Geometric | None = None) -> None:
        self.decodings, self.then = tuple(decodings), then
        self.stochastic = getattr(then, "stochastic", False)
        self.name = " + ".join(stage.type for stage in (*decodings, *filter(None, [then])))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JoinedStages):
            return NotImplemented
        return (self.decodings, self.then) == (other.decodings, other.then)

    def __hash__(self) -> int:
        return hash((self.decodings, self.then))

    def join(self, following: Callable[..., Batch]) -> "JoinedStages | None":
        """Return one stage in place of this one and the one that follows; None if there is none.

        One decodes another field, or places the pictures of all fields that are decoded here.
        """
        names = {stage.field for stage in self.decodings}
        if self.then is not None:
            return None
        if any(stage.reduced for stage in self.decodings) and not isinstance(following, Resized | DecodeImage):
            return None  # so that the stage says that reduced has no effect
        if isinstance(following, DecodeImage):
            return None if following.field in names else type(self)((*self.decodings, following))
        if isinstance(following, Geometric) and names <= {following.field, *following.masks}:
            return type(self)(self.decodings, following)
        return None

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of a record after all of the stages."""
        for stage in self.decodings:
            spec = stage.element_spec(spec)
        return spec if self.then is None else self.then.element_spec(spec)

    def __call__(self, batch: Batch, *rngs: Sequence[np.random.Generator]) -> Batch:
        """Return the batch after all of the stages; ``rngs`` are those of the last one, if it is stochastic."""
        if self.then is None:
            for stage in self.decodings:
                batch = stage(batch)
            return batch
        pictures: dict[str, Any] = {name: leaf_of(batch, name) for name in (self.then.field, *self.then.masks)}
        for stage in self.decodings:
            pictures[stage.field] = stage.opened(pictures[stage.field])
        return self.then.apply(batch, pictures, *rngs)
