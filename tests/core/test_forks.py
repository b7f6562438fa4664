"""Forks of a process that has read: they read by themselves, or are told that they cannot."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from forks import in_fork

from datarax_core import Pipeline, StructuralConfig
from datarax_core.background import Ahead
from datarax_core.sources import (
    DataSourceModule,
    FileTable,
    OpenFiles,
    StreamingSourceBase,
    from_sequence,
    require_file,
)
from datarax_core.workers import Workers
from datarax_memory import MemorySource, MemorySourceConfig

REFUSED = (
    r"^RuntimeError: a pipeline of process \d+ is used in a fork of it, \d+, where threads of the parent do not exist"
)


class Slow:
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Any:
        time.sleep(1e-3)
        return {"x": np.int32(index)}


def rows(placement: Any = "host") -> MemorySource:
    return MemorySource(MemorySourceConfig(placement=placement), {"x": np.arange(100, dtype=np.int32)})


def ids(batch: Any) -> list[int]:
    return np.asarray(batch["x"]).tolist()


@pytest.mark.parametrize(
    "make", [rows, lambda: rows("device"), lambda: from_sequence(Slow())], ids=["host", "device", "slow"]
)
def test_a_fork_that_goes_on_with_a_pipeline_is_told(make: Callable[[], DataSourceModule]) -> None:
    pipeline = Pipeline(source=make(), batch_size=10)
    loop = iter(pipeline)
    assert [ids(next(loop)) for _ in range(4)][3] == list(range(30, 40))
    for call in (lambda: next(loop), lambda: next(iter(pipeline)), pipeline.step, lambda: pipeline.scan(ids, length=1)):
        assert re.match(REFUSED, in_fork(call))
    assert "start processes by 'spawn' or 'forkserver'" in in_fork(pipeline.step)
    assert re.match(REFUSED, in_fork(pipeline.get_state))
    assert [ids(next(loop)) for _ in range(2)][1] == list(range(50, 60))
    pipeline.close()


@pytest.mark.parametrize("placement", ["host", "device"])
def test_a_fork_reads_data_in_memory(placement: str) -> None:
    source = rows(placement)
    source.get_batch(10)
    assert in_fork(lambda: ids(source.get_batch(10))) == list(range(10, 20))
    assert in_fork(lambda: [int(element["x"]) for element in source][:3]) == [10, 11, 12]
    assert ids(source.get_batch(10)) == list(range(10, 20))


def test_a_fork_leaves_workers_to_its_parent() -> None:
    source = from_sequence([{"x": np.int32(number)} for number in range(100)])
    workers = Workers(source, 1, batch_size=10)
    assert ids(workers.fetch(np.arange(10))) == list(range(10))
    pending = workers.begin(np.arange(10, 20))
    said = in_fork(lambda: ids(workers.fetch(np.arange(50, 60))))
    assert said.startswith("RuntimeError: the workers that read SequenceSource of process ")
    assert in_fork(workers.close) is None
    assert ids(workers.result(pending)) == list(range(10, 20))
    assert ids(workers.fetch(np.arange(20, 30))) == list(range(20, 30))
    workers.close()


class Lines(StreamingSourceBase):
    """Reads lines of a file through a buffer, whose position a fork shares."""

    def __init__(self, path: Path) -> None:
        super().__init__(StructuralConfig())
        self.path = str(path)

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - of the base class
        with Path(self.path).open("rb", buffering=0) as file:
            for number, line in enumerate(file):
                if number >= start:
                    yield {"x": np.int32(line)}


def test_a_fork_and_its_parent_go_on_with_a_stream(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("".join(f"{number}\n" for number in range(100)))
    source = Lines(tmp_path / "lines")
    source.get_batch(10)
    assert in_fork(lambda: ids(source.get_batch(10))) == list(range(10, 20))
    assert ids(source.get_batch(10)) == list(range(10, 20))
    source.close()


class Row:
    """Reads bytes of an open file by its position, which a fork shares."""

    def __init__(self, path: str) -> None:
        self.file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - of the pool

    def next(self) -> int:
        return self.file.read(1)[0]

    def close(self) -> None:
        self.file.close()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[OpenFiles[Row]]:
    path = str(tmp_path / "bytes")
    Path(path).write_bytes(bytes(range(100)))
    files = OpenFiles(FileTable.of([path], [100], [require_file(path)]), Row)
    yield files
    files.close()


def test_a_fork_opens_files_of_its_own(files: OpenFiles[Row]) -> None:
    assert [files.use(0, Row.next) for _ in range(3)] == [0, 1, 2]
    assert in_fork(lambda: [files.use(0, Row.next) for _ in range(3)]) == [0, 1, 2]
    assert files.use(0, Row.next) == 3


def test_a_fork_does_not_wait_for_locks_of_threads_that_it_lacks(files: OpenFiles[Row]) -> None:
    source = from_sequence(Slow())
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with files._lock, source._saved_work.reading:  # type: ignore[union-attr]
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert in_fork(lambda: [files.use(0, Row.next), ids(source.fetch(np.arange(3)))]) == [0, [0, 1, 2]]
    finally:
        release.set()
        thread.join()


def test_work_ahead_is_done_again_in_a_fork() -> None:
    ahead = Ahead(lambda number: 2 * number, name="test")
    for number in (1, 2, 3):
        ahead.request(number)
    assert ahead.take() == 2
    assert in_fork(lambda: [ahead.take(), ahead.take(), len(ahead)]) == [4, 6, 0]
    assert [ahead.take(), ahead.take()] == [4, 6]
    ahead.close()
