"""Pipelines and sources in traces that would serve one batch for ever, which are refused; threads that share a pipeline."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import TraceContextError

from datarax_core import Pipeline

MakeSource = Callable[..., Any]
PLAIN = (
    r"^the pipeline over EagerSourceBase is an argument of plain jax\.jit, which drops the position that step\(\) moves"
)
CLOSED = r"the pipeline over EagerSourceBase in a traced function that closes over it: .*make it an argument .*nnx\.jit"


@pytest.fixture
def pipeline(make_source: MakeSource) -> Pipeline:
    return Pipeline(source=make_source(20), batch_size=4)


@pytest.mark.parametrize(
    "call",
    [
        jax.jit(lambda p: p.step()),
        jax.jit(lambda p: (p, p.step())),
        lambda p: jax.jit(lambda tree: tree["data"].step())({"data": p}),
        nnx.jit(lambda p: jax.jit(lambda q: q.step())(p)["id"]),
    ],
    ids=["argument", "returned", "in a tree", "within nnx.jit"],
)
def test_an_argument_of_plain_jit_is_refused(pipeline: Pipeline, call: Callable[[Pipeline], Any]) -> None:
    with pytest.raises(RuntimeError, match=PLAIN):
        call(pipeline)
    assert pipeline.step()["id"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("step", lambda p: jax.jit(p.step)()),
        ("step", lambda p: nnx.jit(lambda: p.step()["id"])()),
        ("step", lambda p: jax.eval_shape(p.step)),
        ("scan", lambda p: jax.jit(lambda: p.scan(lambda batch: batch["id"], length=2))()),
        ("iterate", lambda p: jax.jit(lambda: [batch["id"] for batch in p])()),
    ],
)
def test_what_a_traced_function_closes_over_is_refused(
    pipeline: Pipeline, action: str, call: Callable[[Pipeline], Any]
) -> None:
    with pytest.raises(RuntimeError, match=f"^cannot {action} {CLOSED}"):
        call(pipeline)
    assert pipeline.step()["id"].tolist() == [0, 1, 2, 3]


def test_sources_are_refused_alike(make_source: MakeSource) -> None:
    source = make_source(20)
    with pytest.raises(
        RuntimeError, match=r"^EagerSourceBase is an argument of plain jax\.jit.* that get_batch\(\) moves"
    ):
        jax.jit(lambda source: source.get_batch(4))(source)
    with pytest.raises(
        RuntimeError, match=r"^cannot get_batch\(\) of EagerSourceBase in a traced function that closes over"
    ):
        jax.jit(lambda: source.get_batch(4))()
    assert nnx.jit(lambda source: source.get_batch(4))(source)["id"].tolist() == [0, 1, 2, 3]


def test_traces_that_keep_the_position_go_on(pipeline: Pipeline) -> None:
    tree = (
        nnx.jit(lambda pipeline: pipeline.step(), graph=False) if "graph" in nnx.jit.__kwdefaults__ else pipeline.step
    )
    served = [(tree(pipeline) if tree != pipeline.step else tree())["id"][0] for _ in range(2)]
    graphdef, state = nnx.split(pipeline)

    @jax.jit
    def split_and_merged(state: Any) -> Any:
        merged = nnx.merge(graphdef, state)
        batch = merged.step()
        return nnx.state(merged), batch["id"][0]

    for _ in range(2):
        state, first = split_and_merged(state)
        served.append(first)
    assert list(map(int, served)) == [0, 4, 8, 12]


def test_another_module_that_a_step_closes_over_keeps_the_error_of_flax(pipeline: Pipeline) -> None:
    counter = nnx.Variable(jnp.zeros(()))

    def count(batch: Any) -> Any:
        counter[...] += 1
        return batch["id"]

    with pytest.raises(TraceContextError):
        pipeline.scan(count, length=2)


@pytest.mark.parametrize("source", ["make_source", "make_host_source"])
def test_threads_that_share_a_pipeline_share_its_batches(request: pytest.FixtureRequest, source: str) -> None:
    pipeline = Pipeline(source=request.getfixturevalue(source)(4000, shuffle=True), batch_size=10, rngs=nnx.Rngs(0))
    ready = threading.Barrier(4)
    loop = iter(pipeline)

    def serve(number: int) -> list[int]:
        ready.wait()
        batches = [pipeline.step() if number % 2 else next(loop) for _ in range(100)]
        return np.concatenate([np.asarray(batch["id"]) for batch in batches]).tolist()

    with ThreadPoolExecutor(4) as threads:
        served = [index for part in threads.map(serve, range(4)) for index in part]
    assert sorted(served) == list(range(4000))
