"""An order is a bijection of each epoch, the same on NumPy and under jit, however it is sliced and sharded."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

from datarax_core.order import permutation
from datarax_core.order.order import HOST_LIMIT, ORDER_RULE, Order
from datarax_core.order.reader import OrderReader

KEY = jax.random.key(20_251)
AROUND_POWERS = sorted({2**k + d for k in range(23) for d in (-1, 0, 1)} - {0})
KEYS = {
    "typed": jax.random.key(3),
    "key data": np.array([0xFFFF_FFFF, 0x8000_0001], np.uint32),
    "rbg": jax.random.key(3, impl="rbg"),
    "key data of rbg": np.array([1, 2, 3, 4], np.uint32),
}


def is_permutation(records: np.ndarray, length: int) -> bool:
    return len(records) == length and bool((np.bincount(records, minlength=length) == 1).all())


def on_device(order: Order, start: int, size: int, key: Any, *, traced: str) -> np.ndarray:
    if traced == "start" or key is None:
        return np.asarray(jax.jit(lambda start: order.record_indices(start, size, key))(start))
    if traced == "key":
        return np.asarray(jax.jit(lambda key: order.record_indices(start, size, key))(key))
    return np.asarray(jax.jit(lambda start, key: order.record_indices(start, size, key))(start, key))


def test_every_length_up_to_4096_is_a_permutation() -> None:
    assert all(is_permutation(Order(n).record_indices(n, n, KEY), n) for n in range(1, 4097))


@pytest.mark.parametrize("length", [n for n in AROUND_POWERS if n > 4096])
def test_lengths_around_powers_of_two_are_permutations(length: int) -> None:
    assert is_permutation(Order(length).record_indices(3 * length, length, KEY), length)


@pytest.mark.parametrize("length", [1, 5, 256, 257, 65_537, 2**20 - 1])
def test_the_order_under_jit_is_a_permutation(length: int) -> None:
    assert is_permutation(on_device(Order(length), 0, length, KEY, traced="both"), length)


@pytest.mark.parametrize("key", [None, *KEYS.values()], ids=["in sequence", *KEYS])
@pytest.mark.parametrize("traced", ["start", "key"])
def test_numpy_and_jit_agree_for_keys_of_every_form(key: Any, traced: str) -> None:
    for length in (200, 3000):
        order = Order(length)
        expected = order.record_indices(length - 9, 50, key)
        np.testing.assert_array_equal(on_device(order, length - 9, 50, key, traced=traced), expected)


@pytest.mark.parametrize(
    "length", [1, 2, 3, 255, 256, 257, 258, 1023, 1025, 65_535, 65_536, 65_537, 2**30 + 1, 2**31 - 1]
)
def test_numpy_and_jit_agree_wherever_the_stream_is_entered(length: int) -> None:
    order = Order(length)
    for size in (1, 700):
        compute = jax.jit(lambda start, key, size=size: order.record_indices(start, size, key))
        starts = {0, 1, length // 2, length - 1, length - 50, 2 * length - 7, 5 * length + 3, 2**31 - 1 - size}
        for start in (start for start in starts if 0 <= start < 2**31):
            actual = np.asarray(compute(start, KEY))
            assert actual.dtype == np.int32
            np.testing.assert_array_equal(actual, order.record_indices(start, size, KEY), err_msg=f"start {start}")


@pytest.mark.parametrize("start", [2**31 - 5, 2**31, 2**32 + 1, 2**45 + 17, 2**63 - 3, 2**63 + 11, 2**64 + 1])
@pytest.mark.parametrize("length", [251, 2**31 - 1])
def test_a_concrete_start_under_jit_may_pass_32_and_64_bits(length: int, start: int) -> None:
    order = Order(length)
    for key in (KEY, None):
        compute = jax.jit(lambda traced, key=key: order.record_indices(start, 30, key if key is None else traced))
        np.testing.assert_array_equal(compute(KEY), order.record_indices(start, 30, key))


@pytest.mark.parametrize("start", [0, 2**31 - 3, 2**32 * 1000, 2**50])
def test_a_traced_64_bit_start_agrees_too(start: int) -> None:
    expected = Order(1000).record_indices(start, 5, KEY)
    with jax.enable_x64(True):  # noqa: FBT003
        np.testing.assert_array_equal(on_device(Order(1000), start, 5, KEY, traced="start"), expected)


@pytest.mark.parametrize("length", [100, 1000])
def test_numpy_and_jit_agree_across_epoch_2_to_the_32(length: int) -> None:
    start = 2**32 * length - 2
    expected = Order(length).record_indices(start, 5, KEY)
    np.testing.assert_array_equal(on_device(Order(length), start, 5, KEY, traced="key"), expected)


def test_a_concrete_start_and_a_closed_over_key_work_inside_jit() -> None:
    inside = jax.jit(lambda: jnp.asarray(Order(1000).record_indices(0, 5, KEY)))()
    np.testing.assert_array_equal(inside, Order(1000).record_indices(0, 5, KEY))


@pytest.mark.parametrize(("length", "shards"), [(2, 2), (10, 3), (256, 7), (257, 257), (1000, 3), (2**31 - 1, 1000)])
def test_numpy_and_jit_agree_in_every_shard(length: int, shards: int) -> None:
    for shard in sorted({0, 1, shards // 2, shards - 1}):
        order = Order(length, shard, shards)
        compute = jax.jit(lambda start, key, order=order: order.record_indices(start, 20, key))
        for start in (0, order.epoch_length - 1, 3 * order.epoch_length // 2):
            np.testing.assert_array_equal(compute(start, KEY), order.record_indices(start, 20, KEY))


@settings(max_examples=200, deadline=None)
@given(length=st.one_of(st.integers(1, 40), st.integers(250, 600)), data=st.data())
def test_shards_are_disjoint_and_complete_in_each_epoch(length: int, data: st.DataObject) -> None:
    shards = data.draw(st.integers(1, min(length, 12)))
    epoch = data.draw(st.integers(0, 2**40))
    key = data.draw(st.sampled_from([KEY, None]))
    orders = [Order(length, shard, shards) for shard in range(shards)]
    served = [order.record_indices(epoch * order.epoch_length, order.epoch_length, key) for order in orders]
    assert is_permutation(np.concatenate(served), length)
    whole = Order(length).record_indices(epoch * length, length, key)
    assert all((part == whole[shard::shards]).all() for shard, part in enumerate(served))


@settings(max_examples=300, deadline=None)
@given(
    length=st.one_of(st.integers(1, 300), st.sampled_from([1000, 65_537, 2**31, 2**40 + 1, HOST_LIMIT])),
    start=st.one_of(st.integers(0, 2000), st.integers(0, 2**70)),
    sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6),
    shuffled=st.booleans(),
    data=st.data(),
)
def test_any_split_of_a_range_gives_the_same_records(
    *, length: int, start: int, sizes: list[int], shuffled: bool, data: st.DataObject
) -> None:
    shards = data.draw(st.integers(1, min(length, 5)))
    order = Order(length, data.draw(st.integers(0, shards - 1)), shards)
    start %= 2**63 * order.epoch_length
    key = KEY if shuffled else None
    ends = [start + end for end in itertools.accumulate(sizes, initial=0)]
    parts = [order.record_indices(at, size, key) for at, size in zip(ends, sizes, strict=False)]
    whole = order.record_indices(start, sum(sizes), key)
    np.testing.assert_array_equal(np.concatenate(parts), whole, strict=True)


@pytest.mark.parametrize(("length", "shards"), [(1, 1), (7, 1), (250, 3), (1000, 1), (16_385, 1), (2**40, 2**30)])
def test_a_range_over_many_epochs_is_those_epochs_end_to_end(length: int, shards: int) -> None:
    order = Order(length, shards // 2, shards)
    each, count = order.epoch_length, 2 + 40_000 // max(order.epoch_length, 100)
    epochs = [order.record_indices(epoch * each, each, KEY) for epoch in range(count)]
    across = order.record_indices(each // 2, (count - 1) * each, KEY)
    np.testing.assert_array_equal(across, np.concatenate(epochs)[each // 2 :][: (count - 1) * each])
    assert order.record_indices(each // 2, 0, KEY).shape == (0,)


@pytest.mark.parametrize("length", [2**31, 2**31 + 1, 2**32, 2**40 + 12_345, 2**62, 2**62 + 1, HOST_LIMIT])
def test_lengths_past_31_bits_are_undone_exactly_and_stay_in_range(length: int) -> None:
    scattered = np.random.default_rng(5).integers(0, length, 20_000)
    positions = np.concatenate([np.arange(2000), np.arange(length - 2000, length), scattered])
    keys = permutation.round_keys(np.asarray(jax.random.key_data(KEY)), *np.zeros((2, 1), np.uint32))[0]
    records = permutation.shuffle(positions, length, keys)
    assert 0 <= records.min() <= records.max() < length
    np.testing.assert_array_equal(_unshuffle(records, length, keys), positions)
    np.testing.assert_array_equal(Order(length).record_indices(0, 2000, KEY), records[:2000])
    np.testing.assert_array_equal(Order(length).record_indices(length - 2000, 2000, KEY), records[2000:4000])
    assert len(np.unique(records)) == len(np.unique(positions))


def _unshuffle(records: np.ndarray, length: int, keys: np.ndarray) -> np.ndarray:
    """Return the positions of records past 2**31: runs the rounds backwards, in Python's integers, until all are in range."""
    right_bits = (length - 1).bit_length() // 2
    count = -(-length >> right_bits)
    wide = [int(key) for key in permutation._widened(keys)]

    def hashed(value: int, key: int) -> int:
        value = (value ^ key) * 0xFF51AFD7ED558CCD % 2**64
        value = (value ^ value >> 31) * 0xC4CEB9FE1A85EC53 % 2**64
        return value ^ value >> 29

    def back(value: int) -> int:
        left, right = divmod(value, 1 << right_bits)
        for number in reversed(range(permutation.ROUNDS)):
            if number % 2:
                right ^= hashed(left, wide[number]) >> 64 - right_bits
            else:
                left = (left - (hashed(right, wide[number]) * count >> 64)) % count
        return left << right_bits | right

    values = [back(int(record)) for record in records]
    while any(value >= length for value in values):
        values = [back(value) if value >= length else value for value in values]
    return np.array(values)


