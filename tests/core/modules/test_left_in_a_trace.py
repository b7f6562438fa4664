"""Loops that are dropped inside of a traced function: nothing is written there, and the position is right afterwards."""

import gc
from collections.abc import Callable
from typing import Any

import jax
import pytest
from flax import nnx

from datarax_core import Pipeline

MakeSource = Callable[..., Any]


@pytest.mark.filterwarnings("error")  # an exception in a destructor is a warning of pytest
@pytest.mark.parametrize("kind", ["pipeline", "source"])
def test_a_loop_that_is_dropped_in_a_trace_is_left(make_source: MakeSource, kind: str) -> None:
    source = make_source(20)
    looped = Pipeline(source=source, batch_size=4) if kind == "pipeline" else source
    held = [iter(looped)]
    next(held[0])

    @jax.jit
    def drop(x: Any) -> Any:
        held.clear()
        gc.collect()
        return x + 1

    assert looped.cursor.in_loop
    assert int(drop(1)) == 2
    assert not looped.cursor.in_loop
    assert looped.get_state()["in_loop"] is False
    assert looped.cursor.position == (4 if kind == "pipeline" else 1)


@pytest.mark.filterwarnings("error")
def test_a_loop_that_is_dropped_while_its_pipeline_is_traced_is_left(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(20), batch_size=4)
    held = [iter(pipeline)]
    next(held[0])

    @nnx.jit
    def step(pipeline: Pipeline) -> Any:
        held.clear()
        gc.collect()
        return pipeline.step()["id"]

    assert step(pipeline).tolist() == [4, 5, 6, 7]
    assert (pipeline.cursor.position, pipeline.cursor.in_loop) == (8, False)


@pytest.mark.filterwarnings("error")
def test_a_loop_that_begins_after_one_was_dropped_in_a_trace_is_under_way(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(20), batch_size=4)
    held = [iter(pipeline)]
    next(held[0])
    jax.jit(lambda x: held.clear() or x)(1)
    loop = iter(pipeline)
    assert pipeline.cursor.in_loop
    assert next(loop)["id"].tolist() == [0, 1, 2, 3]
