"""Reading ahead: the stream is the same, no thread is left, no batch is lost, and errors reach the loop that caused them."""

import gc
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, SourceConfig
from datarax_core.background import Ahead
from datarax_core.pipeline import loop

pytestmark = pytest.mark.usefixtures("threads_end")


class Watched(DataSourceModule):
    """A source whose record i is i. It notes which threads read, and can be set to fail or to wait."""

    def __init__(self, length: int = 40, before: Callable[[np.ndarray], object] = lambda _: None) -> None:
        config = SourceConfig(type="watched", stochastic=True, stream_name="shuffle")
        super().__init__(config, rngs=nnx.Rngs(0), name="watched")
        self.length = length
        self._watch = nnx.static(Watch(before))

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.dtype(np.int32))}

    def get_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        self._watch.threads.add(threading.current_thread().name)
        self._watch.reads += 1
        self._watch.before(indices)
        return {"id": indices.astype(np.int32)}

    @property
    def watch(self) -> "Watch":
        return self._watch


class Watch:
    def __init__(self, before: Callable[[np.ndarray], object]) -> None:
        self.before = before
        self.threads: set[str] = set()
        self.reads = 0


def ids(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["id"]).tolist() for batch in batches]


def no_reading_threads() -> bool:
    """Return whether the threads have ended, after waiting as long as a thread takes to end."""
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("datarax-") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.001)
    return True


@pytest.mark.parametrize("prefetch", [1, 2, 7, 100])
def test_the_stream_is_the_same_at_every_depth(prefetch: int) -> None:
    def stream(depth: int) -> list[list[int]]:
        return ids(Pipeline(source=Watched(), batch_size=7, num_epochs=3, prefetch=depth))

    assert stream(prefetch) == stream(0)


def test_reading_ahead_happens_on_a_thread_of_its_own_and_none_without() -> None:
    for prefetch, expected in ((2, {"datarax-prefetch"}), (0, {threading.current_thread().name})):
        source = Watched()
        ids(Pipeline(source=source, batch_size=7, prefetch=prefetch))
        assert source.watch.threads == expected


def test_no_thread_is_started_while_reading_is_quick_and_one_is_once_it_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "WORTH_A_THREAD", 1e9)
    source = Watched()
    batches = iter(Pipeline(source=source, batch_size=7, prefetch=2))
    served = [next(batches), next(batches)]
    assert source.watch.threads == {threading.current_thread().name}
    monkeypatch.setattr(loop, "WORTH_A_THREAD", -1.0)
    served.append(next(batches))
    assert "datarax-prefetch" in source.watch.threads
    monkeypatch.setattr(loop, "WORTH_A_THREAD", 1e9)
    source.watch.threads.clear()
    assert ids([*served, *batches]) == ids(Pipeline(source=Watched(), batch_size=7, prefetch=0))
    assert threading.current_thread().name in source.watch.threads


def test_no_more_batches_are_read_ahead_than_prefetch_says() -> None:
    source = Watched(1000)
    batches = iter(Pipeline(source=source, batch_size=7, prefetch=3))
    next(batches)
    batches.close()
    assert no_reading_threads()
    assert source.watch.reads <= 1 + 3


@pytest.mark.parametrize("end", ["exhausted", "closed", "dropped", "broken"])
def test_the_thread_ends_with_the_loop(end: str) -> None:
    pipeline = Pipeline(source=Watched(), batch_size=7)
    batches = iter(pipeline)
    next(batches)
    if end == "exhausted":
        list(batches)
    elif end == "closed":
        batches.close()
    elif end == "broken":
        for _ in pipeline:
            break
    del batches
    gc.collect()
    assert no_reading_threads()


def test_batches_that_were_read_ahead_and_not_served_are_not_lost() -> None:
    expected = ids(Pipeline(source=Watched(), batch_size=7, num_epochs=2, prefetch=0))
    first = Pipeline(source=Watched(), batch_size=7, num_epochs=2, prefetch=5)
    batches = iter(first)
    served = [next(batches) for _ in range(4)]
    second = Pipeline(source=Watched(), batch_size=7, num_epochs=2, prefetch=1)
    second.set_state(first.get_state())
    assert ids(served) + ids(second) == expected


def test_a_step_during_a_loop_takes_the_next_batch_and_the_loop_goes_on_after_it() -> None:
    expected = ids(Pipeline(source=Watched(), batch_size=7, prefetch=0))
    pipeline = Pipeline(source=Watched(), batch_size=7, prefetch=3)
    batches = iter(pipeline)
    assert ids([next(batches), pipeline.step(), next(batches)]) == expected[:3]


