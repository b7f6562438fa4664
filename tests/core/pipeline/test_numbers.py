"""Numbers at their limits: NumPy's integers count like Python's, and two seeds never give the same stream."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, build_source
from datarax_core.registry.pipeline_config import parse_config
from datarax_memory import MemorySource, MemorySourceConfig


def source(length: int = 1000) -> MemorySource:
    return MemorySource(MemorySourceConfig(), {"x": np.arange(length)})


def test_small_numpy_integers_do_not_wrap() -> None:
    one = source()
    served = [int(one.get_batch(np.uint8(200))["x"][0]) for _ in range(5)]
    assert served == [0, 200, 400, 600, 800]
    pipeline = Pipeline(source=source(), batch_size=np.uint8(200), num_epochs=np.int8(3))
    assert len(pipeline) == 15
    assert json.loads(json.dumps(pipeline.get_state()))["fingerprint"]["batch_size"] == 200
    assert pipeline.scan(lambda batch: batch["x"][0], length=np.int8(2)).tolist() == [0, 200]


@pytest.mark.parametrize("seed", [2**32, 2**63, 2**64])
def test_a_seed_that_jax_would_confuse_with_another_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed: should be less than or equal to 4294967295"):
        parse_config({"source": {"type": "memory", "path": "x.npz"}, "batch_size": 1, "seed": seed})
    with pytest.raises(ValueError, match=r"seed is less than 2\*\*32"):
        build_source({"type": "memory", "path": "x.npz"}, seed=seed)
    with pytest.raises(ValueError, match=r"seed is less than 2\*\*32"):
        source().reset(seed=seed)


@pytest.mark.parametrize("dtype", [">i4", ">f4", ">i8", ">f8"])
@pytest.mark.parametrize("placement", ["device", "host"])
def test_numbers_of_the_other_byte_order_are_served(dtype: str, placement: Any) -> None:
    data = {"x": np.arange(6).astype(dtype)}
    pipeline = Pipeline(source=MemorySource(MemorySourceConfig(placement=placement), data), batch_size=6)
    assert next(iter(pipeline))["x"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_traced_position_is_an_integer() -> None:
    one = source()
    with pytest.raises(TypeError, match="a position is an integer, not float32"):
        jax.jit(lambda start: one.get_batch_at(start, 4))(5.0)
    assert jax.jit(lambda start: one.get_batch_at(start, 4))(np.uint8(250))["x"].tolist() == [250, 251, 252, 253]


def test_a_clone_of_a_pipeline_is_independent() -> None:
    pipeline = Pipeline(source=source(20), batch_size=5, rngs=nnx.Rngs(0))
    batches = iter(pipeline)
    next(batches)
    twin = pipeline.clone()
    assert [int(batch["x"][0]) for batch in twin] == [5, 10, 15]
    assert [int(batch["x"][0]) for batch in batches] == [5, 10, 15]
    pipeline.set_state(pipeline.get_state())


def test_step_runs_the_stages_that_the_pipeline_has_now() -> None:
    pipeline = Pipeline(source=source(), stages=[lambda batch: {"x": batch["x"] + 1}], batch_size=2)
    pipeline.step()
    pipeline.stages[0] = lambda batch: {"x": batch["x"] * 0}
    assert pipeline.step()["x"].tolist() == [0, 0]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_batch_size_far_above_the_records_takes_no_memory(make_source: Callable[..., Any], placement: str) -> None:
    class Drawn:
        stochastic = True

        def __call__(self, batch: Any, keys: Any) -> Any:
            return {**batch, "drawn": jax.vmap(jax.random.uniform)(keys)}

    source = make_source(100, shuffle=True, placement=placement)
    pipeline = Pipeline(source=source, batch_size=10**9, stages=[Drawn()], rngs=nnx.Rngs(0), num_epochs=2)
    tracemalloc.start()
    try:
        pipeline.element_spec()
        sizes = [len(batch["id"]) for batch in pipeline]
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert sizes == [200]
