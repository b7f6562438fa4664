"""The stage."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field

from datarax_core import Stage, StageError
from datarax_core.config import Name, Real
from datarax_core.records import Batch, ElementSpec
from datarax_core.stages import field_of, path_of, value_at, with_value_at


class AcmeFade(Stage):
    """Stage that fades each record of a field towards one value, by a part that is drawn for each record.

    A picture fades to black with ``to: 0``, a recording to silence. A part of 1 leaves a record as it is; parts are drawn
    uniformly from ``least`` to 1, by the key of the record, so that a record fades alike in a batch of any size.
    """

    type: Literal["acme_fade"] = "acme_fade"
    field: Name = Field(description="The field of floats, by dotted name.")
    least: Annotated[Real, Field(ge=0, lt=1)] = Field(
        default=0.5, description="The least part of a record that is left."
    )
    to: Real = Field(default=0.0, description="The value that records fade to.")

    stochastic: ClassVar[bool] = True

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - drawn by record
        """Return the stage itself, after a check of the field's dtype."""
        dtype = field_of(spec, self.field).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise StageError(
                f"field {self.field!r} is {dtype}, in which a part of a value has no place; make floats of it before, such as "
                f"by {{type: rescale, field: {self.field}, dtype: float32}}",
                ("field",),
            )
        return self

    def __call__(self, batch: Batch, keys: jax.Array) -> Batch:
        """Return the batch with the field faded, each record by its key."""
        path = path_of(batch, self.field, ("field",))
        faded = jax.vmap(self._faded)(jnp.asarray(value_at(batch, path)), keys)
        return with_value_at(batch, path, faded)

    def _faded(self, values: jax.Array, key: jax.Array) -> jax.Array:
        part = jax.random.uniform(key, (), values.dtype, self.least, 1.0)
        return self.to + part * (values - self.to)
