"""Script of one process of ``test_views_on_processes.py``: ``python one_process.py PROCESS NUM_PROCESSES PORT FOLDER``.

It has ``DEVICES // NUM_PROCESSES`` devices of a CPU, serves nested views together with the others, and leaves what its devices
hold in the folder as JSON. The state of the run of four processes is what runs of fewer go on from.
"""
# ruff: noqa: PLC0415 - JAX is imported once the number of devices is set

import json
import sys
from pathlib import Path
from typing import Any

from launched import begin, held

DEVICES, SIZE, BEFORE = 4, 4, 3
SEEDS = (1, 5, 9, 17, 19, 25, 26, 30, 35, 41, 42, 47, 54, 57)
BUCKETED = (7, 13, 20, 28)
CASES = [(seed, seed in BUCKETED) for seed in (*SEEDS, *BUCKETED)]
"""Seeds of views nested up to three deep, and whether a view of buckets is on top."""

WHOLE = 4
"""The number of processes whose states the others go on from."""


def main(process: int, num_processes: int, port: int, folder: Path) -> None:
    """Serve all cases in this process, and write the observations to a file."""
    begin(process, num_processes, port, DEVICES)
    seen = {str(number): _look(number, num_processes, process, folder) for number in range(len(CASES))}
    (folder / f"seen-{num_processes}-{process}.json").write_text(json.dumps(seen), encoding="utf-8")


def _look(number: int, num_processes: int, process: int, folder: Path) -> dict[str, Any]:
    """Return the batches of one run, and those of a run that goes on from the state of four processes."""
    state = folder / f"state-{number}.json"
    one, made = _pipeline(number)
    loop = iter(one)
    batches = [held(next(loop)) for _ in range(BEFORE)]
    if num_processes == WHOLE and process == 0:
        state.write_text(json.dumps(one.get_state()), encoding="utf-8")
    batches += [held(batch) for batch in loop]
    resumed: list[Any] = []
    if num_processes != WHOLE:
        again, _ = _pipeline(number)
        again.set_state(json.loads(state.read_text(encoding="utf-8")))
        resumed = [held(batch) for batch in again]
    return {"made": made, "batches": batches, "resumed": resumed}


def _pipeline(number: int) -> tuple[Any, str]:
    import jax
    import numpy as np
    from flax import nnx
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from nested_views import BOUNDS, nested_views

    from datarax_core import Pad, Pipeline

    seed, bucketed = CASES[number]
    nested = nested_views(seed, 1 + seed % 3, bucketed=bucketed, remainder="drop")
    pads = [Pad(field="tokens", length=BOUNDS[-1])] if nested.has_text else []
    pipeline = Pipeline(
        source=nested.source,
        stages=[*pads, _with_bits],
        batch_size=None if bucketed else SIZE,
        num_epochs=2,
        drop_last=not bucketed,
        rngs=nnx.Rngs(0),
        sharding=NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data")),
    )
    return pipeline, nested.made


def _with_bits(batch: Any, keys: Any) -> Any:
    import jax

    return {**batch, "bits": jax.vmap(lambda key: jax.random.bits(key, (), "uint32"))(keys)}


_with_bits.stochastic = True  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
