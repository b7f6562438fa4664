"""``rescale``: numbers multiplied and shifted, such as pixels to floats from 0 to 1."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field

from datarax_core.config import Name, Real
from datarax_core.errors import StageError
from datarax_core.spec import Batch, ElementSpec, field_of
from datarax_core.stages import Stage

from ._dtypes import FloatName, is_float, limits, on_device, require_real
from ._fields import changed


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("a scale of 0 makes all values one; give another, or leave the field out with a select stage")
    return value


Scale = Annotated[Real, AfterValidator(_not_zero), Field(json_schema_extra={"not": {"const": 0}})]


class Rescale(Stage):
    """A field as ``field * scale + offset``, in floats; gradients flow through it.

    It is computed in float32, or float64 where that is the dtype, and then rounded to the dtype. A dtype that has not the range
    of the field's own floats, or of what its integers become, is refused when the pipeline is built: nothing overflows
    but floats that ``scale`` takes there.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "rescale", "field": "image", "scale": 0.00392156862745098}]}
    )

    type: Literal["rescale"] = "rescale"
    field: Name = Field(description="The field, by dotted name.")
    scale: Scale | Annotated[tuple[Scale, ...], Field(min_length=1)] = Field(
        description="What it is multiplied by; a list has a number for each place on the last axis, such as each channel."
    )
    offset: Real | Annotated[tuple[Real, ...], Field(min_length=1)] = Field(
        default=0.0, description="What is added then; a list as with scale."
    )
    dtype: FloatName = Field(default="float32", description="What it becomes.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """The stage itself, held against the records."""
        struct = field_of(spec, self.field)
        self._require(struct.dtype, struct.shape)
        return self

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the field rescaled."""
        return changed(batch, self.field, self._rescaled)

    def _rescaled(self, array: Any) -> jax.Array:
        array = jnp.asarray(array)
        self._require(array.dtype, array.shape[1:])
        dtype = on_device(self.dtype)
        wide = _computed_in(dtype)
        scaled: jax.Array = array.astype(wide) * jnp.asarray(self.scale, wide) + jnp.asarray(self.offset, wide)
        return scaled.astype(dtype)

    def _require(self, dtype: Any, shape: tuple[int, ...]) -> None:
        require_real(self.field, dtype)
        to = on_device(self.dtype)
        numbers = {"scale": np.atleast_1d(self.scale), "offset": np.atleast_1d(self.offset)}
        for option, given in numbers.items():
            self._require_numbers(option, given, shape, to)
        highest = limits(to)[1]
        if is_float(dtype):
            if limits(dtype)[1] > highest:
                raise StageError(
                    f"field {self.field!r} is {dtype}, and {self.dtype} has a smaller range, up to {highest:g}; rescale to "
                    f"{dtype}, and cast that with lossy",
                    ("dtype",),
                )
            return
        ends = np.array(limits(dtype), np.float64)[:, None] * numbers["scale"] + numbers["offset"]
        if (largest := float(np.abs(ends).max())) > highest:
            raise StageError(
                f"field {self.field!r} is {dtype}, whose values become as large as {largest:g}, and {self.dtype} holds no more "
                f"than {highest:g}; choose a smaller scale or another dtype",
                ("dtype",),
            )

    def _require_numbers(self, option: str, given: np.ndarray, shape: tuple[int, ...], to: np.dtype[Any]) -> None:
        if isinstance(getattr(self, option), tuple) and shape[-1:] != given.shape:
            raise StageError(
                f"{given.size} numbers are given, and field {self.field!r} of shape {list(shape)} has "
                f"{shape[-1] if shape else 'no'} places on its last axis; give one number for each, or one for all",
                (option,),
            )
        with np.errstate(over="ignore", under="ignore"):
            kept = given.astype(_computed_in(to))
        for wanted, number in zip(given.tolist(), kept.tolist(), strict=True):
            if not math.isfinite(number) or (wanted and not number):
                raise StageError(
                    f"{wanted!r} becomes {number!r} in {_computed_in(to)}; write another number", (option,)
                )


def _computed_in(dtype: Any) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
