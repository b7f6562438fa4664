"""One order for every way to read: element by element, in batches, statelessly, or by the pipeline."""

import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline, StateError
from datarax_memory import MemorySource, MemorySourceConfig

N = 23


def memory(*, seed: int = 0, length: int = N, **config: Any) -> MemorySource:
    data = {"id": np.arange(length), "x": np.arange(length) * 0.5}
    return MemorySource(MemorySourceConfig(**config), data, rngs=nnx.Rngs(seed))


def ids(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


def joined(batches: Iterator[Any]) -> list[int]:
    return [index for batch in batches for index in ids(batch)]


def epochs_of(source: MemorySource, count: int) -> list[int]:
    """Return the sequence that the source's order defines, which every route must serve."""
    return np.asarray(
        source.record_indices_at(0, count * source.order().epoch_length, source.order_key_data())
    ).tolist()


def by_elements(source: MemorySource) -> list[int]:
    return [int(element["id"]) for _ in range(2) for element in source]


def by_batches(source: MemorySource) -> list[int]:
    return joined(source.get_batch(2) for _ in range(N))


def by_stateless_batches(source: MemorySource) -> list[int]:
    return joined(source.get_batch_at(start, 2, source.order_key_data()) for start in range(0, 2 * N, 2))


def by_traced_batches(source: MemorySource) -> list[int]:
    def read(start: jax.Array, key: Any) -> Any:
        return source.get_batch_at(start, 2, key)

    compiled = jax.jit(read)
    return joined(compiled(start, source.order_key_data()) for start in range(0, 2 * N, 2))


def by_jitted_source(source: MemorySource) -> list[int]:
    @nnx.jit
    def read(source: MemorySource) -> Any:
        return source.get_batch(2)

    return joined(read(source) for _ in range(N))


def by_iteration(source: MemorySource) -> list[int]:
    return joined(iter(Pipeline(source=source, batch_size=2, num_epochs=2)))


def by_steps(source: MemorySource) -> list[int]:
    pipeline = Pipeline(source=source, batch_size=2)
    return joined(pipeline.step() for _ in range(N))


def by_scan(source: MemorySource) -> list[int]:
    pipeline = Pipeline(source=source, batch_size=2)
    served: list[int] = pipeline.scan(lambda batch: batch["id"], length=N).reshape(-1).tolist()
    return served


ROUTES = [
    by_elements,
    by_batches,
    by_stateless_batches,
    by_traced_batches,
    by_jitted_source,
    by_iteration,
    by_steps,
    by_scan,
]


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_serves_the_one_order(
    route: Callable[[MemorySource], list[int]],
    shuffle: bool,  # noqa: FBT001
    placement: str,
) -> None:
    source = memory(shuffle=shuffle, placement=placement)
    expected = epochs_of(source, 2)
    assert route(source) == expected
    assert sorted(expected[:N]) == sorted(expected[N:]) == list(range(N))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(length=st.integers(1, 40), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6), shuffle=st.booleans())
def test_batches_of_any_sizes_are_one_stream(length: int, sizes: list[int], *, shuffle: bool) -> None:
    source = memory(length=length, shuffle=shuffle, placement="host")
    served = joined(source.get_batch(size) for size in sizes)
    assert served == np.asarray(source.record_indices_at(0, sum(sizes), source.order_key_data())).tolist()
    assert (source.epoch, source.index) == divmod(sum(sizes), length)


# -- single accesses ------------------------------------------------------------------------------------------------------


def test_a_record_is_found_by_its_index_whatever_the_order() -> None:
    source = memory(shuffle=True)
    assert [source[index]["id"] for index in (0, 5, N - 1, -1, -N, np.int64(3))] == [0, 5, N - 1, N - 1, 0, 3]


def test_sequential_batches_wrap_at_the_end() -> None:
    source = memory()
    assert ids(source.get_batch_at(N - 2, 5)) == [N - 2, N - 1, 0, 1, 2]
    assert ids(source.get_batch_at(10 * N + 1, 2)) == [1, 2]
    assert ids(source.get_batch_at(0, 2 * N + 1)) == [*range(N), *range(N), 0]


def test_a_shuffled_batch_needs_a_key_that_selects_its_order() -> None:
    source = memory(shuffle=True)
    with pytest.raises(ValueError, match=r"MemorySource is shuffled: pass the key that selects the order"):
        source.get_batch_at(0, 4)
    one, other = jax.random.key(1), jax.random.key(2)
    assert ids(source.get_batch_at(0, N, one)) == ids(source.get_batch_at(0, N, one))
    assert ids(source.get_batch_at(0, N, one)) != ids(source.get_batch_at(0, N, other))
    assert sorted(ids(source.get_batch_at(N, N, one))) == list(range(N))


