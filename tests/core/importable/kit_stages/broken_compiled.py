"""Compiled stages that each break one promise of a stage."""

# ruff: noqa: ARG002, NPY002 - their methods take what the protocol says

import inspect
import random
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import BeforeValidator, ConfigDict, WithJsonSchema, field_serializer

from datarax_core import Stage
from datarax_core.config import Name, Real
from datarax_core.errors import StageError
from datarax_core.stages import field_of

ROWS = 11
RECORDS = {
    "x": np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32),
    "label": np.arange(ROWS, dtype=np.int32) % 4,
    "text": [f"text {row}" for row in range(ROWS)],
}


class Scale(Stage):
    """A right stage, from which the others derive."""

    type: Literal["kit_scale"] = "kit_scale"
    field: Name = "x"
    factor: Real = 2.0

    def build(self, spec: Any, rngs: nnx.Rngs) -> Callable[..., Any]:
        struct = field_of(spec, self.field)
        if not jnp.issubdtype(struct.dtype, jnp.floating) or len(struct.shape) != 1:
            raise StageError(
                f"field {self.field!r} is {struct.dtype}{list(struct.shape)}, not a vector of floats", ("field",)
            )
        return self.made(spec, rngs)

    def made(self, spec: Any, rngs: nnx.Rngs) -> Callable[..., Any]:
        return self

    def __call__(self, batch: Any, *keys: Any) -> Any:
        return {**batch, self.field: self.change(batch[self.field], *keys)}

    def change(self, x: Any, *keys: Any) -> Any:
        return x * self.factor


class Unbuildable(Scale):
    """Takes no vectors of three."""

    def made(self, spec: Any, rngs: nnx.Rngs) -> Any:
        raise TypeError("three are too many")


class Late(Scale):
    """Looks for its field at the first batch."""

    def build(self, spec: Any, rngs: nnx.Rngs) -> Any:
        return self.made(spec, rngs)


class Unnamed(Scale):
    """Says that something is wrong."""

    def build(self, spec: Any, rngs: nnx.Rngs) -> Any:
        try:
            return super().build(spec, rngs)
        except StageError:
            raise ValueError("cannot work on this") from None


class Branching(Scale):
    """Looks at a value."""

    def change(self, x: Any, *keys: Any) -> Any:
        return x * self.factor if x.sum() > 0 else x


class Numpy(Scale):
    """Computes with NumPy."""

    def change(self, x: Any, *keys: Any) -> Any:
        return np.asarray(x) * self.factor


class Halving(Scale):
    """Leaves out every second record."""

    def __call__(self, batch: Any, *keys: Any) -> Any:
        return {name: column[::2] for name, column in super().__call__(batch).items()}


class Doubling(Scale):
    """Scales twice."""

    def change(self, x: Any, *keys: Any) -> Any:
        return x * self.factor * self.factor


class LyingSpec(Scale):
    """Says that it makes integers."""

    on_host: ClassVar[Any] = "either"

    def element_spec(self, spec: Any) -> Any:
        return {**spec, self.field: jax.ShapeDtypeStruct(spec[self.field].shape, np.dtype(np.int32))}


class LyingHostFields(Scale):
    """Renames text, but not its spec."""

    def host_fields(self, fields: Any) -> Any:
        return {"name" if isinstance(field, np.ndarray) else name: field for name, field in fields.items()}


class InPlace(Scale):
    """Changes the dict that it is called with."""

    def __call__(self, batch: Any, *keys: Any) -> Any:
        batch[self.field] = self.change(batch[self.field])
        return batch


class DrawsFromPython(Scale):
    """Draws from the random state of Python."""

    def change(self, x: Any, *keys: Any) -> Any:
        return x * self.factor + random.random()  # noqa: S311 - what is wrong with it


class DrawsWithoutUse(Scale):
    """Moves the random state of NumPy."""

    def change(self, x: Any, *keys: Any) -> Any:
        np.random.random()
        return x * self.factor


class Counting(Scale):
    """Counts its calls."""

    calls: ClassVar[list[int]] = []

    def change(self, x: Any, *keys: Any) -> Any:
        self.calls.append(1)
        return x * self.factor + len(self.calls)


class WrongIfTraced(Scale):
    """Does something else while it is traced."""

    def change(self, x: Any, *keys: Any) -> Any:
        return x * self.factor + isinstance(x, jax.core.Tracer)


class Growing(Scale):
    """Builds a module that keeps all batches it has seen."""

    def made(self, spec: Any, rngs: nnx.Rngs) -> Any:
        return History(self.field, self.factor)


class History(nnx.Module):
    def __init__(self, field: str, factor: float) -> None:
        self.field, self.factor, self.seen = field, factor, nnx.Variable(jnp.zeros((1, 3)))

    def __call__(self, batch: Any) -> Any:
        self.seen.set_value(jnp.concatenate([self.seen[...], batch[self.field][:1]]))
        return {**batch, self.field: batch[self.field] * self.factor}