@pytest.mark.parametrize(("right_bits", "left_count"), [(4, 17), (5, 32), (8, 300), (10, 1025)])
def test_the_64_bit_network_is_a_permutation_of_a_small_domain(right_bits: int, left_count: int) -> None:
    keys = np.random.default_rng(6).integers(0, 2**64, permutation.ROUNDS, np.uint64)
    values = np.arange(left_count << right_bits, dtype=np.uint64)
    wide = permutation._WIDE
    moved = permutation._feistel(values, keys=keys, right_bits=right_bits, left_count=left_count, width=wide)
    assert is_permutation(moved.astype(np.int64), len(values))


@pytest.mark.parametrize("length", [3, 200, 1000, 65_537])
def test_epochs_past_32_bits_are_orders_of_their_own(length: int) -> None:
    epochs = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**63 - 1, 2**63, 2**64 - 1]
    orders = [Order(length).record_indices(epoch * length, length, KEY) for epoch in epochs]
    assert all(is_permutation(order, length) for order in orders)
    assert length == 3 or all((one != other).any() for one, other in itertools.combinations(orders, 2))
    assert Order(length).record_indices(2**32 * length - 2, 4, KEY).tolist() == [*orders[2][-2:], *orders[3][:2]]


@pytest.mark.parametrize("key_data", [(0, 0), (1, 0), (0, 1), (0xFFFF_FFFF, 0xFFFF_FFFF), (0x13198A2E, 0x03707344)])
def test_round_keys_are_threefry_of_key_epoch_and_round(key_data: tuple[int, int]) -> None:
    key = np.array(key_data, np.uint32)
    low, high = np.random.default_rng(7).integers(0, 2**32, (2, 100), dtype=np.uint32)
    expected = np.asarray(threefry_2x32(key, np.concatenate([low, high])))
    folded = permutation._threefry(key[:1], key[1:], low, high)
    np.testing.assert_array_equal(np.concatenate(folded), expected)
    blocks = np.concatenate([np.arange(permutation.ROUNDS), np.zeros(permutation.ROUNDS)]).astype(np.uint32)
    for row, epoch_key in zip(permutation.round_keys(key, low, high), np.stack(folded, axis=1), strict=True):
        np.testing.assert_array_equal(row, threefry_2x32(epoch_key, blocks))


