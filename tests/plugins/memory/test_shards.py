"""Shards are disjoint and complete in each epoch, by every route; shard k serves positions [k::num_workers]."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig

N, WORKERS = 22, 3


def shard(k: int, *, workers: int = WORKERS, length: int = N, shuffle: bool = True, **config: Any) -> MemorySource:
    return MemorySource(
        MemorySourceConfig(shuffle=shuffle, num_workers=workers, shard_id=k, **config),
        {"id": np.arange(length)},
        rngs=nnx.Rngs(0),
    )


def whole(length: int = N, *, shuffle: bool = True, epochs: int = 1) -> list[list[int]]:
    """Return the epochs of the unsharded source, by its order."""
    source = MemorySource(MemorySourceConfig(shuffle=shuffle), {"id": np.arange(length)}, rngs=nnx.Rngs(0))
    return [
        np.asarray(source.record_indices_at(epoch * length, length, source.order_key_data())).tolist()
        for epoch in range(epochs)
    ]


def by_elements(source: MemorySource, count: int) -> list[int]:
    served: list[int] = []
    while len(served) < count:
        served += [int(element["id"]) for element in source]
    return served


def by_batches(source: MemorySource, count: int) -> list[int]:
    return np.asarray(source.get_batch(count)["id"]).tolist()


def by_stateless_batches(source: MemorySource, count: int) -> list[int]:
    return np.asarray(source.get_batch_at(0, count, source.order_key_data())["id"]).tolist()


def by_keyed_batches(source: MemorySource, count: int) -> list[int]:
    key = source.order_key_data()
    return by_batches(source, count) if key is None else np.asarray(source.get_batch(count, key)["id"]).tolist()


def by_traced_batches(source: MemorySource, count: int) -> list[int]:
    compiled = jax.jit(lambda start, key: source.get_batch_at(start, count, key)["id"])
    return np.asarray(compiled(0, source.order_key_data())).tolist()


def by_iteration(source: MemorySource, count: int) -> list[int]:
    served: list[int] = []
    for batch in Pipeline(source=source, batch_size=4, num_epochs=None):
        served += np.asarray(batch["id"]).tolist()
        if len(served) >= count:
            break
    return served[:count]


def by_steps(source: MemorySource, count: int) -> list[int]:
    pipeline = Pipeline(source=source, batch_size=4)
    return np.concatenate([pipeline.step()["id"] for _ in range(-(-count // 4))]).tolist()[:count]


def by_scan(source: MemorySource, count: int) -> list[int]:
    pipeline = Pipeline(source=source, batch_size=4)
    served = pipeline.scan(lambda batch: batch["id"], length=-(-count // 4))
    return np.asarray(served).reshape(-1).tolist()[:count]


ROUTES = [
    by_elements,
    by_batches,
    by_stateless_batches,
    by_keyed_batches,
    by_traced_batches,
    by_iteration,
    by_steps,
    by_scan,
]


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_each_route_serves_the_shards_part_of_each_epoch(
    route: Callable[[MemorySource, int], list[int]],
    shuffle: bool,  # noqa: FBT001
    placement: str,
) -> None:
    first, second = whole(shuffle=shuffle, epochs=2)
    for k in range(WORKERS):
        served = route(shard(k, shuffle=shuffle, placement=placement), 2 * len(first[k::WORKERS]))
        assert served == first[k::WORKERS] + second[k::WORKERS]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(length=st.integers(1, 40), data=st.data(), shuffle=st.booleans())
def test_shards_are_disjoint_and_together_complete(length: int, data: st.DataObject, *, shuffle: bool) -> None:
    workers = data.draw(st.integers(1, length))
    sources = [shard(k, workers=workers, length=length, shuffle=shuffle, placement="host") for k in range(workers)]
    for _ in range(2):
        served = [int(element["id"]) for source in sources for element in source]
        assert sorted(served) == list(range(length))


def test_a_pipelines_length_is_that_of_its_shard() -> None:
    assert [len(Pipeline(source=shard(k), batch_size=4)) for k in range(WORKERS)] == [2, 2, 2]
    assert [shard(k).order().epoch_length for k in range(WORKERS)] == [8, 7, 7]
    assert [len(list(shard(k))) for k in range(WORKERS)] == [8, 7, 7]


def test_index_and_epoch_count_the_records_of_the_shard() -> None:
    source = shard(1)
    source.get_batch(10)
    assert (source.epoch, source.index, source.length) == (1, 3, N)


def test_a_record_keeps_its_index_in_every_shard() -> None:
    assert [shard(k)[5]["id"] for k in range(WORKERS)] == [5, 5, 5]


def test_shards_of_the_elements_of_a_list() -> None:
    elements = [{"id": i} for i in range(7)]
    sources = [MemorySource(MemorySourceConfig(num_workers=2, shard_id=k), elements) for k in (0, 1)]
    assert [[element["id"] for element in source] for source in sources] == [[0, 2, 4, 6], [1, 3, 5]]


def test_a_state_goes_on_in_its_own_shard_only() -> None:
    source = shard(1)
    source.get_batch(5)
    state = source.get_state()
    ahead = by_batches(source, 9)
    resumed = shard(1)
    resumed.set_state(state)
    assert by_batches(resumed, 9) == ahead
    with pytest.raises(ValueError, match=r"shard was \[1, 3\] and is \[2, 3\]"):
        shard(2).set_state(state)


def test_a_pipelines_state_goes_on_in_its_shard() -> None:
    pipeline = Pipeline(source=shard(2), batch_size=4, num_epochs=2)
    iterator = iter(pipeline)
    next(iterator)
    state = pipeline.get_state()
    rest = [np.asarray(batch["id"]).tolist() for batch in iterator]
    resumed = Pipeline(source=shard(2), batch_size=4, num_epochs=2)
    resumed.set_state(state)
    assert [np.asarray(batch["id"]).tolist() for batch in resumed] == rest


def test_a_copy_with_another_shard_serves_the_rest_of_the_same_order() -> None:
    first = shard(0, workers=2)
    config = MemorySourceConfig(shuffle=True, num_workers=2, shard_id=1)
    other = first.copy(config=config)
    assert sorted(by_batches(first, 11) + by_batches(other, 11)) == list(range(N))


def test_switching_the_shuffle_off_keeps_the_shard() -> None:
    source = shard(1)
    source.set_random_order(False)
    assert by_elements(source, 7) == list(range(N))[1::WORKERS]


def test_more_shards_than_records_leave_one_without_any() -> None:
    with pytest.raises(ValueError, match="shard 5 of 8 is empty: there are 3 records only"):
        shard(5, workers=8, length=3)
