"""Weights in stages: exact counts within a stage and at its end, ramps on a straight line, the same traced and not, resumed."""

import itertools
import json
import pickle
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline
from datarax_core.errors import StateError
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_mix.ramps import Ramp
from datarax_mix.shares import normalised, shares_of
from datarax_mix.stages import Stage, StagedTimeline
from datarax_mix.timeline import Ending

WEIGHTS = [
    {"from": 0, "weights": {"a": 0.75, "b": 0.25, "c": 0}},
    {"from": 60, "to": 160, "ramp": {"a": 0.25, "b": 0.25, "c": 0.5}},
    {"from": 200, "weights": {"a": 0, "b": 1, "c": 1}},
]


def build(child: Any, mix: Any, kind: str = "device", **options: Any) -> MixDataSourcesNode:
    children = {name: child(number, 9 + 4 * number, kind=kind) for number, name in enumerate("abc")}
    return mix(children, WEIGHTS, **options)


def ids_of(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


def integral(ramp: Ramp, child: int, position: int) -> Fraction:
    first, last = ramp.first.fractions[child], ramp.last.fractions[child]
    return first * position + (last - first) * position * position / (2 * ramp.length)


@st.composite
def ramps(draw: st.DrawFn) -> Ramp:
    count = draw(st.integers(1, 7))
    weights = st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count).filter(any)
    first, last = (shares_of(normalised(draw(weights))) for _ in range(2))
    return Ramp(first, last, draw(st.one_of(st.integers(1, 50), st.integers(1, 3000))))


