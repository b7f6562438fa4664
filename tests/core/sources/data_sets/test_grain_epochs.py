"""Records of a Grain data set that is random differ from epoch to epoch, as Grain says, in every route."""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
import pytest
from flax import nnx
from random_elements import augmented, numbered

from datarax_core import Pipeline
from datarax_core.sources import DataSourceModule, SequenceSource, SequenceSourceConfig, from_sequence
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

N, BATCH, BATCHES = 10, 4, 7  # a batch across the ends of epochs 0 and 1


def data_set() -> Any:
    return grain.MapDataset.source(range(N)).map(numbered).seed(3).random_map(augmented)


def expected(source: DataSourceModule, data: Any, size: int = BATCH * BATCHES) -> list[tuple[int, float]]:
    """Return (id, noise) of the first records: Grain's own element of the epoch, in the order of the source."""
    indices = np.asarray(source.record_indices_at(0, size, source.order_key_data()))
    return [_pair(data[int(index) + len(data) * (at // len(data))]) for at, index in enumerate(indices)]


def _pair(record: Any) -> tuple[int, float]:
    return int(record["id"]), float(record["noise"])


def pairs(batches: Any) -> list[tuple[int, float]]:
    return [pair for batch in batches for pair in zip(batch["id"].tolist(), batch["noise"].tolist(), strict=True)]


def by_loop(pipeline: Pipeline) -> Iterator[Any]:
    for batch, _ in zip(pipeline, range(BATCHES), strict=False):
        yield batch


def by_step(pipeline: Pipeline) -> Iterator[Any]:
    yield from (pipeline.step() for _ in range(BATCHES))


def by_traced_step(pipeline: Pipeline) -> Iterator[Any]:
    step = nnx.jit(lambda pipeline: pipeline.step())
    yield from (step(pipeline) for _ in range(BATCHES))


def by_scan(pipeline: Pipeline) -> Iterator[Any]:
    served = pipeline.scan(lambda batch: batch, length=BATCHES)
    yield from ({name: served[name][number] for name in served} for number in range(BATCHES))


def by_resuming(pipeline: Pipeline) -> Iterator[Any]:
    for _ in range(BATCHES):
        twin = Pipeline(source=pipeline.source.copy(), batch_size=BATCH, num_epochs=None)
        twin.set_state(pipeline.get_state())
        yield twin.step()
        pipeline.step()


ROUTES = [by_loop, by_step, by_traced_step, by_scan, by_resuming]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_each_epoch_is_augmented_as_in_grain(route: Any, *, shuffle: bool) -> None:
    source = from_sequence(data_set(), shuffle=shuffle)
    served = pairs(route(Pipeline(source=source, batch_size=BATCH, num_epochs=None)))
    assert served == expected(source, data_set())
    noise = [dict(served[start : start + N]) for start in (0, N)]
    assert all(noise[0][number] != noise[1][number] for number in range(N))


def test_workers_augment_as_in_grain() -> None:
    source = from_sequence(data_set(), shuffle=True)
    pipeline = Pipeline(source=source, batch_size=BATCH, num_epochs=None, workers=1)
    assert pairs(by_loop(pipeline)) == expected(source, data_set())
    pipeline.close()


def test_loops_over_a_source_are_augmented_as_in_grain() -> None:
    source, data = from_sequence(data_set()), data_set()
    for epoch in range(3):
        assert [_pair(element) for element in source] == [_pair(data[number + N * epoch]) for number in range(N)]
    assert _pair(source[4]) == _pair(data[4])
    source.reset()
    assert pairs([source.get_batch(N), source.get_batch(N)]) == [_pair(data[number]) for number in range(2 * N)]


@pytest.mark.parametrize("route", ROUTES)
def test_a_part_follows_its_own_epochs(route: Any) -> None:
    part, data = from_sequence(data_set())[2:7], data_set()
    served = pairs(route(Pipeline(source=part, batch_size=BATCH, num_epochs=None)))
    assert served == [_pair(data[2 + at % 5 + N * (at // 5)]) for at in range(BATCH * BATCHES)]


@pytest.mark.parametrize("route", [by_loop, by_traced_step, by_scan])
def test_a_child_of_a_mixture_follows_its_own_epochs(route: Any) -> None:
    columns = {"id": np.full(8, -1, np.int32), "noise": np.zeros(8, np.float32)}
    children = [from_sequence(data_set()), MemorySource(MemorySourceConfig(placement="host"), columns)]
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25))
    mixture = MixDataSourcesNode(config, children, rngs=nnx.Rngs(0))
    served = pairs(route(Pipeline(source=mixture, batch_size=BATCH, num_epochs=None)))
    data = data_set()
    own = [pair for pair in served if pair[0] >= 0]
    assert len(own) == 21
    assert own == [_pair(data[number]) for number in range(21)]


def test_a_shuffle_of_grain_goes_on_with_the_next_epoch() -> None:
    data = data_set().shuffle(seed=5)
    source = from_sequence(data)
    served = pairs(by_loop(Pipeline(source=source, batch_size=BATCH, num_epochs=None)))
    assert served == [_pair(data[at]) for at in range(BATCH * BATCHES)]
    assert sorted(number for number, _ in served[N : 2 * N]) == list(range(N))


def test_parts_that_cannot_follow_say_so() -> None:
    source = from_sequence(data_set().shuffle(seed=5))
    with pytest.warns(UserWarning, match=r"^Subset \[2:7\] of SequenceSource serves the random records of its first"):
        part = source[2:7]
    served = pairs(by_loop(Pipeline(source=part, batch_size=5, num_epochs=None)))
    assert {number for number, _ in served} == {number for number, _ in served[:5]}  # never a record of another part
    with pytest.warns(
        UserWarning, match=r"augmented alike: in the next, this slice of a shuffle has records of other slices"
    ):
        from_sequence(data_set().shuffle(seed=5)[2:7])


def test_a_cache_keeps_the_first_epoch_and_says_so() -> None:
    with pytest.warns(
        UserWarning, match="augmented alike: cacheable=True keeps them; a stochastic stage of the pipeline"
    ):
        source = SequenceSource(SequenceSourceConfig(cacheable=True), data_set())
    served = pairs(by_loop(Pipeline(source=source, batch_size=N, num_epochs=2)))
    assert served[:N] == served[N:]


def test_data_that_is_not_random_is_read_by_record_index() -> None:
    data = grain.MapDataset.source(range(N)).map(numbered)
    assert not from_sequence(data).varies_by_epoch
    assert not from_sequence([1, 2, 3]).varies_by_epoch
