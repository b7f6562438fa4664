"""Loops over a pipeline: runs, last batches, and batches after their stages."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, SpecError, StageError

MakeSource = Callable[..., Any]
ROUTES = ["iteration", "step", "scan", "traced step"]


def doubled(batch: Any) -> Any:
    return {**batch, "y": batch["x"] * 2}


def keep_all(batch: Any) -> Any:
    return batch


def sizes(pipeline: Pipeline) -> list[int]:
    return [len(batch["id"]) for batch in pipeline]


def through(route: str, pipeline: Pipeline, batches: int) -> list[Any]:
    """Return the next batches by one route."""
    if route == "scan":
        stacked = pipeline.scan(keep_all, length=batches)
        return [jax.tree.map(lambda leaf, row=row: leaf[row], stacked) for row in range(batches)]
    if route == "iteration":
        return [batch for _, batch in zip(range(batches), pipeline, strict=False)]
    step = nnx.jit(lambda pipeline: pipeline.step()) if route == "traced step" else Pipeline.step
    return [step(pipeline) for _ in range(batches)]


# -- runs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [32, 32, 32, 4]),
        ({"drop_last": True}, [32, 32, 32]),
        ({"num_epochs": 2}, [32] * 6 + [8]),
        ({"num_epochs": 2, "drop_last": True}, [32] * 6),
        ({"num_epochs": 2, "pad_last": "valid"}, [32] * 7),
        ({"batch_size": 100}, [100]),
        ({"batch_size": 1000}, [100]),
        ({"batch_size": np.int64(50)}, [50, 50]),
    ],
)
def test_a_run_has_as_many_batches_as_its_length_says(
    make_source: MakeSource, options: dict[str, Any], expected: list[int]
) -> None:
    pipeline = Pipeline(**{"source": make_source(), "batch_size": 32} | options)
    assert sizes(pipeline) == expected
    assert sizes(pipeline) == expected, "a second loop is a second run"
    assert len(pipeline) == len(expected)


def test_an_endless_pipeline_goes_on_and_has_no_length(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(), batch_size=32, num_epochs=None)
    served = np.concatenate([batch["id"] for _, batch in zip(range(10), pipeline, strict=False)])
    assert served.tolist() == [position % 100 for position in range(320)]
    with pytest.raises(TypeError, match=r"an endless pipeline \(num_epochs=None\) has no length"):
        len(pipeline)


def test_a_loop_after_a_loop_that_was_left_begins_with_the_next_epoch(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(shuffle=True), batch_size=32)
    first, second = ([batch["id"].tolist() for batch in pipeline] for _ in range(2))
    pipeline.reset()
    next(iter(pipeline))
    assert [batch["id"].tolist() for batch in pipeline] == second
    pipeline.reset()
    assert [batch["id"].tolist() for batch in pipeline] == first


def test_an_iterator_that_ended_stays_at_its_end(make_source: MakeSource) -> None:
    iterator = iter(Pipeline(source=make_source(), batch_size=100))
    assert iter(iterator) is iterator
    next(iterator)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)


def test_batches_that_were_handed_over_are_counted(make_source: MakeSource) -> None:
    source = make_source()
    pipeline = Pipeline(source=source, batch_size=32)
    sizes(pipeline)
    pipeline.step()
    pipeline.scan(keep_all, length=3)
    assert source.get_operation_stats() == {"applied_count": 8, "skipped_count": 0}


# -- the last batch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["device", "host"])
def test_pad_last_completes_the_last_batch_and_marks_real_records(make_source: MakeSource, placement: str) -> None:
    source = make_source(placement=placement)
    pipeline = Pipeline(source=source, batch_size=32, stages=[doubled], pad_last="valid")
    batches = list(pipeline)
    counted = np.concatenate([batch["id"][batch["valid"]] for batch in batches])
    assert counted.tolist() == list(range(100))
    assert batches[-1]["id"].tolist() == [96, 97, 98, *[99] * 29]
    assert batches[-1]["valid"].tolist() == [True] * 4 + [False] * 28
    assert {leaf.shape[0] for batch in batches for leaf in batch.values()} == {32}


@pytest.mark.parametrize("route", ROUTES)
def test_the_mask_is_in_the_batches_of_every_route(make_source: MakeSource, route: str) -> None:
    def dropping(batch: Any) -> Any:
        assert batch["valid"].dtype == bool
        return {"id": batch["id"]}

    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[dropping], pad_last="valid", num_epochs=None)
    for batch in through(route, pipeline, 4):
        assert batch["valid"].dtype == bool
        assert batch["valid"].all()
        assert set(batch) == {"id", "valid"}


def test_a_mask_under_a_name_that_is_taken_is_refused(make_source: MakeSource) -> None:
    with pytest.raises(
        SpecError, match="mask of pad_last cannot be added: the batch has a field 'id' already; choose another name"
    ):
        Pipeline(source=make_source(), batch_size=32, pad_last="id")


def test_a_mask_needs_batches_of_named_fields(make_source: MakeSource) -> None:
    with pytest.raises(
        SpecError, match="pad_last='valid' adds a field to each batch, but the stages make a single array"
    ):
        Pipeline(source=make_source(), batch_size=32, stages=[lambda batch: batch["id"]], pad_last="valid")
    pairs = make_source([(1, 2.0), (3, 4.0)])
    with pytest.raises(SpecError, match="mask of pad_last needs batches that are dicts of named fields, not tuple"):
        Pipeline(source=pairs, batch_size=2, pad_last="valid").step()


# -- stages -------------------------------------------------------------------------------------------------------------


class Learner(nnx.Module):
    """A stage that writes a statistic, draws random numbers and holds a parameter."""

    def __init__(self) -> None:
        self.seen = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.scale = nnx.Param(jnp.full((), 3.0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, batch: Any) -> Any:
        self.seen[...] += batch["id"].sum()
        return {**batch, "x": self.dropout(batch["x"] * self.scale)}


def test_values_that_a_stage_writes_are_kept_in_every_route(make_source: MakeSource) -> None:
    results = []
    for route in ROUTES:
        stage = Learner()
        pipeline = Pipeline(source=make_source(shuffle=True), batch_size=32, stages=[stage], num_epochs=None)
        batches = through(route, pipeline, 5)
        assert int(stage.seen[...]) == sum(int(batch["id"].sum()) for batch in batches) > 0
        values = np.concatenate([batch["x"] for batch in batches])
        results.append((values.tobytes(), int(stage.dropout.rngs.count[...]), pipeline.get_state()))  # type: ignore[union-attr]
        assert 0.2 < (values == 0).mean() < 0.8
    assert results[1:] == results[:-1]


def test_a_parameter_changed_between_batches_is_used_by_the_next_one(make_source: MakeSource) -> None:
    stage = Learner()
    stage.dropout.deterministic = True
    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[stage], num_epochs=None)
    batches = iter(pipeline)
    np.testing.assert_array_equal(next(batches)["x"][1], [1.5, 6.0])
    stage.scale[...] = jnp.full((), 10.0)
    np.testing.assert_array_equal(next(batches)["x"][0], [160.0, 330.0])
    np.testing.assert_array_equal(pipeline.step()["x"][0], [320.0, 650.0])


def test_calling_a_pipeline_applies_its_stages_in_order(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[doubled, lambda batch: batch["y"] + 1])
    assert pipeline({"x": np.ones(2)}).tolist() == [3.0, 3.0]


def test_the_element_spec_is_that_of_the_batches_served(make_source: MakeSource, make_host_source: MakeSource) -> None:
    source = make_host_source()
    pipeline = Pipeline(source=source, batch_size=32, stages=[doubled], pad_last="valid")
    spec = pipeline.element_spec()
    assert source.reads.calls == []
    assert spec == jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), pipeline.step())
    text = make_source({"id": np.arange(3), "text": np.array(["a", "b", "c"])})
    assert Pipeline(source=text, batch_size=2).element_spec()["text"].dtype == np.dtype("<U1")


@pytest.mark.parametrize("route", ROUTES)
def test_an_error_in_a_stage_names_the_stage_and_serves_nothing(make_source: MakeSource, route: str) -> None:
    def broken(batch: Any) -> Any:
        return batch["missing"]

    stage = Learner()
    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[stage, functools.partial(broken), broken])
    with pytest.raises(KeyError, match="missing") as caught:
        through(route, pipeline, 1)
    assert "in stage 1 (partial) of the pipeline" in caught.value.__notes__
    assert (pipeline.get_state()["position"], int(stage.seen[...])) == (0, 0)


@pytest.mark.parametrize("route", ROUTES)
def test_a_stage_that_returns_nothing_is_named(make_source: MakeSource, route: str) -> None:
    def forgets(batch: Any) -> None:
        batch["x"] = 0

    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[keep_all, forgets])
    with pytest.raises(TypeError, match=r"stage 1 \(forgets\) returned None; a stage returns the batch it made"):
        through(route, pipeline, 1)


class Counts(nnx.Module):
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        return batch


class Remembers(nnx.Module):
    def __call__(self, batch: Any) -> Any:
        self.last = nnx.Variable(batch["x"])
        return batch


class AddsUp(nnx.Module):
    def __init__(self) -> None:
        self.total = jnp.zeros(())

    def __call__(self, batch: Any) -> Any:
        self.total = self.total + batch["x"].sum()
        return batch


class Shifts(nnx.Module):
    def __init__(self) -> None:
        self.by, self.host, self.scale = jnp.ones(()), np.float32([2]), nnx.Param(jnp.ones(()))

    def __call__(self, batch: Any) -> Any:
        return {**batch, "x": batch["x"] * self.scale + self.by + self.host}


@pytest.mark.parametrize("route", ["iteration", "step", "scan"])
def test_arrays_that_are_plain_attributes_of_a_stage_are_constants(make_source: MakeSource, route: str) -> None:
    stage = Shifts()
    plain = through(route, Pipeline(source=make_source(), batch_size=32), 1)
    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[stage])
    for shift in (3.0, 12.0):
        np.testing.assert_array_equal(through(route, pipeline, 1)[0]["x"], plain[0]["x"] + shift)
        stage.by = jnp.float32(10)
        pipeline.reset()


@pytest.mark.parametrize("route", ["iteration", "step", "scan"])
@pytest.mark.parametrize(("stage", "attribute"), [(Counts, "calls"), (Remembers, "last"), (AddsUp, "total")])
def test_a_stage_that_changes_a_plain_attribute_is_refused(
    make_source: MakeSource, route: str, stage: type[nnx.Module], attribute: str
) -> None:
    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[stage()])
    message = (
        rf"^{stage.__name__}\.{attribute} changed a plain attribute, or made a variable, while it was called; .* create it in "
        "__init__ and assign"
    )
    with pytest.raises(StageError, match=message):
        through(route, pipeline, 1)
