"""Shares as fractions, and the schedule of a period: counts always within one of the share, equal under ``jit``."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datarax_mix.schedule import Schedule
from datarax_mix.shares import LARGEST, Shares, normalised, shares_of

FAR = 10**12

numerators = st.lists(st.integers(0, 300), min_size=1, max_size=8).filter(any)
weights = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=6).filter(lambda w: sum(w) > 1e-3)


def shares(numerators: list[int]) -> Shares:
    return Shares(tuple(numerators), sum(numerators), 0.0)


def counts_after_each(schedule: Schedule, start: int, size: int) -> np.ndarray:
    """Return each child's count after each of the positions, int (size, k)."""
    which, _ = schedule.at(start, size)
    return schedule.counts(start) + np.cumsum(which[:, None] == np.arange(len(schedule.numerators)), axis=0)


@given(numerators, st.sampled_from([0, 1, 12345, FAR, 2**55]))
@example([1, 1, 1, 1, 1, 1, 1, 93], 0)
@example([5, 5, 1, 1, 1, 1, 1, 1], FAR)
def test_each_count_is_within_one_of_its_share_after_any_number_of_records(numerators: list[int], start: int) -> None:
    of = shares(numerators)
    counts, after = counts_after_each(Schedule.of(of), start, 2 * of.denominator), start + 1
    for child, numerator in enumerate(numerators):
        exact = [numerator * (after + row) for row in range(2 * of.denominator)]  # Python's integers: nothing overflows
        off = [int(count) * of.denominator - share for count, share in zip(counts[:, child], exact, strict=True)]
        assert max(map(abs, off)) < of.denominator


def test_the_longest_period_stays_within_one() -> None:
    of = shares_of(normalised([1e-6, 0.37, 0.2, 0.1234567, 0.3]))
    schedule = Schedule.of(of)
    assert 2**19 < of.denominator == len(schedule) <= LARGEST
    positions = np.arange(1, len(schedule) + 1)
    for child, numerator in enumerate(of.numerators):
        counts = np.cumsum(schedule.children == child)
        assert np.abs(counts * of.denominator - positions * numerator).max() < of.denominator


def test_serving_the_child_furthest_behind_does_not_stay_within_one() -> None:
    numerators = [1, 2, 8, 8, 8, 11, 11, 11]
    exact = np.arange(1, 61)[:, None] * np.asarray(numerators) / 60
    counts, greedy = np.zeros(len(numerators)), []
    for share in exact:
        counts[np.argmax(share - counts)] += 1
        greedy.append(counts.copy())
    assert np.abs(greedy - exact).max() > 1
    assert np.abs(counts_after_each(Schedule.of(shares(numerators)), 0, 60) - exact).max() < 1


@given(numerators, st.integers(0, 3 * 2**16), st.integers(0, 3000))
@settings(max_examples=50)
def test_positions_and_stretches_agree(numerators: list[int], start: int, size: int) -> None:
    schedule = Schedule.of(shares(numerators))
    which, places = schedule.at(start, size)
    again, places_again = np.full(size, -1), np.full(size, -1)
    for child, first, rows in schedule.stretches(start, size):
        again[rows], places_again[rows] = child, first + np.arange(len(rows))
    assert which.tolist() == again.tolist()
    assert places.tolist() == places_again.tolist()
    assert (
        schedule.counts(start + size).tolist()
        == (schedule.counts(start) + np.bincount(which, minlength=len(numerators))).tolist()
    )
    for row in range(0, size, 97):
        assert schedule.position_of(int(which[row]), int(places[row])) == start + row


@pytest.mark.parametrize("numerators", [[7, 3], [1], [1, 2, 3, 94], [0, 5, 0, 2], [1, 999_999], [2**16, 2**15, 1]])
@pytest.mark.parametrize(("start", "size"), [(0, 10), (65_530, 20), (2**31 - 200_000, 150_000), (123_456_789, 70_000)])
def test_under_jit_it_is_equal_to_the_bit(numerators: list[int], start: int, size: int) -> None:
    schedule = Schedule.of(shares(numerators))
    traced = jax.jit(schedule.traced_at, static_argnums=1)(np.int32(start), size)
    for ours, theirs in zip(schedule.at(start, size), traced, strict=True):
        assert np.array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.7, 0.3], "7/10, 3/10"),
        ([7, 3], "7/10, 3/10"),
        ([1, 1, 1], "1/3, 1/3, 1/3"),
        ([1 / 6, 5 / 6], "1/6, 5/6"),
        ([1, 2, 4], "1/7, 2/7, 4/7"),
        ([0.3, 0.0, 0.7], "3/10, 0, 7/10"),
        ([1, 1.009], "1000/2009, 1009/2009"),
        ([1e-6, 1 - 1e-6], "1/1000000, 999999/1000000"),
        ([2.5], "1"),
        ([0.1] * 10, ", ".join(["1/10"] * 10)),
    ],
)
def test_weights_are_read_as_the_fractions_that_they_were_made_of(weights: list[float], expected: str) -> None:
    of = shares_of(normalised(weights))
    assert (str(of), of.max_error) == (expected, 0)


@given(weights)
@settings(deadline=None)
def test_shares_add_up_to_one_and_are_near_the_weights(weights: list[float]) -> None:
    given_weights = normalised(weights)
    of = shares_of(given_weights)
    assert sum(of.fractions) == 1
    assert of.denominator <= LARGEST
    off = [abs(float(share) - weight) for share, weight in zip(of.fractions, given_weights, strict=True)]
    assert max(off) <= max(of.max_error, 1e-15) * (1 + 1e-9)
    assert max(off) <= len(weights) / LARGEST
    assert [share > 0 for share in of.fractions] == [weight > 0 for weight in given_weights]


def test_weights_that_need_more_are_rounded_to_the_nearest_that_fit() -> None:
    weight = 2**0.5 / 2
    of = shares_of((weight, 1 - weight))
    best = Fraction(weight).limit_denominator(LARGEST)  # of two children the best is known
    assert of.fractions[0] == best
    assert of.max_error == pytest.approx(abs(float(best) - weight), abs=1e-16)
    assert 0 < of.max_error < 1e-11


def test_a_weight_too_small_for_the_table_is_served_nevertheless() -> None:
    of = shares_of(normalised([1, 1e-12]))
    assert of.numerators == (LARGEST - 1, 1)
    assert of.max_error == pytest.approx(2**-20, rel=1e-3)


@given(weights)
def test_normalising_twice_changes_nothing(weights: list[float]) -> None:
    assert normalised(normalised(weights)) == normalised(weights)
