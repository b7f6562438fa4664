"""Records read in worker processes: the same batches; errors with their place; no process, file or memory left over."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import SpecError, WorkerError
from datarax_core.workers.pool import Workers

HERE = Path(__file__).parents[1] / "importable"
ROWS = 32


@pytest.fixture(scope="module")
def worker_sources() -> Iterator[Any]:
    """The module worker_sources, importable in this process and in the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield import_module("worker_sources")
        sys.modules.pop("worker_sources")


@pytest.fixture(scope="module")
def source(worker_sources: Any) -> Any:
    return worker_sources.Records()


@pytest.fixture(scope="module")
def workers(source: Any) -> Iterator[Workers]:
    """Two processes that most tests share; a test may kill them, because the next batch starts new ones."""
    made = Workers(source, 2, batch_size=ROWS, ahead=2)
    yield made
    made.close()


def plain(batch: Any) -> Any:
    """Return a batch as lists, without the fields that differ between processes."""
    kept = {name: rows for name, rows in batch.items() if name not in ("pid", "platforms")}
    return jax.tree.map(lambda rows: (str(rows.dtype), rows.shape, rows.tolist()), kept)


def at(*indices: int) -> np.ndarray:
    return np.asarray(indices, np.int64)


def pids(workers: Workers) -> list[int]:
    assert workers._processes is not None
    return [process.pid for process in workers._processes._processes]


