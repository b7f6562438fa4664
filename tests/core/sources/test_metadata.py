"""Metadata of records: a stable index, a key that does not depend on batching, and counts of batches."""

import json
from dataclasses import FrozenInstanceError

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import MetadataManager, RecordMetadata, StateError


def key_data_of(record: RecordMetadata) -> tuple[int, ...]:
    assert record.rng_key is not None
    return tuple(np.asarray(jax.random.key_data(record.rng_key)).tolist())


def test_metadata_is_frozen_and_has_the_fields_that_users_know() -> None:
    record = RecordMetadata(3, "train:3")
    fields = (record.rng_key, record.epoch, record.global_step, record.batch_idx, record.shard_id, record.source_info)
    assert fields == (None, 0, 0, 0, None, {})
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'index'"):
        record.index = 4  # type: ignore[misc]


def test_metadata_of_a_single_record_counts_nothing() -> None:
    manager = MetadataManager(shard_id=2)
    info = {"name": "train", "length": 10}
    record = manager.record(7, epoch=3, source_info=info)
    assert (record.index, record.record_key, record.epoch, record.shard_id) == (7, "train:7", 3, 2)
    assert record.source_info == info
    assert manager.record(7).record_key == "record:7"
    assert (manager.epoch, manager.batch_idx, manager.global_step) == (0, 0, 0)


def test_batches_are_counted_from_0_in_each_epoch_and_steps_go_on() -> None:
    manager = MetadataManager()
    seen = []
    for epochs in ([0, 0], [0, 1], [1, 1], [2]):
        records = manager.batch(list(range(len(epochs))), epochs)
        assert [record.epoch for record in records] == epochs
        seen.append((records[0].batch_idx, records[0].global_step))
    assert seen == [(0, 0), (1, 1), (0, 2), (0, 3)]
    manager.reset()
    assert (manager.epoch, manager.batch_idx, manager.global_step) == (0, 0, 0)


def test_batches_are_not_counted_without_track_batches() -> None:
    manager = MetadataManager(track_batches=False)
    for _ in range(3):
        manager.batch([0, 1], [0, 0])
    assert (manager.batch_idx, manager.global_step) == (0, 0)


def test_an_empty_batch_has_no_records() -> None:
    assert MetadataManager().batch([], []) == []


def test_each_index_needs_an_epoch() -> None:
    with pytest.raises(ValueError, match=r"^each record has an epoch: 2 indices do not go with 1 epochs$"):
        MetadataManager().batch([0, 1], [0])


def test_counts_and_the_key_are_restored() -> None:
    manager, other = MetadataManager(rngs=nnx.Rngs(0)), MetadataManager(rngs=nnx.Rngs(1))
    for epoch in (0, 1, 1):
        manager.batch([0], [epoch])
    state = json.loads(json.dumps(manager.get_state()))
    assert (state["epoch"], state["batch_idx"], state["global_step"]) == (1, 2, 3)
    other.set_state(state)
    assert other.get_state() == manager.get_state()
    assert key_data_of(other.record(5)) == key_data_of(manager.record(5))
    plain = MetadataManager()
    plain.set_state(MetadataManager().get_state())
    assert plain.record(0).rng_key is None


def test_an_invalid_state_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^the state of the metadata is a dict, as get_state\(\) gives it, not list$"):
        MetadataManager().set_state([])  # type: ignore[arg-type]
    message = (
        "^this is no state of the metadata: 'batch_idx' is missing, 'global_step' is missing, 'key' is missing, 'x' is"
    )
    with pytest.raises(StateError, match=message):
        MetadataManager().set_state({"epoch": 1, "x": 2})


def test_without_random_streams_records_have_no_key() -> None:
    assert MetadataManager().record(0).rng_key is None


def test_the_key_of_a_record_depends_on_seed_epoch_and_index_alone() -> None:
    manager, again = MetadataManager(rngs=nnx.Rngs(0)), MetadataManager(rngs=nnx.Rngs(0))
    by_batch = [key_data_of(record) for batch in ([4, 5, 6], [7]) for record in again.batch(batch, [1] * len(batch))]
    assert by_batch == [key_data_of(manager.record(index, epoch=1)) for index in (4, 5, 6, 7)]
    keys = {
        key_data_of(MetadataManager(rngs=nnx.Rngs(seed)).record(index, epoch=epoch))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
        for index in (0, 1, 2, 2**32, 2**32 + 1, 2**40)
    }
    assert len(keys) == 2 * 3 * 6


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_a_batch_equal_keys_that_are_folded_one_by_one(impl: str) -> None:
    manager = MetadataManager(rngs=nnx.Rngs(0))
    manager.key = jax.random.key(7, impl=impl)
    indices = [0, 1, 1, 5, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40]
    epochs = [0, 0, 1, 2**31, 0, 2, 2**32, 7, 1]
    for record, index, epoch in zip(manager.batch(indices, epochs), indices, epochs, strict=True):
        key = jax.random.fold_in(jax.random.fold_in(manager.key, epoch & 0xFFFFFFFF), index & 0xFFFFFFFF)
        expected = jax.random.fold_in(key, index >> 32) if index >> 32 else key
        assert record.rng_key is not None
        assert (record.rng_key.shape, record.rng_key.dtype) == ((), expected.dtype)
        assert key_data_of(record) == tuple(np.asarray(jax.random.key_data(expected)).tolist())