def test_a_source_seeded_anew_serves_its_new_order_at_once() -> None:
    source = Watched()
    pipeline = Pipeline(source=source, batch_size=7, prefetch=3)
    batches = iter(pipeline)
    next(batches)
    source.reset(seed=5)
    other = Watched()
    other.reset(seed=5)
    assert ids([next(batches)]) == ids(Pipeline(source=other, batch_size=7, prefetch=0))[1:2]


def test_an_error_reaches_the_loop_with_source_and_positions_and_the_loop_can_go_on() -> None:
    failing = True

    def fail(indices: np.ndarray) -> None:
        if failing and 3 in indices:
            raise OSError("the disk is on fire")

    expected = ids(Pipeline(source=Watched(), batch_size=7, prefetch=0))
    broken = next(number for number, batch in enumerate(expected) if 3 in batch)
    batches = iter(Pipeline(source=Watched(before=fail), batch_size=7, prefetch=2))
    served = [next(batches) for _ in range(broken)]
    with pytest.raises(OSError, match="the disk is on fire") as caught:
        next(batches)
    records = ", ".join(map(str, expected[broken]))
    note = f"while Watched 'watched' read the records at positions {7 * broken} to {7 * broken + 6}: records {records}"
    assert note in caught.value.__notes__
    failing = False
    assert ids([*served, *batches]) == expected


def test_a_loop_interrupted_while_it_waits_can_go_on() -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(_: np.ndarray) -> None:
        started.set()
        assert go_on.wait(60)

    expected = ids(Pipeline(source=Watched(), batch_size=7, prefetch=0))
    pipeline = Pipeline(source=Watched(before=wait), batch_size=7, prefetch=1)
    batches = iter(pipeline)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        import signal  # noqa: PLC0415

        assert started.wait(60)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    thread.join()
    go_on.set()
    assert ids(batches) == expected


