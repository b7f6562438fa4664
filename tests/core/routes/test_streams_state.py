"""States of pipelines over streams: exact however much was read ahead, and refused by other streams."""

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flax import nnx
from stream_batches import first, ids, through_json

from datarax_core import DataSourceModule, Pipeline, StateError

Streams = SimpleNamespace
pytestmark = pytest.mark.usefixtures("threads_end")


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
            assert ids(resumed) == batches[number:]
            assert ids(resumed) == second
            assert json.dumps(state) == saved


def test_a_state_saved_after_a_loop_that_was_left_goes_on_with_the_next_loop(streams: Streams) -> None:
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
    saved = pipeline.get_state()["stream"]
    assert (saved["position"], saved["source"]) == (2, {"at": 2})
    go_on.set()


def test_a_stream_without_a_state_is_served_and_nothing_is_read_ahead(streams: Streams) -> None:
    source = streams.Endless(name="wire")
    pipeline = Pipeline(source=source, batch_size=2, prefetch=5)
    assert first(2, pipeline) == [[0, 1], [2, 3]]
    assert source.watch.reads == [(0, 2), (2, 2)]
    assert source.watch.threads == {threading.current_thread().name}
    message = (
        r"^Endless 'wire' cannot say where it stands, so that its pipeline has no state to save; define get_state\(\)"
    )
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
    message = r"^Once 'wire' is a stream that cannot start over; define reset\(\)"
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
def test_a_value_that_is_not_a_state_of_the_stream_is_refused_and_nothing_is_changed(
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
    with pytest.raises(StateError, match=r"^there is no record 77$"):
        pipeline.set_state(bad)
    assert pipeline.get_state()["rngs"] == state["rngs"]
    assert first(2, pipeline) == [[0, 1], [2, 3]]
