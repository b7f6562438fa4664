"""States that go on after a change on purpose: it is named, noted in later states, and everything else is held to."""

import copy
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, StateError

MakeSource = Callable[..., Any]
LENGTH = 60
IDS = np.arange(LENGTH, dtype=np.int32)


def make(
    make_source: MakeSource, *, scale: float = 1.0, seed: int = 0, length: int = LENGTH, **options: Any
) -> Pipeline:
    data = {"id": IDS[:length], "x": IDS[:length].astype(np.float32) * np.float32(scale)}
    return Pipeline(**{"source": make_source(data, shuffle=True, seed=seed), "batch_size": 8} | options)


def saved(pipeline: Pipeline, steps: int = 3) -> dict[str, Any]:
    for _ in range(steps):
        pipeline.step()
    return json.loads(json.dumps(pipeline.get_state()))


def ids_of(batches: Any) -> list[int]:
    return [number for batch in batches for number in np.asarray(batch["id"]).tolist()]


@pytest.mark.parametrize("batch_size", [12, [[0, 8], [40, 4]]], ids=["another size", "a schedule"])
def test_another_batch_size_goes_on_at_the_same_record(make_source: MakeSource, batch_size: Any) -> None:
    expected = ids_of(make(make_source))
    state = saved(make(make_source))
    pipeline = make(make_source, batch_size=batch_size)
    with pytest.raises(
        StateError, match=r"batch_size was 8 and is .*, say so: set_state\(state, but=\{'batch_size'\}\)$"
    ):
        pipeline.set_state(state)
    pipeline.set_state(state, but={"batch_size"})
    assert "changed" not in state
    assert pipeline.get_state()["changed"] == [{"at": 24, "batch_size": [8, batch_size]}]
    assert ids_of(pipeline) == expected[24:]


def test_changes_are_noted_one_after_another_and_survive(make_source: MakeSource) -> None:
    first = make(make_source, batch_size=12)
    first.set_state(saved(make(make_source)), but=["batch_size"])
    state = saved(first, 1)
    again = make(make_source, batch_size=12)
    again.set_state(state)  # the fingerprint is that of the new size
    noted = [{"at": 24, "batch_size": [8, 12]}]
    assert again.get_state()["changed"] == noted
    other = make(make_source, batch_size=5, drop_last=True)
    other.set_state(state, but={"drop_last", "batch_size"})
    noted.append({"at": 36, "batch_size": [12, 5], "drop_last": [False, True]})
    twins = [other, other.clone(), nnx.clone(other), copy.deepcopy(other)]
    assert [twin.get_state()["changed"] for twin in twins] == [noted] * 4
    other.step()
    other.seek(epoch=1)
    assert other.get_state()["changed"] == noted
    other.close()
    assert other.get_state()["changed"] == noted
    other.reset()
    assert "changed" not in other.get_state()


def test_what_does_not_differ_may_be_named_and_all_else_is_held_to(make_source: MakeSource) -> None:
    state = saved(make(make_source))
    pipeline = make(make_source)
    pipeline.set_state(state, but={"batch_size", "pad_last"})
    assert "changed" not in pipeline.get_state()
    other = make(make_source, batch_size=12, drop_last=True, scale=2)
    before = other.get_state()
    message = r": drop_last was .*; sample was '\w+' and is '\w+'; .* but=\{'batch_size', 'drop_last', 'sample'\}\)$"
    with pytest.raises(StateError, match=message):
        other.set_state(state, but={"batch_size"})
    assert other.get_state() == before
    other.set_state(state, but={"batch_size", "drop_last", "sample"})
    change = other.get_state()["changed"][0]
    assert (change["at"], change.keys()) == (24, {"at", "batch_size", "drop_last", "sample"})


