"""Cost of several processes: two processes of one pipeline against one process of half the batch, each on one core.

The one process has a twin on the other core, which shares nothing with it but the machine's memory, as the two do.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _measure import LEAST, Row, cost_of, paired

HALF, WIDTH, BATCHES, RUNS = 256, 3072, 200, 5


def rows() -> list[Row]:
    """Measure the time of a batch, for a host source and a device source."""
    return [_row(placement) for placement in ("host", "device")]


def _row(placement: str) -> Row:
    pairs = paired(lambda: _seconds(placement, 1), lambda: _seconds(placement, 2), LEAST)
    return cost_of(pairs, what=f"two processes against one of half the batch, {placement}, a batch", target=1.1)


def _seconds(placement: str, processes: int) -> float:
    """Return the seconds a batch of the slower of two processes: of one pipeline, or of one pipeline each."""
    with socket.socket() as held:
        held.bind(("localhost", 0))
        port = held.getsockname()[1]
    children = [
        subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, __file__, placement, str(index), str(processes), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parent)},
        )
        for index in range(2)
    ]
    outputs = [child.communicate(timeout=300)[0].decode() for child in children]
    return max(float(output.splitlines()[-1]) for output in outputs)  # Gloo prints before this script


def _child(placement: str, index: int, processes: int, port: int) -> None:
    """Loop over a pipeline whose global batch grows with the number of processes, and print seconds a batch."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})
    import jax
    import numpy as np
    from flax import nnx
    from jax.sharding import NamedSharding, PartitionSpec

    from datarax_core import Pipeline
    from datarax_memory import MemorySource, MemorySourceConfig

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, index)
    mesh = jax.make_mesh((processes,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    size = HALF * processes
    config = MemorySourceConfig(shuffle=True, placement=placement)  # type: ignore[arg-type]  # one of two
    data = {"x": np.ones((20_000, WIDTH), np.uint8)}
    pipeline = Pipeline(
        source=MemorySource(config, data, rngs=nnx.Rngs(0)),
        stages=[lambda batch: {"x": batch["x"].astype(np.float32) / 255}],
        batch_size=size,
        num_epochs=None,
        sharding=NamedSharding(mesh, PartitionSpec("data")),
    )
    batches = iter(pipeline)

    def run() -> float:
        began = time.perf_counter()
        for _ in range(BATCHES):
            batch = next(batches)
        jax.block_until_ready(batch)
        return (time.perf_counter() - began) / BATCHES

    run()
    print(statistics.median(run() for _ in range(RUNS)))


if __name__ == "__main__":
    _child(sys.argv[1], *map(int, sys.argv[2:]))
