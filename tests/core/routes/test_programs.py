"""Compiled programs: scans that train, programs that are shared, and no program that holds or copies the data set."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from datarax_core import EagerSourceBase, Pipeline
from datarax_core.pipeline import scan
from datarax_core.routes.shared_programs import Programs

MakeSource = Callable[..., Any]
TRACES: list[str] = []


def ids(batch: Any) -> Any:
    TRACES.append("ids")
    return batch["id"]


def noted(batch: Any) -> Any:
    TRACES.append("stage")
    return batch


def running_sum(carry: Any, batch: Any) -> Any:
    return carry + batch["id"].sum(), carry


class Counter(nnx.Module):
    def __init__(self) -> None:
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, batch: Any) -> Any:
        self.batches[...] += 1
        return batch


def train_step(model: nnx.Linear, optimizer: nnx.Optimizer[nnx.Linear], batch: Any) -> jax.Array:
    def loss_of(model: nnx.Linear) -> jax.Array:
        return jnp.mean((model(batch["x"])[:, 0] - batch["y"]) ** 2)

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


# -- scan ---------------------------------------------------------------------------------------------------------------


def test_a_scan_carries_and_stacks(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(), batch_size=10)
    carry, before = pipeline.scan(running_sum, length=10, init_carry=jnp.zeros((), jnp.int32))
    assert int(carry) == sum(range(100))
    assert before.tolist() == [sum(range(10 * batch)) for batch in range(10)]


def test_a_scan_trains_as_a_loop_does(make_source: MakeSource) -> None:
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    data = {"x": x, "y": x @ np.array([1, -2, 3, 0.5], np.float32)}
    trained = []
    for route in ("loop", "scan"):
        model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        pipeline = Pipeline(source=make_source(data, shuffle=True), batch_size=20, num_epochs=4)
        if route == "loop":
            step = nnx.jit(train_step)
            losses = [float(step(model, optimizer, batch)) for batch in pipeline]
        else:
            losses = pipeline.scan(train_step, modules=(model, optimizer), length=len(pipeline)).tolist()
        assert losses[-1] < losses[0] / 100
        assert int(optimizer.step[...]) == 20
        trained.append(np.asarray(model.kernel[...]))
    np.testing.assert_allclose(*trained, rtol=1e-5)


def test_a_stage_and_a_module_of_a_scan_may_be_one(make_source: MakeSource) -> None:
    counter = Counter()
    pipeline = Pipeline(source=make_source(), batch_size=10, stages=[counter])
    seen = pipeline.scan(lambda counter, _: counter.batches[...], modules=(counter,), length=4)
    assert seen.tolist() == [1, 2, 3, 4]
    assert int(counter.batches[...]) == 4


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_long_scan_is_run_in_parts(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch, placement: str) -> None:
    def scanned() -> Any:
        counter = Counter()
        pipeline = Pipeline(source=make_source(shuffle=True, placement=placement), batch_size=32, stages=[counter])
        carry, outs = pipeline.scan(running_sum, length=7, init_carry=jnp.zeros((), jnp.int32))
        return int(carry), outs.tolist(), int(counter.batches[...]), pipeline.get_state()

    whole = scanned()
    monkeypatch.setattr(scan, "_AT_ONCE", 100)
    assert scanned() == whole


def test_a_scan_that_fails_moves_nothing(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(), batch_size=32, stages=[counter := Counter()])
    with pytest.raises(ZeroDivisionError, match="integer division or modulo by zero"):
        pipeline.scan(lambda _: 1 // 0, length=2)
    assert (pipeline.get_state()["position"], int(counter.batches[...])) == (0, 0)


# -- sharing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["device", "host"])
def test_the_second_scan_with_a_step_compiles_nothing(make_source: MakeSource, placement: str) -> None:
    pipeline = Pipeline(source=make_source(shuffle=True, placement=placement), batch_size=8, num_epochs=None)
    pipeline.scan(ids, length=5)
    TRACES.clear()
    pipeline.scan(ids, length=5)
    assert TRACES == []


@pytest.mark.parametrize("placement", ["device", "host"])
def test_equal_pipelines_share_their_programs(make_source: MakeSource, placement: str) -> None:
    TRACES.clear()
    for seed in range(3):
        source = make_source(90, shuffle=True, placement=placement, seed=seed)
        pipeline = Pipeline(source=source, batch_size=30, stages=[noted, Counter()])
        assert len(list(pipeline)) == 3
        pipeline.step()
        if placement == "device":
            pipeline.scan(ids, length=6)
    assert TRACES == ["stage", "stage", "ids"] if placement == "device" else ["stage"]


def test_third_party_sources_on_the_device_share_their_programs(make_device_source: MakeSource) -> None:
    TRACES.clear()
    for seed in range(3):
        pipeline = Pipeline(source=make_device_source(90, shuffle=True, seed=seed), batch_size=30, stages=[noted])
        first, *_ = list(pipeline)
        assert (
            first["id"].tolist() == pipeline.source.record_indices_at(0, 30, pipeline.source.order_key_data()).tolist()
        )
        pipeline.scan(ids, length=6)
    assert TRACES == ["stage", "stage", "ids"]


def test_steps_under_jit_compile_once(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(shuffle=True), batch_size=8, stages=[noted, Counter()], num_epochs=None)
    step = nnx.jit(lambda pipeline: pipeline.step()["id"])
    step(pipeline)
    TRACES.clear()
    for _ in range(4):
        step(pipeline)
        pipeline.step()
        TRACES.clear() if pipeline.get_state()["position"] == 24 else None
    assert TRACES == []


# -- the data set -------------------------------------------------------------------------------------------------------


def lowered_by(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch, route: str, megabytes: int) -> Any:
    """Return the lowered program of one route over a data set of this size."""
    x = np.arange(megabytes << 18, dtype=np.float32).reshape(
        -1, 1 << 16
    )  # a program would have to write out each value
    data = {"id": np.arange(len(x)), "x": x}
    source: EagerSourceBase = make_source(data, shuffle=True)
    pipeline = Pipeline(source=source, batch_size=4, num_epochs=None)
    if route == "traced step":
        return nnx.jit(lambda pipeline: pipeline.step()).lower(pipeline).lowered
    lowered: list[Any] = []

    compiled = Programs.compiled

    def noting(*program: Any) -> Any:
        run = compiled(*program)

        def called(*arguments: Any) -> Any:
            lowered.append(run.lower(*arguments))
            return run(*arguments)

        return called

    before = sum(array.nbytes for array in jax.live_arrays())
    with monkeypatch.context() as patched:
        patched.setattr(Programs, "compiled", noting)
        outputs = pipeline.step() if route == "step" else pipeline.scan(lambda batch: batch["x"].sum(), length=3)
    placed = sum(array.nbytes for array in source.compiled_records()[1])
    made = sum(array.nbytes for array in jax.live_arrays()) - before
    assert made < placed + sum(leaf.nbytes for leaf in jax.tree.leaves(outputs)) + (1 << 16)
    return lowered[0]


@pytest.mark.parametrize("route", ["step", "scan", "traced step"])
def test_no_program_holds_or_copies_the_data_set(
    make_source: MakeSource, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    lowered = lowered_by(make_source, monkeypatch, route, megabytes=16)
    assert len(lowered.as_text()) < 100_000
    cost = lowered.compile().memory_analysis()
    made = cost.output_size_in_bytes - cost.alias_size_in_bytes  # a batch; the data set is passed by reference
    assert made + cost.temp_size_in_bytes + cost.generated_code_size_in_bytes < 3 << 20
