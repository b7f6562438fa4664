"""Open files: bounded in number, shared by threads but not by processes, and closed at the end."""

import copy
import gc
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from record_files import ids, in_child, record, source_of, write, write_numbers

from datarax_core import Pipeline


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return write_numbers(tmp_path, [40] * 12)


def open_below(folder: Path) -> int:
    """Return how many descriptors of this process are files in the folder."""
    gc.collect()
    return sum(path.is_relative_to(folder) for path in opened())


def opened() -> list[Path]:
    """Return the files that this process has open."""
    descriptors = [each for each in Path("/proc/self/fd").iterdir() if each.exists()]  # that of the listing is gone
    return [each.readlink() for each in descriptors]


def test_files_are_opened_when_they_are_read(tmp_path: Path, files: list[str]) -> None:
    source = source_of(files)
    assert len(source) == 480
    assert open_below(tmp_path) == 0
    source.get_batch_at(0, 5)
    assert open_below(tmp_path) == 1
    source.get_batch_at(38, 4)
    assert open_below(tmp_path) == 2


@pytest.mark.parametrize("limit", [1, 5, 12, 100])
def test_no_more_files_stay_open_than_the_config_says(tmp_path: Path, files: list[str], limit: int) -> None:
    source = source_of(files, max_open_files=limit)
    rows = np.random.default_rng(0).permutation(480)
    for begin in range(0, 480, 60):
        assert ids(source.get_records(rows[begin : begin + 60])) == rows[begin : begin + 60].tolist()
        assert open_below(tmp_path) <= limit
    assert open_below(tmp_path) == min(limit, 12)


def test_the_file_unused_for_longest_is_closed_first(files: list[str]) -> None:
    source = source_of(files, max_open_files=2)
    for row in (0, 40, 1, 80):  # of the files 0, 1, 0, 2
        source[row]
    names = {path.name for path in opened()}
    assert {"part-00.array_record", "part-02.array_record"} <= names
    assert "part-01.array_record" not in names


def test_close_and_read_again(tmp_path: Path, files: list[str]) -> None:
    source = source_of(files)
    source.get_records(np.arange(480))
    source.close()
    assert open_below(tmp_path) == 0
    assert ids(source.get_records([3, 100])) == [3, 100]
    source.close()
    source.close()
    with source as entered:
        assert entered is source
        source.get_records(np.arange(480))
    assert open_below(tmp_path) == 0
    with pytest.raises(IndexError, match="record 480 is out of range"), source:
        source.get_records([1, 480])
    assert open_below(tmp_path) == 0


def test_nothing_stays_open_of_a_source_that_is_dropped(tmp_path: Path, files: list[str]) -> None:
    source = source_of(files)
    pipeline = Pipeline(source=source, batch_size=100)
    for batch in pipeline:
        assert len(batch["id"])
        break
    twin = source.clone()
    twin.get_records([5])
    del source, pipeline, twin, batch
    deadline = time.monotonic() + 20
    while open_below(tmp_path) and time.monotonic() < deadline:  # until the background thread of the loop ends
        threading.Event().wait(0.01)
    assert open_below(tmp_path) == 0


def test_copies_share_open_files_but_not_positions(tmp_path: Path, files: list[str]) -> None:
    source = source_of(files, shuffle=True, rngs=nnx.Rngs(0))
    source.get_batch(7)
    for twin in (source.copy(), source.clone()):
        twin.get_records(np.arange(480))
        assert open_below(tmp_path) == 12
        twin.close()
        assert open_below(tmp_path) == 0
    clone = source.clone()
    assert ids(clone.get_batch(7)) == ids(source.get_batch(7))
    assert ids(source.copy().get_batch(7)) == ids(source.get_batch_at(0, 7, source.order_key_data()))


