"""A subclass of the pipeline that overrides `__call__`: each route serves its result, and keeps what it writes."""

import json
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import EagerSourceBase, Pipeline, Rebatch, SourceConfig, SourceRegistry, columns_of

MakeSource = Callable[..., Any]
Batch = dict[str, Any]
KINDS = ["device", "host"]


def double(batch: Batch) -> Batch:
    return {**batch, "x": batch["x"] * 2}


class Noise:
    stochastic = True

    def __call__(self, batch: Batch, keys: jax.Array) -> Batch:
        return {**batch, "r": jax.vmap(jax.random.uniform)(keys)}


NOISE = Noise()


class Scaled(Pipeline):
    """Apply the stages, then scale every other batch by a parameter; count the batches."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.count = nnx.Variable(jnp.zeros((), jnp.int32))
        self.scale = nnx.Param(jnp.full(2, 3.0))

    def __call__(self, batch: Batch) -> Batch:
        batch = super().__call__(batch)
        self.count[...] += 1
        return nnx.cond(
            self.count[...] % 2 == 1,
            lambda own, batch: {**batch, "y": (batch["x"] * own.scale[...]).sum(-1)},
            lambda _, batch: {**batch, "y": batch["x"].sum(-1)},
            self,
            batch,
        )


@pytest.fixture
def make(make_source: MakeSource, make_host_source: MakeSource) -> Callable[..., Any]:
    def make(kind: str = "device", of: type[Pipeline] = Scaled, **options: Any) -> Any:
        source = (make_source if kind == "device" else make_host_source)(20, shuffle=True)
        options = {"batch_size": 4, "stages": [double, NOISE], "rngs": nnx.Rngs(0)} | options
        return of(source=source, **options)

    return make


def seen(batches: Any) -> Any:
    return [{name: np.asarray(value).tolist() for name, value in batch.items()} for batch in batches]


@pytest.mark.parametrize("kind", KINDS)
def test_each_route_serves_the_override_and_keeps_what_it_writes(make: Callable[..., Any], kind: str) -> None:
    batches = seen(looped := make(kind))
    for number, batch in enumerate(batches):
        x = np.stack([np.asarray(batch["id"]) * 1.0, np.asarray(batch["id"]) * 2.0 + 2], axis=1)
        assert batch["y"] == pytest.approx((x.sum(-1) * (1 if number % 2 else 3)).tolist())
    assert len({value for batch in batches for value in batch["r"]}) == 20
    stepped, traced, scanned = make(kind), make(kind), make(kind)
    assert seen(stepped.step() for _ in range(5)) == batches
    step = nnx.jit(lambda pipeline: pipeline.step())
    assert seen(step(traced) for _ in range(5)) == batches
    outs = scanned.scan(lambda batch: batch, length=5)
    assert seen(jax.tree.map(lambda leaf, n=n: leaf[n], outs) for n in range(5)) == batches
    assert [int(each.count[...]) for each in (looped, stepped, traced, scanned)] == [5] * 4


def test_reports_follow_the_override(make: Callable[..., Any]) -> None:
    pipeline = make()
    assert pipeline.element_spec()["y"] == jax.ShapeDtypeStruct((), jnp.float32)
    assert "stages: double, Noise, called by Scaled.__call__; batches of 4" in pipeline.explain()
    assert "called by" not in make(of=Pipeline).explain()


def test_configs_and_meshes_serve_the_override(make: Callable[..., Any]) -> None:
    expected = seen(make())
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    assert seen(make(sharding=sharding)) == expected

    class CountedConfig(SourceConfig):
        type: Literal["counted"] = "counted"

    class Counted(EagerSourceBase):
        config_class = CountedConfig

        def __init__(self, config: CountedConfig, *, rngs: nnx.Rngs | None = None) -> None:
            super().__init__(
                config, columns_of({"id": np.arange(8), "x": np.ones((8, 2), np.float32)}, "it"), rngs=rngs
            )

    registry = SourceRegistry()
    registry.register(Counted)
    configured = Scaled.from_config({"batch_size": 4, "source": {"type": "counted"}}, registry)
    assert [batch["y"].tolist() for batch in configured] == [[6.0] * 4, [2.0] * 4]


def test_a_resumed_override_goes_on_alike(make: Callable[..., Any]) -> None:
    class Drawn(Pipeline):
        def __call__(self, batch: Batch) -> Batch:
            return {**super().__call__(batch), "drawn": jax.random.uniform(self.rngs.mine(), (4,))}

    pipeline = make(of=Drawn)
    batches = iter(pipeline)
    for _ in range(2):
        next(batches)
    state = json.loads(json.dumps(pipeline.get_state()))
    rest = seen(batches)
    resumed = make(of=Drawn)
    resumed.set_state(state)
    assert seen(resumed) == rest
    assert len({tuple(batch["drawn"]) for batch in rest}) == 3


def test_stages_applied_again_draw_anew(make: Callable[..., Any]) -> None:
    class Views(Pipeline):
        def __call__(self, batch: Batch) -> Batch:
            first, second = super().__call__(batch), super().__call__(batch)
            return {**first, "other": second["r"]}

    plain, views = next(iter(make(of=Pipeline))), next(iter(make(of=Views)))
    assert views["r"].tolist() == plain["r"].tolist()
    assert not set(views["r"].tolist()) & set(views["other"].tolist())


def test_an_override_may_leave_the_stages_out_and_regroup_under_a_mask(make: Callable[..., Any]) -> None:
    class Grouped(Pipeline):
        def __call__(self, batch: Batch) -> Batch:
            return Rebatch(2)({**batch, "x": batch["x"] + 1})

    *_, last = make(of=Grouped, batch_size=8, pad_last="valid")
    assert last["x"].shape == (4, 2, 2)
    assert "r" not in last
    assert last["valid"].tolist() == [[True, True]] * 2 + [[False, False]] * 2


def test_a_clone_has_variables_of_its_own(make: Callable[..., Any]) -> None:
    pipeline = make()
    pipeline.step()
    twin = pipeline.clone()
    assert seen([twin.step()]) == seen([pipeline.step()])
    twin.step()
    assert (int(twin.count[...]), int(pipeline.count[...])) == (3, 2)


def test_what_an_override_cannot_do_is_said(make: Callable[..., Any]) -> None:
    class Counts(Pipeline):
        calls = 0

        def __call__(self, batch: Batch) -> Batch:
            self.calls += 1
            return batch

    class Asks(Pipeline):
        def __call__(self, batch: Batch) -> Batch:
            return {**batch, "n": jnp.full(4, len(self.source))}

    with pytest.raises(ValueError, match=r"changed a plain attribute, or made a variable.*nnx\.Variable"):
        make(of=Counts).step()
    for serve in (lambda p: p.step(), lambda p: next(iter(p)), nnx.jit(lambda p: p.step())):
        with pytest.raises(
            AttributeError, match=r"^Asks\.__call__ reads self\.source, which it cannot reach: it is compiled"
        ):
            serve(make(of=Asks))
