"""Processes of one run that talk to each other over gloo: launched by tests, begun in each, and their observations merged."""
# ruff: noqa: PLC0415 - JAX is imported once the number of devices is set

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HELD = "rows by the first of them"
SECONDS = 600  # for one launch, on a machine with much else to do


def launch(script: Path, counts: list[int], folder: Path, *importable: Path) -> None:
    """Run ``script PROCESS NUM_PROCESSES PORT FOLDER`` in each process of runs of so many processes, all at once.

    Scripts may import the modules that lie beside this one, and those in the folders ``importable``.
    """
    paths = os.pathsep.join(map(str, (Path(__file__).parent, *importable)))
    children = {name: child for count in counts for name, child in _processes(script, count, folder, paths)}
    try:
        for name, child in children.items():
            returned = child.wait(timeout=SECONDS)
            assert returned == 0, (folder / name).read_text(encoding="utf-8")
    finally:  # the others would wait for one that failed
        for child in children.values():
            child.kill()
            child.wait()


def _processes(script: Path, count: int, folder: Path, paths: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for process in range(count):
        name = f"log-{count}-{process}"
        with (folder / name).open("wb") as log:
            command = [sys.executable, "-W", "error", script, *map(str, (process, count, port, folder))]
            environment = os.environ | {"PYTHONPATH": paths}
            yield name, subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603 - ours


def begin(process: int, num_processes: int, port: int, devices: int) -> None:
    """Begin this process of a run, with its share of ``devices`` devices of a CPU."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices // num_processes}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if num_processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes, process, initialization_timeout=SECONDS)


def held(batch: Any) -> dict[str, Any]:
    """Return the rows of a batch on the devices of this process, by the number of the first row."""
    return {
        name: {HELD: {str(shard.index[0].start or 0): shard.data.tolist() for shard in leaf.addressable_shards}}
        for name, leaf in batch.items()
    }


def whole(parts: list[Any]) -> Any:
    """Merge the observations of processes: all rows of each batch, each row once, and values that are equal on all."""
    first = parts[0]
    if isinstance(first, dict) and HELD in first:
        rows = {int(start): values for part in parts for start, values in part[HELD].items()}
        return [row for _, values in sorted(rows.items()) for row in values]
    if isinstance(first, dict):
        assert all(part.keys() == first.keys() for part in parts)
        return {name: whole([part[name] for part in parts]) for name in first}
    if isinstance(first, list):
        assert len({len(part) for part in parts}) == 1
        return [whole(list(values)) for values in zip(*parts, strict=True)]
    assert all(part == first for part in parts)
    return first