def test_reading_many_files_from_front_to_back_keeps_no_records_in_memory(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.array_record", [bytes(4000)] * 200, "group_size:1") for name in range(20)]
    source = source_of(files, decoder=None)
    for start in range(0, 4000, 30):  # batches end in the middle of files
        source.get_batch_at(start, 30)
    idle = [reader for readers in source._file_set.records.files._idle.values() for reader in readers]
    assert len(idle) == 20
    assert sum(len(reader._ahead[1]) for reader in idle) == 0


def test_reading_ahead_is_bounded_by_the_size_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "zeros.array_record", [bytes(1 << 20)] * 100, "group_size:1")
    assert Path(path).stat().st_size < 1 << 18
    source = source_of(path, decoder=None)
    for start in range(0, 64, 16):
        assert source.get_batch_at(start, 16) == [bytes(1 << 20)] * 16
    ((reader,),) = source._file_set.records.files._idle.values()
    assert sum(map(len, reader._ahead[1])) <= 16 << 20


def test_too_many_open_files_is_not_reported_as_damage(tmp_path: Path) -> None:
    """Idle readers are closed to make room; if there is still none, the error says so."""
    files = write_numbers(tmp_path, [3] * 40)
    said = in_child(
        """
        import os, resource, sys
        import numpy as np
        from record_files import ids, source_of

        source, other = source_of(sys.argv[1]), source_of(sys.argv[1])
        other.get_records(np.arange(60))
        used = len(os.listdir("/proc/self/fd"))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
        assert ids(source.get_records(np.arange(120))) == list(range(120))
        source.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            source.get_records([0])
        except Exception as error:
            print(type(error).__name__, error)
        """,
        str(tmp_path),
    )
    assert "OSError [Errno 24] too many open files; lower max_open_files, or raise the limit (ulimit -n)" in said
    assert files[0] in said


# -- threads --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["group_size:1", "group_size:1,uncompressed"])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_several_threads_read_one_source_at_once(tmp_path: Path, options: str, limit: int) -> None:
    files = write_numbers(tmp_path, [150, 0, 90, 300, 1, 59], options)
    source = source_of(files, max_open_files=limit)
    wrong: list[Any] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        walk = 0
        for attempt in range(40):
            way = attempt % 4
            rows = np.arange(walk, walk + 20) if way < 2 else rng.integers(0, 600, rng.integers(1, 200))
            walk = (walk + 20) % 500 if way < 2 else walk
            if way == 3:
                source.close()
            try:
                if (got := ids(source.get_records(rows))) != rows.tolist():
                    wrong.append((rows, got))
            except Exception as error:  # noqa: BLE001 - any error fails the test
                wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)
    assert open_below(tmp_path) <= limit


# -- processes ------------------------------------------------------------------------------------------------------------


def test_a_pickle_opens_the_files_anew(tmp_path: Path, files: list[str]) -> None:
    source = source_of(files, shuffle=True, rngs=nnx.Rngs(3))
    source.get_batch(11)
    for twin in (pickle.loads(pickle.dumps(source)), copy.deepcopy(source)):  # noqa: S301 - its own
        source.close()
        assert open_below(tmp_path) == 0
        assert ids(twin.get_batch(11)) == ids(source.get_batch_at(11, 11, source.order_key_data()))
        assert twin.get_state()["fingerprint"] == source.get_state()["fingerprint"]
        twin.close()
    assert len(pickle.dumps(source)) < 20_000


def test_worker_processes_read_the_same(files: list[str]) -> None:
    def pipeline(workers: int) -> Pipeline:
        source = source_of(files, shuffle=True, rngs=nnx.Rngs(3))
        source.get_records(np.arange(200))  # with files open when the processes start
        return Pipeline(source=source, batch_size=50, num_epochs=2, workers=workers)

    expected = [ids(batch) for batch in pipeline(0)]
    read = pipeline(2)
    batches = iter(read)
    served = [ids(next(batches)) for _ in range(4)]
    state = read.get_state()
    assert served == expected[:4]
    batches.close()
    resumed = pipeline(0)
    resumed.set_state(state)
    assert [ids(batch) for batch in resumed] == expected[4:]
    threads_end()


