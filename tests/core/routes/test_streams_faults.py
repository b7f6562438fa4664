"""Streams that fail, end early, give wrong batches, hang or are interrupted: no wrong batch is served."""

import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from stream_batches import first, ids, through_json

from datarax_core import DataSourceModule, Pipeline, SpecError, StateError, StructuralConfig

Streams = SimpleNamespace
pytestmark = pytest.mark.usefixtures("threads_end")


class Once:
    """A stream that raises at the first read of position ``at``."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.is_due = True

    def __call__(self, start: int, size: int) -> None:
        if self.is_due and start <= self.at < start + size:
            self.is_due = False
            raise OSError("the line is dead")


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_an_error_reaches_the_loop_with_its_position_and_the_loop_can_go_on(streams: Streams, prefetch: int) -> None:
    pipeline = Pipeline(source=streams.Sized(10, Once(5), name="log"), batch_size=2, prefetch=prefetch)
    batches = iter(pipeline)
    served = [next(batches), next(batches)]
    with pytest.raises(OSError, match="the line is dead") as caught:
        next(batches)
    assert caught.value.__notes__ == ["while Sized 'log' read the next 2 records, from position 4 on"]
    assert ids([*served, *batches]) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_stream_that_failed_and_cannot_go_back_says_so(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Endless(Once(2), name="wire"), batch_size=2)
    batches = iter(pipeline)
    next(batches)
    with pytest.raises(OSError, match="the line is dead"):
        next(batches)
    with pytest.raises(
        StateError, match=r"^Endless 'wire' failed at position 2 and cannot go back to it; define get_state"
    ):
        next(batches)


def test_a_sized_stream_that_ends_is_refused(streams: Streams) -> None:
    class Short(streams.Sized):
        def records(self, start: int, size: int) -> np.ndarray:
            if start >= 4:
                raise StopIteration
            return super().records(start, size)

    batches = iter(Pipeline(source=Short(6, name="log"), batch_size=2))
    first(2, batches)
    message = (
        "^Short 'log' ended, but has 6 records an epoch; a stream with a length goes on with its next epoch by itself"
    )
    with pytest.raises(SpecError, match=message):
        next(batches)


WRONG: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "too many": (lambda ids: {"id": np.append(ids, 7)}, "field 'id' has 5 rows where 4 were asked for"),
    "none": (lambda ids: {"id": ids[:0]}, "field 'id' has 0 rows where 4 were asked for"),
    "dtype": (lambda ids: {"id": ids.astype(np.float32)}, r"field 'id' is float32\[\] where int32\[\] is expected"),
    "unknown": (lambda ids: {"id": ids, "x": ids}, r"field 'x' \(int32\[\]\) is not expected"),
    "missing": (lambda _: {}, r"field 'id' \(int32\[\]\) is missing"),
    "list": (lambda ids: {"id": ids.tolist()}, "field 'id' is a list, not an array"),
    "ragged": (lambda ids: {"id": ids, "x": ids[:2]}, "field 'x' has 2 rows where 4 were asked for"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_batch_that_its_element_spec_does_not_describe_is_refused(
    streams: Streams, change: Callable[[np.ndarray], Any], message: str, prefetch: int
) -> None:
    class Wrong(streams.Resumable):
        def get_batch(self, batch_size: int) -> Any:
            return change(super().get_batch(batch_size)["id"])

    with pytest.raises(SpecError, match=f"^Wrong 'log' gave a batch that its element_spec.*{message}"):
        next(iter(Pipeline(source=Wrong(name="log"), batch_size=4, prefetch=prefetch)))


def test_a_sized_stream_gives_whole_batches(streams: Streams) -> None:
    class Short(streams.Sized):
        def get_batch(self, batch_size: int) -> Any:
            return {"id": super().get_batch(batch_size)["id"][:-1]}

    with pytest.raises(SpecError, match="field 'id' has 3 rows where 4 were asked for"):
        Pipeline(source=Short(10), batch_size=4).step()


def test_compiled_code_cannot_reach_a_stream(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10, name="log"), batch_size=2)
    with pytest.raises(
        NotImplementedError, match=r"^Sized 'log' is a stream, which compiled code cannot reach; iterate the"
    ):
        pipeline.scan(lambda batch: batch, length=2)
    with pytest.raises(NotImplementedError, match=r"cannot reach; call step\(\) outside of it"):
        nnx.jit(lambda pipeline: pipeline.step())(pipeline)


def test_arguments_that_a_stream_cannot_use_are_refused(streams: Streams) -> None:
    with pytest.raises(
        ValueError, match=r"^workers=2 read records for a source on the host, but Sized is a stream, which"
    ):
        Pipeline(source=streams.Sized(10), batch_size=2, workers=2)
    with pytest.raises(ValueError, match=r"^batch_size=16 with drop_last leaves no batch of the 10 records"):
        Pipeline(source=streams.Sized(10), batch_size=16, drop_last=True)


def test_a_source_that_defines_neither_records_nor_batches_is_named() -> None:
    class Nothing(DataSourceModule):
        def element_spec(self) -> Any:
            return {"id": jax.ShapeDtypeStruct((), np.int32)}

    pipeline = Pipeline(source=Nothing(StructuralConfig(stochastic=False, stream_name=None)), batch_size=2)
    with pytest.raises(NotImplementedError, match=r"^Nothing defines no method that reads records: define __len__"):
        next(iter(pipeline))


# -- threads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loop_interrupted_while_it_reads_can_go_on(streams: Streams, prefetch: int) -> None:
    started, go_on, interrupted = threading.Event(), threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def once(*_: Any) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def wait(start: int, _: int) -> None:
        if start == 0 and not started.is_set():
            started.set()
            assert go_on.wait(60)

    def interrupt() -> None:
        assert started.wait(60)
        while not interrupted.wait(0.01):  # a signal that comes a moment before a wait does not end it
            signal.pthread_kill(main, signal.SIGINT)

    batches = iter(Pipeline(source=streams.Sized(10, wait), batch_size=2, prefetch=prefetch))
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, once)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
        go_on.set()
    assert ids(batches) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("again", ["loop", "step", "reset", "restore"])
def test_a_read_that_is_under_way_when_its_loop_ends_does_not_disturb_the_next(streams: Streams, again: str) -> None:
    is_reading, go_on = threading.Event(), threading.Event()
    slow: list[int] = [4]  # where a read waits

    def wait(start: int, _: int) -> None:
        if start in slow and threading.current_thread() is not threading.main_thread():
            slow.clear()
            is_reading.set()
            assert go_on.wait(60)

    pipeline = Pipeline(source=streams.Resumable(wait), batch_size=2, prefetch=2)
    batches = iter(pipeline)
    assert ids([next(batches), next(batches)]) == [[0, 1], [2, 3]]
    state = pipeline.get_state()
    assert is_reading.wait(60)
    batches.close()
    threading.Timer(0, go_on.set).start()  # the next route waits for what the old one began
    if again == "step":
        assert ids(pipeline.step() for _ in range(3)) == [[4, 5], [6, 7], [8, 9]]
        return
    if again == "reset":
        pipeline.reset()
    if again == "restore":
        pipeline.set_state(state)
    start = 0 if again == "reset" else 4
    assert first(3, pipeline) == [[start + row, start + row + 1] for row in (0, 2, 4)]


def test_loops_closed_and_opened_hundreds_of_times_lose_and_repeat_nothing(streams: Streams) -> None:
    """Each read lets the main thread run halfway, so that loops end in the middle of reads of earlier loops."""
    turn = threading.Event()

    def give_way(_start: int, _size: int) -> None:
        turn.set()
        turn.clear()
        threading.Event().wait(0)

    pipeline = Pipeline(source=streams.Resumable(give_way), batch_size=2, prefetch=3)
    served: list[list[int]] = []
    for number in range(300):
        batches = iter(pipeline)
        served += first(1 + number % 3, batches)
        if number % 5 == 0:
            served += ids([pipeline.step()])
        if number % 2:
            batches.close()
        if number % 7 == 0:
            pipeline.set_state(through_json(pipeline.get_state()))
    assert [record for batch in served for record in batch] == list(range(2 * len(served)))
