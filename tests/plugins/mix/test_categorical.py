"""``sampling="categorical"``: the documented draw, and its statistics."""

from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats as scipy_stats

from datarax_mix.order import _scaled

SURE = 1e-4  # with fixed keys the tests do not vary; a draw that is off fails by many powers of ten


def key_number(key: jax.Array) -> int:
    """Return the key data of a key, read as one number of 64 bits."""
    high, low = np.asarray(jax.random.key_data(key)).tolist()
    return int(high << 32 | low)


def test_records_are_drawn_as_documented(child: Any, mix: Any) -> None:
    made = mix([child(0, 10), child(1, 300), child(2, 7)], (0.5, 0.3, 0.2), sampling="categorical")
    key, bounds, offsets, lengths = jax.random.key(42), [5, 8, 10], [0, 10, 310], [10, 300, 7]
    for position in (0, 1, 17, 2**31, 2**32 - 1):
        at = jax.random.fold_in(key, np.uint32(position))
        slot = key_number(jax.random.fold_in(at, 0)) * 10 >> 64
        which = next(i for i, bound in enumerate(bounds) if slot < bound)
        record = offsets[which] + (key_number(jax.random.fold_in(at, 1)) * lengths[which] >> 64)
        assert made.record_indices_at(position, 1, key).tolist() == [record]


@pytest.mark.parametrize("seed", range(3))
def test_children_and_records_are_drawn_evenly(child: Any, mix: Any, seed: int) -> None:
    made = mix([child(0, 50), child(1, 80), child(2, 20)], (0.2, 0.7, 0.1), sampling="categorical")
    drawn = made.record_indices_at(0, 100_000, jax.random.key(seed))
    which = np.searchsorted([50, 130], drawn, side="right")
    assert scipy_stats.chisquare(np.bincount(which), [20_000, 70_000, 10_000]).pvalue > SURE
    for number, (first, length) in enumerate([(0, 50), (50, 80), (130, 20)]):
        records = np.bincount(drawn[which == number] - first, minlength=length)
        assert scipy_stats.chisquare(records).pvalue > SURE
    pairs = np.bincount(which[:-1] * 3 + which[1:], minlength=9)  # one draw says nothing of the next
    assert scipy_stats.chisquare(pairs, np.outer([0.2, 0.7, 0.1], [0.2, 0.7, 0.1]).ravel() * pairs.sum()).pvalue > SURE


def test_a_nested_mixture_is_drawn_from_by_its_own_weights(child: Any, mix: Any) -> None:
    inner = mix([child(0, 10), child(1, 90)], (0.5, 0.5))
    made = mix([inner, child(2, 50)], (0.4, 0.6), sampling="categorical")
    drawn = made.record_indices_at(0, 50_000, jax.random.key(0))
    counts = np.bincount(np.searchsorted([10, 100], drawn, side="right"))
    assert scipy_stats.chisquare(counts, [10_000, 10_000, 30_000]).pvalue > SURE


def test_counts_are_those_of_the_served_records(child: Any, mix: Any) -> None:
    made = mix([child(0, 50), child(1, 80)], (0.2, 0.8), sampling="categorical")
    drawn = made.record_indices_at(0, 1000, made.order_key_data())
    for position in (1000, 10, 400):
        assert made.counts_at(position) == {
            "0": int((drawn[:position] < 50).sum()),
            "1": int((drawn[:position] >= 50).sum()),
        }


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 1000, 2**20, 2**31 - 1])
def test_scaling_is_exact_and_equal_under_jit(limit: int) -> None:
    rng = np.random.default_rng(limit)
    edge = np.asarray([0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1], np.uint32)
    pairs = np.concatenate(
        [rng.integers(0, 2**32, (2, 500), np.uint32), np.stack(np.meshgrid(edge, edge)).reshape(2, -1)], 1
    )
    exact = [(int(high) << 32 | int(low)) * limit >> 64 for high, low in pairs.T]
    assert _scaled(pairs, limit).tolist() == exact
    assert jax.jit(lambda bits: _scaled(bits, limit))(pairs).tolist() == exact
