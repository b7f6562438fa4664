"""Programs under a user's ``nnx.jit`` keep no data set alive; copies of a source do."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pipeline_copies import COPIES

from datarax_core import Pipeline

MakeSource = Callable[..., Any]


def step(pipeline: Pipeline) -> Any:
    return pipeline.step()["x"]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_programs_keep_no_data(make_source: MakeSource, placement: str) -> None:
    kept = nnx.jit(step)

    def trial(program: Callable[[Pipeline], Any]) -> list[weakref.ref[Any]]:
        source = make_source({"x": np.ones((1000, 8), np.float32)}, placement=placement, shuffle=True)
        pipeline = Pipeline(source=source, batch_size=4)
        pipeline.step()
        jax.block_until_ready([program(pipeline), program(pipeline)])
        return [weakref.ref(part) for part in (source, source.columns, pipeline)]

    trial(kept)
    gc.collect()
    before = sum(array.nbytes for array in jax.live_arrays())
    refs = [ref for _ in range(3) for ref in (*trial(kept), *trial(nnx.jit(lambda pipeline: pipeline.step()["x"])))]
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []
    assert sum(array.nbytes for array in jax.live_arrays()) - before < 32_000


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_holds_the_data(make_source: MakeSource, copied: Callable[[Pipeline], Pipeline]) -> None:
    pipeline = copied(Pipeline(source=make_source(20), batch_size=4))
    gc.collect()
    assert pipeline.step()["id"].tolist() == [0, 1, 2, 3]
    assert nnx.jit(step)(pipeline).tolist() == [[i * 0.5, i + 1.0] for i in range(4, 8)]


def test_a_graph_whose_data_is_gone_says_so(make_source: MakeSource) -> None:
    graphdef, state = nnx.split(Pipeline(source=make_source(20), batch_size=4))
    gc.collect()
    with pytest.raises(
        RuntimeError, match=r"^the data of this graph is gone with the last source or pipeline that held it"
    ):
        nnx.merge(graphdef, state)