def threads_end() -> None:
    """Wait until the background threads of closed loops have ended."""
    deadline = time.monotonic() + 20
    while threading.active_count() > 1 and time.monotonic() < deadline:
        threading.Event().wait(0.01)


FORKED = """
    import os, pickle, signal, sys, warnings
    import numpy as np
    from record_files import ids, source_of

    warnings.simplefilter("ignore")  # warnings of Python and JAX about forks
    source = source_of(sys.argv[1])
    rows = np.random.default_rng(0).integers(0, 480, 300)
    source.get_records(rows)
    source.get_records(np.arange(200))
    pickled = pickle.dumps(source)

    def forget():
        globals().pop("source")

    for attempt in sys.argv[2:]:
        child = os.fork()
        if not child:
            signal.alarm(30)  # a child that hangs ends by it
            try:
                print(eval(attempt), flush=True)
            except Exception as error:
                print(type(error).__name__, error, flush=True)
            sys.exit(0)  # with the normal exit of the interpreter
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"the child that was to do {attempt} ended with {status}"
        assert ids(source.get_records(rows)) == rows.tolist()
"""


def test_reading_in_a_forked_process_is_an_error_with_advice(tmp_path: Path, files: list[str]) -> None:
    assert files
    said = in_child(
        FORKED,
        str(tmp_path),
        "source.get_records([0])",
        "source[0]",
        "next(iter(source))",
        "source.copy().get_records([0])",
        "source.clone().get_records([0])",
    )
    lines = said.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.startswith("RuntimeError this source was built in process ")
        assert "is used in a fork of it, " in line
        assert (
            "start processes by 'spawn' or 'forkserver' (of a PyTorch DataLoader: multiprocessing_context='spawn')"
            in line
        )


def test_a_forked_process_may_build_unpickle_close_and_drop_sources(tmp_path: Path, files: list[str]) -> None:
    assert files
    said = in_child(
        FORKED,
        str(tmp_path),
        "ids(pickle.loads(pickled).get_records(rows)) == rows.tolist()",
        "ids(source_of(sys.argv[1]).get_records(rows)) == rows.tolist()",
        "source.close()",
        "len(source)",
        "forget()",
    )
    assert said.splitlines() == ["True", "True", "None", "480", "None"]


# -- compiled code --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["loop", "step", "scan", "traced"])
def read_by(request: pytest.FixtureRequest) -> Callable[[Any, int], list[int]]:
    """Return a function that reads the first records of a source by one route."""

    def read(source: Any, count: int) -> list[int]:
        pipeline = Pipeline(source=source, batch_size=10, num_epochs=None)
        if request.param == "loop":
            return [number for _, batch in zip(range(count // 10), pipeline, strict=False) for number in ids(batch)]
        if request.param == "step":
            return [number for _ in range(count // 10) for number in ids(pipeline.step())]
        if request.param == "scan":
            return np.asarray(pipeline.scan(lambda batch: batch["id"], length=count // 10)).ravel().tolist()
        compiled = jax.jit(lambda start: source.get_batch_at(start, 10, source.order_key_data()))
        return [number for start in range(0, count, 10) for number in ids(compiled(start))]

    return read


@pytest.mark.parametrize("order", ["sequential", "shuffle", "shuffle_files"])
def test_every_route_serves_the_order_of_the_source(
    files: list[str], read_by: Callable[[Any, int], list[int]], order: str
) -> None:
    flags = {} if order == "sequential" else {order: True}
    source = source_of(files, max_open_files=3, rngs=nnx.Rngs(1), **flags)
    expected = np.asarray(source.record_indices_at(0, 500, source.order_key_data())).tolist()
    assert read_by(source, 500) == expected


def test_records_of_any_size_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.array_record", [b"", b"\0", record(3), b"x" * 200_000, b""], "group_size:1")
    assert list(source_of(path, decoder=None).get_batch_at(0, 5)) == [b"", b"\0", record(3), b"x" * 200_000, b""]