@pytest.mark.parametrize(("prefetch", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_depth_that_is_no_count_is_refused(prefetch: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="prefetch is"):
        Pipeline(source=Watched(), batch_size=7, prefetch=prefetch)


def test_stats_count_batches_and_say_where_the_time_went() -> None:
    pipeline = Pipeline(source=Watched(), stages=[lambda batch: batch], batch_size=7)
    assert len(ids(pipeline)) == 6
    stats = pipeline.stats()
    assert {name: stats[name] for name in ("batches", "records", "bytes", "records_substituted")} == {
        "batches": 6,
        "records": 40,
        "bytes": 160,
        "records_substituted": 0,
    }
    assert all(stats[f"seconds_{what}"] > 0 for what in ("waiting", "in_source", "in_transfer", "in_stages"))


def test_a_pipeline_explains_its_route() -> None:
    pipeline = Pipeline(source=Watched(), stages=[lambda batch: batch], batch_size=7, drop_last=True)
    summary = "Pipeline(Watched 'watched': 40 records shuffled; stages: <lambda>; batches of 7, 1 epoch, drop_last)"
    assert repr(pipeline) == summary
    assert pipeline.explain().startswith(f"{summary}\nhost route: Watched 'watched' reads records at concrete indices")
    assert "A background thread reads batches ahead of the loop, as many as fit 256 MiB" in pipeline.explain()
    fixed = Pipeline(source=Watched(), batch_size=7, prefetch=3)
    assert "A background thread reads 3 batches ahead of the loop, once" in fixed.explain()
    assert "prefetch=0" in Pipeline(source=Watched(), batch_size=7, prefetch=0).explain()


# -- errors and interruptions -------------------------------------------------------------------------------------------


def stops(_: Any) -> Any:
    raise StopIteration


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("culprit", ["source", "stage"])
def test_a_stop_iteration_of_a_source_or_stage_is_not_the_end_of_the_loop(culprit: str, prefetch: int) -> None:
    source = Watched(before=stops) if culprit == "source" else Watched()
    pipeline = Pipeline(source=source, stages=[stops] if culprit == "stage" else [], batch_size=7, prefetch=prefetch)
    message = {
        "source": "Watched 'watched' raised StopIteration for records that its length says it has",
        "stage": r"stage 0 \(stops\) of the pipeline raised StopIteration",
    }
    with pytest.raises(RuntimeError, match=message[culprit]):
        list(pipeline)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_any_exception_of_a_source_reaches_the_loop_which_can_go_on(error: type[BaseException]) -> None:
    failing = True

    def fail(_: np.ndarray) -> None:
        if failing:
            raise error

    batches = iter(Pipeline(source=Watched(before=fail), batch_size=7))
    with pytest.raises(error):
        next(batches)
    failing = False
    assert ids(batches) == ids(Pipeline(source=Watched(), batch_size=7, prefetch=0))


def test_a_loop_closed_by_another_thread_while_it_waits_ends_with_an_error() -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(_: np.ndarray) -> None:
        started.set()
        assert go_on.wait(60)

    batches = iter(Pipeline(source=Watched(before=wait), batch_size=7))

    def close() -> None:
        assert started.wait(60)
        batches.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(RuntimeError, match="closed by another thread while it waited for a batch"):
        next(batches)
    thread.join()
    go_on.set()
    assert no_reading_threads()


def test_a_result_that_was_seen_and_not_taken_is_still_the_next_result() -> None:
    worked: list[int] = []
    ahead = Ahead(worked.append, name="test")
    for item in (1, 2, 3):
        ahead.request(item)
    ahead._worker.next_result()  # as if an interruption came between this and what `take` does with it
    for _ in range(3):
        ahead.take()
    assert worked == [1, 2, 3]
    ahead.request(4)
    ahead._worker.next_result()
    ahead._requested.popleft()  # and as if one came a moment later
    ahead.request(5)
    ahead.take()
    assert worked == [1, 2, 3, 4, 5]
    assert not ahead._worker.results
    ahead.close()
    assert no_reading_threads()


def test_a_loop_dropped_after_an_error_leaves_no_thread_and_needs_no_garbage_collector() -> None:
    def fail(_: np.ndarray) -> None:
        raise OSError("the disk is on fire")

    gc.collect()
    gc.disable()
    try:
        batches = iter(Pipeline(source=Watched(before=fail), batch_size=7))
        for _ in range(2):
            with suppress(OSError):
                next(batches)
        del batches
        assert no_reading_threads()
    finally:
        gc.enable()


def test_a_loop_in_a_dropped_reference_cycle_leaves_no_thread() -> None:
    cycle: dict[str, Any] = {"pipeline": Pipeline(source=Watched(), batch_size=7)}
    cycle["batches"], cycle["self"] = iter(cycle["pipeline"]), cycle
    next(cycle["batches"])
    del cycle
    gc.collect()
    assert no_reading_threads()


def test_loops_may_be_nested_over_one_source_and_a_source_may_loop_itself() -> None:
    expected = ids(Pipeline(source=Watched(), batch_size=7, prefetch=0))
    inner = iter(Pipeline(source=Watched(), batch_size=4, num_epochs=None))
    source = Watched(before=lambda _: next(inner))
    outer, other = (Pipeline(source=source, batch_size=7) for _ in range(2))
    served = []
    for batch in outer:
        served.append(batch)
        next(iter(other))
    assert ids(served) == expected


def test_threads_that_share_a_loop_share_its_batches() -> None:
    batches, served = iter(Pipeline(source=Watched(4000), batch_size=7, prefetch=2)), []

    def serve() -> None:
        served.extend(record for batch in batches for record in np.asarray(batch["id"]).tolist())

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(served) == list(range(4000))


@pytest.mark.parametrize("outstanding", [1, 4])
def test_an_interruption_at_any_moment_loses_no_result(outstanding: int) -> None:
    """Also an interruption that comes after a result left the queue and before it is returned."""
    main, may_fire, rounds = threading.main_thread().ident, threading.Semaphore(0), 300
    assert main is not None

    def fire() -> None:
        for number in range(rounds):
            may_fire.acquire()
            for _ in range(7 * number % 300):  # a while, without letting go of the interpreter for certain
                pass
            signal.pthread_kill(main, signal.SIGINT)

    ahead = Ahead(lambda item: item, name="hammered")
    thread = threading.Thread(target=fire)
    thread.start()
    taken: list[int] = []
    announced = 0
    for _ in range(rounds):
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes anywhere in here
            may_fire.release()
            while True:
                while len(ahead) < outstanding:
                    ahead.request(announced)
                    announced += 1
                taken.append(ahead.take())
    thread.join()
    taken += [ahead.take() for _ in range(len(ahead))]
    assert taken == sorted(set(taken))
    assert len(taken) >= announced - rounds
    ahead.close()
    assert no_reading_threads()
