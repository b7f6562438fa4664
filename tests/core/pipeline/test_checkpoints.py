"""A state survives the ways in which it is saved: Orbax with a model, JSON, pickles, and serializers that change types."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from datarax_core import Pipeline, StateError

MakeSource = Callable[..., Any]
State = dict[str, Any]
LENGTH, SIZE, EPOCHS = 50, 8, 2  # 13 batches, the seventh of which has records of both epochs
SAVED_AT = (3, 7, 12)


class Noise(nnx.Module):
    """A stage with keys for each record, a statistic, and a random stream of its own."""

    stochastic = True

    def __init__(self) -> None:
        self.seen = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(4))

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        self.seen[...] += batch["id"].sum()
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        return {**batch, "x": self.dropout(batch["x"]) / LENGTH + noise}


@nnx.jit
def train_step(model: nnx.Linear, optimizer: nnx.Optimizer[Any], batch: Any) -> jax.Array:
    def loss_of(model: nnx.Linear) -> jax.Array:
        return jnp.mean((model(batch["x"])[:, 0] - batch["id"] / LENGTH) ** 2)

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


class Training:
    """The objects of one process of a training run."""

    def __init__(self, make_host_source: MakeSource) -> None:
        self.pipeline = Pipeline(
            source=make_host_source(LENGTH, shuffle=True),
            stages=[Noise()],
            batch_size=SIZE,
            rngs=nnx.Rngs(3),
            num_epochs=EPOCHS,
            prefetch=3,
        )
        self.model = nnx.Linear(2, 1, rngs=nnx.Rngs(1))
        self.optimizer = nnx.Optimizer(self.model, optax.adam(0.1), wrt=nnx.Param)

    def run(self, before: Callable[[int], object] = lambda _: None) -> list[bytes]:
        """Train to the end of the run, with a call before each batch; return every batch and loss, to the bit."""
        before(0)
        seen = []
        for batch in self.pipeline:
            loss = train_step(self.model, self.optimizer, batch)
            seen.append(b"".join(np.asarray(value).tobytes() for value in (batch["id"], batch["x"], loss)))
            before(len(seen))
        return seen

    def save(self, checkpoints: ocp.CheckpointManager, step: int) -> None:
        arrays = ocp.args.StandardSave(nnx.to_pure_dict(self._learned()))
        data = ocp.args.JsonSave(self.pipeline.get_state())
        checkpoints.save(step, args=ocp.args.Composite(arrays=arrays, data=data))

    def restore(self, checkpoints: ocp.CheckpointManager, step: int) -> None:
        learned = self._learned()
        arrays = ocp.args.StandardRestore(nnx.to_pure_dict(learned))
        found = checkpoints.restore(step, args=ocp.args.Composite(arrays=arrays, data=ocp.args.JsonRestore()))
        nnx.replace_by_pure_dict(learned, found.arrays)
        nnx.update(self._parts(), learned)
        self.pipeline.set_state(found.data)

    def weights(self) -> list[bytes]:
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(self._learned())]

    def _parts(self) -> Any:
        return self.model, self.optimizer, self.pipeline.stages

    def _learned(self) -> Any:
        return nnx.state(self._parts(), nnx.Not(nnx.RngState))  # random streams are in the pipeline's state


@contextmanager
def checkpoints_in(folder: Path, *, is_async: bool) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=is_async)
    manager = ocp.CheckpointManager(folder.absolute(), options=options)
    try:
        yield manager
    finally:
        manager.close()


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_training_run_saved_with_orbax_goes_on_to_the_bit(
    make_host_source: MakeSource, tmp_path: Path, *, is_async: bool
) -> None:
    whole = Training(make_host_source)
    expected = whole.run()
    assert len(expected) == -(-LENGTH * EPOCHS // SIZE)

    with checkpoints_in(tmp_path, is_async=is_async) as checkpoints:
        saving = Training(make_host_source)
        served = saving.run(lambda step: saving.save(checkpoints, step) if step in SAVED_AT else None)
        assert (served, saving.weights()) == (expected, whole.weights()), "saving changes nothing"

    with checkpoints_in(tmp_path, is_async=is_async) as checkpoints:
        for step in SAVED_AT:
            resumed = Training(make_host_source)
            resumed.restore(checkpoints, step)
            assert resumed.run() == expected[step:], step
            assert resumed.weights() == whole.weights(), step


# -- serializers --------------------------------------------------------------------------------------------------------


def with_leaves(state: Any, change: Callable[[Any], Any]) -> Any:
    """Return the state with its lists and numbers converted at every depth."""
    if isinstance(state, dict):
        return {key: with_leaves(value, change) for key, value in state.items()}
    return change(state) if isinstance(state, list | int) else state


def through_orbax(state: State, folder: Path) -> Any:
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        return checkpointer.restore(folder / "state")


SERIALIZERS: dict[str, Callable[[State, Path], Any]] = {
    "JSON": lambda state, _: json.loads(json.dumps(state, allow_nan=False)),
    "a pickle": lambda state, _: pickle.loads(pickle.dumps(state)),  # noqa: S301 - our own
    "tuples": lambda state, _: with_leaves(state, lambda leaf: tuple(leaf) if isinstance(leaf, list) else leaf),
    "NumPy arrays": lambda state, _: with_leaves(state, np.asarray),
    "NumPy numbers": lambda state, _: with_leaves(state, lambda leaf: np.asarray(leaf)[()]),
    "JAX arrays": lambda state, _: with_leaves(state, lambda leaf: jnp.asarray(leaf, np.uint32)),
    "Orbax, as a tree": through_orbax,
}


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
@pytest.mark.parametrize("kind", ["pipeline", "source"])
def test_a_state_is_restored_whatever_types_a_serializer_makes_of_its_values(
    make_source: MakeSource, tmp_path: Path, kind: str, serializer: Callable[[State, Path], Any]
) -> None:
    def made() -> tuple[Any, Callable[[], Any]]:
        source = make_source(LENGTH, shuffle=True, placement="host", shard=(1, 2))
        if kind == "source":
            return source, lambda: source.get_batch(SIZE)
        pipeline = Pipeline(source=source, stages=[Noise()], batch_size=SIZE, rngs=nnx.Rngs(3), num_epochs=None)
        return pipeline, pipeline.step

    (saved, next_of_saved), (restored, next_of_restored) = made(), made()
    for _ in range(4):
        next_of_saved()
    state = saved.get_state()
    restored.set_state(serializer(state, tmp_path))
    assert json.dumps(restored.get_state()) == json.dumps(state), "plain JSON again"
    assert jax.tree.all(jax.tree.map(np.array_equal, next_of_restored(), next_of_saved()))


def test_a_state_with_a_value_that_a_serializer_changed_is_refused(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(LENGTH, shuffle=True), batch_size=SIZE)
    state = pipeline.get_state()
    seed = np.asarray(state["fingerprint"]["seed"], np.uint32).astype(np.int32)
    with pytest.raises(StateError, match=r"seed was \[-?\d+, -?\d+\] and is \[\d+, \d+\]"):
        pipeline.set_state(state | {"fingerprint": state["fingerprint"] | {"seed": seed}})
