"""Costs that do not grow with the data: of step(), eager and under nnx.jit, and of a shuffled batch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice

import jax
import numpy as np
from _measure import LEAST, Row, cost_of, in_turn, timed
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, SourceConfig
from datarax_memory import MemorySource, MemorySourceConfig

BATCH, ROW = 64, 512  # 32 KiB a batch, so that the step is measured, not the memory
MIB = 2**20
CALLS, RUNS = 200, LEAST


def rows() -> list[Row]:
    """Measure each size against the smallest."""
    return [
        *_growth("step()", _step),
        *_growth("step() under nnx.jit", _traced_step),
        *_growth("scan() of ten steps", _scan),
        *_order_rows(),
    ]


def _growth(what: str, make: Callable[[Pipeline], Callable[[], object]]) -> list[Row]:
    calls = {size: make(_pipeline(size * MIB)) for size in (1, 16, 256)}
    rows = _growth_of(calls)
    return [replace(row, what=f"{what}, {size} MiB of data against 1 MiB") for size, row in rows.items()]


def _pipeline(nbytes: int) -> Pipeline:
    data = {"x": np.ones((nbytes // ROW, ROW), np.uint8)}
    source = MemorySource(MemorySourceConfig(shuffle=True), data, rngs=nnx.Rngs(0))
    return Pipeline(source=source, batch_size=BATCH)


def _step(pipeline: Pipeline) -> Callable[[], object]:
    return lambda: jax.block_until_ready(pipeline.step())


def _traced_step(pipeline: Pipeline) -> Callable[[], object]:
    step = nnx.jit(lambda p: p.step())
    return lambda: jax.block_until_ready(step(pipeline))


def _scan(pipeline: Pipeline) -> Callable[[], object]:
    return lambda: jax.block_until_ready(pipeline.scan(_first_of, length=10))


def _first_of(batch: dict[str, jax.Array]) -> jax.Array:
    return batch["x"][0, 0]


class Numbers(DataSourceModule):
    """Source of any number of records; each is its own index, and reading one costs nothing."""

    def __init__(self, length: int) -> None:
        super().__init__(SourceConfig(type="numbers", stochastic=True, stream_name="shuffle"), rngs=nnx.Rngs(0))
        self.length = length

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> jax.ShapeDtypeStruct:
        """Return the spec of a number."""
        return jax.ShapeDtypeStruct((), np.dtype(np.int32))

    def get_records(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices."""
        return indices.astype(np.int32)


def _order_rows() -> list[Row]:
    """Measure a loop over batches of 256 record indices, by the host route, of 10^3 to 10^9 records."""
    calls = {}
    for power in range(3, 10):
        batches = iter(Pipeline(source=Numbers(10**power), batch_size=256, num_epochs=None))
        calls[power] = lambda batches=batches: list(islice(batches, 8))
    rows = _growth_of(calls, per=8)
    return [
        replace(row, what=f"shuffled batch of 256 of 10^{power} records against 10^3") for power, row in rows.items()
    ]


def _growth_of(calls: Mapping[int, Callable[[], object]], *, per: int = 1) -> dict[int, Row]:
    """Return a row without a name for each size but the smallest, which is the reference; the sizes alternate."""
    for call in calls.values():
        call()
    taken = in_turn(
        {size: timed(lambda call=call: [call() for _ in range(CALLS)]) for size, call in calls.items()}, RUNS
    )
    smallest = next(iter(calls))
    return {
        size: cost_of(list(zip(taken[smallest], taken[size], strict=True)), what="", target=1.25, calls=CALLS * per)
        for size in list(calls)[1:]
    }
