"""Costs that do not grow with the data: of step(), eager and under nnx.jit, and of a shuffled batch."""

import statistics
from collections.abc import Callable
from itertools import islice

import jax
import numpy as np
from _measure import Row, seconds
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, SourceConfig
from datarax_memory import MemorySource, MemorySourceConfig

BATCH, ROW = 64, 512  # 32 KiB a batch, so that the step is measured, not the memory
MIB = 2**20
CALLS, RUNS = 200, 7


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
    cost = _cost_of_each(calls)
    return [_row(f"{what}, {size} MiB of data against 1 MiB", cost[1], cost[size]) for size in (16, 256)]


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


class _Numbers(DataSourceModule):
    """Source of any number of records; each record is its own index."""

    def __init__(self, length: int) -> None:
        super().__init__(SourceConfig(type="numbers", stochastic=True, stream_name="shuffle"), rngs=nnx.Rngs(0))
        self.length = length

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((), np.dtype(np.int32))

    def get_records(self, indices: np.ndarray) -> np.ndarray:
        return indices.astype(np.int32)


def _order_rows() -> list[Row]:
    """Measure a loop over batches of 256 record indices, by the host route, of 10^3 to 10^9 records."""
    calls = {}
    for power in range(3, 10):
        batches = iter(Pipeline(source=_Numbers(10**power), batch_size=256, num_epochs=None))
        calls[power] = lambda batches=batches: list(islice(batches, 8))
    cost = _cost_of_each(calls)
    return [
        _row(f"shuffled batch of 256 of 10^{power} records against 10^3", cost[3] / 8, cost[power] / 8)
        for power in range(4, 10)
    ]


def _cost_of_each(calls: dict[int, Callable[[], object]]) -> dict[int, float]:
    """Return the median seconds of a call; the sizes alternate, so that a slow moment of the machine affects all of them."""
    for call in calls.values():
        call()
    times: dict[int, list[float]] = {size: [] for size in calls}
    for _ in range(RUNS):
        for size, call in calls.items():
            times[size].append(seconds(lambda call=call: [call() for _ in range(CALLS)]) / CALLS)
    return {size: statistics.median(values) for size, values in times.items()}


def _row(what: str, reference: float, ours: float) -> Row:
    return Row(what, _micros(reference), _micros(ours), ours / reference, target=1.25, bound="at most")


def _micros(cost: float) -> str:
    return f"{cost * 1e6:.0f} us"
