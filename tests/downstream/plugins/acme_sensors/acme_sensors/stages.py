"""Stages for readings of sensors."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from datarax_core import Stage
from datarax_core.config import Count, Name, Real
from datarax_core.spec import Batch, ElementSpec, field_of
from flax import nnx
from pydantic import Field


class Standardize(Stage):
    """Subtracts a mean from a field, and divides it by a scale that can be trained."""

    type: Literal["acme_standardize"] = "acme_standardize"
    field: Name = Field(description="The field of readings.")
    mean: Real = 0.0

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> "Scaled":
        field_of(spec, self.field)  # says which fields there are, if this one is missing
        return Scaled(self.field, self.mean)


class Scaled(nnx.Module):
    """What `Standardize` runs."""

    def __init__(self, field: str, mean: float) -> None:
        self.field, self.mean = field, mean
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, batch: Batch) -> Batch:
        return {**batch, self.field: (batch[self.field] - self.mean) / self.scale[...]}


class Jitter(Stage):
    """Adds noise of its own to each record."""

    type: Literal["acme_jitter"] = "acme_jitter"
    field: Name
    times: Count = 1
    stochastic: ClassVar = True
    takes_record_indices: ClassVar = True

    def __call__(self, batch: Batch, keys: jax.Array, indices: jax.Array) -> Batch:  # type: ignore[override]
        noise = jax.vmap(lambda key: jax.random.normal(key))(keys)
        return {**batch, self.field: batch[self.field] + self.times * noise[:, None], "index": indices}


class Redact(Stage):
    """Leaves out the names of sensors, which ride beside the batch as text."""

    type: Literal["acme_redact"] = "acme_redact"

    def __call__(self, batch: Batch) -> Batch:
        return batch

    def beside(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name != "sensor"}
