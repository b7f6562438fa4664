"""Gradients flow through stages and graphs, and the variables that stages write are kept, in every route."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from datarax_core import MergeFields, Pipeline, SplitField

MakeSource = Callable[..., Any]
LENGTH, SIZE, STEPS = 24, 8, 6
FEATURES = np.random.default_rng(0).normal(size=(LENGTH, 3)).astype(np.float32)
TARGETS = FEATURES @ np.array([1.0, -2.0, 0.5], np.float32)
OPTIMIZER = optax.adam(0.05)


class Mix(nnx.Module):
    """Stage with parameters: adds a field ``y``, computed from ``x``."""

    def __init__(self) -> None:
        self.weights = nnx.Param(jnp.array([0.1, 0.2, -0.3]))

    def __call__(self, batch: Any) -> Any:
        return batch | {"y": jnp.tanh(batch["x"] @ self.weights[...])}


class Scale(nnx.Module):
    def __init__(self) -> None:
        self.factor = nnx.Param(jnp.array(1.5))

    def __call__(self, batch: Any) -> Any:
        return batch | {"y": batch["y"] * self.factor[...]}


def source_of(make_source: MakeSource) -> Any:
    return make_source({"x": FEATURES, "target": TARGETS}, shuffle=True)


def in_a_list(source: Any) -> Pipeline:
    return Pipeline(source=source, stages=[Mix(), Scale()], batch_size=SIZE, num_epochs=None)


def in_a_graph(source: Any) -> Pipeline:
    """Return a pipeline with the same two stages as nodes of a graph; the target goes around them on a branch of its own."""
    return Pipeline.from_dag(
        source=source,
        nodes={
            "x": SplitField("x"),
            "target": SplitField("target"),
            "mix": Mix(),
            "scale": Scale(),
            "all": MergeFields(),
        },
        edges=[
            ("source", "x"),
            ("source", "target"),
            ("x", "mix"),
            ("mix", "scale"),
            ("scale", "all"),
            ("target", "all"),
        ],
        sink="all",
        batch_size=SIZE,
        num_epochs=None,
    )


def loss_of(batch: Any) -> jax.Array:
    return jnp.mean((batch["y"] - batch["target"]) ** 2)


def through_stages(stages: Any, batch: Any) -> jax.Array:
    for stage in stages:
        batch = stage(batch)
    return loss_of(batch)


def through_pipeline(pipeline: Pipeline, batch: Any) -> jax.Array:
    return loss_of(pipeline(batch))


def parameters(pipeline: Pipeline) -> list[np.ndarray]:
    """Return (weights, factor)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(pipeline.stages, nnx.Param))]
    return sorted(leaves, key=lambda leaf: -leaf.ndim)


