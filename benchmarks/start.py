"""Time to the first batch: of a first pipeline, which compiles, and of a second, equal one, which does not."""

from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from _measure import LEAST, Row, cost_of, seconds
from flax import nnx

from datarax_core import Pipeline
from datarax_core.sources import Placement
from datarax_memory import MemorySource, MemorySourceConfig

SIZES = count(64)  # of batches: each first pipeline has one of its own, so that it finds no compiled program
TRACED: list[str] = []


def rows() -> list[Row]:
    """Measure the second pipeline against the first, by route, and check that nothing was traced again."""
    return [_row(placement, route) for placement in ("device", "host") for route in ("loop", "step", "scan")]


class _Scale(nnx.Module):
    """Stage as users write it: a module with parameters, created anew for each pipeline."""

    def __init__(self) -> None:
        self.scale = nnx.Param(jnp.ones(32))

    def __call__(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        TRACED.append("stage")
        return {"x": jnp.tanh(batch["x"] * self.scale)}


def _row(placement: Placement, route: str) -> Row:
    pairs = [_pair(placement, route) for _ in range(LEAST)]
    return cost_of(pairs, what=f"first batch of a second pipeline, {placement}, {route}", target=0.2)


def _pair(placement: Placement, route: str) -> tuple[float, float]:
    """Return the seconds of a first pipeline and of a second one, which cannot change places."""
    size = next(SIZES)
    first = seconds(lambda: _first_batch(placement, route, size))
    traced = len(TRACED)
    second = seconds(lambda: _first_batch(placement, route, size))
    if len(TRACED) > traced:
        raise AssertionError(f"the second pipeline traced its stage again ({route})")
    return first, second


def _first_batch(placement: Placement, route: str, size: int) -> None:
    data = {"x": np.ones((1000, 32), np.float32)}
    source = MemorySource(MemorySourceConfig(shuffle=True, placement=placement), data, rngs=nnx.Rngs(0))
    pipeline = Pipeline(source=source, stages=[_Scale()], batch_size=size)
    if route == "loop":
        jax.block_until_ready(next(iter(pipeline)))
    elif route == "step":
        jax.block_until_ready(pipeline.step())
    else:
        jax.block_until_ready(pipeline.scan(_total, length=3))


def _total(batch: dict[str, jax.Array]) -> jax.Array:
    return batch["x"].sum()