class Centered(Scale):
    """Subtracts the mean of the batch."""

    def change(self, x: Any, *keys: Any) -> Any:
        return self.factor * (x - x.mean(axis=0))


class FirstKey(Scale):
    """Draws for all records by the key of the first one."""

    stochastic: ClassVar[bool] = True

    def change(self, x: Any, *keys: Any) -> Any:
        return x * self.factor + jax.random.normal(keys[0][0], x.shape)


class InPairs(Scale):
    """Works on pairs of records."""

    def change(self, x: Any, *keys: Any) -> Any:
        wide = jnp.concatenate([x, x[: len(x) % 2]]) if len(x) > 2 else x
        return wide.reshape(-1, 2, 3)[: len(x)].reshape(-1, 3)[: len(x)] * self.factor


class Undrawn(Scale):
    """Draws nothing."""

    stochastic: ClassVar[bool] = True


class SumsAll(Scale):
    """Sums whatever numbers a record has, the mask among them."""

    def __call__(self, batch: Any, *keys: Any) -> Any:
        numbers = [column for column in batch.values() if column.ndim == 1]
        return {**super().__call__(batch), "sum": sum(numbers, start=jnp.zeros(len(batch[self.field])))}


class ModestAboutMixing(Scale):
    """Is declared to mix records."""


class WrongInScans(Scale):
    """Does something else in a scan."""

    def change(self, x: Any, *keys: Any) -> Any:
        is_scanned = any(frame.filename.endswith("pipeline/scan.py") for frame in inspect.stack())
        return x * self.factor + is_scanned


class NoCopy(Scale):
    """Builds a function that does not pickle."""

    def made(self, spec: Any, rngs: nnx.Rngs) -> Any:
        return lambda batch: self(batch)  # noqa: PLW0108 - a function that does not pickle


class Forgetful(Scale):
    """Builds an object whose pickle forgets the factor."""

    def made(self, spec: Any, rngs: nnx.Rngs) -> Any:
        return Forgetting(self.field, self.factor)


class Forgetting:
    def __init__(self, field: str, factor: float) -> None:
        self.field, self.factor = field, factor

    def __reduce__(self) -> Any:
        return Forgetting, (self.field, 1.0)

    def __call__(self, batch: Any) -> Any:
        return {**batch, self.field: batch[self.field] * self.factor}


class HalvesHostFields(Scale):
    """Leaves out every second text."""

    def host_fields(self, fields: Any) -> Any:
        return {name: field[::2] if isinstance(field, np.ndarray) else field for name, field in fields.items()}


class TurnsHostFieldsAround(Scale):
    """Puts texts at other records."""

    def host_fields(self, fields: Any) -> Any:
        return {name: field[::-1] if isinstance(field, np.ndarray) else field for name, field in fields.items()}


class UsesWhatItLeavesOut(Scale):
    """Leaves out the labels before they are narrowed, and adds them."""

    def before_narrowing(self, fields: Any) -> Any:
        return {self.field: fields[self.field]}

    def __call__(self, batch: Any, *keys: Any) -> Any:
        return {self.field: batch[self.field] * self.factor + batch["label"][:, None]}


class Stopped(Scale):
    """Builds a module whose parameters get no gradients."""

    def made(self, spec: Any, rngs: nnx.Rngs) -> Any:
        return Linear(self.field, self.factor)


class Linear(nnx.Module):
    def __init__(self, field: str, factor: float) -> None:
        self.field, self.weight = field, nnx.Param(jnp.full(3, factor))

    def __call__(self, batch: Any) -> Any:
        return {**batch, self.field: batch[self.field] * jax.lax.stop_gradient(self.weight[...])}


class NotFinite(Scale):
    """Takes the root of a square, whose gradient is not finite at 0."""

    def change(self, x: Any, *keys: Any) -> Any:
        return self.factor * jnp.sqrt(jnp.square(x - x[:, :1]))


class Ignoring(Scale):
    """Ignores an option."""

    offset: Real = 0.0


class Forgiving(Scale):
    """Takes options that it does not have."""

    model_config = ConfigDict(extra="ignore")


class Lenient(Scale):
    """Takes a number as text."""

    factor: Annotated[float, BeforeValidator(float)] = 2.0


class Changeable(Scale):
    """Can be changed."""

    model_config = ConfigDict(frozen=False)


class Rounded(Scale):
    """Writes a number that it reads as another."""

    @field_serializer("factor")
    def _as_half(self, value: float) -> float:
        return value / 2


class Undescribed(Scale):
    """Describes a number as text."""

    factor: Annotated[Real, WithJsonSchema({"type": "string"})] = 2.0
