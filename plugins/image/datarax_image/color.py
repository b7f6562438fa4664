"""Stages for colors, compiled: `normalize` and `color_jitter`."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field, model_validator

from datarax_core.config import Name, Real, having
from datarax_core.errors import StageError
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Stage
from datarax_core.stages import field_of, leaf_of, path_of, with_value_at

Channels: TypeAlias = Annotated[tuple[Real, ...], Field(min_length=1)]
"""One number for each channel."""

Positive: TypeAlias = Annotated[Real, Field(gt=0)]

Planes: TypeAlias = tuple[jax.Array, ...]
"""Red, green and blue (height, width): planes by themselves are computed several times as fast as a last axis of three."""

_GREY: Final = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey, by ITU-R BT.601."""


class Normalize(Stage):
    """Stage that subtracts a mean from each channel of a field, and divides by a standard deviation.

    Mean and deviation are of values from 0 to 1, as they are published for models: integers are divided by ``max_value``
    before, uint8 by 255. The result is computed in float32.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "normalize", "field": "image", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
            ]
        }
    )

    type: Literal["normalize"] = "normalize"
    field: Name = Field(description="The field, by dotted name, whose last axis is that of the channels.")
    mean: Channels = Field(description="Mean of each channel, or one for all.")
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        description="Standard deviation of each channel, or one for all."
    )
    max_value: Positive | None = Field(
        default=None,
        description="The value that becomes 1 before; by default the largest one of an integer dtype, and 1 for floats.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(default="float32", description="The dtype of the result.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field."""
        struct = field_of(spec, self.field)
        self._require(struct.shape, struct.dtype)
        return self

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the field normalized."""
        image = jnp.asarray(leaf_of(batch, self.field))
        self._require(image.shape[1:], image.dtype)
        # one factor and one summand for each channel, computed in 64 bits and rounded once
        unit = self.max_value or (np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1.0)
        std = np.asarray(self.std, np.float64)
        factor, summand = 1.0 / (unit * std), -np.asarray(self.mean, np.float64) / std
        made = image.astype(np.float32) * jnp.asarray(factor, np.float32) + jnp.asarray(summand, np.float32)
        return with_value_at(batch, path_of(batch, self.field, ("field",)), made.astype(self.dtype))

    def _require(self, shape: tuple[int, ...], dtype: Any) -> None:
        if dtype == np.bool_ or not (jnp.issubdtype(dtype, np.integer) or jnp.issubdtype(dtype, np.floating)):
            raise StageError(f"field {self.field!r} is {dtype}; colors are integers or floats", ("field",))
        for option in ("mean", "std"):
            given = len(getattr(self, option))
            if given != 1 and shape[-1:] != (given,):
                raise StageError(
                    f"{given} numbers are given, and field {self.field!r} of shape {list(shape)} has "
                    f"{shape[-1] if shape else 'no'} channels on its last axis; give one for each, or one for all",
                    (option,),
                )


_ADJUSTMENTS: Final = ("brightness", "contrast", "saturation", "hue")


class ColorJitter(Stage):
    """Stage that changes brightness, contrast, saturation and hue of RGB pictures at random, in a random order.

    The adjustments, their ranges and orders are those of torchvision's ``ColorJitter``: a factor is drawn evenly from
    ``1 - x`` (0 at least) to ``1 + x``, and hue from ``-x`` to ``x`` turns of the color circle. It is computed in float32, and
    integers are rounded once, in the end.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "color_jitter", "field": "image", "brightness": 0.4, "contrast": 0.4, "hue": 0.1}]
        }
    )

    schema_rules: ClassVar = ({"anyOf": [having(**{name: {"exclusiveMinimum": 0}}) for name in _ADJUSTMENTS]},)
    stochastic: ClassVar[bool] = True

    type: Literal["color_jitter"] = "color_jitter"
    field: Name = Field(
        description="The field of pictures (height, width, 3), by dotted name: uint8, or floats from 0 to 1."
    )
    brightness: Annotated[Real, Field(ge=0)] = Field(
        default=0.0, description="Most change of the factor of brightness."
    )
    contrast: Annotated[Real, Field(ge=0)] = Field(default=0.0, description="Most change of the factor of contrast.")
    saturation: Annotated[Real, Field(ge=0)] = Field(
        default=0.0, description="Most change of the factor of saturation."
    )
    hue: Annotated[Real, Field(ge=0, le=0.5)] = Field(default=0.0, description="Most change of hue, in turns.")

    @model_validator(mode="after")
    def _changes_something(self) -> "ColorJitter":
        if not self._used:
            raise ValueError(
                "brightness, contrast, saturation and hue are all 0; give one of them, or leave the stage out"
            )
        return self

    @property
    def _used(self) -> list[str]:
        return [name for name in _ADJUSTMENTS if getattr(self, name)]

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - keyed by record
        """Return the stage itself, after a check of the field."""
        struct = field_of(spec, self.field)
        self._require(struct.shape, struct.dtype)
        return self

    def __call__(self, batch: Batch, keys: jax.Array) -> Batch:
        """Return the batch with the colors changed, each record by its key."""
        images = jnp.asarray(leaf_of(batch, self.field))
        self._require(images.shape[1:], images.dtype)
        unit = 255.0 if images.dtype == np.uint8 else 1.0
        made = jax.vmap(self._jittered)(images.astype(np.float32) / unit, keys)
        if images.dtype == np.uint8:
            made = jnp.round(made * unit)
        return with_value_at(batch, path_of(batch, self.field, ("field",)), made.astype(images.dtype))

    def _jittered(self, image: jax.Array, key: jax.Array) -> jax.Array:
        used = self._used
        order_key, *factor_keys = jax.random.split(key, 1 + len(used))
        factors = [self._factor(name, factor_key) for name, factor_key in zip(used, factor_keys, strict=True)]
        # under vmap, a choice computes all that it chooses from: so the three blends are one, with numbers that are chosen
        numbers = jnp.stack(
            [
                jnp.stack([factor, *_BLENDED_WITH.get(name, (0.0, 0.0))])
                for name, factor in zip(used, factors, strict=True)
            ]
        )
        order = jax.random.permutation(order_key, len(used))
        turns = factors[used.index("hue")] if "hue" in used else None

        def adjusted(planes: Planes, chosen: jax.Array) -> tuple[Planes, None]:
            made = planes if used == ["hue"] else blended(planes, *numbers[chosen])
            if turns is not None:
                is_hue, turned = chosen == used.index("hue"), with_hue(planes, turns)
                made = tuple(jnp.where(is_hue, one, other) for one, other in zip(turned, made, strict=True))
            return made, None

        planes: Planes = (image[..., 0], image[..., 1], image[..., 2])
        planes, _ = jax.lax.scan(adjusted, planes, order)
        return jnp.stack(planes, axis=-1)

    def _factor(self, name: str, key: jax.Array) -> jax.Array:
        most = getattr(self, name)
        least, greatest = (-most, most) if name == "hue" else (max(0.0, 1.0 - most), 1.0 + most)
        return jax.random.uniform(key, (), np.float32, least, greatest)

    def _require(self, shape: tuple[int, ...], dtype: Any) -> None:
        if len(shape) != 3 or shape[-1] != 3 or not (dtype == np.uint8 or jnp.issubdtype(dtype, np.floating)):
            raise StageError(
                f"field {self.field!r} is {dtype}{list(shape)}; colors are changed of RGB pictures (height, width, 3), of "
                "uint8 or of floats from 0 to 1",
                ("field",),
            )


