"""Memory at 512 MiB of data, and the cost of imports: each in a process of its own."""

import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from _measure import Row, limited, resident_mib

MIB = 512


def rows() -> list[Row]:
    """Measure memory, then imports."""
    return [*_memory_rows(), *_import_rows()]


def _memory_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), np.ones((MIB * 256, 4096), np.uint8))
        used = {case: _in_process(case, folder) for case in ("host", "device", "npy", "second", "traced")}
    texts = {
        "host": ("array in memory, placement host", 1.1),
        "device": ("array in memory, placed on the device besides", 2.1),
        "npy": (".npy file, mapped; the CPU device uses the map", 1.1),
        "second": ("a second pipeline over the placed source", 2.1),
        "traced": ("step() traced by nnx.jit besides", 2.15),
    }
    return [
        Row(f"memory: {what}", f"data {MIB} MiB", f"{used[case]:.0f} MiB", used[case] / MIB, target, "at most")
        for case, (what, target) in texts.items()
    ]


def _in_process(case: str, folder: str) -> float:
    out = subprocess.run([sys.executable, __file__, case, folder], capture_output=True, text=True, check=True)  # noqa: S603
    return float(json.loads(out.stdout))


def _measure_case(case: str, folder: str) -> float:
    """Print the MiB that data, source, pipeline and an epoch add to the imports and a warmed-up JAX."""
    from flax import nnx

    from datarax_core import Pipeline
    from datarax_memory import MemorySource, MemorySourceConfig

    def pipeline_of(source: MemorySource) -> Pipeline:
        return Pipeline(source=source, batch_size=256)

    small = MemorySource(MemorySourceConfig(), {"x": np.ones((512, 4096), np.uint8)})
    deque_all(pipeline_of(small))
    before = resident_mib()
    if case == "npy":
        source = MemorySource(MemorySourceConfig(path=folder, shuffle=True), rngs=nnx.Rngs(0))
    else:
        placement = "host" if case == "host" else "device"
        data = {"x": np.ones((MIB * 256, 4096), np.uint8)}
        source = MemorySource(MemorySourceConfig(shuffle=True, placement=placement), data, rngs=nnx.Rngs(0))
    pipeline = pipeline_of(source)
    deque_all(pipeline)
    if case == "second":
        deque_all(pipeline_of(source))
    if case == "traced":
        step = nnx.jit(lambda p: p.step())
        for _ in range(10):
            step(pipeline)
    return resident_mib() - before


def deque_all(batches: Iterable[object]) -> None:
    """Iterate to the end, and drop every batch."""
    deque(batches, maxlen=0)


def _import_rows() -> list[Row]:
    drx = str(Path(sys.executable).with_name("drx"))
    commands = {
        "import datarax_core": ([sys.executable, "-c", "from datarax_core import SourceRegistry, load_config"], 0.35),
        "drx sources": ([drx, "sources"], 0.5),
    }
    return [_process(what, command, limit) for what, (command, limit) in commands.items()]


def _process(what: str, command: list[str], limit: float) -> Row:
    run = lambda: subprocess.run(command, check=True, capture_output=True)  # noqa: E731, S603
    run()
    return limited(run, limit, what=f"{what}, whole process, of its limit")


if __name__ == "__main__":
    print(json.dumps(_measure_case(*sys.argv[1:])))