def test_the_arithmetic_of_rule_1_is_pinned() -> None:
    assert ORDER_RULE == 1
    key = np.array([0, 42], np.uint32)
    assert Order(5).record_indices(3, 4, key).tolist() == [2, 3, 4, 2]
    assert Order(256).record_indices(0, 4, key).tolist() == [172, 36, 226, 41]
    assert Order(1000).record_indices(0, 4, key).tolist() == [411, 985, 504, 674]
    assert Order(2**31 - 1).record_indices(0, 3, key).tolist() == [2105807663, 133403341, 981283930]
    assert Order(HOST_LIMIT).record_indices(0, 2, key).tolist() == [9058448065243819002, 2182626711439077378]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: Order(0), r"an order needs 1 to 2\*\*63 - 1 records, not 0"),
        (lambda: Order(2**63), r"not 9223372036854775808"),
        (lambda: Order(9, -1, 4), r"shard -1 is not one of 0 \.\. 3; number shards from 0"),
        (lambda: Order(9, 4, 4), r"shard 4 is not one of 0 \.\. 3; number shards from 0"),
        (lambda: Order(3, 3, 8), r"shard 3 of 8 is empty: there are 3 records only"),
        (lambda: Order(9).record_indices(-1, 4, KEY), r"position -1 is before the start of the stream"),
        (
            lambda: on_device(Order(2**31), 0, 4, KEY, traced="start"),
            r"2147483648 records are more than the 2147483647",
        ),
        (lambda: on_device(Order(2**40), 0, 4, KEY, traced="key"), r"32-bit positions under jit.*iterate from Python"),
    ],
)
def test_an_order_that_cannot_be_is_refused(refused: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refused()


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (jax.random.split(KEY, 2), r"uint32\[2, 2\]"),
        (np.array([1, 2, 3], np.uint32), r"uint32\[3\]"),
        (np.array([1, 2], np.int32), r"int32\[2\]"),
        (np.zeros(0, np.uint32), r"uint32\[0\]"),
        (7, r"(7|int32\[\])"),
    ],
)
def test_a_value_that_is_no_key_is_refused(key: Any, shown: str) -> None:
    message = f"a key is one PRNG key, as jax.random.key makes it, not {shown}"
    for compute in (Order(9).record_indices, jax.jit(Order(9).record_indices, static_argnums=1)):
        with pytest.raises(TypeError, match=message):
            compute(0, 4, key)


