"""The same batches over the devices of a mesh, and read by worker processes."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

SCRIPT = """
    import jax
    import numpy as np
    from flax import nnx
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from datarax_core import Pipeline
    from datarax_memory import MemorySource, MemorySourceConfig
    from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode


    def memory(number, length, placement):
        config = MemorySourceConfig(shuffle=True, placement=placement)
        return MemorySource(config, {"x": np.arange(length, dtype=np.int32) + 1000 * number}, rngs=nnx.Rngs(number))


    def ids_of(batches):
        return np.concatenate([np.asarray(batch["x"]) for batch in batches]).tolist()


    if __name__ == "__main__":
        sharding = NamedSharding(Mesh(np.asarray(jax.devices()), ("data",)), PartitionSpec("data"))
        stages = [{"from": 0, "weights": [0.9, 0.1]}, {"from": 50, "to": 170, "ramp": [0.2, 0.8]}]
        for placement, weights in (("device", (0.7, 0.3)), ("device", stages), ("host", stages)):
            config = MixDataSourcesConfig(num_sources=2, weights=weights)
            mix = MixDataSourcesNode(config, [memory(0, 20, placement), memory(1, 300, "device")], rngs=nnx.Rngs(0))
            assert mix.access == placement
            expected = ids_of(Pipeline(source=mix, batch_size=32))
            over = Pipeline(source=mix, batch_size=32, sharding=sharding)
            assert ids_of(over) == expected
            over.reset()
            assert over.scan(lambda batch: batch["x"], length=10).ravel().tolist() == expected
            over.reset()
            assert nnx.jit(lambda pipeline: pipeline.step()["x"])(over).tolist() == expected[:32]
            if placement == "host":
                assert ids_of(Pipeline(source=mix, batch_size=32, workers=2)) == expected
        print(len(jax.devices()), "devices agree")
"""


def test_a_mesh_and_workers_serve_the_same_batches(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(dedent(SCRIPT), encoding="utf-8")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    run = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout == "2 devices agree\n", run.stderr
