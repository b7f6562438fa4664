"""Places of a pipeline by step, position and epoch: going there, and looking at the batch there."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.extensions.hookspecs import hookimpl
from datarax_core.registry.sources import default_hooks

MakeSource = Callable[..., Any]
LENGTH = 50
SIZES: list[Any] = [8, [[0, 8], [20, 12]]]


class Counted(nnx.Module):
    """A stage that counts the batches it was called with, and draws a number for each record."""

    stochastic = True

    def __init__(self) -> None:
        self.calls = nnx.BatchStat(jax.numpy.zeros((), np.int32))

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        self.calls[...] += 1
        return {**batch, "u": jax.vmap(jax.random.uniform)(keys)}


class Offset:
    """A host stage with a number for each record."""

    on_host = True
    stochastic = True

    def element_spec(self, spec: Any) -> Any:
        return {**spec, "h": jax.ShapeDtypeStruct((), np.dtype(np.float32))}

    def __call__(self, batch: Any, rngs: Any) -> Any:
        return {**batch, "h": np.array([rng.random() for rng in rngs], np.float32)}


@pytest.fixture(params=["device", "host", "host stages"])
def make(request: pytest.FixtureRequest, make_source: MakeSource) -> Callable[..., Pipeline]:
    placement = "device" if request.param == "device" else "host"

    def make(**options: Any) -> Pipeline:
        stages = [Offset(), Counted()] if request.param == "host stages" else [Counted()]
        source = make_source(LENGTH, shuffle=True, placement=placement)
        return Pipeline(**{"source": source, "batch_size": 8, "stages": stages, "rngs": nnx.Rngs(0)} | options)

    return make


def shown(batch: Any) -> dict[str, Any]:
    return {name: np.asarray(leaf).tolist() for name, leaf in batch.items()}


def calls(pipeline: Pipeline) -> int:
    return int(pipeline.stages[-1].calls[...])


@pytest.mark.parametrize("batch_size", SIZES, ids=["one size", "schedule"])
def test_a_step_is_sought_and_looked_at(make: Callable[..., Pipeline], batch_size: Any) -> None:
    pipeline = make(batch_size=batch_size)
    steps = [shown(pipeline.step()) for _ in range(12)]
    at = [pipeline.batch_sizes.position_of(step) for step in range(12)]
    state, stats, called = json.dumps(pipeline.get_state()), pipeline.stats(), calls(pipeline)
    for number in (0, 3, 7, 11, 2):
        assert shown(pipeline.batch_at(number)) == shown(pipeline.batch_at(position=at[number])) == steps[number]
    assert json.dumps(pipeline.get_state()) == state
    assert pipeline.stats() == stats
    assert calls(pipeline) == called == 12
    for number in (5, 0, 11):
        pipeline.seek(step=number)
        assert (pipeline.cursor.position, shown(pipeline.step())) == (at[number], steps[number])
        pipeline.seek(position=at[number])
        assert shown(pipeline.step()) == steps[number]


def test_an_epoch_is_sought_and_the_loop_goes_on_with_its_run(make: Callable[..., Pipeline]) -> None:
    pipeline = make(num_epochs=2)
    runs = [[shown(batch) for batch in pipeline] for _ in range(2)]
    for epoch, rest in ((0, runs[0]), (2, runs[1])):
        pipeline.seek(epoch=epoch)
        assert [shown(batch) for batch in pipeline] == rest
    pipeline.seek(epoch=3)
    last = [number for batch in pipeline for number in np.asarray(batch["id"]).tolist()]
    assert sorted(last) == list(range(LENGTH))
    assert last == [number for batch in runs[1] for number in batch["id"]][LENGTH:]
    assert pipeline.cursor.position == 4 * LENGTH
    pipeline.seek(position=2 * LENGTH + 3)  # with one size, a batch may begin at any record
    assert [number for batch in pipeline for number in shown(batch)["id"]] == [
        n for batch in runs[1] for n in batch["id"]
    ][3:]


def test_a_place_beyond_the_runs_so_far_is_served_as_if_they_had_been(make: Callable[..., Pipeline]) -> None:
    pipeline, other = make(), make()
    for _ in range(3):
        list(other)
    pipeline.seek(epoch=3)
    assert pipeline.get_state() == {**other.get_state(), "run_start": 3 * LENGTH}
    assert [shown(batch) for batch in pipeline] == [shown(batch) for batch in other]
    pipeline.seek(step=3)
    loop = iter(pipeline)
    first = shown(next(loop))
    assert first == shown(pipeline.batch_at(3))
    pipeline.seek(step=0)
    with pytest.raises(RuntimeError, match=r"^this loop is over"):
        next(loop)


def test_positions_within_a_batch_of_a_schedule_are_refused_with_the_nearest(make: Callable[..., Pipeline]) -> None:
    pipeline = make(batch_size=[[0, 8], [20, 12]])
    message = (
        r"^position=30 is in the middle of a batch: batch sizes are 8, 12 from record 20 on, and step 3 serves the 12 records "
        r"from position 24 on; take position=24 \(step=3\) or position=36 \(step=4\)$"
    )
    with pytest.raises(ValueError, match=message):
        pipeline.seek(position=30)
    with pytest.raises(ValueError, match=r"^position=30 is in the middle of a batch"):
        pipeline.batch_at(position=30)
    for position in (0, 24, 36, 50, 62, 100):  # 50 and 62: of the loop over the second epoch
        pipeline.seek(position=position)
        assert len(next(iter(pipeline))["id"]) == (8 if position < 20 else 12)


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "none": ({}, TypeError, r"^seek takes one of step, position, epoch: seek\(step=\.\.\.\) or .*; none given$"),
    "two": ({"step": 1, "epoch": 2}, TypeError, r"^seek takes one of step, position, epoch: .*; step, epoch given$"),
    "negative": ({"step": -1}, ValueError, r"^step is at least 0, not -1$"),
    "no integer": ({"epoch": 1.5}, TypeError, r"^epoch is an integer, not 1\.5$"),
    "far": (
        {"step": 2**62},
        ValueError,
        r"^step=4611686018427387904 is position \d+, beyond the last that batches reach, 9",
    ),
    "far position": (
        {"position": 2**63},
        ValueError,
        r"^position=9223372036854775808 is position 9223372036854775808, beyond",
    ),
}


@pytest.mark.parametrize(("given", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_place_is_refused(
    make_source: MakeSource, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    pipeline = Pipeline(source=make_source(LENGTH), batch_size=8)
    pipeline.step()
    with pytest.raises(error, match=message):
        pipeline.seek(**given)
    with pytest.raises(TypeError, match=r"^batch_at takes one of step, position: .*; none given$"):
        pipeline.batch_at()
    assert pipeline.cursor.position == 8


@pytest.mark.parametrize("kind", ["Sized", "Ending", "Endless"])
def test_a_stream_has_no_places(streams: SimpleNamespace, kind: str) -> None:
    source = getattr(streams, kind)() if kind == "Endless" else getattr(streams, kind)(10)
    pipeline = Pipeline(source=source, batch_size=4)
    with pytest.raises(
        NotImplementedError, match=rf"^seek reads at any place, but {kind} is a stream.*by set_state\(\), or"
    ):
        pipeline.seek(step=1)
    with pytest.raises(NotImplementedError, match=rf"^batch_at reads at any place, but {kind} is a stream"):
        pipeline.batch_at(1)


def test_compiled_code_seeks_nothing(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(LENGTH), batch_size=8)
    with pytest.raises(RuntimeError, match=r"^cannot seek a place of a pipeline inside a compiled function"):
        nnx.jit(lambda pipeline: pipeline.seek(step=1))(pipeline)
    with pytest.raises(RuntimeError, match=r"^cannot look at a batch of a pipeline inside a compiled function"):
        nnx.jit(lambda pipeline: pipeline.batch_at(1))(pipeline)


def test_hooks_hear_nothing_of_a_batch_that_is_looked_at(make_source: MakeSource) -> None:
    heard = []

    class Plugin:
        @hookimpl
        def datarax_batch_ready(self, step: int) -> None:
            heard.append(step)

    plugin = Plugin()
    hooks = default_hooks()
    hooks.register(plugin)
    try:
        pipeline = Pipeline(source=make_source(LENGTH), batch_size=8)
        pipeline.batch_at(3)
        pipeline.step()
        pipeline.batch_at(0)
    finally:
        hooks.unregister(plugin)
    assert heard == [0]
