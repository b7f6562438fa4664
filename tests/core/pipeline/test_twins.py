"""Twins of a pipeline go on where it stands, as a restored one does: copies, states, and variables that flax moves."""

import copy
import json
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline, StateError, StreamingSourceBase, StructuralConfig, default_hooks, hookimpl

MakeSource = Callable[..., Any]


def ids(batch: Any) -> Any:
    return None if batch is None else np.asarray(batch["id"]).tolist()


def by_update(pipeline: Pipeline, make: Callable[[], Pipeline]) -> Pipeline:
    twin = make()
    nnx.update(twin, nnx.state(nnx.clone(pipeline)))
    return twin


def by_state(pipeline: Pipeline, make: Callable[[], Pipeline]) -> Pipeline:
    twin = make()
    twin.set_state(json.loads(json.dumps(pipeline.get_state())))
    return twin


TWINS: dict[str, Callable[[Pipeline, Callable[[], Pipeline]], Pipeline]] = {
    "state": by_state,
    "nnx.update": by_update,
    "nnx.clone": lambda pipeline, _: nnx.clone(pipeline),
    "clone": lambda pipeline, _: pipeline.clone(),
    "deepcopy": lambda pipeline, _: copy.deepcopy(pipeline),
    "pickle": lambda pipeline, _: pickle.loads(pickle.dumps(pipeline)),  # noqa: S301 - our own
}
JIT_STEP = nnx.jit(lambda pipeline: pipeline.step())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    twin=st.sampled_from(list(TWINS)),
    epochs=st.sampled_from([1, 2, None]),
    drop_last=st.booleans(),
    placement=st.sampled_from(["device", "host"]),
    steps=st.integers(0, 4),
    batches=st.integers(0, 7),
    after=st.sampled_from(["held", "left"]),
)
def test_a_twin_goes_on_as_the_loop_it_was_made_in(
    make_source: MakeSource,
    *,
    twin: str,
    epochs: int | None,
    drop_last: bool,
    placement: str,
    steps: int,
    batches: int,
    after: str,
) -> None:
    def make() -> Pipeline:
        source = make_source(10, shuffle=True, placement=placement)
        return Pipeline(source=source, batch_size=4, num_epochs=epochs, drop_last=drop_last)

    pipeline = make()
    for _ in range(steps):
        pipeline.step()
    loop: Any = iter(pipeline)
    served = [next(loop, None) for _ in range(batches)]
    was_told = None in served
    other = TWINS[twin](pipeline, make)
    if after == "held" and not was_told:
        following = [ids(next(loop, None)) for _ in range(3)]
        twins = iter(other)
        assert [ids(next(twins, None)) for _ in range(3)] == following
        assert other.cursor.position == pipeline.cursor.position
    elif was_told:
        assert ids(next(iter(other))) == ids(next(iter(pipeline)))
    before = other.cursor.position
    pipeline.step()
    assert other.cursor.position == before, "they share no run"


@pytest.mark.parametrize("position", [0, 2**31 - 40, 2**31 + 4, 2**33 + 8])
def test_variables_resume_beside_a_model_through_orbax(make_source: MakeSource, tmp_path: Path, position: int) -> None:
    def made() -> Any:
        pipeline = Pipeline(source=make_source(100, shuffle=True), batch_size=8, num_epochs=None)
        model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        return nnx.List([pipeline, model, nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)])

    tree = made()
    tree[0].set_state(tree[0].get_state() | {"position": position})
    next(iter(tree[0]))
    expected_position = tree[0].cursor.position
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(tree))
        checkpointer.wait_until_finished()
        other = made()
        restored = checkpointer.restore(tmp_path / "state", nnx.state(other))
    nnx.update(other, restored)
    assert other[0].cursor.position == expected_position == position + 8
    assert [ids(other[0].step()) for _ in range(15)] == [ids(tree[0].step()) for _ in range(15)]


