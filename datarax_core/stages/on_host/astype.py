"""A stage on the host that changes the dtype of a field: `AsType`."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field

from datarax_core.config.base import Flag, Name
from datarax_core.errors import StageError
from datarax_core.records.dtypes import fits_device, holds, is_float, limits
from datarax_core.records.nearest import nearest
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.registry.stages import Stage
from datarax_core.stages.field_paths import leaf_of, struct_of
from datarax_core.stages.numeric import NumberName

from .columns import described, put, with_values


class AsType(Stage):
    """Stage on the host that casts a field, dense or of varying length, to another dtype and keeps each value.

    The rules are those of ``cast``: a dtype that does not hold every value of the field's dtype is refused when the pipeline is
    built, and ``lossy`` takes the nearest values, the ends of the range for values beyond it. Here, before fields are narrowed
    for a device, they and their results have all 64 bits.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "astype", "field": "tokens", "dtype": "uint16", "lossy": True}]}
    )

    type: Literal["astype"] = "astype"
    field: Name = Field(description="The field, by dotted name.")
    dtype: NumberName = Field(description="The dtype of the result.")
    lossy: Flag = Field(default=False, description="Take the nearest value where the dtype does not hold a value.")

    on_host: ClassVar[bool] = True

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field's dtype."""
        self.element_spec(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with the field in its new dtype.

        Raises:
            StageError: There is no such field, or the dtype does not hold all its values.
        """
        struct = struct_of(spec, self.field)
        self._require(struct)
        return put(spec, self.field, None, jax.ShapeDtypeStruct(struct.shape, self._dtype))

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the field cast."""
        return put(batch, self.field, None, with_values(leaf_of(batch, self.field), self._cast))

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(jnp.dtype(self.dtype))

    def _cast(self, values: np.ndarray) -> np.ndarray:
        if values.dtype == self._dtype:
            return values
        native = values.dtype.newbyteorder("=")
        if holds(self._dtype, native):
            return values.astype(self._dtype)
        return nearest(values.astype(native, copy=False), self._dtype)

    def _require(self, struct: jax.ShapeDtypeStruct) -> None:
        if not fits_device(struct.dtype):
            raise StageError(
                f"field {self.field!r} is {described(struct)}, which has no numbers to cast; lookup makes numbers of text that "
                "names classes, and tokenize_bytes of other text",
                ("field",),
            )
        dtype = struct.dtype.newbyteorder("=")
        if jnp.issubdtype(dtype, np.complexfloating):
            raise StageError(
                f"field {self.field!r} is {dtype}; take real numbers of it in a stage of your own", ("field",)
            )
        if self.lossy or holds(self._dtype, dtype):
            return
        least, greatest = limits(dtype)
        values = "fractions" if is_float(dtype) else f"integers from {least:g} to {greatest:g}"
        raise StageError(
            f"field {self.field!r} is {dtype}, and {self.dtype} does not hold all its values, {values}; choose a dtype "
            "that does, or set lossy to take the nearest ones",
            ("dtype",),
        )