TAKES = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 90)), max_size=20)


@pytest.mark.parametrize("background", [False, True])
@settings(max_examples=50, deadline=None)
@given(takes=TAKES, capacity=st.integers(1, 80))
def test_an_order_reader_returns_what_compute_returns(
    takes: list[tuple[int, int]], capacity: int, *, background: bool
) -> None:
    def compute(start: int, size: int) -> np.ndarray:
        return Order(300).record_indices(start, size, KEY)

    reader = OrderReader(compute, capacity=capacity, background=background)
    for start, size in takes:
        np.testing.assert_array_equal(reader.take(start, size), compute(start, size))


def test_an_order_reader_returns_read_only_slices_of_chunks_computed_once_and_holds_no_more_than_its_capacity() -> None:
    computed: list[tuple[int, int]] = []

    def compute(start: int, size: int) -> np.ndarray:
        computed.append((start, size))
        return np.arange(start, start + size)

    reader = OrderReader(compute, capacity=100)
    assert not any(reader.take(start, 10).flags.writeable for start in range(0, 200, 10))
    assert computed == [(0, 100), (100, 100)]
    reader.take(0, 101)  # more than its capacity: computed, and its chunk stays
    reader.take(190, 10)
    assert computed == [(0, 100), (100, 100), (0, 101)]
    assert reader._chunk.size == 100


@pytest.mark.parametrize("length", [1, 5, 256, 257, 3000])
@pytest.mark.parametrize("seed", [None, 3])
def test_offsets_in_an_epoch_need_not_follow_one_another(length: int, seed: int | None) -> None:
    order, key = Order(length), None if seed is None else jax.random.key(seed)
    offsets = np.random.default_rng(0).integers(0, length, 40)
    for epoch in (0, 7, 2**33):
        whole = order.record_indices(epoch * length, length, key)
        assert np.array_equal(order.records_at(offsets, epoch, key), whole[offsets])
    shard = Order(length, 0, 2)
    whole = shard.record_indices(shard.epoch_length, shard.epoch_length, key)
    assert np.array_equal(shard.records_at(np.arange(shard.epoch_length), 1, key), whole)