def test_variables_of_another_stream_are_refused(make_source: MakeSource) -> None:
    saved = Pipeline(source=make_source(100), batch_size=8)
    saved.step()
    other = Pipeline(source=make_source(100), batch_size=4)
    nnx.update(other, nnx.state(saved))
    with pytest.raises(
        StateError, match=r"those of another stream: batch_size was 8 and is 4; restore them into a pipeline"
    ):
        other.step()
    other.reset()
    assert ids(other.step()) == [0, 1, 2, 3]
    other = Pipeline(source=make_source(50), batch_size=8)
    nnx.update(other, nnx.state(saved))
    with pytest.raises(StateError, match=r"the length of an epoch was 100 and is 50"):
        next(iter(other))


def test_variables_follow_steps_under_jit_and_updates_between_them(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(100), batch_size=10, num_epochs=None)
    loop = iter(pipeline)
    assert ids(next(loop))[0] == 0
    assert ids(JIT_STEP(pipeline))[0] == 10
    saved = nnx.state(nnx.clone(pipeline))  # a copy: a state of flax shares its variables
    assert ids(next(loop))[0] == 20, "a compiled step ends no loop"
    nnx.update(pipeline, saved)
    with pytest.raises(RuntimeError, match=r"^this loop is over"):
        next(loop)
    assert ids(next(iter(pipeline)))[0] == 20
    assert ids(JIT_STEP(pipeline))[0] == 30


class Ticks(StreamingSourceBase):
    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for tick in range(start, 10):
            yield {"id": np.int32(100 * epoch + tick)}


class TooMany(Ticks):
    def __len__(self) -> int:
        return 8


def test_the_place_of_a_stream_is_in_no_variable() -> None:
    pipeline = Pipeline(source=Ticks(StructuralConfig()), batch_size=2)
    pipeline.step()
    other = Pipeline(source=Ticks(StructuralConfig()), batch_size=2)
    nnx.update(other, nnx.state(pipeline))
    with pytest.raises(
        StateError, match=r"^nnx\.update moved the pipeline over Ticks from position 0 to 2, but the place"
    ):
        other.step()
    other.set_state(pipeline.get_state())
    assert ids(other.step()) == ids(pipeline.step()) == [2, 3]
    twin = nnx.clone(pipeline)
    pipeline.step()
    with pytest.raises(
        StateError, match=r"which leaves out the place of a stream, and the original has moved on since"
    ):
        twin.step()


@pytest.mark.parametrize("size", [3, 4, 8, 9])
def test_a_stream_that_yields_more_than_its_length_says_is_an_error(size: int) -> None:
    with pytest.raises(
        Exception, match=r"epoch 0 of TooMany goes on after 8 records, where __len__\(\) says that it ends"
    ):
        list(Pipeline(source=TooMany(StructuralConfig()), batch_size=size, num_epochs=2))


class Rolls:
    """Hooks that do something with the pipeline at its third batch."""

    def __init__(self, act: Callable[[Pipeline], object]) -> None:
        self.act = act
        self.is_done = False

    @hookimpl
    def datarax_batch_ready(self, pipeline: Pipeline, step: int) -> None:
        if step == 2 and not self.is_done:
            self.is_done = True
            self.act(pipeline)


@pytest.mark.parametrize("is_loop", [True, False])
@pytest.mark.parametrize("how", ["set_state", "reset", "update"])
def test_a_hook_may_roll_back_when_a_batch_is_ready(make_source: MakeSource, how: str, *, is_loop: bool) -> None:
    pipeline = Pipeline(source=make_source(20), batch_size=4)
    state, variables = pipeline.get_state(), jax.tree.map(lambda leaf: leaf, nnx.state(pipeline))
    act = {
        "set_state": lambda pipeline: pipeline.set_state(state),
        "reset": Pipeline.reset,
        "update": lambda pipeline: nnx.update(pipeline, variables),
    }[how]
    with default_hooks().registered(Rolls(act)):
        if is_loop:
            loop = iter(pipeline)
            assert [ids(next(loop))[0] for _ in range(3)] == [0, 4, 8]
            with pytest.raises(RuntimeError, match=r"^this loop is over"):
                next(loop)
            assert [ids(batch)[0] for batch in pipeline] == [0, 4, 8, 12, 16]
        else:
            assert [ids(pipeline.step())[0] for _ in range(5)] == [0, 4, 8, 0, 4]


