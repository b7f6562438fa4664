"""Speed of a mixture: against NumPy's own gather, against one memory source, and as the number of children grows."""

import statistics
from collections import deque
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Row, against, row, seconds
from flax import nnx

from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

RECORDS, BATCH, BLOCK = 50_000, 256, 65_536
BATCHES = RECORDS // BATCH
SERVED = BATCHES * BATCH


def child(images: np.ndarray, ids: np.ndarray, rows: slice) -> MemorySource:
    """Return a shuffled memory source over some of the records."""
    return MemorySource(MemorySourceConfig(shuffle=True), {"image": images[rows], "id": ids[rows]}, rngs=nnx.Rngs(0))


def mixture(children: Sequence[MemorySource], weights: Sequence[float]) -> MixDataSourcesNode:
    """Return a mixture of the sources."""
    config = MixDataSourcesConfig(num_sources=len(children), weights=tuple(weights))
    return MixDataSourcesNode(config, children, rngs=nnx.Rngs(0))


def epoch(source: MemorySource | MixDataSourcesNode) -> Pipeline:
    """Return a pipeline that serves the source in full batches."""
    return Pipeline(source=source, batch_size=BATCH, drop_last=True)


def loop(pipeline: Pipeline) -> object:
    """Serve one epoch in a Python loop."""
    return jax.block_until_ready(deque(pipeline, maxlen=1))


def scan(pipeline: Pipeline) -> object:
    """Serve one epoch in one program, each batch fully reduced."""
    return jax.block_until_ready(pipeline.scan(_total, length=BATCHES))


def rows() -> list[Row]:
    """Measure a mixture against its targets."""
    rng = np.random.default_rng(0)
    images, ids = rng.integers(0, 255, (RECORDS, 32, 32, 3), dtype=np.uint8), np.arange(RECORDS, dtype=np.int32)
    permutation = rng.permutation(RECORDS)

    def split(count: int) -> list[MemorySource]:
        size = RECORDS // count
        return [child(images, ids, slice(i * size, (i + 1) * size)) for i in range(count)]

    def numpy_loop() -> None:
        for i in range(BATCHES):
            chosen = permutation[i * BATCH : (i + 1) * BATCH]
            _ = {"image": images[chosen], "id": ids[chosen]}

    whole = epoch(child(images, ids, slice(None)))
    one = epoch(mixture(split(1), [1]))
    two = epoch(mixture(split(2), [0.7, 0.3]))
    sixteen = epoch(mixture(split(16), range(1, 17)))
    return [
        against(numpy_loop, lambda: loop(two), records=SERVED, what="loop, 2 children: NumPy", target=0.9),
        against(numpy_loop, lambda: loop(sixteen), records=SERVED, what="loop, 16 children: NumPy", target=0.8),
        against(
            lambda: scan(whole), lambda: scan(two), records=SERVED, what="scan, 2 children: one source", target=0.8
        ),
        against(lambda: loop(two), lambda: loop(sixteen), records=SERVED, what="loop, 16 children: 2", target=1 / 1.8),
        against(
            lambda: loop(whole), lambda: loop(one), records=SERVED, what="loop, 1 child: the child", target=1 / 1.1
        ),
        *_schedules(),
    ]


def _schedules() -> list[Row]:
    """Measure the schedule, from positions to (child, position in it), against its target rates."""
    found = []
    for what, weights in {"0.7 to 0.3": [0.7, 0.3], "10^-6": [1e-6, 1 - 1e-6], "16 children": range(1, 17)}.items():
        timeline = mixture([child(np.zeros((10, 1)), np.arange(10), slice(None)) for _ in weights], weights).timeline
        compiled = jax.jit(timeline.traced_at, static_argnums=1)
        found.append(_rate(f"schedule in NumPy, {what}", 20, lambda start, of=timeline: of.at(start, BLOCK)))
        found.append(_rate(f"schedule in jit, {what}", 50, lambda start, of=compiled: of(start, BLOCK)))
    return found


def _rate(what: str, millions: float, work: Callable[[int], object]) -> Row:
    jax.block_until_ready(work(0))
    times = [seconds(lambda start=start: jax.block_until_ready(work(start))) for start in range(0, 50 * BLOCK, BLOCK)]
    rates = [BLOCK / taken / 1e6 for taken in times]
    texts = f"{millions} M rec/s", f"{statistics.median(rates):.0f} M rec/s"
    return row(what, [rate / millions for rate in rates], 1.0, "at least", texts)


def _total(batch: dict[str, jax.Array]) -> jax.Array:
    return batch["image"].astype(jnp.int32).sum() + batch["id"].sum()
