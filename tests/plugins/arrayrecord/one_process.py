"""One of the processes of ``test_processes.py``: ``python one_process.py PROCESS NUM_PROCESSES PORT FOLDER``.

Reads the files in the folder together with the other processes, and writes its results there as JSON.
"""
# ruff: noqa: PLC0415 - JAX is imported once the number of devices is set

import json
import os
import sys
from pathlib import Path
from typing import Any

SIZE, BEFORE = 8, 3


def main(process: int, num_processes: int, port: int, folder: Path) -> None:
    """Run a pipeline over the files, and write its results."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np
    from array_records import source_of
    from flax import nnx
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from datarax_core import Pipeline

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes, process, initialization_timeout=600)
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))

    def pipeline() -> Pipeline:
        source = source_of(str(folder / "x.array_record-?????-of-?????"), shuffle=True, rngs=nnx.Rngs(0))
        return Pipeline(source=source, batch_size=SIZE, num_epochs=2, prefetch=2, sharding=sharding)

    looped = pipeline()
    loop = iter(looped)
    seen: dict[str, Any] = {"loop": [_rows(next(loop)) for _ in range(BEFORE)], "state": looped.get_state()}
    seen["loop"] += [_rows(batch) for batch in loop]
    seen["scan"] = pipeline().scan(lambda batch: batch["id"].sum(), length=5).tolist()
    (folder / f"seen-{process}.json").write_text(json.dumps(seen), encoding="utf-8")


def _rows(batch: Any) -> dict[str, list[int]]:
    """Return the numbers of the records that the devices of this process hold, by the first row of each device."""
    return {str(shard.index[0].start or 0): shard.data.tolist() for shard in batch["id"].addressable_shards}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).with_name("importable")))
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