@pytest.fixture(scope="module")
def expected(make_source: MakeSource) -> tuple[list[float], list[np.ndarray]]:
    """Return (losses, last parameters) of the same training in plain JAX: no pipeline, no module."""

    def loss(params: Any, x: jax.Array, target: jax.Array) -> jax.Array:
        weights, factor = params
        return jnp.mean((jnp.tanh(x @ weights) * factor - target) ** 2)

    source = source_of(make_source)
    params = (jnp.array([0.1, 0.2, -0.3]), jnp.array(1.5))
    state, losses = OPTIMIZER.init(params), []
    for step in range(STEPS):
        rows = source.record_indices_at(step * SIZE, SIZE, source.order_key_data())
        value, gradients = jax.value_and_grad(loss)(params, FEATURES[rows], TARGETS[rows])
        updates, state = OPTIMIZER.update(gradients, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert losses[-1] < losses[0]
    return losses, [np.asarray(leaf) for leaf in params]


def require_equal(pipeline: Pipeline, losses: Any, expected: tuple[list[float], list[np.ndarray]]) -> None:
    np.testing.assert_allclose(losses, expected[0], rtol=2e-5)
    for found, wanted in zip(parameters(pipeline), expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5)


# -- gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [in_a_list, in_a_graph])
def test_stages_train_inside_scan(make_source: MakeSource, build: Any, expected: Any) -> None:
    pipeline = build(source_of(make_source))
    optimizer = nnx.Optimizer(pipeline.stages, OPTIMIZER, wrt=nnx.Param)

    def train(stages: Any, optimizer: Any, batch: Any) -> jax.Array:
        raw = {name: batch[name] for name in ("x", "target")}
        loss, gradients = nnx.value_and_grad(through_stages)(stages, raw)
        optimizer.update(stages, gradients)
        return loss

    losses = pipeline.scan(train, modules=(pipeline.stages, optimizer), length=STEPS)
    require_equal(pipeline, losses, expected)
    assert int(optimizer.step[...]) == STEPS


@pytest.mark.parametrize("build", [in_a_list, in_a_graph])
@pytest.mark.parametrize("jit", [False, True])
def test_a_loop_trains_through_the_pipeline_called_in_the_loss(
    make_source: MakeSource, build: Any, expected: Any, *, jit: bool
) -> None:
    pipeline = build(source_of(make_source))
    optimizer = nnx.Optimizer(pipeline.stages, OPTIMIZER, wrt=nnx.Param)

    def train(pipeline: Pipeline, optimizer: Any, batch: Any) -> jax.Array:
        wrt = nnx.DiffState(0, nnx.Param)
        loss, gradients = nnx.value_and_grad(through_pipeline, argnums=wrt)(pipeline, batch)
        optimizer.update(pipeline.stages, gradients["stages"])
        return loss

    step = nnx.jit(train) if jit else train
    raw = Pipeline(source=source_of(make_source), batch_size=SIZE, num_epochs=None)
    losses = [step(pipeline, optimizer, batch) for _, batch in zip(range(STEPS), raw, strict=False)]
    require_equal(pipeline, losses, expected)
    assert pipeline.get_state()["position"] == 0  # it was called, and served nothing


@pytest.mark.parametrize("build", [in_a_list, in_a_graph])
@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_step_under_jit_trains_through_the_batch_that_it_takes(
    make_source: MakeSource, build: Any, placement: str, expected: Any
) -> None:
    source = make_source({"x": FEATURES, "target": TARGETS}, shuffle=True, placement=placement)
    pipeline = build(source)
    optimizer = nnx.Optimizer(pipeline.stages, OPTIMIZER, wrt=nnx.Param)

    @nnx.jit
    def train(pipeline: Pipeline, optimizer: Any) -> jax.Array:
        wrt = nnx.DiffState(0, nnx.Param)
        loss, gradients = nnx.value_and_grad(lambda pipeline: loss_of(pipeline.step()), argnums=wrt)(pipeline)
        optimizer.update(pipeline.stages, gradients["stages"])
        return loss

    losses = [train(pipeline, optimizer) for _ in range(STEPS)]
    require_equal(pipeline, losses, expected)
    assert pipeline.get_state()["position"] == STEPS * SIZE


# -- what stages write --------------------------------------------------------------------------------------------------


class Peak(nnx.Variable[Any]):
    """Variable type of the largest value seen: no parameter, no statistic, no random stream."""


class Writer(nnx.Module):
    """Stage that writes running statistics, a random stream and a variable of its own type."""

    def __init__(self) -> None:
        self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        self.peak = Peak(jnp.full((), -jnp.inf))

    def __call__(self, batch: Any) -> Any:
        self.peak[...] = jnp.maximum(self.peak[...], batch["x"].max())
        return batch | {"x": self.dropout(self.norm(batch["x"]))}


def writing_stage(source: Any) -> tuple[Pipeline, Writer]:
    writer = Writer()
    return Pipeline(source=source, stages=[writer], batch_size=SIZE, num_epochs=None), writer


def writing_node(source: Any) -> tuple[Pipeline, Writer]:
    writer = Writer()
    edges = [("source", "write")]
    graph: Any = {"nodes": {"write": writer}, "edges": edges, "sink": "write"}
    return Pipeline.from_dag(source=source, **graph, batch_size=SIZE, num_epochs=None), writer


def serve(pipeline: Pipeline, route: str, count: int) -> np.ndarray:
    """Return the field ``x`` of the next batches by one route."""
    if route == "loop":
        return np.stack([batch["x"] for _, batch in zip(range(count), pipeline, strict=False)])
    if route == "scan":
        return np.asarray(pipeline.scan(lambda batch: batch["x"], length=count))
    step = nnx.jit(lambda p: p.step()) if route == "traced" else (lambda p: p.step())
    return np.stack([step(pipeline)["x"] for _ in range(count)])


@pytest.fixture(scope="module")
def written(make_source: MakeSource) -> dict[str, Any]:
    """Return the batches and variables of plain calls of the stage, one after another."""
    source, writer = source_of(make_source), Writer()
    batches = []
    for step in range(STEPS):
        rows = source.record_indices_at(step * SIZE, SIZE, source.order_key_data())
        batches.append(writer({"x": jnp.asarray(FEATURES[rows])})["x"])
    return {"x": np.stack(batches), "state": nnx.state(writer)}


@pytest.mark.parametrize("build", [writing_stage, writing_node])
@pytest.mark.parametrize("route", ["loop", "step", "scan", "traced", "all in turn"])
def test_every_variable_that_a_stage_writes_is_kept(
    make_source: MakeSource, build: Any, route: str, written: dict[str, Any]
) -> None:
    pipeline, writer = build(source_of(make_source))
    if route == "all in turn":
        served = np.concatenate(
            [serve(pipeline, one, count) for one, count in [("loop", 1), ("scan", 2), ("step", 1), ("traced", 2)]]
        )
    else:
        served = serve(pipeline, route, STEPS)
    np.testing.assert_allclose(served, written["x"], rtol=1e-5, atol=1e-6)
    assert float(writer.peak[...]) == FEATURES.max()
    assert int(writer.dropout.rngs.count[...]) == STEPS
    kept, wanted = jax.tree.leaves(nnx.state(writer)), jax.tree.leaves(written["state"])
    for found, value in zip(kept, wanted, strict=True):
        if jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
            assert jnp.array_equal(found, value)
        else:
            np.testing.assert_allclose(found, value, rtol=1e-5)
