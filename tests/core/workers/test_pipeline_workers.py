"""A pipeline with worker processes serves the same stream in every route."""

import gc
import json
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_core import Pipeline, from_sequence

pytestmark = pytest.mark.usefixtures("threads_end")


@pytest.fixture(scope="module")
def sources() -> Any:
    """The module worker_sources, importable in this process and in the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "importable")
        import worker_sources  # noqa: PLC0415

        yield worker_sources


def ids(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["id"]).tolist() for batch in batches]


def test_workers_do_not_change_the_stream_in_any_route(sources: Any) -> None:
    def pipeline(workers: int, prefetch: int) -> Pipeline:
        stages = [lambda batch: {**batch, "double": batch["id"] * 2}]
        source = sources.Shuffled()
        return Pipeline(source=source, stages=stages, batch_size=8, num_epochs=2, workers=workers, prefetch=prefetch)

    expected = ids(pipeline(0, 0))
    read = pipeline(2, 3)
    assert "Each batch is read by 2 processes, a part each." in read.explain()
    batches = iter(read)
    served = [next(batches) for _ in range(5)]
    readers = {pid for batch in served for pid in np.asarray(batch["pid"]).tolist()}
    assert len(readers) == 2
    assert os.getpid() not in readers
    assert np.array_equal(served[0]["double"], served[0]["id"] * 2)

    state = json.loads(json.dumps(read.get_state()))  # with batches read ahead, and not served
    served.append(read.step())
    assert ids(served) + ids(batches) == expected
    read.set_state(state)
    assert np.asarray(read.scan(lambda batch: batch["id"], length=3)).tolist() == expected[5:8]
    rest = ids(read)
    assert rest == expected[8:]
    resumed = pipeline(0, 2)
    resumed.set_state(state)
    assert ids(resumed) == expected[5:]
    assert {pid for batch in pipeline(0, 0) for pid in np.asarray(batch["pid"]).tolist()} == {os.getpid()}


def test_an_error_in_a_worker_reaches_the_loop_and_workers_end_with_their_pipeline(sources: Any) -> None:
    pipeline = Pipeline(source=sources.Shuffled(fails=True), batch_size=20, workers=1)
    with pytest.raises(OSError, match="record 13 is unreadable") as caught:
        list(pipeline)
    assert any(
        note.startswith("while Shuffled 'shuffled' read the records at positions") for note in caught.value.__notes__
    )
    workers = pipeline._progress.workers
    assert workers is not None
    assert workers._processes is not None
    processes = [process.pid for process in workers._processes._processes]
    del pipeline, workers, caught
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in processes):  # the thread that read ahead ends first
        gc.collect()
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_workers_for_a_source_that_the_host_does_not_read_by_index_are_refused(make_source: Any, streams: Any) -> None:
    with pytest.raises(ValueError, match=r"^workers=2 read records for a source on the host, but .* is on the device$"):
        Pipeline(source=make_source(), batch_size=4, workers=2)
    with pytest.raises(ValueError, match=r"but .* is a stream, which only one can read$"):
        Pipeline(source=streams.Endless(), batch_size=4, workers=2)


@pytest.mark.parametrize("threads", [3, "auto"])
def test_workers_read_their_parts_by_threads_too(threads: Any) -> None:
    def stream(**options: Any) -> list[list[int]]:
        source = from_sequence([{"id": i} for i in range(100)], shuffle=True)
        with closing(Pipeline(source=source, batch_size=16, num_epochs=2, **options)) as pipeline:
            return [np.asarray(batch["id"]).tolist() for batch in pipeline]

    assert stream(workers=2, threads=threads) == stream(threads=1, prefetch=0)