class StopsAtBatch:
    @hookimpl
    def datarax_batch_ready(self) -> None:
        raise StopIteration


class StopsAtEpoch:
    @hookimpl
    def datarax_epoch_finished(self) -> None:
        raise StopIteration


@pytest.mark.parametrize("hooks", [StopsAtBatch(), StopsAtEpoch()])
def test_stop_iteration_of_a_hook_ends_no_loop(make_source: MakeSource, hooks: object) -> None:
    with default_hooks().registered(hooks):
        pipeline = Pipeline(source=make_source(8), batch_size=4, num_epochs=2)
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            list(pipeline)


def test_stop_iteration_of_a_generator_or_its_maker_ends_no_epoch() -> None:
    class Raises(Ticks):
        def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - of the base class
            raise StopIteration

    with pytest.raises(RuntimeError, match=r"^Raises raised StopIteration before its records ended"):
        list(Pipeline(source=Raises(StructuralConfig()), batch_size=4))
    with pytest.raises(RuntimeError, match=r"^Raises raised StopIteration before its records ended"):
        list(Raises(StructuralConfig()))


def test_a_stage_cannot_ask_for_the_state_while_it_is_compiled(make_source: MakeSource) -> None:
    def asks(batch: Any) -> Any:
        pipelines[0].get_state()
        return batch

    pipelines = [Pipeline(source=make_source(8), stages=[asks], batch_size=4, rngs=nnx.Rngs(0))]
    with pytest.raises(
        RuntimeError, match=r"^cannot get the state of a pipeline inside a compiled function; call it between"
    ):
        pipelines[0].step()


def test_a_run_over_a_stream_without_a_length_resumes_in_its_third_epoch() -> None:
    def make(**options: Any) -> Pipeline:
        return Pipeline(source=Ticks(StructuralConfig()), **{"batch_size": 4, "num_epochs": 4} | options)

    assert [[ids(batch) for batch in pipeline] for pipeline in [make(num_epochs=1)] * 3] == [
        [[100 * epoch + row for row in rows] for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])] for epoch in range(3)
    ]
    pipeline, resumed = make(), make()
    loop = iter(pipeline)
    for _ in range(6):
        next(loop)
    resumed.set_state(json.loads(json.dumps(pipeline.get_state())))
    following = [ids(batch) for batch in loop]
    assert following[-1] == [306, 307, 308, 309]
    assert [ids(batch) for batch in resumed] == following
    assert [ids(batch) for batch in resumed] == [ids(batch) for batch in pipeline]
    assert math.inf > len(following) == 4
    endless = make(num_epochs=None)
    assert [ids(batch) for _, batch in zip(range(9), endless, strict=False)][-1] == [302, 303, 304, 305]


def test_an_eager_gradient_takes_a_pipeline_as_an_argument(make_source: MakeSource) -> None:
    pipeline, weight = Pipeline(source=make_source(20), batch_size=4), nnx.Linear(1, 1, rngs=nnx.Rngs(0))

    def loss(weight: nnx.Linear, pipeline: Pipeline) -> jax.Array:
        return weight(ids_of_step(pipeline)).sum()

    def ids_of_step(pipeline: Pipeline) -> jax.Array:
        return jnp.asarray(ids(pipeline.step()), jnp.float32)[:, None]

    for first in (0, 4, 8):
        gradient = nnx.grad(loss)(weight, pipeline)
        assert gradient["kernel"][...].item() == sum(range(first, first + 4))
    assert [ids(batch)[0] for batch in pipeline] == [12, 16]


def test_a_pickle_of_a_pipeline_over_a_stream_goes_on() -> None:
    pipeline = Pipeline(source=Ticks(StructuralConfig()), batch_size=4)
    next(iter(pipeline))
    copied = pickle.loads(pickle.dumps(pipeline))  # noqa: S301 - our own
    assert ids(next(iter(copied))) == [4, 5, 6, 7]
