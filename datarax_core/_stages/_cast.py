"""``cast``: a field in another dtype."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import ConfigDict, Field

from datarax_core.config import Flag, Name
from datarax_core.errors import StageError
from datarax_core.spec import Batch, ElementSpec, field_of
from datarax_core.stages import Stage

from ._dtypes import NumberName, holds, is_float, is_integer, limits, on_device, require_real
from ._fields import changed


class Cast(Stage):
    """A field in another dtype, each value unchanged.

    A dtype that does not hold every value of the field's own is refused when the pipeline is built: an integer is never
    wrapped around, nor a fraction cut off. With ``lossy``, a value that it does not hold becomes the nearest one that it does
    (of two that are equally near, the even one; what is out of range, the end of the range; infinity stays one in a float;
    not a number becomes 0 in an integer).
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "cast", "field": "label", "dtype": "int32"}]})

    type: Literal["cast"] = "cast"
    field: Name = Field(description="The field, by dotted name.")
    dtype: NumberName = Field(description="What it becomes.")
    lossy: Flag = Field(default=False, description="Take the nearest value where the dtype does not hold a value.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """The stage itself, held against the records."""
        self._require(field_of(spec, self.field))
        return self

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the field cast."""
        return changed(batch, self.field, self._cast)

    def _cast(self, array: Any) -> jax.Array:
        array = jnp.asarray(array)
        self._require(array)
        dtype = on_device(self.dtype)
        return array.astype(dtype) if holds(dtype, array.dtype) else _nearest(array, dtype)

    def _require(self, field: Any) -> None:
        require_real(self.field, field.dtype)
        if self.lossy or holds(on_device(self.dtype), field.dtype):
            return
        least, greatest = limits(field.dtype)
        values = "fractions" if is_float(field.dtype) else f"integers from {least:g} to {greatest:g}"
        raise StageError(
            f"field {self.field!r} is {field.dtype}, and {self.dtype} does not hold all its values, {values}; choose a dtype "
            "that does, or set lossy to take the nearest ones",
            ("dtype",),
        )


def _nearest(array: jax.Array, dtype: Any) -> jax.Array:
    (least, greatest), (lowest, highest) = limits(array.dtype), limits(dtype)
    if not is_float(array.dtype):
        return jnp.clip(array, max(int(lowest), int(least)), min(int(highest), int(greatest))).astype(dtype)
    if is_integer(dtype):
        rounded = jnp.round(array)
        above, below = rounded >= float(highest), rounded <= float(lowest)
        inside = jnp.where(above | below | jnp.isnan(rounded), 0, rounded).astype(dtype)
        return jnp.where(above, jnp.asarray(highest, dtype), jnp.where(below, jnp.asarray(lowest, dtype), inside))
    bounded = jnp.clip(array, max(lowest, least), min(highest, greatest))
    return jnp.where(jnp.isinf(array), array, bounded).astype(dtype)
