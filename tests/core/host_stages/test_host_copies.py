"""Copies, pickles and states of pipelines with host stages, and the cost of a host stage that does nothing."""

import copy
import json
import pickle
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, StateError
from datarax_core.stages import RecordGenerators
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH, SIZE = 20, 6


@pytest.fixture(scope="module")
def given() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "importable")
        yield import_module("host_stages")
        sys.modules.pop("host_stages")


def pipeline(*stages: Any, seed: int = 0, **options: Any) -> Pipeline:
    source = MemorySource(MemorySourceConfig(shuffle=True), {"id": np.arange(LENGTH)}, rngs=nnx.Rngs(1))
    return Pipeline(source=source, stages=stages, batch_size=SIZE, rngs=nnx.Rngs(seed), **options)


def drawn(batch: Any) -> list[Any]:
    return np.asarray(batch["draws"]).tolist()


COPIES = {
    "clone": lambda one: one.clone(),
    "nnx.clone": nnx.clone,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),  # noqa: S301 - our own
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_goes_on_where_the_original_stands(given: Any, name: str) -> None:
    one = pipeline(given.Tokens(), given.Draws(), given.Dense())
    one.step()
    twin = COPIES[name](one)
    step = nnx.jit(lambda each: each.step())
    first = step(twin) if name in ("clone", "pickle", "nnx.clone") else twin.step()
    own = one.step()
    assert drawn(first) == drawn(own)
    assert first["tokens"].tolist() == own["tokens"].tolist()
    reader = twin._definition().reader
    assert drawn(twin.step()) == drawn(one.step())
    assert twin._definition().reader is reader or name == "nnx.clone"  # which is separated when it is first used
    assert twin._definition().reader is not one._definition().reader


def test_a_state_fits_stages_seed_and_places(given: Any) -> None:
    one = pipeline(given.Tokens(), given.Draws())
    expected = [drawn(batch) for batch in one]
    other = pipeline(given.Tokens(), given.Draws())
    next(iter(other))
    state = json.loads(json.dumps(other.get_state()))
    restored = pipeline(given.Tokens(), given.Draws())
    restored.set_state(state)
    assert [drawn(batch) for batch in restored] == expected[1:]
    with pytest.raises(StateError, match="stages_seed was"):
        pipeline(given.Tokens(), given.Draws(), seed=1).set_state(state)
    with pytest.raises(StateError, match=r"stochastic_stages was \{'1': 'Draws'\}"):
        pipeline(given.Draws(), given.Tokens()).set_state(state)


def test_a_key_that_is_replaced_is_drawn_from(given: Any) -> None:
    one, other = pipeline(given.Draws()), pipeline(given.Draws(), seed=1)
    expected = drawn(other.step())
    assert drawn(one.step()) != expected
    nnx.update(one, nnx.state(pipeline(given.Draws(), seed=1)))
    assert drawn(one.step()) == expected


def test_compiled_steps_draw_from_a_key_that_is_replaced(given: Any) -> None:
    one, other = pipeline(given.Draws()), pipeline(given.Draws(), seed=1)
    step = nnx.jit(lambda each: each.step())
    expected = [drawn(other.step()) for _ in range(3)]
    assert drawn(step(one)) != expected[0]
    nnx.update(one, nnx.state(pipeline(given.Draws(), seed=1)))
    assert drawn(step(one)) == expected[0]
    assert [drawn(one.step()), drawn(step(one))] == expected[1:]  # the program that was compiled before goes on


def test_stages_that_are_replaced_are_called_in_compiled_steps(given: Any) -> None:
    one, step = pipeline(given.Draws(), given.Draws(), given.doubled), nnx.jit(lambda each: each.step())
    first, one.stages[1] = one.stages[1], given.HALVED
    expected = drawn(one.step())
    one.reset()
    assert drawn(step(one)) == expected
    one.stages[1] = first
    one.reset()
    assert drawn(step(one)) != expected


def test_generators_are_made_when_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    philox = np.random.Philox
    monkeypatch.setattr(np.random, "Philox", lambda *args, **options: made.append(1) or philox(*args, **options))
    rngs = RecordGenerators(np.array([1, 2], np.uint32), 0, np.zeros(5, np.int64), np.arange(5))
    assert len(rngs) == 5
    assert made == []
    first = rngs[1].random()
    assert (len(made), rngs[1] is rngs[-4]) == (1, True)
    assert first != rngs[1].random()
    assert rngs[0:2] == [rngs[0], rngs[1]]
    assert [rng.random() for rng in RecordGenerators(np.array([1, 2], np.uint32), 0, np.zeros(1, np.int64), [1])] == [
        first
    ]
    with pytest.raises(IndexError):
        rngs[5]


def test_compiled_programs_hold_no_host_stage(given: Any) -> None:
    """Pipelines whose compiled stages are equal share their programs, whatever their host stages are."""
    doubled = given.doubled
    one = pipeline(given.Tokens(), given.Dense(), doubled)
    one.step()
    other = pipeline(given.Tokens(), given.Dense(), doubled)
    route, other_route = one._make_route(is_loop=False), other._make_route(is_loop=False)
    assert route._run is other_route._run
    assert not any(isinstance(stage, given.Tokens) for stage in one._definition().compiled)


def test_over_a_mesh_each_device_reads_its_rows(given: Any) -> None:
    mesh = jax.make_mesh((1,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    stages = [given.Tokens(), given.Draws(), given.Dense()]
    placed, plain = pipeline(*stages, sharding=sharding, drop_last=True), pipeline(*stages, drop_last=True)
    assert [drawn(batch) for batch in placed] == [drawn(batch) for batch in plain]
    step = nnx.jit(lambda each: each.step())
    assert drawn(step(placed)) == drawn(plain.step())
