"""Alias tables: whole numbers that add up, draws in proportion, the same on NumPy and in compiled code."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core.order import fold_in
from datarax_views.choosing.drawing.alias import AliasTable, traced_draw, units_of

UNIT = 1 << 32
KEY = np.array([7, 11], np.uint32)

weights_of_any_size = st.lists(
    st.one_of(st.just(0.0), st.integers(0, 5).map(float), st.floats(0, 1e300, allow_subnormal=True)),
    min_size=1,
    max_size=60,
).filter(any)


def units_drawn(table: AliasTable) -> list[int]:
    """Return how much of all columns each record has, in units: what the table draws, by a loop over its columns."""
    units = [0] * len(table)
    for column, (bound, alias) in enumerate(zip(table.bounds.tolist(), table.aliases.tolist(), strict=True)):
        own = UNIT if alias == column else bound
        units[column] += own
        units[alias] += UNIT - own
    return units


@settings(max_examples=200, deadline=None)
@given(weights=weights_of_any_size)
def test_the_units_are_the_weights_within_one(weights: list[float]) -> None:
    units = units_of(np.array(weights)).tolist()
    assert sum(units) == len(weights) * UNIT
    total = sum(map(Fraction, weights))
    for unit, weight in zip(units, weights, strict=True):
        exact = Fraction(weight) / total * len(weights) * UNIT
        assert abs(unit - exact) <= 2 + exact / 2**50
        assert unit == 0 or weight > 0


@settings(max_examples=200, deadline=None)
@given(weights=weights_of_any_size)
def test_a_table_holds_each_unit_once(weights: list[float]) -> None:
    units = units_of(np.array(weights))
    assert units_drawn(AliasTable.of_units(units)) == units.tolist()


@pytest.mark.parametrize("count", [1, 2, 5, 1000, 65_537])
def test_compiled_code_draws_the_same_records(count: int) -> None:
    rng = np.random.default_rng(count)
    table = AliasTable.of(rng.pareto(0.4, count))
    bits = rng.integers(0, 2**32, (2, 4096), dtype=np.uint32)
    bits[:, :4] = [[0, 0, UNIT - 1, UNIT - 1], [0, UNIT - 1, 0, UNIT - 1]]
    expected = table.draw(bits)
    assert np.array_equal(jax.jit(traced_draw)(table.tables, bits), expected)
    by_hand = [divmod((int(high) << 32 | int(low)) * count >> 32, UNIT) for high, low in bits.T]
    for (column, fraction), record in zip(by_hand, expected.tolist(), strict=True):
        assert record == (column if fraction < table.bounds[column] else table.aliases[column])


@pytest.mark.parametrize("seed", range(3))
def test_draws_are_in_proportion_to_the_weights(seed: int) -> None:
    weights = np.array([5, 0, 1, 0.5, 20, 3, 0, 9.5, 1, 60])
    draws = 200_000
    bits = fold_in(np.array([seed, 3], np.uint32), np.arange(draws, dtype=np.uint32))
    counts = np.bincount(AliasTable.of(weights).draw(bits), minlength=len(weights))
    expected = weights / weights.sum() * draws
    assert not counts[weights == 0].any()
    served = weights > 0
    chi_square = ((counts - expected)[served] ** 2 / expected[served]).sum()
    assert chi_square < 24.3  # 7 degrees of freedom: one in a thousand


def test_neighbouring_draws_are_independent() -> None:
    weights = np.array([1.0, 2, 3, 4])
    draws = 200_000
    records = AliasTable.of(weights).draw(fold_in(KEY, np.arange(draws, dtype=np.uint32)))
    for distance in (1, 2, 64):
        pairs = np.bincount(records[:-distance] * 4 + records[distance:], minlength=16)
        expected = np.outer(weights, weights).ravel() / 100 * (draws - distance)
        assert ((pairs - expected) ** 2 / expected).sum() < 37.7  # 15 degrees of freedom: one in a thousand


def test_equal_weights_use_no_alias() -> None:
    for weight in (1.0, 0.1, 3e-200, 7e200):
        table = AliasTable.of(np.full(1001, weight))
        assert np.array_equal(table.aliases, np.arange(1001))


def test_one_record_takes_all_draws() -> None:
    weights = np.zeros(1000)
    weights[123] = 1e-300
    assert set(AliasTable.of(weights).draw(fold_in(KEY, np.arange(1000, dtype=np.uint32))).tolist()) == {123}


def test_tables_differ_in_their_checksum() -> None:
    first, second = (AliasTable.of(np.array([1.0, 2, more])).checksum() for more in (3, 4))
    assert first != second
    assert first == AliasTable.of(np.array([2.0, 4, 6])).checksum()  # only the ratios count
