"""Streams in a pipeline: read forward, read ahead, taken back, started over, and never served wrongly."""

import gc
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataSourceModule, Pipeline, SpecError, StateError, StructuralConfig

Streams = SimpleNamespace


def ids(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["id"]).tolist() for batch in batches]


def first(count: int, batches: Any) -> list[list[int]]:
    return ids(islice(batches, count))


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state, allow_nan=False))


def no_reading_threads() -> bool:
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("datarax-") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.001)
    return True


@pytest.fixture(autouse=True)
def _every_thread_ends() -> Iterator[None]:
    yield
    gc.collect()
    assert no_reading_threads()


# -- what is served -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_a_sized_stream_goes_on_over_its_epochs(streams: Streams, prefetch: int) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4, num_epochs=2, prefetch=prefetch)
    assert ids(pipeline) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 100, 101], [102, 103, 104, 105], [106, 107, 108, 109]]
    assert first(2, pipeline) == [[200, 201, 202, 203], [204, 205, 206, 207]]
    assert len(pipeline) == 5


@pytest.mark.parametrize("prefetch", [0, 1, 5])
@pytest.mark.parametrize(
    ("length", "rule", "expected"),
    [
        (10, {}, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (10, {"drop_last": True}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (10, {"pad_last": "valid"}, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]),
        (8, {}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (8, {"drop_last": True}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (8, {"pad_last": "valid"}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (3, {}, [[0, 1, 2]]),
        (3, {"drop_last": True}, []),
        (0, {}, []),
    ],
)
def test_a_stream_that_nobody_knew_the_length_of_ends_and_every_loop_reads_it_whole(
    streams: Streams, length: int, rule: dict[str, Any], expected: list[list[int]], prefetch: int
) -> None:
    pipeline = Pipeline(source=streams.Ending(length), batch_size=4, prefetch=prefetch, **rule)
    for _ in range(3):
        batches = iter(pipeline)
        assert ids(batches) == expected
        assert next(batches, None) is None
    if "pad_last" in rule:
        masks = [np.asarray(batch["valid"]).sum() for batch in pipeline]
        assert masks == [4, 4, 2] if length == 10 else [4, 4]


def test_an_endless_stream_goes_on_where_a_loop_was_left(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Resumable(), batch_size=2)
    assert first(2, pipeline) == [[0, 1], [2, 3]]
    assert first(2, pipeline) == [[4, 5], [6, 7]]
    assert ids([pipeline.step()]) == [[8, 9]]


def test_a_loop_after_one_that_was_left_skips_to_the_next_epoch_of_a_sized_stream(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4, num_epochs=1)
    assert first(1, pipeline) == [[0, 1, 2, 3]]
    assert ids(pipeline) == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]


def test_what_is_dropped_at_the_end_of_an_epoch_is_skipped(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4, drop_last=True)
    assert [ids(pipeline) for _ in range(2)] == [
        [[0, 1, 2, 3], [4, 5, 6, 7]],
        [[100, 101, 102, 103], [104, 105, 106, 107]],
    ]


def test_a_source_that_can_skip_is_asked_to(streams: Streams) -> None:
    skipped = []

    class Skipping(streams.Sized):
        def skip(self, count: int) -> None:
            skipped.append(count)
            self.at += count

    pipeline = Pipeline(source=Skipping(5000), batch_size=4, prefetch=0)
    assert first(1, pipeline) == [[0, 1, 2, 3]]
    assert first(1, pipeline) == [[100, 101, 102, 103]]
    assert sum(skipped) == 4996


@pytest.mark.parametrize("prefetch", [0, 3])
def test_step_and_loop_take_turns(streams: Streams, prefetch: int) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=2, prefetch=prefetch)
    batches = iter(pipeline)
    served = [next(batches), pipeline.step(), pipeline.step(), next(batches), next(batches)]
    assert ids(served) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert next(batches, None) is None
    assert ids([pipeline.step()]) == [[100, 101]]


@pytest.mark.parametrize(("rule", "last"), [({}, [[2]]), ({"drop_last": True}, []), ({"pad_last": "v"}, [[2, 2]])])
def test_step_says_that_a_stream_has_ended(streams: Streams, rule: dict[str, Any], last: list[list[int]]) -> None:
    pipeline = Pipeline(source=streams.Ending(3, name="log"), batch_size=2, **rule)
    pipeline.step()
    assert ids(pipeline.step() for _ in last) == last
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^Ending 'log' has ended; reset\(\) the pipeline to start it over$"):
            pipeline.step()
    pipeline.reset()
    assert ids([pipeline.step()]) == [[0, 1]]


def test_a_second_loop_ends_the_first(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4)
    old = iter(pipeline)
    next(old)
    new = iter(pipeline)
    with pytest.raises(RuntimeError, match="^this loop is over: the pipeline was iterated anew, reset or restored"):
        next(old)
    assert ids([next(new)]) == [[100, 101, 102, 103]]


def test_reset_starts_over(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Resumable(), batch_size=2, prefetch=3)
    batches = iter(pipeline)
    next(batches)
    pipeline.reset()
    with pytest.raises(RuntimeError, match="this loop is over"):
        next(batches)
    assert first(1, pipeline) == [[0, 1]]


def test_a_clone_goes_its_own_way(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=2, prefetch=3)
    batches = iter(pipeline)
    next(batches)
    twin = pipeline.clone()
    assert ids([twin.step(), twin.step()]) == [[2, 3], [4, 5]]
    assert ids(batches) == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert ids(twin) == [[100, 101], [102, 103], [104, 105], [106, 107], [108, 109]]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_text_rides_beside_the_batch(streams: Streams, prefetch: int) -> None:
    class Words(streams.Ending):
        def element_spec(self) -> Any:
            return {**super().element_spec(), "word": jax.ShapeDtypeStruct((), np.dtype("<U3"))}

        def get_batch(self, batch_size: int) -> Any:
            batch = super().get_batch(batch_size)
            return {**batch, "word": batch["id"].astype("<U3")}

    pipeline = Pipeline(source=Words(5), stages=[dict], batch_size=4, pad_last="valid", prefetch=prefetch)
    assert [batch["word"].tolist() for batch in pipeline] == [["0", "1", "2", "3"], ["4", "4", "4", "4"]]


class Noise:
    stochastic = True

    def __call__(self, batch: Any, keys: Any) -> Any:
        return {**batch, "noise": jax.vmap(jax.random.uniform)(keys)}


def test_randomness_belongs_to_the_place_in_the_epoch_and_not_to_the_batch(streams: Streams) -> None:
    def noise(source: DataSourceModule, batch_size: int) -> list[float]:
        pipeline = Pipeline(source=source, stages=[Noise()], batch_size=batch_size, num_epochs=None, rngs=nnx.Rngs(1))
        return np.concatenate([pipeline.step()["noise"] for _ in range(30 // batch_size)]).tolist()

    for make in (lambda: streams.Sized(10), streams.Resumable):
        drawn = noise(make(), 3)
        assert drawn == noise(make(), 5)
        assert len(set(drawn)) == 30


# -- states -------------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Streams], DataSourceModule]] = {
    "sized": lambda streams: streams.Sized(10),
    "ending": lambda streams: streams.Ending(10),
}


@pytest.mark.parametrize("prefetch", [0, 1, 5])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_state_is_exact_however_much_was_read_ahead(
    streams: Streams, make: Callable[[Streams], DataSourceModule], prefetch: int
) -> None:
    pipeline = Pipeline(source=make(streams), batch_size=3, prefetch=prefetch)
    states, batches = [through_json(pipeline.get_state())], []
    for batch in pipeline:
        batches.append(np.asarray(batch["id"]).tolist())
        states.append(through_json(pipeline.get_state()))
    second = ids(pipeline)
    resumed = Pipeline(source=make(streams), batch_size=3, prefetch=2)
    for number, state in enumerate(states):
        saved = json.dumps(state)
        for _ in range(2):
            resumed.set_state(state)
            assert ids(resumed) == (batches[number:] or second)
            assert json.dumps(state) == saved


def test_a_state_saved_between_a_loop_that_was_left_and_the_next_is_of_the_next(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4)
    first(1, pipeline)
    batches = iter(pipeline)
    state = through_json(pipeline.get_state())
    resumed = Pipeline(source=streams.Sized(10), batch_size=4)
    resumed.set_state(state)
    assert ids(resumed) == ids(batches) == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]


def test_a_state_is_taken_while_the_next_batch_is_being_read(streams: Streams) -> None:
    is_reading, go_on = threading.Event(), threading.Event()

    def wait(start: int, _: int) -> None:
        if start:
            is_reading.set()
            assert go_on.wait(60)

    pipeline = Pipeline(source=streams.Resumable(wait), batch_size=2, prefetch=2)
    batches = iter(pipeline)
    next(batches)
    assert is_reading.wait(60)
    assert pipeline.get_state()["stream"] == {"position": 2, "source": {"at": 2}}
    go_on.set()


def test_a_stream_that_cannot_say_where_it_stands_is_served_and_nothing_is_read_ahead(streams: Streams) -> None:
    source = streams.Endless(name="wire")
    pipeline = Pipeline(source=source, batch_size=2, prefetch=5)
    assert first(2, pipeline) == [[0, 1], [2, 3]]
    assert source.watch.reads == [(0, 2), (2, 2)]
    assert source.watch.threads == {threading.current_thread().name}
    message = r"^Endless 'wire' cannot say where it stands, so that its pipeline has no state to save; define get_state\(\)"
    with pytest.raises(StateError, match=message):
        pipeline.get_state()


def test_a_stream_that_cannot_start_over_says_so(streams: Streams) -> None:
    class Once(streams.Endless):
        def records(self, start: int, size: int) -> np.ndarray:
            if start >= 4:
                raise StopIteration
            return super().records(start, size)

    pipeline = Pipeline(source=Once(name="wire"), batch_size=2)
    assert ids(pipeline) == [[0, 1], [2, 3]]
    message = r"^Once 'wire' is a stream that cannot start over; define reset\(\)$"
    with pytest.raises(NotImplementedError, match=message):
        next(iter(pipeline))
    with pytest.raises(NotImplementedError, match=message):
        pipeline.reset()


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (lambda s: {n: v for n, v in s.items() if n != "stream"}, "^this is no state of .*: 'stream' is missing$"),
    "no dict": (lambda s: s | {"stream": 3}, "'stream' is a dict of 'position' and 'source', not 3$"),
    "other keys": (lambda s: s | {"stream": {"at": 3}}, r"'stream' is a dict of 'position' and 'source', not \{'at': 3\}$"),
    "further on": (lambda s: s | {"stream": s["stream"] | {"position": 5}}, "its stream is at 5, where an integer from 0 to"),
    "no place": (lambda s: s | {"stream": s["stream"] | {"position": "2"}}, "its stream is at '2', where an integer from 0"),
    "length": (lambda s: s | {"fingerprint": s["fingerprint"] | {"length": 9}}, "length was 9 and is 10"),
    "streams": (lambda s: s | {"rngs": {}}, "'rngs.default.count' is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_state_of_the_stream_is_refused_and_nothing_is_changed(
    streams: Streams, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=2, rngs=nnx.Rngs(0))
    batches = iter(pipeline)
    next(batches)
    state = pipeline.get_state()
    next(batches)
    with pytest.raises(StateError, match=message):
        pipeline.set_state(change(through_json(state)))
    assert ids([next(batches)]) == [[4, 5]]


def test_a_state_that_the_source_refuses_changes_nothing(streams: Streams) -> None:
    class Picky(streams.Resumable):
        def set_state(self, state: dict[str, Any]) -> None:
            self.at = 50
            if state["at"] == 77:
                raise StateError("there is no record 77")
            super().set_state(state)

    pipeline = Pipeline(source=Picky(), batch_size=2, rngs=nnx.Rngs(0))
    state = pipeline.get_state()
    bad = state | {"position": 77, "stream": {"position": 77, "source": {"at": 77}}}
    bad |= {"rngs": {**state["rngs"], "rngs.default.count": 9}}
    with pytest.raises(StateError, match="^there is no record 77$"):
        pipeline.set_state(bad)
    assert pipeline.get_state()["rngs"] == state["rngs"]
    assert first(2, pipeline) == [[0, 1], [2, 3]]


# -- what goes wrong ----------------------------------------------------------------------------------------------------


class Once:
    """Raises at the first read of position ``at``."""

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
    with pytest.raises(StateError, match="^Endless 'wire' failed at position 2 and cannot go back to it; define get_state"):
        next(batches)


def test_a_sized_stream_that_ends_is_refused(streams: Streams) -> None:
    class Short(streams.Sized):
        def records(self, start: int, size: int) -> np.ndarray:
            if start >= 4:
                raise StopIteration
            return super().records(start, size)

    batches = iter(Pipeline(source=Short(6, name="log"), batch_size=2))
    first(2, batches)
    message = "^Short 'log' ended, but has 6 records an epoch; a stream with a length goes on with its next epoch by itself"
    with pytest.raises(SpecError, match=message):
        next(batches)


WRONG: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "too many": (lambda ids: {"id": np.append(ids, 7)}, "field 'id' has 5 rows where 4 were asked for"),
    "none": (lambda ids: {"id": ids[:0]}, "field 'id' has 0 rows where 4 were asked for"),
    "dtype": (lambda ids: {"id": ids.astype(np.float32)}, r"field 'id' is float32\[\] where int32\[\] is expected"),
    "unknown": (lambda ids: {"id": ids, "x": ids}, r"field 'x' \(int32\[\]\) is not expected"),
    "missing": (lambda _: {}, r"field 'id' \(int32\[\]\) is missing"),
    "list": (lambda ids: {"id": ids.tolist()}, "field 'id.0' is a int, not an array"),
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
    with pytest.raises(NotImplementedError, match="^Sized 'log' is a stream, which compiled code cannot reach; iterate the"):
        pipeline.scan(lambda batch: batch, length=2)
    with pytest.raises(NotImplementedError, match=r"cannot reach; call step\(\) outside of it"):
        nnx.jit(lambda pipeline: pipeline.step())(pipeline)


def test_what_a_stream_has_no_use_for_is_refused(streams: Streams) -> None:
    with pytest.raises(ValueError, match="^workers=2 read records for a source on the host, but Sized is a stream, which"):
        Pipeline(source=streams.Sized(10), batch_size=2, workers=2)
    with pytest.raises(ValueError, match="^num_epochs=2 counts epochs, but Ending 'log' is a stream without a length: a loop"):
        Pipeline(source=streams.Ending(10, name="log"), batch_size=2, num_epochs=2)
    with pytest.raises(ValueError, match="^batch_size=16 with drop_last leaves no batch of the 10 records"):
        Pipeline(source=streams.Sized(10), batch_size=16, drop_last=True)


def test_a_pipeline_says_what_it_does_with_a_stream(streams: Streams) -> None:
    sized = Pipeline(source=streams.Sized(10, name="log"), stages=[Noise()], batch_size=2, rngs=nnx.Rngs(0))
    assert repr(sized).startswith("Pipeline(Sized 'log': a stream of 10 records an epoch; stages: Noise; batches of 2")
    assert "stream route: Sized 'log' is read forward only" in sized.explain()
    assert "reads 2 batches ahead" in sized.explain()
    assert sized.element_spec()["noise"] == jax.ShapeDtypeStruct((), np.float32)
    endless = Pipeline(source=streams.Endless(name="wire"), batch_size=2)
    assert repr(endless).startswith("Pipeline(Endless 'wire': a stream; stages: none")
    assert "Nothing is read ahead, and there is no state to save: Endless 'wire' cannot say where" in endless.explain()
    with pytest.raises(TypeError, match="^a pipeline over Endless 'wire' has no length: it is a stream without one$"):
        len(endless)


def test_a_source_that_defines_neither_records_nor_batches_is_named() -> None:
    class Nothing(DataSourceModule):
        def element_spec(self) -> Any:
            return {"id": jax.ShapeDtypeStruct((), np.int32)}

    pipeline = Pipeline(source=Nothing(StructuralConfig(stochastic=False, stream_name=None)), batch_size=2)
    with pytest.raises(NotImplementedError, match="^Nothing is a stream without random access; read it with get_batch"):
        next(iter(pipeline))


# -- threads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loop_interrupted_while_it_reads_can_go_on(streams: Streams, prefetch: int) -> None:
    started, go_on, main = threading.Event(), threading.Event(), threading.main_thread().ident
    assert main is not None

    def wait(start: int, _: int) -> None:
        if start == 2 and not started.is_set():
            started.set()
            assert go_on.wait(60)

    def interrupt() -> None:
        assert started.wait(60)
        signal.pthread_kill(main, signal.SIGINT)

    batches = iter(Pipeline(source=streams.Sized(10, wait), batch_size=2, prefetch=prefetch))
    thread = threading.Thread(target=interrupt)
    thread.start()
    served = []
    with pytest.raises(KeyboardInterrupt):
        served.extend(iter(lambda: next(batches), None))
    thread.join()
    go_on.set()
    assert ids([*served, *batches])[-4:] == [[2, 3], [4, 5], [6, 7], [8, 9]]


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
    """Each read lets the main thread in halfway, so that loops end in the middle of reads of the ones before."""
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
    assert sum(served, []) == list(range(2 * len(served)))


# -- all of it ----------------------------------------------------------------------------------------------------------

MOVES = ["next", "next", "step", "loop", "resume", "reset", "clone"]


class Model:
    """What a pipeline over a stream serves, in plain Python. ``length`` None is a stream of ``total`` records that ends."""

    def __init__(self, length: int | None, total: int, size: int, epochs: int, *, drop_last: bool) -> None:
        self.length, self.total, self.size, self.epochs, self.drop = length, total, size, epochs, drop_last
        self.at, self.start, self.resumed, self.served_any, self.over = 0, 0, True, False, False

    def loop(self) -> None:
        if self.length is not None:
            end = self.start + self.epochs * self.length
            left = end - self.at
            if not self.resumed or (left < self.size if self.drop else left <= 0):
                self.at = -(-self.at // self.length) * self.length
                self.start = self.at
        self.resumed, self.served_any, self.over = False, False, False

    def next(self) -> list[int] | None:
        if self.over:
            return None
        if self.length is not None:
            left = self.start + self.epochs * self.length - self.at
            size = min(self.size, left)
            self.over = size < self.size if self.drop else size <= 0
            return None if self.over else self._sized(size)
        for _ in range(2):
            batch = list(range(self.at, min(self.at + self.size, self.total)))
            self.at += len(batch)
            if batch and not (self.drop and len(batch) < self.size):
                self.served_any = True
                return batch
            if self.served_any:
                break
            self.at, self.served_any = 0, True
        self.over = True
        return None

    def step(self) -> list[int] | None:
        if self.length is not None:
            return self._sized(self.size)
        batch = list(range(self.at, min(self.at + self.size, self.total)))
        self.at += len(batch)
        return None if not batch or (self.drop and len(batch) < self.size) else batch

    def restore(self) -> None:
        self.resumed = True

    def reset(self) -> None:
        self.at, self.start, self.resumed = 0, 0, True

    def _sized(self, size: int) -> list[int]:
        assert self.length is not None
        rows = range(self.at, self.at + size)
        self.at += size
        return [100 * (row // self.length) + row % self.length for row in rows]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 9),
    is_sized=st.booleans(),
    size=st.integers(1, 4),
    epochs=st.integers(1, 2),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
    moves=st.lists(st.sampled_from(MOVES), min_size=1, max_size=14),
)
def test_any_program_of_loops_steps_and_restarts_serves_what_a_list_would(
    streams: Streams, *, length: int, is_sized: bool, size: int, epochs: int, drop_last: bool, prefetch: int, moves: list[str]
) -> None:
    epochs = epochs if is_sized else 1
    drop_last = drop_last and (not is_sized or size <= length * epochs)

    def make() -> Pipeline:
        source = streams.Sized(length) if is_sized else streams.Ending(length)
        return Pipeline(source=source, batch_size=size, num_epochs=epochs, drop_last=drop_last, prefetch=prefetch)

    model = Model(length if is_sized else None, length, size, epochs, drop_last=drop_last)
    pipeline, batches = make(), None
    for move in moves:
        if move == "loop" or (move == "next" and batches is None):
            batches = iter(pipeline)
            model.loop()
        if move == "next":
            assert batches is not None
            batch = next(batches, None)
            assert (batch if batch is None else ids([batch])[0]) == model.next()
        elif move == "step":
            try:
                found = ids([pipeline.step()])[0]
            except RuntimeError:
                found = None
            assert found == model.step()
        elif move == "resume":
            state = through_json(pipeline.get_state())
            pipeline, batches = make(), None
            pipeline.set_state(state)
            model.restore()
        elif move == "reset":
            pipeline.reset()
            model.reset()
            batches = None
        elif move == "clone":
            twin = pipeline.clone()
            if batches is not None:
                batches.close()
            pipeline, batches = twin, None
