"""Streams in a pipeline: they are read forward, read ahead, ended and started over."""

import copy
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from stream_batches import first, ids

from datarax_core import DataSourceModule, Pipeline

Streams = SimpleNamespace
pytestmark = pytest.mark.usefixtures("threads_end")


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_a_sized_stream_goes_on_over_its_epochs(streams: Streams, prefetch: int) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4, num_epochs=2, prefetch=prefetch)
    assert ids(pipeline) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 100, 101], [102, 103, 104, 105], [106, 107, 108, 109]]
    assert first(2, pipeline) == [[200, 201, 202, 203], [204, 205, 206, 207]]
    assert len(pipeline) == 5


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_stream_whose_epochs_differ_begins_each_by_itself(streams: Streams, prefetch: int) -> None:
    class Counting(streams.Ending):  # type: ignore[misc, name-defined]  # a class of the fixture
        epochs = 0

        def begin_epoch(self) -> None:
            self.epochs += 1
            self.reset()

        def records(self, start: int, size: int) -> np.ndarray:
            made: np.ndarray = super().records(start, size)
            return made + np.int32(100 * self.epochs)

    pipeline = Pipeline(source=Counting(6), batch_size=4, num_epochs=2, prefetch=prefetch)
    assert np.concatenate(ids(pipeline)).tolist() == [*range(6), *range(100, 106)]


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
def test_a_stream_without_a_length_ends_and_every_loop_reads_all_of_it(
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


def test_a_loop_after_a_loop_that_was_left_skips_to_the_next_epoch_of_a_sized_stream(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4, num_epochs=1)
    assert first(1, pipeline) == [[0, 1, 2, 3]]
    assert ids(pipeline) == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]


def test_records_that_drop_last_leaves_out_are_skipped(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4, drop_last=True)
    assert [ids(pipeline) for _ in range(2)] == [
        [[0, 1, 2, 3], [4, 5, 6, 7]],
        [[100, 101, 102, 103], [104, 105, 106, 107]],
    ]


def test_a_source_with_a_skip_of_its_own_is_skipped_with_it(streams: Streams) -> None:
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
def test_step_and_loop_alternate(streams: Streams, prefetch: int) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=2, prefetch=prefetch)
    batches = iter(pipeline)
    served = [next(batches), pipeline.step(), pipeline.step(), next(batches), next(batches)]
    assert ids(served) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert next(batches, None) is None
    assert ids([pipeline.step()]) == [[100, 101]]


@pytest.mark.parametrize("rule", [{}, {"drop_last": True}, {"pad_last": "v"}])
def test_step_goes_on_with_the_next_epoch_of_a_stream(streams: Streams, rule: dict[str, Any]) -> None:
    pipeline = Pipeline(source=streams.Ending(3), batch_size=2, **rule)
    assert ids(pipeline.step() for _ in range(4)) == [[0, 1], [2, 0], [1, 2], [0, 1]]
    pipeline.reset()
    assert ids([pipeline.step()]) == [[0, 1]]


@pytest.mark.parametrize(("rule", "last"), [({}, [[2]]), ({"drop_last": True}, []), ({"pad_last": "v"}, [[2, 2]])])
def test_step_says_that_a_stream_has_ended_which_cannot_start_over(
    streams: Streams, rule: dict[str, Any], last: list[list[int]]
) -> None:
    class Once(streams.Endless):
        def records(self, start: int, size: int) -> np.ndarray:
            if start >= 3:
                raise StopIteration
            return super().records(start, min(size, 3 - start))

    pipeline = Pipeline(source=Once(name="log"), batch_size=2, **rule)
    pipeline.step()
    assert ids(pipeline.step() for _ in last) == last
    for _ in range(2):
        with pytest.raises(NotImplementedError, match=r"^Once 'log' is a stream that cannot start over; define reset"):
            pipeline.step()
    with pytest.raises(
        ValueError, match=r"^num_epochs=2 asks for more than one epoch, but Once 'log' is a stream that"
    ):
        Pipeline(source=Once(name="log"), batch_size=2, num_epochs=2)


