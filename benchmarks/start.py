"""Time to the first batch: of a whole process, of a first pipeline, which compiles, and of a second one, which does not."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from _measure import LEAST, Row, cost, cost_of, seconds
from flax import nnx

from datarax_core import Pipeline
from datarax_core.sources import Placement
from datarax_memory import MemorySource, MemorySourceConfig

SIZES = count(64)  # of batches: each first pipeline has one of its own, so that it finds no compiled program
TRACED: list[str] = []


def rows() -> list[Row]:
    """Measure a process against its imports; the second pipeline against the first, by route, which must trace nothing."""
    return [
        *_processes(),
        *(_row(placement, route) for placement in ("device", "host") for route in ("loop", "step", "scan")),
    ]


def _processes() -> list[Row]:
    """Measure processes from ``python`` to the moment at which a batch is there; what Python tidies up then is left out."""
    imports = _process("import jax, flax.nnx")
    return [
        cost(
            imports,
            _process(code),
            what=f"{what}, whole process: its imports of jax and flax",
            target=target,
            runs=LEAST,
        )
        for what, code, target in (
            ("first batch of a memory source, shuffled", FIRST, 1.25),
            ("the same by jit(take), without a pipeline", BARE, 1.25),
        )
    ]


FIRST = """
import numpy as np
from flax import nnx
from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig
data = {"x": np.ones((1000, 32), np.float32), "y": np.arange(1000, dtype=np.int32)}
source = MemorySource(MemorySourceConfig(shuffle=True), data, rngs=nnx.Rngs(0))
batch = next(iter(Pipeline(source=source, batch_size=64)))
batch["x"].block_until_ready()
"""

BARE = """
import jax, numpy as np
from flax import nnx
rngs = nnx.Rngs(0)
data = jax.device_put({"x": np.ones((1000, 32), np.float32), "y": np.arange(1000, dtype=np.int32)})
rows = np.random.default_rng(0).permutation(1000)[:64]
jax.block_until_ready(jax.jit(lambda data, rows: jax.tree.map(lambda x: x[rows], data))(data, rows))
"""


def _process(code: str) -> Callable[[], object]:
    """Return a function that runs a program; compiled modules are kept, as they are for everyone who has installed them."""
    command = [sys.executable, "-c", f"{code}\nimport os; os._exit(0)"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603 - ours


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
