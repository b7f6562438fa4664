"""Two processes read the same files: each its rows, together the batches of one process; one process resumes their state."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_records import source_of, write_files
from flax import nnx

from datarax_core import Pipeline

ONE_PROCESS = Path(__file__).with_name("one_process.py")
SIZE, BEFORE, PROCESSES = 8, 3, 2  # the constants of one_process.py
SECONDS = 600


@pytest.fixture(scope="module")
def folder(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """Return the folder of the files and of the results of each process."""
    return made_once("array-record-processes", _launch)


def _launch(folder: Path) -> None:
    write_files(folder)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for process in range(PROCESSES):
        with (folder / f"log-{process}").open("wb") as log:
            command = [sys.executable, "-W", "error", ONE_PROCESS, *map(str, (process, PROCESSES, port, folder))]
            children.append(subprocess.Popen(command, stdout=log, stderr=log))  # noqa: S603 - ours
    try:
        for process, child in enumerate(children):
            assert child.wait(timeout=SECONDS) == 0, (folder / f"log-{process}").read_text(encoding="utf-8")
    finally:  # else a process would wait for one that failed
        for child in children:
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"seen-{process}.json").read_text(encoding="utf-8")) for process in range(PROCESSES)]


def alone(folder: Path) -> Pipeline:
    source = source_of(str(folder / "x.array_record-*"), shuffle=True, rngs=nnx.Rngs(0))
    return Pipeline(source=source, batch_size=SIZE, num_epochs=2)


def test_two_processes_together_serve_the_batches_of_one(seen: list[dict[str, Any]], folder: Path) -> None:
    together = [
        [row for _, rows in sorted({int(k): v for part in parts for k, v in part.items()}.items()) for row in rows]
        for parts in zip(*(process["loop"] for process in seen), strict=True)
    ]
    assert together == [np.asarray(batch["id"]).tolist() for batch in alone(folder)]
    assert [process["scan"] for process in seen] == [[sum(batch) for batch in together[:5]]] * PROCESSES


def test_each_process_reads_its_rows_only(seen: list[dict[str, Any]]) -> None:
    for process, part in enumerate(seen):
        assert {tuple(map(int, batch)) for batch in part["loop"]} == {(4 * process, 4 * process + 2)}


def test_a_state_of_two_processes_is_resumed_in_one(seen: list[dict[str, Any]], folder: Path) -> None:
    resumed = alone(folder)
    resumed.set_state(seen[0]["state"])
    expected = [np.asarray(batch["id"]).tolist() for batch in alone(folder)]
    assert [np.asarray(batch["id"]).tolist() for batch in resumed] == expected[BEFORE:]
