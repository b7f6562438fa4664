"""Programs keep no stage of a dropped pipeline alive, and are shared by equal pipelines."""

import functools
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.routes.shared_programs import holds_no_data

MakeSource = Callable[..., Any]
TRACES: list[str] = []
LARGE = 2_500_000  # numbers of 8 bytes


class Added:
    """A stage that captures a large array."""

    def __init__(self) -> None:
        self.table = np.ones(LARGE)

    def __call__(self, batch: Any) -> Any:
        return {"x": batch["x"] + jnp.float32(self.table[0])}


class AddedByModule(nnx.Module):
    """A module that holds the same object as a plain attribute."""

    def __init__(self) -> None:
        self.held = Added()

    def __call__(self, batch: Any) -> Any:
        return self.held(batch)


class Owner:
    """Owns a pipeline whose stage is a method of its own."""

    def __init__(self, source: Any) -> None:
        self.added = Added()
        self.pipeline = Pipeline(source=source, batch_size=4, stages=[self.augmented])

    def augmented(self, batch: Any) -> Any:
        return self.added(batch)


def closure() -> tuple[Any, Any]:
    added = Added()
    return (lambda batch: {**added(batch)}), added


def module() -> tuple[Any, Any]:
    made = AddedByModule()
    return made, made.held


def instance() -> tuple[Any, Any]:
    return (Added(),) * 2


@pytest.mark.parametrize(
    ("make", "placement"), [(instance, "device"), (closure, "host"), (module, "device"), (module, "host")]
)
def test_a_stage_dies_with_its_pipeline(make_source: MakeSource, make: Callable[[], Any], placement: str) -> None:
    def trial() -> list[weakref.ref[Any]]:
        stage, added = make()
        pipeline = Pipeline(source=make_source(20, placement=placement), batch_size=4, stages=[stage])
        assert len(list(pipeline)) == 5
        pipeline.step()
        pipeline.scan(lambda batch: batch["x"], length=2)
        return [weakref.ref(added), weakref.ref(added.table)]

    refs = trial()
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_stage_that_holds_its_pipeline_dies_too(make_source: MakeSource) -> None:
    owner = Owner(make_source(20))
    assert len(list(owner.pipeline)) == 5
    held = weakref.ref(owner.added.table)
    del owner
    gc.collect()
    assert held() is None


def noted(batch: Any) -> Any:
    TRACES.append("noted")
    return batch


@dataclass(frozen=True)
class Scaled:
    factor: float

    def __call__(self, batch: Any) -> Any:
        TRACES.append("scaled")
        return {"x": batch["x"] * self.factor}


@pytest.mark.parametrize("placement", ["device", "host"])
def test_an_equal_pipeline_compiles_nothing_after_the_first_is_gone(make_source: MakeSource, placement: str) -> None:
    TRACES.clear()
    for _ in range(3):
        list(Pipeline(source=make_source(20, placement=placement), batch_size=5, stages=[noted, Scaled(2.0)]))
        gc.collect()
    assert TRACES == ["noted", "scaled"]


def test_stages_with_data_are_shared_while_a_pipeline_lives(make_source: MakeSource) -> None:
    TRACES.clear()
    added = Added()
    pipelines = [Pipeline(source=make_source(20), batch_size=5, stages=[noted, added]) for _ in range(2)]
    for pipeline in pipelines * 2:
        assert len(list(pipeline)) == 4
    assert TRACES == ["noted"]


def test_what_holds_data_is_told() -> None:
    small, large = np.ones(3), np.ones(LARGE)
    for part in (
        noted,
        Scaled(2.0),
        small,
        functools.partial(noted, small),
        {"a": (1, "b")},
        lambda: small,
    ):
        assert holds_no_data(part), part
    for part in (Added(), Added().__call__, large, functools.partial(noted, large), [large], lambda: large, "a" * 9999):
        assert not holds_no_data(part), part
    recursive: list[Any] = []
    recursive.append(recursive)
    assert holds_no_data(recursive)