def blended(planes: Planes, factor: Any, of_mean: Any, of_grey: Any) -> Planes:
    """Return RGB of 0 to 1 blended with shares of the mean of its grey, and of its grey."""
    grey = sum(share * plane for share, plane in zip(_GREY, planes, strict=True))
    other = (1.0 - factor) * (of_mean * jnp.mean(grey) + of_grey * grey)
    return tuple(jnp.clip(factor * plane + other, 0.0, 1.0) for plane in planes)


_BLENDED_WITH: Final = {"brightness": (0.0, 0.0), "contrast": (1.0, 0.0), "saturation": (0.0, 1.0)}
"""Shares of the mean of grey, and of grey, that an adjustment blends a picture with; of black, none."""


def with_hue(planes: Planes, turns: Any) -> Planes:
    """Return RGB of 0 to 1 with its hue turned, by way of HSV."""
    red, green, blue = planes
    greatest = jnp.maximum(jnp.maximum(red, green), blue)
    spread = greatest - jnp.minimum(jnp.minimum(red, green), blue)
    per_spread = 1.0 / jnp.where(spread > 0, spread, 1.0)
    sixths = jnp.where(
        greatest == red,
        (green - blue) * per_spread,
        jnp.where(greatest == green, 2.0 + (blue - red) * per_spread, 4.0 + (red - green) * per_spread),
    )
    turned = sixths + 6.0 * turns
    # the channel n of HSV: value less the part of its spread that the hue is away from the channel's own sixth
    places = (_in_circle(turned + n) for n in (5.0, 3.0, 1.0))
    return tuple(greatest - spread * jnp.clip(jnp.minimum(at, 4.0 - at), 0.0, 1.0) for at in places)


def _in_circle(sixths: jax.Array) -> jax.Array:
    """Return places on the color circle in sixths of it, from 0 to 6; quicker than a remainder."""
    return sixths - 6.0 * jnp.floor(sixths * (1.0 / 6.0))
