"""The arithmetic of bucket views: bounds with the least padding, and the order of batches."""

import itertools
import pickle

import numpy as np
import pytest

from datarax_views.sequences.bucketing.bounds import best_bounds, bucket_of
from datarax_views.sequences.bucketing.order import BucketOrder, EpochTables

KEY = np.array([3, 4], np.uint32)


def padded_to(lengths: np.ndarray, bounds: tuple[int, ...]) -> int:
    return sum(min(bound for bound in bounds if bound >= length) for length in lengths.tolist())


@pytest.mark.parametrize("seed", range(40))
def test_bounds_have_the_least_padding_of_all_that_are_possible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, rng.integers(2, 40), rng.integers(1, 25))
    multiple_of, count = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    bounds = best_bounds(lengths, count, multiple_of)
    possible = sorted({max(1, -(-length // multiple_of)) * multiple_of for length in lengths.tolist()})
    choices = [
        (*below, possible[-1])
        for size in range(min(count, len(possible)))
        for below in itertools.combinations(possible[:-1], size)
    ]
    assert padded_to(lengths, bounds) == min(padded_to(lengths, choice) for choice in choices)
    assert len(bounds) <= count
    assert set(bounds) <= set(possible)


def test_a_length_equal_to_a_bound_is_in_its_bucket() -> None:
    assert bucket_of(np.array([0, 1, 4, 5, 8, 9]), (4, 8)).tolist() == [0, 0, 0, 1, 1, 2]


def order_of(*, keep: bool) -> BucketOrder:
    classes = np.random.default_rng(0).integers(0, 6, 1000).astype(np.uint16)
    classes[classes == 2] = 3  # a bucket without records, and one, 5, that no record may be in
    return BucketOrder(classes, (7, 3, 4, 50, 1000), keep=keep)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("key", [None, KEY])
def test_an_epoch_serves_each_record_once_in_batches_of_one_bucket(key: np.ndarray | None, *, keep: bool) -> None:
    order, tables = order_of(keep=keep), EpochTables()
    position, epochs = 0, []
    for epoch in range(3):
        served = []
        for number in range(order.num_batches):
            step, size = order.batch_at(position, key, tables)
            assert step == epoch * order.num_batches + number
            assert order.position_of(step, key, tables) == position
            records = order.record_indices(position, size, key, tables)
            assert len(set(order.classes[records].tolist())) == 1
            assert size in order.sizes + order.short_sizes
            position += size
            served.append(records)
        epochs.append(np.concatenate(served))
    for served in epochs:
        assert len(set(served.tolist())) == len(served) == order.num_records
        full = [count if keep else count // size * size for count, size in zip(order.counts, order.sizes, strict=True)]
        assert np.bincount(order.classes[served], minlength=5).tolist() == full
    assert (len({served.tobytes() for served in epochs}) == 3) == (key is not None)


@pytest.mark.parametrize("key", [None, KEY])
def test_any_range_of_positions_is_a_piece_of_one_sequence(key: np.ndarray | None) -> None:
    order, rng = order_of(keep=True), np.random.default_rng(1)
    whole = order.record_indices(0, 4 * order.num_records, key, EpochTables())
    for _ in range(200):
        start, size = rng.integers(0, 3 * order.num_records), rng.integers(0, order.num_records)
        found = order.record_indices(int(start), int(size), key, EpochTables())
        assert np.array_equal(found, whole[start : start + size])
    far = 10**30 * order.num_records + 5
    assert len(order.record_indices(far if key is None else 2**60 * order.num_records, 9, key, EpochTables())) == 9


def test_in_sequence_a_batch_comes_where_its_last_record_does() -> None:
    classes = np.array([0, 1, 0, 1, 0, 1, 1, 0], np.uint16)
    order = BucketOrder(classes, (2, 3), keep=True)
    found = order.record_indices(0, 8, None, EpochTables())
    assert found.tolist() == [0, 2, 1, 3, 5, 6, 4, 7]


def test_batches_of_all_buckets_are_mixed_and_their_records_too() -> None:
    classes = np.repeat([0, 1], 600).astype(np.uint16)
    order, tables = BucketOrder(classes, (10, 10), keep=True), EpochTables()
    first = order.record_indices(0, 1200, KEY, tables)
    buckets = order.classes[first[::10]]
    assert 20 < int((buckets[1:] != buckets[:-1]).sum()) < 100
    other = order.record_indices(1200, 1200, KEY, tables)
    together = [set(batch.tolist()) for batch in first.reshape(-1, 10)]
    assert max(len(set(batch.tolist()) & own) for batch in other.reshape(-1, 10) for own in together) < 8
    apart = order.record_indices(0, 1200, KEY + np.uint32(1), tables)
    assert not np.array_equal(first, apart)


def test_an_order_pickles_without_what_can_be_made_again() -> None:
    order = order_of(keep=False)
    order.record_indices(0, 10, None, EpochTables())
    twin = pickle.loads(pickle.dumps(order))  # noqa: S301 - made here
    assert len(pickle.dumps(order)) < 4 * order.classes.nbytes
    for key in (None, KEY):
        found = twin.record_indices(5, 500, key, EpochTables())
        assert np.array_equal(found, order.record_indices(5, 500, key, EpochTables()))


def test_a_position_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^position -1 is before the start of the stream"):
        order_of(keep=True).record_indices(-1, 2, KEY, EpochTables())
