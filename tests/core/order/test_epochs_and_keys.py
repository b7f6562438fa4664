"""Epochs of positions, key data with numbers folded in, and the chunks in which an order is read."""

import jax
import numpy as np
import pytest

from datarax_core.order.order import epochs_of
from datarax_core.order.permutation import fold_in
from datarax_core.order.reader import chunk_size_of


def test_epochs_of_positions_of_any_size() -> None:
    assert epochs_of(8, 5, 5).tolist() == [1, 1, 2, 2, 2]
    assert epochs_of(2**62 + 2**60 - 1, 3, 2**60).tolist() == [4, 5, 5]
    assert jax.jit(lambda start: epochs_of(start, 5, 5))(8).tolist() == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_numbers_are_folded_in_as_jax_does(impl: str) -> None:
    key, numbers = jax.random.key(7, impl=impl), np.asarray([0, 1, 77, 2**31, 2**32 - 1], np.uint32)
    key_data = np.asarray(jax.random.key_data(key))
    folded = fold_in(key_data, numbers)
    assert jax.jit(fold_in)(key_data, numbers).tolist() == folded.tolist()
    if impl == "threefry2x32":
        theirs = [jax.random.key_data(jax.random.fold_in(key, number)).tolist() for number in numbers]
        assert folded.T.tolist() == theirs
        twice = fold_in(folded, np.full(5, 3, np.uint32))
        again = [jax.random.fold_in(jax.random.fold_in(key, number), 3) for number in numbers]
        assert twice.T.tolist() == [jax.random.key_data(one).tolist() for one in again]


def test_high_bits_of_a_number_change_the_key() -> None:
    key_data, number = np.asarray([1, 2], np.uint32), np.asarray([5], np.uint32)
    assert fold_in(key_data, number, np.asarray([1], np.uint32)).tolist() != fold_in(key_data, number).tolist()


@pytest.mark.parametrize(
    ("epoch", "batch", "held"),
    [
        (10, 4, 160),
        (1000, 4, 16_000),
        (50_000, 256, 12_544),
        (16_385, 256, 8_448),
        (10**9, 256, 16_384),
        (50_000, 20_000, 20_000),
        (10_000, 256, 10_240),
        (3, 256, 256),
    ],
)
def test_a_chunk_of_an_order_is_an_even_part_of_an_epoch(epoch: int, batch: int, held: int) -> None:
    assert chunk_size_of(epoch, batch, at_most=1 << 14) == held