def test_a_key_does_not_change_a_sequential_order() -> None:
    assert ids(memory().get_batch_at(3, 4, jax.random.key(1))) == [3, 4, 5, 6]


def test_get_batch_with_a_key_is_stateless() -> None:
    source = memory(shuffle=True)
    source.get_batch(3)
    state = source.get_state()
    key = jax.random.key(7)
    assert ids(source.get_batch(4, key)) == ids(source.get_batch(4, key)) == ids(source.get_batch_at(0, 4, key))
    assert source.get_state() == state


def test_get_batch_without_a_key_is_the_next_batch() -> None:
    source = memory()
    assert (source.index, source.epoch) == (0, 0)
    assert [ids(source.get_batch(10)) for _ in range(3)] == [
        list(range(10)),
        list(range(10, 20)),
        [20, 21, 22, *range(7)],
    ]
    assert (source.index, source.epoch) == (7, 1)


def test_loops_and_batches_move_one_position() -> None:
    source = memory()
    source.get_batch(5)
    assert next(iter(source))["id"] == 5
    assert source.index == 6
    assert ids(source.get_batch(2)) == [6, 7]


def test_a_second_loop_is_the_next_epoch() -> None:
    source = memory(shuffle=True)
    first, second = ([int(element["id"]) for element in source] for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(N))
    assert source.epoch == 2


def test_the_rest_of_a_loop_can_be_iterated() -> None:
    source = memory()
    loop = iter(source)
    assert [int(next(loop)["id"]) for _ in range(3)] == [0, 1, 2]
    assert [int(element["id"]) for element in loop] == list(range(3, N))
    assert list(loop) == []


def test_next_of_a_source_is_the_next_element_of_its_epoch() -> None:
    source = memory()
    assert [int(next(source)["id"]) for _ in range(N)] == list(range(N))
    with pytest.raises(StopIteration):
        next(source)
    source.reset()
    assert next(source)["id"] == 0


@pytest.mark.parametrize("between", [iter, MemorySource.reset, lambda source: source.set_state(source.get_state())])
def test_a_loop_that_another_one_replaced_raises(between: Callable[[MemorySource], object]) -> None:
    source = memory()
    loop = iter(source)
    next(loop)
    between(source)
    with pytest.raises(
        RuntimeError, match="this loop is over: MemorySource was iterated anew, reset or restored since"
    ):
        next(loop)


def test_the_attributes_that_users_know() -> None:
    source = memory(shuffle=True, prefetch_size=4, track_metadata=True)
    assert (source.length, len(source), source.index, source.epoch) == (N, N, 0, 0)
    assert (source.prefetch_size, source.is_random_order, source.has_metadata) == (4, True, True)
    assert source.metadata_manager is not None
    assert memory().metadata_manager is None
    assert source.element_spec() == {
        "id": jax.ShapeDtypeStruct((), np.int64),
        "x": jax.ShapeDtypeStruct((), np.float64),
    }


def test_batches_served_are_counted() -> None:
    source = memory()
    source.get_batch(4)
    source.get_batch(4)
    assert source.get_operation_stats() == {"applied_count": 2, "skipped_count": 0}


# -- orders ---------------------------------------------------------------------------------------------------------------


def test_one_seed_is_one_order_and_another_seed_another() -> None:
    assert by_elements(memory(shuffle=True, seed=1)) == by_elements(memory(shuffle=True, seed=1))
    assert by_elements(memory(shuffle=True, seed=1)) != by_elements(memory(shuffle=True, seed=2))


def test_reset_goes_back_to_the_first_record() -> None:
    source = memory(shuffle=True)
    first = ids(source.get_batch(30))
    source.reset()
    assert (source.index, source.epoch) == (0, 0)
    assert ids(source.get_batch(30)) == first


def test_reset_with_a_seed_is_the_order_of_a_source_built_with_it() -> None:
    source = memory(shuffle=True, seed=1, prefetch_size=8)
    next(iter(source))
    source.reset(seed=2)
    assert by_elements(source) == by_elements(memory(shuffle=True, seed=2))
    sequential = memory()
    sequential.get_batch(3)
    sequential.reset(seed=2)
    assert ids(sequential.get_batch(2)) == [0, 1]


