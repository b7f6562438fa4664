"""Reading ahead: how well it hides a host source, and the time that a pipeline adds to a bare loop."""

import time
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Row, cost
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, SourceConfig

BATCH, BATCHES, RUNS = 64, 100, 9


def rows() -> list[Row]:
    """Measure a loop against the larger of source and step time, and against a bare loop over the same calls."""
    return [_hidden(0.002), _hidden(0.005), _overhead()]


class _Slow(DataSourceModule):
    """Source of 1 KiB records; reading a batch waits for a given time without using the CPU, as for a disk."""

    def __init__(self, wait: float) -> None:
        super().__init__(SourceConfig(type="slow", stochastic=True, stream_name="shuffle"), rngs=nnx.Rngs(0))
        self.wait = wait

    def __len__(self) -> int:
        return BATCH * BATCHES

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"x": jax.ShapeDtypeStruct((256,), np.dtype(np.float32))}

    def get_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        if self.wait:
            time.sleep(self.wait)
        return {"x": np.broadcast_to(indices[:, None].astype(np.float32), (len(indices), 256)).copy()}


def _hidden(wait: float) -> Row:
    pipeline = Pipeline(source=_Slow(wait), batch_size=BATCH)

    def loop() -> None:
        for _ in pipeline:
            time.sleep(wait)  # the step: as long as the source, without using the CPU, as on an accelerator

    order = np.arange(BATCH * BATCHES).reshape(BATCHES, BATCH)

    def alone() -> None:  # the larger of the two: waits as long as the step, and makes the batches
        for indices in order:
            pipeline.source.get_records(indices)

    what = f"loop, source and step of {wait * 1e3:.0f} ms each, prefetch=2"
    return cost(alone, loop, what=what, target=1.15, calls=BATCHES, runs=RUNS)


def _overhead() -> Row:
    source = _Slow(0)
    work = jax.jit(lambda batch: {"x": jnp.tanh(batch["x"]) @ jnp.ones((256, 256))})
    pipeline = Pipeline(
        source=source, stages=[lambda b: {"x": jnp.tanh(b["x"]) @ jnp.ones((256, 256))}], batch_size=BATCH
    )
    order = np.asarray(source.record_indices_at(0, len(source), source.order_key_data()))

    def bare() -> None:
        for start in range(0, len(order), BATCH):
            out = work(jax.device_put(source.get_records(order[start : start + BATCH])))
        jax.block_until_ready(out)

    def loop() -> None:
        jax.block_until_ready(deque(pipeline, maxlen=1))

    what = "pipeline over a bare loop of the same calls"
    return cost(bare, loop, what=what, target=1.1, calls=BATCHES, runs=RUNS)
