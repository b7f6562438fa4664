"""``one_hot``: classes as rows of zeros with a one."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import ConfigDict, Field

from datarax_core.config import Count, Name
from datarax_core.errors import StageError
from datarax_core.spec import Batch, ElementSpec, field_of
from datarax_core.stages import Stage

from ._dtypes import FloatName, is_integer, on_device
from ._fields import changed


class OneHot(Stage):
    """A field of class numbers, from 0, as rows of zeros with a one in the place of the class, on a last axis of its own.

    A number that is none of the classes makes a row that is not a number throughout: compiled code cannot raise an error, and
    no loss hides that.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "one_hot", "field": "label", "classes": 10}]})

    type: Literal["one_hot"] = "one_hot"
    field: Name = Field(description="The field, by dotted name.")
    classes: Count = Field(description="How many classes there are.")
    dtype: FloatName = Field(default="float32", description="What the rows are of.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """The stage itself, held against the records."""
        self._require(field_of(spec, self.field).dtype)
        return self

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the classes as rows."""
        return changed(batch, self.field, self._rows)

    def _rows(self, labels: Any) -> jax.Array:
        labels = jnp.asarray(labels)
        self._require(labels.dtype)
        is_class = (labels >= 0) & (labels < self.classes)
        rows = jax.nn.one_hot(labels, self.classes, dtype=on_device(self.dtype))
        return jnp.where(is_class[..., None], rows, jnp.nan)

    def _require(self, dtype: Any) -> None:
        on_device(self.dtype)
        if not is_integer(dtype):
            raise StageError(f"field {self.field!r} is {dtype}; classes are integers from 0", ("field",))