def test_the_random_order_can_be_switched_off_and_on() -> None:
    source = memory(shuffle=True, prefetch_size=8)
    shuffled = ids(source.get_batch_at(0, N, source.order_key_data()))
    source.set_random_order(False)
    assert not source.is_random_order
    assert [int(element["id"]) for element in source] == list(range(N))
    source.set_random_order(True)
    source.reset()
    assert [int(element["id"]) for element in source] == shuffled


def test_a_source_without_a_random_stream_cannot_shuffle() -> None:
    with pytest.raises(ValueError, match="MemorySource cannot shuffle: it was built without a random stream"):
        memory().set_random_order(True)


# -- copies and states ----------------------------------------------------------------------------------------------------


def test_a_clone_continues_independently_from_the_same_position() -> None:
    source = memory(shuffle=True, cache_size=2, prefetch_size=4)
    served = [int(next(iter(source))["id"]) for _ in range(1)] + ids(source.get_batch(4))
    twin = source.clone()
    assert twin.index == source.index == len(served)
    ahead = ids(twin.get_batch(5))
    assert source.index == len(served)
    assert ids(source.get_batch(5)) == ahead


def test_a_copy_starts_anew_in_the_same_order() -> None:
    source = memory(shuffle=True)
    first = ids(source.get_batch(N))
    state = source.get_state()
    twin = source.copy(name="twin")
    assert (twin.index, twin.epoch, twin.name) == (0, 0, "twin")
    assert ids(twin.get_batch(N)) == first
    assert source.get_state() == state


def test_a_copy_can_have_another_config_or_other_random_streams() -> None:
    source = memory(shuffle=True)
    assert ids(source.copy(config=MemorySourceConfig()).get_batch(3)) == [0, 1, 2]
    assert by_elements(source.copy(rngs=nnx.Rngs(5))) == by_elements(memory(shuffle=True, seed=5))


def test_a_pickle_goes_on_in_another_process_and_carries_the_data_once() -> None:
    data = {"id": np.arange(N), "image": np.zeros((N, 1000), np.float32)}
    config = MemorySourceConfig(shuffle=True, cache_size=2, track_metadata=True)
    source = MemorySource(config, data, rngs=nnx.Rngs(0))
    source.get_batch_with_metadata(4)
    jax.jit(lambda start: source.get_batch_at(start, 2, source.order_key_data()))(0)
    pickled = pickle.dumps(source)
    assert len(pickled) < 1.2 * data["image"].nbytes
    twin = pickle.loads(pickled)  # noqa: S301 - from the line above
    assert twin.get_state() == source.get_state()
    assert ids(twin.get_batch(N)) == ids(source.get_batch(N))


@pytest.mark.parametrize("config", [{"shuffle": True}, {"prefetch_size": 4}, {"shuffle": True, "track_metadata": True}])
def test_a_state_is_json_and_goes_on_where_it_was_saved(config: dict[str, Any]) -> None:
    source = memory(**config)
    source.get_batch(30)
    iterator = iter(source)
    for _ in range(3):
        next(iterator)
    state = json.loads(json.dumps(source.get_state()))
    rest = [int(element["id"]) for element in iterator]
    resumed = memory(**(config | {"prefetch_size": 3, "placement": "host"}))
    resumed.set_state(state)
    assert [int(element["id"]) for element in resumed] == rest
    assert len(rest) == N - 3


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (3, TypeError, "the state of MemorySource is a dict, as get_state.. gives it, not int"),
        ({}, StateError, "this is no state of MemorySource: 'fingerprint' is missing, 'position' is missing"),
        (memory(length=9).get_state(), StateError, "another stream than MemorySource: length was 9 and is 23"),
        (memory(shuffle=True).get_state(), StateError, "order was 'shuffled, rule 1' and is 'sequential, rule 1'"),
        (memory(num_workers=2, shard_id=1).get_state(), StateError, r"shard was \[1, 2\] and is \[0, 1\]"),
        (memory(track_metadata=True).get_state(), StateError, "no state of MemorySource: 'metadata' is unknown"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: Any, error: type[Exception], message: str) -> None:
    source = memory()
    source.get_batch(4)
    with pytest.raises(error, match=message):
        source.set_state(state)
    assert source.index == 4


def test_a_state_of_other_values_is_refused() -> None:
    other = MemorySource(MemorySourceConfig(), {"id": np.arange(N), "x": np.arange(N) * 0.25})
    with pytest.raises(StateError, match=r"sample was '\w{8}' and is '\w{8}'"):
        memory().set_state(other.get_state())