def test_what_decides_which_record_a_position_means_is_never_named(make_source: MakeSource) -> None:
    state = saved(make(make_source))
    for other, name in ((make(make_source, seed=1), "seed"), (make(make_source, length=50), "length")):
        with pytest.raises(StateError, match=rf"{name} was .* and is .*; .* or start anew with reset\(\)$"):
            other.set_state(state)
        message = rf"^but cannot name '{name}' of the pipeline over EagerSourceBase: it decides which record .* \(was .* and is"
        with pytest.raises(ValueError, match=message):
            other.set_state(state, but={name})
        assert other.cursor.position == 0


def test_which_records_a_part_has_is_never_named(make_source: MakeSource) -> None:
    whole = make(make_source).source
    state = saved(Pipeline(source=whole[:30], batch_size=8))
    other = Pipeline(source=whole[30:], batch_size=8)
    with pytest.raises(
        StateError, match=r"subset was .* and is .*; restore it into what saved it, or .* with reset\(\)$"
    ):
        other.set_state(state)
    with pytest.raises(
        ValueError, match=r"^but cannot name 'subset' of the pipeline over Subset .*: it decides which record"
    ):
        other.set_state(state, but={"subset"})


def test_names_that_are_none_are_refused(make_source: MakeSource) -> None:
    pipeline = make(make_source, batch_size=12)
    state = saved(make(make_source))
    message = (
        r"^but names 'batchsize', which is no entry of the fingerprint of the pipeline over EagerSourceBase; what differs: "
        r"batch_size was 8 and is 12; may be named: batch_size, class, .*drop_last, element_spec, pad_last, sample, source$"
    )
    with pytest.raises(ValueError, match=message):
        pipeline.set_state(state, but={"batchsize"})
    for given in ("batch_size", 3, {"batch_size": 8}, [4]):
        with pytest.raises(TypeError, match=r"^but is a set of names .* such as \{'batch_size'\}, not"):
            pipeline.set_state(state, but=given)  # type: ignore[arg-type]
    for broken in (3, [3], [{"batch_size": [8, 12]}], [{"at": 3, "batch_size": 8}]):
        with pytest.raises(
            StateError, match=r"^the state of the pipeline over EagerSourceBase has changed .*, where a list"
        ):
            pipeline.set_state({**pipeline.get_state(), "changed": broken})


def test_a_source_takes_names_too_and_values_within_an_entry(
    make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (make(make_source, scale=scale).source for scale in (1, 2))
    next(iter(one))
    state = one.get_state()
    with pytest.raises(StateError, match=r"sample was .* but=\{'sample'\}\)$"):
        other.set_state(state)
    other.set_state(state, but={"sample"})
    assert other.get_state()["changed"][0]["at"] == 1
    assert next(other)["id"] == next(one)["id"]
    own = type(one).fingerprint
    config = {"decoder": {"size": 4, "gray": False}, "keep": 1}
    monkeypatch.setattr(type(one), "fingerprint", lambda source: own(source) | {"config": config})
    state = make(make_source).get_state()
    config = {"decoder": {"size": 8, "gray": False}, "keep": 1}
    pipeline = make(make_source)
    for name in ("config", "config.decoder", "config.decoder.size"):
        pipeline.set_state(state, but={name})
    assert pipeline.get_state()["changed"] == [{"at": 0, "config.decoder.size": [4, 8]}]
    with pytest.raises(StateError, match=r"config was .* and is"):
        pipeline.set_state(state, but={"config.keep"})
    with pytest.raises(ValueError, match=r"^but names 'config.nix'"):
        pipeline.set_state(state, but={"config.nix"})


def test_streams_take_names_with_the_state_of_their_source(streams: SimpleNamespace) -> None:
    pipeline, other = (Pipeline(source=streams.Sized(10), batch_size=size) for size in (2, 3))
    expected = ids_of(pipeline)
    pipeline.reset()
    state = saved(pipeline, 2)
    other.set_state(state, but={"batch_size"})
    assert ids_of(other) == expected[4:]
    assert other.get_state()["changed"] == [{"at": 4, "batch_size": [2, 3]}]
