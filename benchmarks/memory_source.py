"""Speed of a shuffled epoch from memory, in a Python loop and in one scan, against NumPy's own gather."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
from _measure import Row, against
from flax import nnx

from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig

RECORDS, BATCH = 50_000, 256


def shuffled_pipeline(data: dict[str, np.ndarray]) -> Pipeline:
    """Return a shuffled pipeline over ``data`` that serves full batches only."""
    source = MemorySource(MemorySourceConfig(shuffle=True), data, rngs=nnx.Rngs(0))
    return Pipeline(source=source, batch_size=BATCH, drop_last=True)


def rows() -> list[Row]:
    """Measure the loop and the scan."""
    rng = np.random.default_rng(0)
    images, ids = rng.integers(0, 255, (RECORDS, 32, 32, 3), dtype=np.uint8), np.arange(RECORDS, dtype=np.int32)
    permutation, batches = rng.permutation(RECORDS), RECORDS // BATCH
    pipeline = shuffled_pipeline({"image": images, "id": ids})

    def numpy_loop() -> None:
        for i in range(batches):
            chosen = permutation[i * BATCH : (i + 1) * BATCH]
            _ = {"image": images[chosen], "id": ids[chosen]}

    def numpy_sum() -> None:
        for i in range(batches):
            chosen = permutation[i * BATCH : (i + 1) * BATCH]
            _ = images[chosen].sum(dtype=np.int64) + ids[chosen].sum()

    def total(batch: dict[str, jax.Array]) -> jax.Array:
        return batch["image"].astype(jnp.int32).sum() + batch["id"].sum()

    def loop() -> None:
        jax.block_until_ready(deque(pipeline, maxlen=1))

    def scan() -> None:
        jax.block_until_ready(pipeline.scan(total, length=batches))

    served = batches * BATCH
    return [
        against(numpy_loop, loop, records=served, what="shuffled Python loop, batches of 256 x 3 KB", target=1.0),
        against(numpy_sum, scan, records=served, what="shuffled epoch in one scan, fully reduced", target=2.0),
    ]
