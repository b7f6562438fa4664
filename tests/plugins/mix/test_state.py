"""The state of a mixture is its position: a restored mixture serves the very next record, at every depth."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline
from datarax_core.errors import StateError
from datarax_mix import MixDataSourcesNode


def build(child: Any, mix: Any, kind: str) -> MixDataSourcesNode:
    """Return a mixture in a mixture; with streams, one at each depth."""
    inner = mix([child(0, 7), child(1, 30, kind=kind)], (0.25, 0.75), seed=5)
    return mix({"inner": inner, "plain": child(2, 50, kind=kind), "more": child(3, 11)}, (0.5, 0.3, 0.2))


def ids_of(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


@pytest.mark.parametrize("kind", ["device", "host", "stream", "stream without a length"])
def test_a_resumed_mixture_serves_the_next_record(child: Any, mix: Any, kind: str) -> None:
    made = build(child, mix, kind)
    sizes = [5, 1, 17, 40, 3, 60]
    served = [ids_of(made.get_batch(size)) for size in sizes]
    for stopped in range(len(sizes)):
        before = build(child, mix, kind)
        for size in sizes[:stopped]:
            before.get_batch(size)
        state = json.loads(json.dumps(before.get_state()))
        resumed = build(child, mix, kind)
        resumed.get_batch(13)  # wherever it stood
        resumed.set_state(state)
        assert [ids_of(resumed.get_batch(size)) for size in sizes[stopped:]] == served[stopped:]


@given(stops=st.lists(st.integers(0, 6), min_size=1, max_size=3), kind=st.sampled_from(["host", "stream"]))
@settings(max_examples=15, deadline=None)
def test_a_pipeline_stopped_and_resumed_anywhere_serves_the_same_batches(
    child: Any, mix: Any, stops: list[int], kind: str
) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=build(child, mix, kind), batch_size=9, num_epochs=2)

    expected = [ids_of(batch) for batch in pipeline()]
    served: list[list[int]] = []
    state = None
    for stop in [*stops, None]:
        resumed = pipeline()
        if state is not None:
            resumed.set_state(state)
        for count, batch in enumerate(resumed):
            if count == stop:
                break
            served.append(ids_of(batch))
            state = json.loads(json.dumps(resumed.get_state()))
    assert served == expected


@pytest.mark.parametrize("kind", ["device", "stream"])
def test_element_loops_are_resumed_too(child: Any, mix: Any, kind: str) -> None:
    made = build(child, mix, kind)
    expected = [int(element["id"]) for element in made]
    loop = iter(build(child, mix, kind))
    made.reset()
    loop = iter(made)
    first = [int(next(loop)["id"]) for _ in range(20)]
    resumed = build(child, mix, kind)
    resumed.set_state(made.get_state())
    assert first + [int(element["id"]) for element in resumed] == expected


def test_children_in_another_order_are_refused_by_name(child: Any, mix: Any) -> None:
    a, b = child(0, 20), child(1, 20)
    state = mix([a, b], (0.5, 0.5)).get_state()
    with pytest.raises(StateError, match=r"0\.sample was '\w+' and is '\w+'; 1\.sample was '\w+' and is '\w+'"):
        mix([b, a], (0.5, 0.5)).set_state(state)
    named = mix({"a": a, "b": b}, (0.5, 0.5)).get_state()
    with pytest.raises(StateError, match=r"names was \['a', 'b'\] and is \['b', 'a'\]"):
        mix({"b": b, "a": a}, (0.5, 0.5)).set_state(named)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weights": (0.6, 0.4)}, r"shares was \['1/2', '1/2'\] and is \['3/5', '2/5'\]"),
        ({"seed": 1}, "seed was"),
        ({"sampling": "categorical"}, "order was 'proportional, rule 1' and is 'categorical, rule 1'"),
        ({"stop": "all_seen"}, "stop was 'total' and is 'all_seen'"),
        ({"at_end": (2, "repeat")}, r"rounds was \[None, None\] and is \[2, None\]"),
        ({"source_field": "source"}, "element_spec was"),
    ],
)
def test_a_state_of_another_mixture_is_refused(child: Any, mix: Any, options: dict[str, Any], match: str) -> None:
    state = mix([child(0, 20), child(1, 30)]).get_state()
    other = mix([child(0, 20), child(1, 30)], options.pop("weights", None), **options)
    with pytest.raises(StateError, match=match):
        other.set_state(state)
    assert other.cursor.position == 0


def test_the_children_s_own_seeds_do_not_matter_but_whether_they_are_shuffled_does(child: Any, mix: Any) -> None:
    state = mix([child(0, 20), child(1, 30)]).get_state()
    again = [child(0, 20), child(1, 30)]
    again[0].reset(seed=99)
    mix(again).set_state(state)
    again[1].set_random_order(False)
    with pytest.raises(StateError, match=r"1\.order was 'shuffled, rule 1' and is 'sequential, rule 1'"):
        mix(again).set_state(state)


def test_a_state_is_small_and_json_and_holds_no_data(child: Any, mix: Any) -> None:
    made = mix([child(n, 1000) for n in range(4)])
    made.get_batch(100)
    assert len(json.dumps(made.get_state())) < 2500


@pytest.mark.parametrize("change", [{"streams": {}}, {"ended": 7}, {"streams": None}, {"ended": True}])
def test_a_state_of_streams_that_does_not_fit_changes_nothing(child: Any, mix: Any, change: dict[str, Any]) -> None:
    made = build(child, mix, "stream")
    made.get_batch(20)
    state = made.get_state()
    with pytest.raises(StateError, match="'streams' has the states of its children"):
        made.set_state({**state, **change})
    assert made.get_state() == state


def test_a_child_that_refuses_its_state_leaves_all_children_unchanged(child: Any, mix: Any) -> None:
    made = build(child, mix, "stream")
    made.get_batch(20)
    state = made.get_state()
    wrong = json.loads(json.dumps(state))
    wrong["position"] = 5
    wrong["streams"]["1"]["index"] = -1
    with pytest.raises(StateError, match="stands at no place"):
        made.set_state(wrong)
    assert made.get_state() == state


def test_copies_and_clones_move_independently(child: Any, mix: Any) -> None:
    for kind in ("host", "stream"):
        made = build(child, mix, kind)
        first = ids_of(made.get_batch(30))
        twin, copy = made.clone(), made.copy()
        rest = ids_of(made.get_batch(30))
        assert ids_of(twin.get_batch(30)) == rest
        assert ids_of(copy.get_batch(30)) == first
