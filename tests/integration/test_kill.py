"""``kill -9`` in the middle of training: a new process goes on with exactly the next record.

Run as a script, this file is the training process: ``python test_kill.py PLACEMENT FOLDER``.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH, EPOCHS, BATCH_SIZE = 1009, 3, 16  # a prime: every position but the first and the last is inside of an epoch
IN_FIRST_EPOCH, IN_SECOND_EPOCH = 20, 60  # batches that are seen before a kill
TICK = "." * 4095  # with its newline it fills the pipe: a process never is far ahead of the one that kills it


def pipeline_over(placement: str) -> Pipeline:
    config = MemorySourceConfig(shuffle=True, placement=placement)
    source = MemorySource(config, {"id": np.arange(LENGTH, dtype=np.int32)}, rngs=nnx.Rngs(7))
    return Pipeline(source=source, batch_size=BATCH_SIZE, num_epochs=EPOCHS, rngs=nnx.Rngs(7), prefetch=4)


def train(placement: str, folder: Path) -> None:
    """Resume the state if there is one; write the records of each batch to the log, then the state."""
    pipeline, state = pipeline_over(placement), folder / "state.json"
    if state.exists():
        pipeline.set_state(json.loads(state.read_text(encoding="utf-8")))
    with (folder / "log").open("a", encoding="utf-8") as log:
        for batch in pipeline:
            log.write("".join(f"{record}\n" for record in batch["id"].tolist()))
            log.flush()
            print(TICK, flush=True)  # noqa: T201 - the sign that is waited for; the kill meets the saving of the state
            unfinished = state.with_suffix(".new")
            unfinished.write_text(json.dumps(pipeline.get_state()), encoding="utf-8")
            unfinished.replace(state)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_loop_that_is_killed_twice_loses_and_repeats_nothing(placement: str, tmp_path: Path) -> None:
    whole = pipeline_over(placement)
    assert whole.source.access == placement
    uninterrupted = [record for batch in whole for record in batch["id"].tolist()]

    first = _killed_after(IN_FIRST_EPOCH, placement, tmp_path)
    assert (IN_FIRST_EPOCH - 1) * BATCH_SIZE <= first < LENGTH
    second = _killed_after(IN_SECOND_EPOCH, placement, tmp_path)
    assert LENGTH < second < 2 * LENGTH
    with _training(placement, tmp_path) as child:
        child.communicate(timeout=120)
    assert child.returncode == 0

    served = _records(tmp_path)
    assert served == uninterrupted
    for start in range(0, EPOCHS * LENGTH, LENGTH):
        assert sorted(served[start : start + LENGTH]) == list(range(LENGTH))


def _killed_after(batches: int, placement: str, folder: Path) -> int:
    """Return the position of the state that a killed training process leaves; the log is cut there."""
    with _training(placement, folder) as child:
        assert child.stdout is not None
        for _ in range(batches):
            assert child.stdout.readline().strip() == TICK
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL
    position: int = json.loads((folder / "state.json").read_text(encoding="utf-8"))["position"]
    noted = _records(folder)
    assert position <= len(noted) <= position + BATCH_SIZE  # one batch may have been served and not yet saved
    (folder / "log").write_text("".join(f"{record}\n" for record in noted[:position]), encoding="utf-8")
    return position


def _records(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines()]


def _training(placement: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - this file
        [sys.executable, "-W", "error", __file__, placement, folder],
        stdout=subprocess.PIPE,
        pipesize=4096,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))
