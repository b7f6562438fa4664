"""A state is a position in one stream: small, plain JSON, exact to the batch, and refused by any other stream."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline, StateError, columns_of

MakeSource = Callable[..., Any]
SIZE = 32
COLUMNS = columns_of({"id": np.arange(100, dtype=np.int32), "x": np.ones((100, 2), np.float32)}, "the test's data")
ROUTES = ["iteration", "step", "scan"]


class Noise(nnx.Module):
    """A stage with a random stream."""

    def __init__(self, seed: int) -> None:
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(seed))

    def __call__(self, batch: Any) -> Any:
        return {**batch, "x": self.dropout(batch["x"])}


def keep_all(batch: Any) -> Any:
    return batch


def make_pipeline(make_source: MakeSource, **options: Any) -> Pipeline:
    source = options.pop("source", None) or make_source(COLUMNS, shuffle=True)
    return Pipeline(**{"source": source, "batch_size": SIZE, "stages": [Noise(0)], "rngs": nnx.Rngs(3)} | options)


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state, allow_nan=False))


def served(route: str, pipeline: Pipeline, batches: int) -> list[tuple[bytes, bytes]]:
    """Return the next batches by one route, with records and random numbers, in comparable form."""
    if route == "scan":
        stacked = pipeline.scan(keep_all, length=batches)
        taken = [jax.tree.map(lambda leaf, row=row: leaf[row], stacked) for row in range(batches)]
    elif route == "iteration":
        taken = [batch for _, batch in zip(range(batches), pipeline, strict=False)]
    else:
        taken = [pipeline.step() for _ in range(batches)]
    return [(np.asarray(batch["id"]).tobytes(), np.asarray(batch["x"]).tobytes()) for batch in taken]


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_run_resumes_at_every_batch_boundary(make_source: MakeSource, *, drop_last: bool) -> None:
    options = {"num_epochs": 2, "drop_last": drop_last}
    pipeline = make_pipeline(make_source, **options)
    states, batches = [through_json(pipeline.get_state())], []
    for batch in pipeline:
        batches.append((np.asarray(batch["id"]).tobytes(), np.asarray(batch["x"]).tobytes()))
        states.append(through_json(pipeline.get_state()))
    next_run = served("iteration", pipeline, len(pipeline))
    resumed = make_pipeline(make_source, **options)
    for number, state in enumerate(states):
        resumed.set_state(state)
        assert ("ends at once if no batch is left" in resumed.explain()) == (number > 0)
        assert served("iteration", resumed, 99) == batches[number:]
        assert served("iteration", resumed, 99) == next_run


@settings(max_examples=25, deadline=None, derandomize=True)
@given(moves=st.lists(st.tuples(st.sampled_from(ROUTES), st.integers(1, 2)), min_size=2, max_size=5))
def test_a_stream_resumes_exactly_from_one_route_into_another(
    make_source: MakeSource, moves: list[tuple[str, int]]
) -> None:
    total = sum(batches for _, batches in moves)
    uninterrupted = served("step", make_pipeline(make_source, num_epochs=None), total)
    resumed, state = [], through_json(make_pipeline(make_source, num_epochs=None).get_state())
    for route, batches in moves:
        pipeline = make_pipeline(make_source, num_epochs=None)
        pipeline.set_state(state)
        resumed += served(route, pipeline, batches)
        state = through_json(pipeline.get_state())
    assert resumed == uninterrupted


def test_a_stream_resumes_into_a_step_under_jit(make_source: MakeSource) -> None:
    step = nnx.jit(lambda pipeline: pipeline.step())
    pipeline = make_pipeline(make_source, num_epochs=None)
    uninterrupted = served("step", pipeline, 6)
    pipeline = make_pipeline(make_source, num_epochs=None)
    resumed = served("step", pipeline, 2)
    for _ in range(2):
        batch = step(pipeline)
        resumed.append((np.asarray(batch["id"]).tobytes(), np.asarray(batch["x"]).tobytes()))
    state = through_json(pipeline.get_state())
    pipeline = make_pipeline(make_source, num_epochs=None)
    pipeline.set_state(state)
    assert resumed + served("step", pipeline, 2) == uninterrupted


def test_a_state_can_be_restored_twice_and_is_not_changed_by_it(make_source: MakeSource) -> None:
    pipeline = make_pipeline(make_source, num_epochs=None)
    served("iteration", pipeline, 4)
    state = pipeline.get_state()
    saved = json.dumps(state)
    pipeline.set_state(state)
    first = served("iteration", pipeline, 3)
    assert json.dumps(state) == saved
    pipeline.set_state(state)
    assert served("iteration", pipeline, 3) == first


def test_streams_of_the_pipeline_and_of_its_stages_are_restored(make_source: MakeSource) -> None:
    pipeline = make_pipeline(make_source)
    assert pipeline.rngs is not None
    pipeline.step()
    state = through_json(pipeline.get_state())
    drawn = [pipeline.rngs.augment() for _ in range(2)]
    other = make_pipeline(make_source, stages=[Noise(8)], rngs=nnx.Rngs(9))
    other.set_state(state)
    assert other.rngs is not None
    assert [other.rngs.augment() for _ in range(2)] == drawn
    assert served("step", other, 2) == served("step", pipeline, 2)


def test_a_state_is_small_and_holds_no_data(make_source: MakeSource) -> None:
    small, large = (
        len(json.dumps(make_pipeline(make_source, source=make_source(length, shuffle=True)).get_state()))
        for length in (100, 100_000)
    )
    assert abs(large - small) < 16
    assert large < 2048


# -- refusals -----------------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "length": ({"data": 200}, {}, [r"length was 100 and is 200"]),
    "data": ({"data": {"id": np.arange(1, 101, dtype=np.int32)}}, {}, [r"sample was '\w{8}' and is '\w{8}'"]),
    "fields": (
        {"data": {"id": np.arange(100)}},
        {},
        [r"element_spec was \{'id': 'int32\[\]'\} and is \{'id': 'int64\[\]'\}"],
    ),
    "seed": ({"seed": 1}, {}, [r"seed was \[\d+, \d+\] and is \[\d+, \d+\]"]),
    "order": ({"shuffle": False}, {}, [r"order was 'shuffled, rule 1' and is 'sequential, rule 1'"]),
    "shard": ({"shard": (1, 4)}, {}, [r"shard was \[0, 1\] and is \[1, 4\]"]),
    "batch size": ({}, {"batch_size": 16}, [r"batch_size was 32 and is 16"]),
    "drop_last": ({}, {"drop_last": True}, [r"drop_last was False and is True"]),
    "pad_last": ({}, {"pad_last": "valid"}, [r"pad_last was None and is 'valid'"]),
    "all": (
        {"data": 200, "seed": 1, "shard": (0, 2)},
        {"batch_size": 16, "drop_last": True},
        ["batch_size was 32 and is 16", "drop_last was", "element_spec was", "length was", "sample was", "seed was"],
    ),
}


@pytest.mark.parametrize(("source", "pipeline", "named"), OTHERS.values(), ids=OTHERS)
def test_the_state_of_another_stream_is_refused_and_every_difference_is_named(
    make_source: MakeSource, source: dict[str, Any], pipeline: dict[str, Any], named: list[str]
) -> None:
    own: dict[str, Any] = {"data": {"id": np.arange(100, dtype=np.int32)}, "shuffle": True}
    state = Pipeline(source=make_source(**own), batch_size=32).get_state()
    other = Pipeline(source=make_source(**own | source), **{"batch_size": 32} | pipeline)
    other.step()
    before = other.get_state()
    message = "^the state is of another stream than the pipeline over EagerSourceBase: .*" + ".*; ".join(named)
    remedy = (
        r".*; restore it into what saved it, or start anew with reset\(\)($|; or, if that was changed on purpose, )"
    )
    with pytest.raises(StateError, match=message + remedy):
        other.set_state(through_json(state))
    assert other.get_state() == before


def test_a_source_of_another_class_and_an_order_of_another_rule_are_named(
    make_source: MakeSource, make_host_source: MakeSource
) -> None:
    state = Pipeline(source=make_source(COLUMNS), batch_size=32).get_state()
    state["fingerprint"]["order"] = "sequential, rule 0"
    named = "order was 'sequential, rule 0' and is 'sequential, rule 1'; .*source was 'EagerSourceBase' and is 'HostRec"
    with pytest.raises(StateError, match=named):
        Pipeline(source=make_host_source(100), batch_size=32).set_state(state)


def test_num_epochs_may_differ(make_source: MakeSource) -> None:
    pipeline = make_pipeline(make_source, num_epochs=None)
    served("iteration", pipeline, 2)
    longer = make_pipeline(make_source, num_epochs=2)
    longer.set_state(through_json(pipeline.get_state()))
    assert len(served("iteration", longer, 99)) == 5
    assert longer.get_state()["position"] == 200


PLACE = r"where integers with 0 <= run_start <= position < 2\*\*63 are expected"
BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "no dict": (lambda _: [1], TypeError, r"the state of the pipeline over \w+ is a dict, as get_state\(\) gives it, not"),
    "none": (lambda _: None, TypeError, "not NoneType"),
    "empty": (lambda _: {}, StateError, "'fingerprint' is missing, 'position' is missing, 'rngs' is missing, 'run_st"),
    "key unknown": (lambda s: s | {"extra": 1}, StateError, "this is no state of the pipeline over .*: 'extra' is unknown"),
    "no fingerprint": (lambda s: s | {"fingerprint": None}, StateError, "it has no fingerprint"),
    "before the start": (lambda s: s | {"position": -1}, StateError, f"position is -1 and run_start is 0, {PLACE}"),
    "no integer": (lambda s: s | {"position": 3.5}, StateError, f"position is 3.5 and run_start is 0, {PLACE}"),
    "past the end": (lambda s: s | {"position": 10**30}, StateError, f"position is 10{{30}} and run_start is 0, {PLACE}"),
    "no number": (lambda s: s | {"position": True}, StateError, f"position is True and run_start is 0, {PLACE}"),
    "text": (lambda s: s | {"run_start": "0"}, StateError, f"stands at no place: .* run_start is '0', {PLACE}"),
    "run ahead": (lambda s: s | {"run_start": 64}, StateError, f"position is 32 and run_start is 64, {PLACE}"),
    "no streams": (lambda s: s | {"rngs": None}, StateError, "the variables of Pipeline in the state are a dict, not None"),
    "streams missing": (lambda s: s | {"rngs": {}}, StateError, r"does not fit Pipeline: 'rngs.default.count' is missing, "),
    "stream unknown": (
        lambda s: s | {"rngs": s["rngs"] | {"rngs.more.count": 1}}, StateError, "'rngs.more.count' is unknown"
    ),
    "stream of another kind": (
        lambda s: s | {"rngs": s["rngs"] | {"rngs.default.key": [1, 2, 3, 4]}},
        StateError,
        r"'rngs.default.key' has shape \[4\] where \[2\] is expected",
    ),
    "stream of no number": (
        lambda s: s | {"rngs": s["rngs"] | {"rngs.default.count": "many"}}, StateError, "count' cannot be 'many'"
    ),
    "stream of a fraction": (
        lambda s: s | {"rngs": s["rngs"] | {"rngs.default.count": 1.5}}, StateError, "count' cannot be 1.5"
    ),
    "stream of a number that wraps": (
        lambda s: s | {"rngs": s["rngs"] | {"rngs.default.key": np.asarray([-1, 0])}}, StateError, "key' cannot be array"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "message"), BROKEN.values(), ids=BROKEN)
def test_a_value_that_is_not_a_state_is_refused_and_nothing_is_changed(
    make_source: MakeSource, change: Callable[[dict[str, Any]], Any], kind: type[Exception], message: str
) -> None:
    pipeline = make_pipeline(make_source)
    pipeline.step()
    state = pipeline.get_state()
    pipeline.step()
    before = pipeline.get_state()
    with pytest.raises(kind, match=message):
        pipeline.set_state(change(state))
    assert pipeline.get_state() == before


def test_a_loop_ends_when_its_pipeline_is_restored_or_reset(make_source: MakeSource) -> None:
    pipeline = make_pipeline(make_source)
    message = (
        "this loop is over: the pipeline was iterated anew, reset, restored or closed since it began; "
        "use the newer iterator"
    )
    interventions: list[Callable[[], object]] = [
        pipeline.reset,
        lambda: pipeline.set_state(pipeline.get_state()),
        lambda: iter(pipeline),
        pipeline.close,
    ]
    for intervene in interventions:
        iterator = iter(pipeline)
        next(iterator)
        intervene()
        with pytest.raises(RuntimeError, match=message):
            next(iterator)
