"""Nodes for graphs: `Rebatch`, `SplitField` and `MergeFields`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import MergeFields, Pipeline, Rebatch, Select, SpecError, SplitField

MakeSource = Callable[..., Any]


# -- Rebatch ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, derandomize=True)
@given(groups=st.integers(1, 5), size=st.integers(1, 6), row=st.sampled_from([(), (3,), (2, 2)]))
def test_groups_have_the_records_in_order(groups: int, size: int, row: tuple[int, ...]) -> None:
    array = np.arange(groups * size * int(np.prod(row))).reshape(groups * size, *row)
    made = Rebatch(size)({"x": array})["x"]
    assert made.shape == (groups, size, *row)
    assert np.array_equal(np.concatenate(made), array)


@pytest.mark.parametrize("route", ["loop", "step", "scan", "traced"])
def test_every_route_serves_groups(make_source: MakeSource, route: str) -> None:
    pipeline = Pipeline(source=make_source(24), stages=[Rebatch(3)], batch_size=12)
    if route == "loop":
        batch = next(iter(pipeline))
    elif route == "scan":
        batch = jax.tree.map(lambda array: array[0], pipeline.scan(lambda batch: batch, length=1))
    else:
        batch = (nnx.jit(lambda p: p.step()) if route == "traced" else lambda p: p.step())(pipeline)
    assert batch["id"].tolist() == np.arange(12).reshape(4, 3).tolist()
    assert batch["x"].shape == (4, 3, 2)


def test_an_element_of_a_regrouped_pipeline_is_a_group(make_source: MakeSource) -> None:
    spec = Pipeline(source=make_source(24), stages=[Rebatch(3)], batch_size=12).element_spec()
    assert spec["x"] == jax.ShapeDtypeStruct((3, 2), np.float32)


def test_gradients_accumulated_over_groups_are_those_of_the_batch(make_source: MakeSource) -> None:
    def loss(weights: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.tanh(x @ weights) ** 2)

    weights = jnp.array([0.3, -0.2])
    whole = next(iter(Pipeline(source=make_source(24), batch_size=24)))["x"]
    groups = next(iter(Pipeline(source=make_source(24), stages=[Rebatch(6)], batch_size=24)))["x"]
    summed, _ = jax.lax.scan(lambda total, group: (total + jax.grad(loss)(weights, group), None), jnp.zeros(2), groups)
    np.testing.assert_allclose(summed / 4, jax.grad(loss)(weights, whole), rtol=1e-5)
    through = jax.grad(lambda x: jnp.sum(Rebatch(6)({"x": x})["x"] ** 2))(whole)
    np.testing.assert_array_equal(through, 2 * whole)


def test_a_short_last_batch_that_groups_do_not_divide_is_refused_with_the_remedy(make_source: MakeSource) -> None:
    batches = iter(Pipeline(source=make_source(11), stages=[Rebatch(4)], batch_size=8))
    assert next(batches)["id"].shape == (2, 4)
    with pytest.raises(
        SpecError,
        match=r"field 'id' has 3 rows, which groups of 4 do not divide; .* drop_last=True or pad_last='valid'",
    ) as caught:
        next(batches)
    assert "in stage 0 (Rebatch) of the pipeline" in caught.value.__notes__


def test_a_short_last_batch_that_groups_divide_has_fewer_of_them(make_source: MakeSource) -> None:
    *_, last = Pipeline(source=make_source(12), stages=[Rebatch(4)], batch_size=8)
    assert last["id"].tolist() == [[8, 9, 10, 11]]


@pytest.mark.parametrize("group_size", [1, 4, 8])
@pytest.mark.parametrize("forgets", [False, True])
def test_the_mask_of_pad_last_is_grouped_like_its_records(
    make_source: MakeSource, group_size: int, *, forgets: bool
) -> None:
    def negate(batch: Any) -> Any:
        return batch | {"valid": ~batch["valid"]}  # the served mask is the true one all the same

    stages = [SplitField(["id"]), Rebatch(group_size)] if forgets else [negate, Rebatch(group_size)]
    *_, last = Pipeline(source=make_source(11), stages=stages, batch_size=8, pad_last="valid")
    assert last["id"].shape == (8 // group_size, group_size)
    wanted = np.arange(8) < 3
    if forgets and group_size == 1:  # a column of groups of one looks like a field of shape (1,)
        assert np.array_equal(last["valid"], wanted)
    else:
        assert np.array_equal(last["valid"], wanted.reshape(last["id"].shape))


def test_a_stage_that_changes_the_mask_does_not_change_the_served_mask(make_source: MakeSource) -> None:
    stages = [lambda batch: batch | {"valid": ~batch["valid"]}]
    *_, last = Pipeline(source=make_source(11), stages=stages, batch_size=8, pad_last="valid")
    assert last["valid"].tolist() == [True] * 3 + [False] * 5


def test_a_stage_that_makes_a_field_of_the_mask_s_name_is_refused(make_source: MakeSource) -> None:
    stages = [lambda batch: batch | {"valid": batch["id"].sum()}]
    with pytest.raises(SpecError, match="pad_last='valid' is also the name of a field that the stages make"):
        Pipeline(source=make_source(11), stages=stages, batch_size=8, pad_last="valid")


@pytest.mark.parametrize("pad_last", [None, "valid"])
def test_the_spec_of_groups_is_that_of_the_served_batches(make_source: MakeSource, pad_last: str | None) -> None:
    pipeline = Pipeline(
        source=make_source(11), stages=[Rebatch(4)], batch_size=8, drop_last=not pad_last, pad_last=pad_last
    )
    batch = next(iter(pipeline))
    assert pipeline.element_spec() == {n: jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for n, a in batch.items()}


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, r"^group_size is at least 1, not 0$"),
        (2.0, TypeError, r"^group_size is an integer, not 2\.0$"),
        (True, TypeError, r"^group_size is an integer, not True$"),
    ],
)
def test_a_group_size_is_a_count(size: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Rebatch(size)


def test_a_scalar_is_not_grouped() -> None:
    with pytest.raises(SpecError, match=r"^Rebatch: field 'loss' is a scalar, which has no records to group$"):
        Rebatch(2)({"loss": jnp.zeros(())})


# -- SplitField and MergeFields -----------------------------------------------------------------------------------------


def test_fields_that_are_split_and_changed_apart_are_merged(make_source: MakeSource) -> None:
    pipeline = Pipeline.from_dag(
        source=make_source(10),
        nodes={
            "ids": SplitField("id"),
            "xs": SplitField(["x"]),
            "double": lambda batch: {"x": batch["x"] * 2},
            "join": MergeFields(),
        },
        edges=[("source", "ids"), ("source", "xs"), ("xs", "double"), ("ids", "join"), ("double", "join")],
        sink="join",
        batch_size=10,
    )
    (batch,) = pipeline
    assert list(batch) == ["id", "x"]
    np.testing.assert_array_equal(batch["x"][:, 1], 2 * np.arange(1, 11))


def test_fields_come_in_the_order_of_their_names() -> None:
    assert list(SplitField(["b", "a"])({"a": 1, "b": 2, "c": 3})) == ["b", "a"]


def test_an_unknown_field_is_refused_with_the_fields_that_there_are(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(10), stages=[SplitField(["image", "id", "label"])], batch_size=5)
    with pytest.raises(SpecError, match=r"^the records have no field 'image' \(fields: id, x\)\n") as refused:
        next(iter(pipeline))
    assert "in stage 0 (SplitField) of the pipeline" in refused.value.__notes__


@pytest.mark.parametrize("names", [["pose"], ["id", "pose.left"], ["pose.right", "pose.left"], ["pose.left", "pose"]])
def test_split_field_keeps_the_fields_that_select_keeps(names: list[str]) -> None:
    batch = {"id": 1, "pose": {"left": 2, "right": 3}, "x": 4}
    kept, selected = SplitField(names)(batch), Select(fields=tuple(names))(batch)
    assert kept == selected
    assert list(kept) == list(selected)


def test_batches_without_names_are_refused() -> None:
    with pytest.raises(SpecError, match=r"^the batch is a tuple, not a dict of named fields; make each record a dict"):
        SplitField("x")((1, 2))
    with pytest.raises(SpecError, match=r"^MergeFields needs input 1 to be a dict of named fields, not list$"):
        MergeFields()({"x": 1}, [2])


def test_a_field_that_two_inputs_have_is_refused_with_both(make_source: MakeSource) -> None:
    pipeline = Pipeline.from_dag(
        source=make_source(10),
        nodes={"a": SplitField("id"), "b": SplitField("x"), "c": SplitField(["x", "id"]), "join": MergeFields()},
        edges=[("source", "a"), ("source", "b"), ("source", "c"), ("b", "join"), ("a", "join"), ("c", "join")],
        sink="join",
        batch_size=5,
    )
    with pytest.raises(
        SpecError, match=r"^MergeFields: input 2 has the field 'x', and so has input 0; leave it out of one"
    ) as caught:
        next(iter(pipeline))
    assert "in node 'join' (MergeFields)" in caught.value.__notes__


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ([], ValueError, r"^SplitField was given no field, and would leave an empty batch; name one at least$"),
        (["a", "b", "a"], ValueError, r"^the field 'a' is named twice; name it once$"),
        ([1], TypeError, r"^SplitField takes a list of field names, such as \['image', 'label'\], not \[1\]$"),
        (3, TypeError, r"^SplitField takes a list of field names, such as \['image', 'label'\], not 3$"),
    ],
)
def test_fields_to_split_are_names(fields: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SplitField(fields)


def test_pipelines_with_equal_nodes_share_their_programs(make_source: MakeSource) -> None:
    traces: list[int] = []

    def noted(batch: Any) -> Any:
        traces.append(1)
        return batch

    for _ in range(2):
        list(Pipeline(source=make_source(12), stages=[SplitField(["id"]), noted, Rebatch(3)], batch_size=6))
    assert len(traces) == 1
