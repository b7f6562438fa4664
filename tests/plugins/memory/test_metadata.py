"""Metadata: the record, how it was served, and a random key of its own."""

import itertools
import json
import re
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import RecordMetadata, StateError
from datarax_memory import MemorySource, MemorySourceConfig

N = 10


def memory(*, rngs: nnx.Rngs | None = None, track_metadata: bool = True, **config: Any) -> MemorySource:
    config = {"track_metadata": track_metadata, "shuffle": True} | config
    data = {"id": np.arange(N)}
    return MemorySource(MemorySourceConfig(**config), data, rngs=rngs or nnx.Rngs(0), name="train")


def key_numbers(metadata: RecordMetadata) -> tuple[int, ...]:
    assert metadata.rng_key is not None
    return tuple(jax.random.key_data(metadata.rng_key).tolist())


def keys_by_record(source: MemorySource, batch_size: int, batches: int) -> dict[tuple[int, int], tuple[int, ...]]:
    served = itertools.chain.from_iterable(source.get_batch_with_metadata(batch_size)[1] for _ in range(batches))
    return {(metadata.epoch, metadata.index): key_numbers(metadata) for metadata in served}


def test_a_batch_comes_with_the_metadata_of_each_of_its_records() -> None:
    source = memory()
    for number in range(4):
        start = source.cursor.position
        batch, metadata = source.get_batch_with_metadata(4)
        assert [m.index for m in metadata] == np.asarray(batch["id"]).tolist()
        assert [m.epoch for m in metadata] == [(start + row) // N for row in range(4)]
        assert {m.global_step for m in metadata} == {number}
    assert {m.source_info["name"] for m in metadata} == {"train"}
    assert metadata[0].record_key == f"train:{metadata[0].index}"
    assert source.cursor.position == 16


def test_batches_with_metadata_are_the_batches_without() -> None:
    tracked, plain = memory(), memory(track_metadata=False)
    for _ in range(4):
        np.testing.assert_array_equal(tracked.get_batch_with_metadata(4)[0]["id"], plain.get_batch(4)["id"])


def test_batches_are_counted_anew_in_each_epoch() -> None:
    source = memory()
    counted = [source.get_batch_with_metadata(5)[1][0] for _ in range(4)]
    assert [(m.epoch, m.batch_idx, m.global_step) for m in counted] == [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]


def test_a_record_comes_with_its_metadata_whatever_the_order() -> None:
    source = memory()
    for index in (0, 7, -1):
        element, metadata = source.get_with_metadata(index)
        assert element["id"] == metadata.index == index % N
    assert source.cursor.position == 0


def test_the_key_of_a_record_is_the_same_at_every_batch_size() -> None:
    keys = keys_by_record(memory(), 5, 4)
    assert keys_by_record(memory(), 4, 5) == keys
    assert key_numbers(memory().get_with_metadata(3)[1]) == keys[0, 3]


def test_the_key_differs_by_record_and_by_epoch() -> None:
    keys = keys_by_record(memory(), 10, 3)
    assert len(keys) == len(set(keys.values())) == 3 * N


def test_the_key_differs_by_seed() -> None:
    assert key_numbers(memory(rngs=nnx.Rngs(1)).get_with_metadata(3)[1]) != key_numbers(
        memory().get_with_metadata(3)[1]
    )


def test_the_key_is_drawn_from_the_stream_for_metadata() -> None:
    one = memory(rngs=nnx.Rngs(shuffle=1, metadata=5)).get_with_metadata(3)[1]
    other = memory(rngs=nnx.Rngs(shuffle=2, metadata=5)).get_with_metadata(3)[1]
    assert key_numbers(one) == key_numbers(other)


def test_without_a_random_stream_records_have_no_key() -> None:
    source = MemorySource(MemorySourceConfig(track_metadata=True), {"id": np.arange(N)})
    assert source.get_with_metadata(3)[1].rng_key is None
    assert {m.rng_key for m in source.get_batch_with_metadata(3)[1]} == {None}
    assert memory(rngs=nnx.Rngs(shuffle=0)).get_with_metadata(3)[1].rng_key is None


def test_a_batch_by_key_has_metadata_and_counts_nothing() -> None:
    source = memory()
    source.get_batch_with_metadata(4)
    state = source.get_state()
    key = jax.random.key(5)
    batch, metadata = source.get_batch_with_metadata(4, key)
    np.testing.assert_array_equal(batch["id"], source.get_batch_at(0, 4, key)["id"])
    assert [m.index for m in metadata] == np.asarray(batch["id"]).tolist()
    assert source.get_state() == state


def test_metadata_name_the_shard() -> None:
    batch, metadata = memory(num_workers=2, shard_id=1).get_batch_with_metadata(7)
    assert [m.index for m in metadata] == np.asarray(batch["id"]).tolist()
    assert [m.shard_id for m in metadata] == [1] * 7
    assert [m.epoch for m in metadata] == [0] * 5 + [1] * 2
    assert memory().get_with_metadata(0)[1].shard_id is None


def test_elements_of_a_list_have_metadata() -> None:
    source = MemorySource(MemorySourceConfig(track_metadata=True), ["a", "b", "c"])
    assert source.get_with_metadata(1)[0] == "b"
    batch, metadata = source.get_batch_with_metadata(2)
    assert (batch.tolist(), [m.record_key for m in metadata]) == (["a", "b"], ["memory:0", "memory:1"])


# -- progress -------------------------------------------------------------------------------------------------------------


def test_reset_counts_from_zero_again_with_the_same_keys() -> None:
    source = memory()
    keys = keys_by_record(source, 4, 3)
    source.reset()
    assert source.get_with_metadata(0)[1].global_step == 0
    assert keys_by_record(source, 4, 3) == keys


@pytest.mark.parametrize("config", [{"shuffle": True}, {"shuffle": False}])
def test_reset_with_a_seed_gives_the_keys_of_a_source_built_with_it(config: dict[str, Any]) -> None:
    source = memory(**config)
    source.reset(seed=9)
    assert keys_by_record(source, 4, 3) == keys_by_record(memory(rngs=nnx.Rngs(9), **config), 4, 3)


@pytest.mark.parametrize("config", [{"shuffle": True}, {"shuffle": False}])
def test_a_state_restores_counts_and_keys(config: dict[str, Any]) -> None:
    source = memory(**config)
    source.get_batch_with_metadata(4)
    state = json.loads(json.dumps(source.get_state()))
    ahead = source.get_batch_with_metadata(4)[1]
    resumed = memory(**config) if config["shuffle"] else memory(rngs=nnx.Rngs(8), **config)
    resumed.set_state(state)
    again = resumed.get_batch_with_metadata(4)[1]
    assert [(m.index, m.global_step, m.batch_idx, key_numbers(m)) for m in again] == [
        (m.index, m.global_step, m.batch_idx, key_numbers(m)) for m in ahead
    ]


@pytest.mark.parametrize("metadata", [None, 3, {"epoch": 0}])
def test_a_state_without_the_metadata_s_counts_is_refused(metadata: Any) -> None:
    source = memory()
    source.get_batch_with_metadata(4)
    state = source.get_state()
    with pytest.raises(StateError, match="no state of MemorySource 'train': 'metadata' is a dict of"):
        source.set_state({**state, "metadata": metadata})
    assert source.get_state() == state


@pytest.mark.parametrize(
    "broken",
    [
        {"epoch": "two"},
        {"batch_idx": -1},
        {"global_step": 10**30},
        {"epoch": None, "key": [1, 2]},
        {"key": [1, 2, 3]},
        {"key": [[1, 2], [3, 4]]},
        {"key": [-1, 2]},
        {"key": "secret"},
    ],
    ids=str,
)
def test_a_state_with_broken_metadata_changes_nothing(broken: dict[str, Any]) -> None:
    source = memory()
    other = source.get_state()
    source.get_batch_with_metadata(4)
    before = source.get_state()
    name, value = next(iter(broken.items()))
    message = re.escape(f"the state does not fit the metadata: {name!r} cannot be {value!r}")
    with pytest.raises(StateError, match=f"^{message}$"):
        source.set_state({**other, "metadata": {**other["metadata"], **broken}})
    assert source.get_state() == before


def test_metadata_of_a_state_that_is_refused_for_another_reason_change_nothing() -> None:
    source = memory()
    other = source.get_state()
    source.get_batch_with_metadata(4)
    before = source.get_state()
    with pytest.raises(StateError, match="stands at no place: position is -1"):
        source.set_state({**other, "position": -1})
    assert source.get_state() == before


def test_copies_and_clones_count_on_their_own() -> None:
    source = memory()
    source.get_batch_with_metadata(4)
    clone, copy = source.clone(), source.copy()
    clone.get_batch_with_metadata(4)
    copy.get_batch_with_metadata(4)
    assert [s.get_with_metadata(0)[1].global_step for s in (source, clone, copy)] == [1, 2, 1]
    assert len({key_numbers(s.get_with_metadata(3)[1]) for s in (source, clone, copy)}) == 1


# -- errors ---------------------------------------------------------------------------------------------------------------


def test_metadata_that_are_not_tracked_are_refused() -> None:
    source = memory(track_metadata=False)
    message = r"MemorySource 'train' tracks no metadata; build it with MemorySourceConfig\(track_metadata=True\)"
    with pytest.raises(RuntimeError, match=message):
        source.get_with_metadata(0)
    with pytest.raises(RuntimeError, match=message):
        source.get_batch_with_metadata(4)


@pytest.mark.parametrize("index", [N, -N - 1, 10**20])
def test_a_record_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=f"record {index} is out of range: MemorySource 'train' has 10 records"):
        memory().get_with_metadata(index)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (4.0, TypeError), ("4", TypeError)])
def test_a_bad_batch_size_counts_nothing(size: Any, error: type[Exception]) -> None:
    source = memory()
    state = source.get_state()
    with pytest.raises(error, match="size is"):
        source.get_batch_with_metadata(size)
    assert source.get_state() == state