@given(ramp=ramps())
@settings(max_examples=60, deadline=None)
def test_counts_follow_the_integral_of_a_ramp(ramp: Ramp) -> None:
    count = len(ramp.first.numerators)
    timeline = StagedTimeline([Stage(0, ramp.first), Stage(8, ramp.last, 8 + ramp.length)], [Ending(5, None)] * count)
    begun, end = timeline.counts(8), 0
    for size, shares in ramp.steps():
        assert sum(shares.numerators) == shares.denominator
        assert min(shares.numerators) >= 0
        end += size
        served = timeline.counts(8 + end) - begun
        assert served.sum() == end
        assert all(abs(int(served[child]) - integral(ramp, child, end)) < 1 for child in range(count))
    assert end == ramp.length
    which, places = timeline.at(0, ramp.length + 20)
    passed = np.cumsum(which[:, None] == np.arange(count), axis=0)
    for position in range(1, ramp.length, 1 + ramp.length // 40):
        served = passed[7 + position] - passed[7]
        assert all(abs(int(served[child]) - integral(ramp, child, position)) < 2.2 for child in range(count))
    for child in range(count):
        assert places[which == child].tolist() == list(range(passed[-1][child]))
    for position in range(0, ramp.length + 20, 7):
        assert timeline.counts(position).tolist() == (passed[position - 1].tolist() if position else [0] * count)


@pytest.mark.parametrize("length", [2**20 + 1, 3_000_017, 10**9, 10**12])
def test_counts_of_a_long_ramp_are_right_to_a_millionth_of_it(length: int) -> None:
    ramp = Ramp(shares_of((0.9, 0.1, 0.0)), shares_of((0.2, 0.3, 0.5)), length)
    timeline = StagedTimeline([Stage(0, ramp.first), Stage(0 + 10, ramp.last, 10 + length)], [Ending(5, None)] * 3)
    served = timeline.counts(10 + length) - timeline.counts(10)
    assert served.sum() == length
    assert all(abs(int(served[child]) - integral(ramp, child, length)) <= length / 2**20 + 1 for child in range(3))


def test_counts_within_a_stage_are_within_one_of_the_share_since_its_start(child: Any, mix: Any) -> None:
    made = build(child, mix)
    for start, end, shares in ((0, 60, (0.75, 0.25, 0)), (160, 200, (0.25, 0.25, 0.5)), (200, 300, (0, 0.5, 0.5))):
        begun = made.counts_at(start)
        for position in range(start, end + 1):
            counts = made.counts_at(position)
            for name, share in zip("abc", shares, strict=True):
                assert abs(counts[name] - begun[name] - share * (position - start)) < 1
    assert made.counts_at(60) == {"a": 45, "b": 15, "c": 0}
    assert made.counts_at(160) == {"a": 95, "b": 40, "c": 25}
    assert made.weights == made.weights_at(59) == (0.75, 0.25, 0.0)
    assert made.weights_at(110) == (0.5, 0.25, 0.25)
    assert made.weights_at(160) == made.weights_at(199) == (0.25, 0.25, 0.5)
    for ask in (made.counts_at, made.weights_at):
        with pytest.raises(ValueError, match="position is at least 0, not -1"):
            ask(-1)
        with pytest.raises(TypeError, match=r"position is an integer, not 1\.5"):
            ask(1.5)


@pytest.mark.parametrize("sampling", ["proportional", "categorical"])
def test_loop_step_scan_and_traced_positions_serve_the_same(child: Any, mix: Any, sampling: str) -> None:
    def pipeline(num_epochs: int | None) -> Pipeline:
        return Pipeline(
            source=build(child, mix, sampling=sampling), batch_size=13, num_epochs=num_epochs, drop_last=True
        )

    looped = [ids_of(batch) for batch in pipeline(6)]
    assert len(looped) == 18
    stepped = pipeline(None)
    assert [ids_of(stepped.step()) for _ in looped] == looped
    scanned = pipeline(None).scan(lambda batch: batch["id"], length=len(looped))
    assert np.asarray(jax.tree.leaves(scanned)[0]).tolist() == looped
    made = build(child, mix, sampling=sampling)
    key = made.order_key_data()
    traced = jax.jit(lambda start: (made.record_indices_at(start, 50, key), made.epochs_at(start, 50)))
    for start in (0, 31, 59, 60, 133, 160, 199, 200, 10_000):
        records, epochs = traced(start)
        np.testing.assert_array_equal(records, made.record_indices_at(start, 50, key))
        np.testing.assert_array_equal(epochs, made.epochs_at(start, 50))


def test_each_child_goes_on_in_its_own_order_from_stage_to_stage(child: Any, mix: Any) -> None:
    made = build(child, mix)
    served = np.asarray(ids_of(made.get_batch(400))) // 10**6
    ids = np.asarray(ids_of(build(child, mix).get_batch(400)))
    for number, length in enumerate((9, 13, 17)):
        own = ids[served == number]
        assert all(len(set(own[at : at + length])) == length for at in range(0, len(own) - length, length))


def test_draws_have_the_shares_of_their_position() -> None:
    shares = {"from": 0, "weights": [1, 0]}, {"from": 4000, "to": 12_000, "ramp": [0, 1]}
    from datarax_memory import MemorySource, MemorySourceConfig  # noqa: PLC0415 - of this test alone

    children = [MemorySource(MemorySourceConfig(), {"x": np.full(50, child)}) for child in range(2)]
    config = MixDataSourcesConfig(num_sources=2, weights=shares, sampling="categorical")
    made = MixDataSourcesNode(config, children, rngs=nnx.Rngs(0))
    drawn = np.asarray(made.get_batch(14_000)["x"])
    assert drawn[:4000].sum() == 0
    assert drawn[12_000:].all()
    for start in range(4000, 12_000, 2000):
        expected = (start + 1000 - 4000) / 8000
        assert abs(drawn[start : start + 2000].mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000)
    assert made.counts_at(14_000) == {"0": int((drawn == 0).sum()), "1": int(drawn.sum())}


@pytest.mark.parametrize("kind", ["device", "host", "stream"])
@pytest.mark.parametrize("stop", [30, 60, 91, 160, 170, 230])
def test_a_mixture_resumes_in_any_stage(child: Any, mix: Any, kind: str, stop: int) -> None:
    expected = ids_of(build(child, mix, kind).get_batch(300))
    made = build(child, mix, kind)
    assert ids_of(made.get_batch(stop)) == expected[:stop]
    resumed = build(child, mix, kind)
    resumed.set_state(json.loads(json.dumps(made.get_state())))
    assert ids_of(resumed.get_batch(300 - stop)) == expected[stop:]
    if kind != "stream":
        copied = pickle.loads(pickle.dumps(made))  # noqa: S301 - of this test
        assert ids_of(copied.get_batch(300 - stop)) == expected[stop:]


def test_a_state_of_other_stages_is_refused(child: Any, mix: Any) -> None:
    state = build(child, mix).get_state()
    later = [*WEIGHTS[:2], {**WEIGHTS[2], "from": 201}]
    other = mix({name: child(number, 9 + 4 * number) for number, name in enumerate("abc")}, later)
    with pytest.raises(StateError, match="shares"):
        other.set_state(state)


def test_one_stage_serves_what_constant_weights_serve(child: Any, mix: Any) -> None:
    children = [child(0, 30), child(1, 10)]
    constant = mix(children, (0.7, 0.3)).get_batch(100)
    assert ids_of(mix(children, [{"from": 0, "weights": (0.7, 0.3)}]).get_batch(100)) == ids_of(constant)


def test_a_nested_mixture_counts_its_own_records(child: Any, mix: Any) -> None:
    inner = mix([child(0, 30), child(1, 30)], [{"from": 0, "weights": [1, 0]}, {"from": 20, "weights": [0, 1]}])
    outer = mix({"inner": inner, "other": child(2, 60)}, (0.5, 0.5))
    served = np.asarray(ids_of(outer.get_batch(80))) // 10**6
    assert [sum(1 for _ in group) for _, group in itertools.groupby(served[served != 2])] == [20, 20]


def test_the_plan_has_the_counts_of_each_stage(child: Any, mix: Any) -> None:
    plan = build(child, mix).plan(6)
    assert "a      in stages      105   9   11.67" in plan
    lines = plan.splitlines()
    assert lines[5] == "Stages; the last one is counted to record 234:"
    assert lines[6].split() == ["positions", "child", "share", "records", "at", "its", "end", "epochs"]
    assert lines[10].split() == ["60", "-", "160", "a", "3/4", "to", "1/4", "50", "95", "10.56"]
    assert lines[16].split() == ["200", "-", "...", "a", "0", "0", "105", "11.67"]
    assert "about" in build(child, mix, sampling="categorical").plan()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([{"from": 1, "weights": [1, 1]}], "first stage of weights begins at 1, and the mixture at 0"),
        (
            [{"from": 0, "weights": [1, 1]}, {"from": 9, "weights": [1, 0]}, {"from": 5, "weights": [0, 1]}],
            "weights go back: stage 2 begins at 5, and the one before begins at 9",
        ),
        ([{"from": 0, "weights": [1, 1]}, {"from": 0, "weights": [1, 0]}], "weights go back: stage 1 begins at 0"),
        (
            [{"from": 0, "weights": [1, 1]}, {"from": 3, "to": 9, "ramp": [1, 0]}, {"from": 8, "weights": [0, 1]}],
            "stage 2 begins at 8, and the one before ends at 9",
        ),
        ([{"from": 0, "to": 9, "ramp": [1, 0]}], "weights begin with a ramp, which has no weights to begin from"),
        ([{"from": 0, "weights": [1, 1]}, {"from": 3, "ramp": [1, 0]}], "the ramp from 3 has no end; add `to`"),
        ([{"from": 0, "weights": [1, 1]}, {"from": 3, "to": 3, "ramp": [1, 0]}], "from 3 to 3 ends before it begins"),
        ([{"from": 0, "to": 3, "weights": [1, 1]}], "write ramp in place of weights, or leave `to` out"),
        ([{"from": 0, "to": 3, "weights": [1, 1], "ramp": [1, 1]}], "has both weights and a ramp; give one of them"),
        ([{"from": 0}], "has neither weights nor a ramp"),
        ([{"from": 0, "weights": [1, 1, 1]}], "weights of stage 0 has 3 entries for 2 children"),
        ([{"from": 0, "weights": [1, 1]}, {"from": 4, "weights": [0, 0]}], "weights of stage 1 are all zero"),
        ([{"from": 0, "weights": [1, 1]}, {"from": 4, "weights": [0, -1]}], "in stage 1, weight 1 is -1.0"),
        ([{"from": 0, "weights": [1, float("nan")]}], "in stage 0, weight 1 is nan; weights are finite numbers from 0"),
        (
            [{"from": 0, "weights": {"a": 1, "b": 1}}, {"from": 4, "weights": {"a": 1}}],
            "weights of stage 1 and the names",
        ),
        ([{"from": -1, "weights": [1, 1]}], "greater than or equal to 0"),
        ([{"form": 0, "weights": [1, 1]}], "unknown field 'form'"),
    ],
)
def test_stages_that_cannot_be_served_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixDataSourcesConfig(num_sources=2, weights=weights)


@pytest.mark.parametrize(
    "field", [{"stop": "first_exhausted"}, {"stop": "all_seen"}, {"at_end": "drop"}, {"at_end": 3}]
)
def test_rules_that_stages_leave_nothing_to_are_refused(field: dict[str, Any]) -> None:
    name = next(iter(field))
    with pytest.raises(ValueError, match=f"{name}=.* has no use with weights in stages, whose positions go on"):
        MixDataSourcesConfig(num_sources=1, weights=[{"from": 0, "weights": [1]}], **field)


def test_draws_from_a_mixture_in_stages_are_refused(child: Any, mix: Any) -> None:
    with pytest.raises(ValueError, match="the weights of that mixture are stages, which begin at positions"):
        mix([build(child, mix), child(4, 5)], (1, 1), sampling="categorical")
    with pytest.raises(ValueError, match=r"child 'b' of .* is empty, and has a weight"):
        mix({"a": child(0, 5), "b": child(1, 0)}, [{"from": 0, "weights": [1, 0]}, {"from": 9, "weights": [0, 1]}])