def test_a_second_loop_ends_the_first(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=4)
    old = iter(pipeline)
    next(old)
    new = iter(pipeline)
    with pytest.raises(
        RuntimeError, match=r"^this loop is over: the pipeline was iterated anew, reset, restored or closed"
    ):
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


@pytest.mark.parametrize("kind", ["Endless", "Resumable"])
def test_a_deep_copy_goes_on_from_where_the_original_stands(streams: Streams, kind: str) -> None:
    pipeline = Pipeline(source=getattr(streams, kind)(), batch_size=2, num_epochs=None)
    fresh, batches = copy.deepcopy(pipeline), iter(pipeline)
    assert ids([next(batches), next(batches)]) == [[0, 1], [2, 3]]
    twin = copy.deepcopy(pipeline)
    assert ids([twin.step(), twin.step()]) == [[4, 5], [6, 7]] == ids([next(batches), next(batches)])
    assert ids([fresh.step()]) == [[0, 1]]


def test_a_clone_is_independent(streams: Streams) -> None:
    pipeline = Pipeline(source=streams.Sized(10), batch_size=2, prefetch=3)
    batches = iter(pipeline)
    next(batches)
    twin = pipeline.clone()
    assert ids([twin.step(), twin.step()]) == [[2, 3], [4, 5]]
    assert ids(batches) == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert ids(twin) == [[6, 7], [8, 9]]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_text_is_served_as_a_host_field(streams: Streams, prefetch: int) -> None:
    class Texts(streams.Ending):
        def element_spec(self) -> Any:
            return {**super().element_spec(), "word": jax.ShapeDtypeStruct((), np.dtype("<U3"))}

        def get_batch(self, batch_size: int) -> Any:
            batch = super().get_batch(batch_size)
            return {**batch, "word": batch["id"].astype("<U3")}

    pipeline = Pipeline(source=Texts(5), stages=[dict], batch_size=4, pad_last="valid", prefetch=prefetch)
    assert [batch["word"].tolist() for batch in pipeline] == [["0", "1", "2", "3"], ["4", "4", "4", "4"]]


class Noise:
    stochastic = True

    def __call__(self, batch: Any, keys: Any) -> Any:
        return {**batch, "noise": jax.vmap(jax.random.uniform)(keys)}


def test_keys_depend_on_the_place_in_the_epoch_and_not_on_the_batch(streams: Streams) -> None:
    def noise(source: DataSourceModule, batch_size: int) -> list[float]:
        pipeline = Pipeline(source=source, stages=[Noise()], batch_size=batch_size, num_epochs=None, rngs=nnx.Rngs(1))
        return np.concatenate([pipeline.step()["noise"] for _ in range(30 // batch_size)]).tolist()

    for make in (lambda: streams.Sized(10), streams.Resumable):
        drawn = noise(make(), 3)
        assert drawn == noise(make(), 5)
        assert len(set(drawn)) == 30


def test_a_pipeline_explains_the_route_of_a_stream(streams: Streams) -> None:
    sized = Pipeline(source=streams.Sized(10, name="log"), stages=[Noise()], batch_size=2, rngs=nnx.Rngs(0))
    assert repr(sized).startswith("Pipeline(Sized 'log': a stream of 10 records an epoch; stages: Noise; batches of 2")
    assert "stream route: Sized 'log' is read forward only" in sized.explain()
    assert "reads batches ahead" in sized.explain()
    assert sized.element_spec()["noise"] == jax.ShapeDtypeStruct((), np.float32)
    endless = Pipeline(source=streams.Endless(name="wire"), batch_size=2)
    assert repr(endless).startswith("Pipeline(Endless 'wire': a stream; stages: none")
    assert "Nothing is read ahead, and there is no state to save: Endless 'wire' cannot say where" in endless.explain()
    with pytest.raises(TypeError, match=r"^a pipeline over Endless 'wire' has no length: it is a stream without one$"):
        len(endless)