def are_gone(processes: list[int]) -> bool:
    """Return whether no process runs; waits as long as a process may take to see that its parent is gone."""
    deadline = time.monotonic() + 20
    while any(_runs(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.01)
    return True


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestBatches:
    @pytest.mark.parametrize(
        "indices",
        [range(ROWS), [7], [], [5, 5, 5, 2, 899, 0], [3, 1], np.random.default_rng(0).integers(0, 900, 31)],
        ids=["full", "one", "none", "repeated", "as many as workers", "random"],
    )
    def test_are_those_of_the_source(self, source: Any, workers: Workers, indices: Any) -> None:
        wanted = np.asarray(indices, np.int64)
        assert plain(workers.fetch(wanted)) == plain(source.fetch(wanted))

    def test_are_made_by_all_workers_which_see_no_accelerator(self, workers: Workers) -> None:
        before = os.environ.get("JAX_PLATFORMS")
        batch = workers.fetch(np.arange(ROWS))
        assert set(batch["pid"].tolist()) == set(pids(workers))
        assert set(batch["platforms"].tolist()) == {"cpu"}
        assert os.environ.get("JAX_PLATFORMS") == before

    def test_begun_ahead_can_be_taken_in_any_order_and_later_ones_do_not_change_them(
        self, source: Any, workers: Workers
    ) -> None:
        wanted = [np.arange(start, start + ROWS) for start in range(0, 10 * ROWS, ROWS)]
        begun = [workers.begin(indices) for indices in wanted]
        batches = [workers.result(pending) for pending in reversed(begun)]
        workers.fetch(at(*range(500, 500 + ROWS)))
        assert [plain(batch) for batch in reversed(batches)] == [plain(source.fetch(indices)) for indices in wanted]

    def test_start_where_a_device_takes_them_over_without_a_copy(self, workers: Workers) -> None:
        batch = workers.fetch(np.arange(5))
        numbers = [rows for rows in jax.tree.leaves(batch) if rows.nbytes and rows.dtype.kind not in "OUS"]
        assert [rows.ctypes.data % 64 for rows in numbers] == [0] * len(numbers)

    def test_can_be_asked_for_by_any_thread(self, source: Any, workers: Workers) -> None:
        found: dict[int, list[Any]] = {}

        def read(first: int) -> None:
            found[first] = [plain(workers.fetch(np.arange(first, first + n))) for n in range(1, 20)]

        threads = [threading.Thread(target=read, args=(first,)) for first in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {
            first: [plain(source.fetch(np.arange(first, first + n))) for n in range(1, 20)] for first in (0, 100, 200)
        }
        assert found == expected

    def test_larger_than_there_is_room_for_are_refused(self, workers: Workers) -> None:
        with pytest.raises(
            ValueError, match="33 records were asked for, and these workers have room for batches of 32"
        ):
            workers.begin(np.arange(ROWS + 1))

    def test_count_substituted_records_in_the_process_that_asked(
        self, worker_sources: Any, source: Any, workers: Workers
    ) -> None:
        source.reset_operation_stats()
        workers.fetch(at(1, worker_sources.SUBSTITUTED, 2, worker_sources.SUBSTITUTED))
        assert source.get_operation_stats()["skipped_count"] == 2


class TestAFailingSource:
    def test_fails_with_the_exception_of_the_worker(self, worker_sources: Any, source: Any, workers: Workers) -> None:
        begun = [workers.begin(at(1, 2)), workers.begin(at(3, worker_sources.FAILS)), workers.begin(at(4, 5))]
        with pytest.raises(ValueError, match="record 900 is torn") as caught:
            workers.result(begun[1])
        assert (type(caught.value), str(caught.value)) == (ValueError, "record 900 is torn")
        first, second = caught.value.__notes__
        assert first == "shard 3"
        assert second.startswith("in a worker process that was reading Records 'bound':\nOSError: short read")
        assert "worker_sources.py" in second
        assert second.endswith("ValueError: record 900 is torn\nshard 3")
        assert plain(workers.result(begun[0])) == plain(source.fetch(at(1, 2)))
        assert plain(workers.result(begun[2])) == plain(source.fetch(at(4, 5)))

    def test_fails_with_type_and_text_of_an_exception_that_does_not_pickle(
        self, worker_sources: Any, workers: Workers
    ) -> None:
        with pytest.raises(RuntimeError, match="StubbornError: no way") as caught:
            workers.fetch(at(worker_sources.FAILS_UNPICKLABLY))
        assert str(caught.value) == "StubbornError: no way"
        assert "in misbehave" in caught.value.__notes__[-1]

    def test_fails_if_its_records_differ_from_its_spec(self, worker_sources: Any, workers: Workers) -> None:
        with pytest.raises(
            SpecError, match=r"Records 'bound' gave a batch .* field 'day' \(datetime64\[D\]\[\]\) is missing"
        ):
            workers.fetch(at(worker_sources.INCOMPLETE))

    def test_fails_with_the_error_of_its_unpickling(self, worker_sources: Any) -> None:
        workers = Workers(worker_sources.Refusing(), 1, batch_size=4)
        with pytest.raises(FileNotFoundError, match="no /data/train-0001 on this machine") as caught:
            workers.fetch(at(1))
        assert caught.value.__notes__[-1].startswith("in a worker process that was unpickling Refusing 'bound'")
        workers.close()


class TestAProcessThatEnds:
    @pytest.mark.parametrize(
        ("how", "message"),
        [
            (
                "IS_KILLED",
                r"1 of 2 that reads Records 'bound' ended with exit code -9; .*: use fewer workers or smaller",
            ),
            (
                "EXITS",
                "1 of 2 that reads Records 'bound' ended with exit code 3; what it wrote to stderr says why; the next",
            ),
        ],
    )
    def test_is_an_error_and_new_processes_read_the_batches_begun_later(
        self, worker_sources: Any, source: Any, workers: Workers, how: str, message: str
    ) -> None:
        before = pids(workers)
        begun = [workers.begin(at(index, 2)) for index in (1, getattr(worker_sources, how), 3, 4, 5)]
        assert plain(workers.result(begun[0])) == plain(source.fetch(at(1, 2)))
        with pytest.raises(WorkerError, match=message):
            workers.result(begun[1])
        assert [plain(workers.result(pending)) for pending in begun[2:]] == [
            plain(source.fetch(at(index, 2))) for index in (3, 4, 5)
        ]
        assert are_gone(before)

    def test_before_it_is_ready_says_so(self, workers: Workers) -> None:
        workers.fetch(at(1))
        workers._end_processes()
        workers._started_processes()
        for process in pids(workers):
            os.kill(process, signal.SIGABRT)
        with pytest.raises(WorkerError, match="exit code -6 before it was ready; signal 6 may be a crash in a library"):
            workers.fetch(at(1))


class TestTheEnd:
    def test_leaves_no_process_no_file_and_no_batch(self, worker_sources: Any) -> None:
        gc.collect()
        files = len(list(Path("/proc/self/fd").iterdir()))
        workers = Workers(worker_sources.Records(), 2, batch_size=4)
        done = workers.begin(at(1))
        workers.result(done)
        pending, processes = workers.begin(at(1)), pids(workers)
        workers.close()
        workers.close()
        assert are_gone(processes)
        gc.collect()
        assert len(list(Path("/proc/self/fd").iterdir())) == files
        assert workers.result(done)["id"].tolist() == [(1 << 40) + 1]
        closed = "the workers that read Records 'bound' are closed; build new ones"
        with pytest.raises(RuntimeError, match=closed):
            workers.result(pending)
        with pytest.raises(RuntimeError, match=closed):
            workers.fetch(at(1))

    def test_comes_with_the_last_reference(self, worker_sources: Any) -> None:
        workers = Workers(worker_sources.Records(), 1, batch_size=4)
        processes = pids(workers)
        del workers
        gc.collect()
        assert are_gone(processes)

    def test_does_not_wait_for_a_source_that_hangs(self, worker_sources: Any) -> None:
        workers = Workers(worker_sources.Records(), 1, batch_size=4)
        workers.fetch(at(1))
        failures: list[BaseException] = []
        is_waiting = threading.Event()

        def wait() -> None:
            pending = workers.begin(at(worker_sources.HANGS))
            is_waiting.set()
            try:
                workers.result(pending)
            except RuntimeError as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert is_waiting.wait(60)
        workers.begin(at(1))  # does not wait for a reply
        workers.close()
        thread.join()
        assert "are closed" in str(failures[0])


class TestASourceThatCannotBeSent:
    def test_is_refused_with_the_attribute_that_does_not_pickle(self, worker_sources: Any) -> None:
        with pytest.raises(
            TypeError, match=r"its files\.reader, a generator, does not pickle .* __getstate__"
        ) as caught:
            Workers(worker_sources.Unsendable(), 1, batch_size=4)
        assert isinstance(caught.value.__cause__, TypeError | pickle.PicklingError)

    def test_is_refused_if_no_process_could_import_it(self, worker_sources: Any) -> None:
        class Local(worker_sources.Records):  # type: ignore[misc]
            pass

        with pytest.raises(TypeError, match="Local 'bound' cannot be sent to worker processes: it does not pickle"):
            Workers(Local(), 1, batch_size=4)

    def test_is_refused_if_the_host_does_not_read_it_by_index(self, make_device_source: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="DeviceRecords has its records on the device; read it with workers=0"):
            Workers(make_device_source(), 1, batch_size=4)

    @pytest.mark.parametrize("count", [0, -1, 1.5])
    def test_needs_at_least_one_worker(self, source: Any, count: Any) -> None:
        with pytest.raises((TypeError, ValueError), match="workers is"):
            Workers(source, count, batch_size=4)


def test_records_of_a_cacheable_source_are_kept_in_this_process_and_read_once(worker_sources: Any) -> None:
    source = worker_sources.Records(cacheable=True)
    workers = Workers(source, 1, batch_size=4)
    first = workers.fetch(at(1, 2, 1, 3))
    workers.close()
    assert plain(first) == plain(worker_sources.Records().fetch(at(1, 2, 1, 3)))
    assert plain(source.fetch(at(3, 2))) == plain(worker_sources.Records().fetch(at(3, 2)))
    assert source.fetch(at(3, 2))["pid"].tolist() == first["pid"].tolist()[:2]


# -- scripts: processes that start worker processes -----------------------------------------------------------------------

IMPORTS = """
import os, sys
sys.path.insert(0, {here!r})
import numpy as np
from worker_sources import Records, HANGS
from datarax_core.workers.pool import Workers
"""
OF_MAIN = """
class Mine(Records):
    pass
"""
READS = """
workers = Workers({source}(), 1, batch_size=4)
print(workers.fetch(np.arange(4))["image"].sum(), flush=True)
"""


def run(script: str, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-W", "error", *arguments],
        **({"input": script} | options),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def imports() -> str:
    return IMPORTS.format(here=str(HERE))


def test_a_script_without_a_guard_may_read_a_source_of_a_module_and_ends_cleanly(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(imports() + READS.format(source="Records"))
    done = run("", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "510\n", "")


def test_a_script_with_a_guard_may_define_the_source_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    guarded = "".join(f"    {line}\n" for line in READS.format(source="Mine").splitlines())
    script.write_text(f"{imports()}{OF_MAIN}if __name__ == '__main__':\n{guarded}")
    done = run("", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "510\n", "")


def test_a_script_that_defines_the_source_and_has_no_guard_gets_an_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(imports() + OF_MAIN + READS.format(source="Mine"))
    done = run("", script)
    assert (done.returncode, done.stdout) == (1, "")
    assert "RuntimeError: workers for Mine 'bound' are started in a worker process itself" in done.stderr
    assert "put what the script does under if __name__ == '__main__':" in done.stderr


def test_an_interactive_session_that_defines_the_source_gets_an_error() -> None:
    done = run(imports() + OF_MAIN + READS.format(source="Mine"), "-")
    assert done.returncode == 1
    assert (
        "TypeError: Mine 'bound' cannot be sent to worker processes: Mine is defined in an interactive" in done.stderr
    )


def test_an_interrupted_wait_loses_nothing_and_a_killed_process_leaves_no_other(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        imports()
        + """
import signal, threading
workers = Workers(Records(), 2, batch_size=4)
pending = workers.begin(np.arange(4))
try:
    threading.Timer(0.05, os.killpg, (0, signal.SIGINT)).start()
    while True:
        workers.fetch(np.arange(4))
except KeyboardInterrupt:
    print(workers.result(pending)["image"].sum(), workers.fetch(np.arange(4))["image"].sum())
hangs = workers.begin(np.asarray([HANGS, HANGS]))
print(*[process.pid for process in workers._processes._processes], flush=True)
workers.result(hangs)
"""
    )
    child = subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "510 510\n"
        processes = [int(process) for process in child.stdout.readline().split()]
        assert all(_runs(process) for process in processes)
        child.kill()
    assert len(processes) == 2
    assert are_gone(processes)
