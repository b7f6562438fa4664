"""Ends of epochs and of children: the length known beforehand is the number of records served."""

from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_mix.shares import normalised, shares_of
from datarax_mix.timeline import Ending, Stop, Timeline

STOPS: list[Stop] = ["total", "first_exhausted", "all_seen"]


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    count = draw(st.integers(1, 4))
    weights = draw(st.lists(st.sampled_from([0.1, 0.2, 0.35, 1, 3]), min_size=count, max_size=count))
    lengths = draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))
    rounds = draw(st.lists(st.sampled_from([None, 1, 1, 2, 3]), min_size=count, max_size=count))
    return Timeline(shares_of(normalised(weights)), list(map(Ending, lengths, rounds)), draw(st.sampled_from(STOPS)))


def by_hand(timeline: Timeline) -> int:
    """Return the length of an epoch, found by serving it record by record, without the arithmetic under test."""
    served: Counter[int] = Counter()
    endings, total = timeline.endings, sum(ending.length or 0 for ending in timeline.endings)
    for position in range(10**6):
        over = [i for i in timeline.served if served[i] >= endings[i].exhausted_at]
        seen = [i for i in timeline.served if served[i] >= (endings[i].length or 0)]
        if timeline.stop == "total" and (
            position == total or all(endings[i].rounds and served[i] == endings[i].limit for i in timeline.served)
        ):
            return position
        if timeline.stop == "first_exhausted" and over:
            return position
        if timeline.stop == "all_seen" and len(seen) == len(timeline.served):
            return position
        served[int(UNSTOPPED(timeline).at(position, 1)[0][0])] += 1
    raise AssertionError


def UNSTOPPED(timeline: Timeline) -> Timeline:  # noqa: N802 - what it is
    """Return the same children, in an epoch that is as long as it can be."""
    return getattr(timeline, "_unstopped", None) or _remembered(timeline)


def _remembered(timeline: Timeline) -> Timeline:
    twin = Timeline(timeline.shares, timeline.endings, "all_seen" if timeline.is_continuous else "total")
    limits = [timeline.endings[i].limit for i in timeline.served]
    twin.__dict__["epoch_length"] = 10**6 if None in limits else sum(filter(None, limits))
    timeline.__dict__["_unstopped"] = twin
    return twin


@given(timelines())
@settings(max_examples=60, deadline=None)
def test_the_length_is_the_number_of_records_that_serving_finds(timeline: Timeline) -> None:
    assert timeline.epoch_length == by_hand(timeline)


@given(timelines(), st.integers(0, 300), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_each_child_continues_in_its_own_order_without_a_gap(timeline: Timeline, start: int, size: int) -> None:
    which, places = timeline.at(0, start + size)
    for child in timeline.served:
        assert places[which == child].tolist() == list(range((which == child).sum()))
    again = timeline.at(start, size)
    assert [part.tolist() for part in again] == [which[start:].tolist(), places[start:].tolist()]
    assert timeline.counts(start).tolist() == np.bincount(which[:start], minlength=len(timeline.endings)).tolist()


@given(timelines())
@settings(max_examples=60, deadline=None)
def test_no_child_serves_more_than_its_epochs_before_it_drops_out(timeline: Timeline) -> None:
    length = timeline.epoch_length
    assert length is not None
    for epoch in range(3):
        served = timeline.counts((epoch + 1) * length) - timeline.counts(epoch * length)
        for count, ending in zip(served, timeline.endings, strict=True):
            assert ending.limit is None or count <= ending.limit


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("rounds", [(None, None, None), (1, None, None), (2, 1, 1), (None, 1, 3)])
def test_under_jit_it_is_equal_to_the_bit(stop: Stop, rounds: tuple[int | None, ...]) -> None:
    timeline = Timeline(shares_of((0.5, 0.3, 0.2)), list(map(Ending, (10, 20, 33), rounds)), stop)
    traced = jax.jit(timeline.traced_at, static_argnums=1)
    for start in (0, 1, 17, 64, 500, 10**6, 2**31 - 500):
        for ours, theirs in zip(timeline.at(start, 300), traced(np.int32(start), 300), strict=True):
            assert np.array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize(
    ("options", "length", "counts"),
    [
        ({}, 50, {"0": 35, "1": 15}),
        ({"stop": "first_exhausted"}, 28, {"0": 20, "1": 8}),
        ({"stop": "all_seen"}, 100, {"0": 70, "1": 30}),
        ({"at_end": "drop"}, 50, {"0": 20, "1": 30}),
        ({"at_end": ("drop", "repeat")}, 50, {"0": 20, "1": 30}),
        ({"at_end": (2, "drop"), "stop": "all_seen"}, 70, {"0": 40, "1": 30}),
        ({"at_end": 3, "stop": "all_seen"}, 90, {"0": 60, "1": 30}),
        ({"at_end": (3, "repeat"), "stop": "first_exhausted"}, 85, {"0": 60, "1": 25}),
    ],
)
def test_len_is_what_a_loop_serves(
    child: Any, mix: Any, options: dict[str, Any], length: int, counts: dict[str, int]
) -> None:
    made = mix([child(0, 20), child(1, 30)], (0.7, 0.3), **options)
    ids = [int(element["id"]) for element in made]
    assert len(ids) == len(made) == length
    served = Counter(one // 1_000_000 for one in ids)
    assert {str(number): served[number] for number in (0, 1)} == counts == made.counts_at(length)
    seen = [set(ids) & set(range(n * 1_000_000, n * 1_000_000 + size)) for n, size in ((0, 20), (1, 30))]
    if options.get("stop") == "all_seen":
        assert [len(part) for part in seen] == [20, 30]


def test_a_child_that_has_dropped_out_leaves_its_share_to_the_others_in_proportion() -> None:
    timeline = Timeline(shares_of((0.5, 0.3, 0.2)), [Ending(5, 1), Ending(300, None), Ending(200, None)], "total")
    which, _ = timeline.at(10, 490)
    assert np.bincount(which).tolist() == [0, 294, 196]


def test_compiled_code_reads_a_mixture_whose_epoch_is_longer_than_32_bits_count() -> None:
    timeline = Timeline(shares_of((0.99999, 0.00001)), [Ending(10, None), Ending(50_000, 1)], "all_seen")
    assert timeline.epoch_length is not None
    assert timeline.epoch_length > 2**31
    for start in (0, 2**31 - 100):
        traced = jax.jit(lambda start: timeline.traced_at(start, 64))(np.int32(start))
        for found, expected in zip(traced, timeline.at(start, 64), strict=True):
            np.testing.assert_array_equal(found, expected)
