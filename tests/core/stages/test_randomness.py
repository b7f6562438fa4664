"""Stochastic stages: a record is treated alike however it is batched, and differently in the next epoch."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, StructuralConfig, StructuralModule
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH = 50


class Noise(StructuralModule):
    """Stage that adds a field of noise."""

    def process(self, batch: Any, keys: jax.Array) -> Any:
        return {**batch, "noise": jax.vmap(jax.random.normal)(keys)}


def noise() -> Noise:
    return Noise(StructuralConfig(stochastic=True, stream_name="noise"), rngs=nnx.Rngs(0))


def pipeline(
    batch_size: int = 8, *, seed: int = 0, stages: Any = None, shuffle: bool = True, **config: Any
) -> Pipeline:
    source = MemorySource(
        MemorySourceConfig(shuffle=shuffle, **config), {"id": np.arange(LENGTH)}, rngs=nnx.Rngs(7) if shuffle else None
    )
    return Pipeline(
        source=source, stages=stages or [noise()], batch_size=batch_size, rngs=nnx.Rngs(seed), num_epochs=None
    )


def noise_of(batches: Any) -> dict[int, float]:
    """Return the noise of each record in the first epoch that serves it."""
    found: dict[int, float] = {}
    for batch in batches:
        for record, value in zip(np.ravel(batch["id"]).tolist(), np.ravel(batch["noise"]).tolist(), strict=True):
            found.setdefault(record, value)
    return found


def served(a_pipeline: Pipeline, batches: int) -> list[Any]:
    return [batch for batch, _ in zip(a_pipeline, range(batches), strict=False)]


@pytest.fixture(scope="module")
def expected() -> dict[int, float]:
    found = noise_of(served(pipeline(50), 1))
    assert len(set(found.values())) == LENGTH
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_the_batch_size_does_not_matter(batch_size: int, expected: dict[int, float]) -> None:
    found = noise_of(served(pipeline(batch_size), LENGTH // batch_size))
    assert found == {record: expected[record] for record in found}


def test_the_order_does_not_matter(expected: dict[int, float]) -> None:
    assert noise_of(served(pipeline(25, shuffle=False), 2)) == expected


def test_the_shard_does_not_matter(expected: dict[int, float]) -> None:
    shards = [noise_of(served(pipeline(5, num_workers=2, shard_id=shard), 5)) for shard in (0, 1)]
    assert shards[0] | shards[1] == expected


@pytest.mark.parametrize("route", ["host", "step", "scan", "traced"])
def test_the_route_does_not_matter(route: str, expected: dict[int, float]) -> None:
    one = pipeline(10, placement="host" if route == "host" else "auto")
    if route == "host":
        batches = served(one, 5)
    elif route == "step":
        batches = [one.step() for _ in range(5)]
    elif route == "scan":
        batches = [one.scan(lambda batch: batch, length=5)]
    else:
        step = nnx.jit(lambda p: p.step())
        batches = [step(one) for _ in range(5)]
    assert noise_of(batches) == expected


def test_the_next_epoch_treats_a_record_differently_and_alike_at_every_batch_size(expected: dict[int, float]) -> None:
    def second_epoch(batch_size: int) -> dict[int, float]:
        one = pipeline(batch_size)
        one.scan(lambda batch: batch["id"], length=LENGTH // batch_size)
        return noise_of(served(one, LENGTH // batch_size))

    assert second_epoch(10) == second_epoch(25)
    assert all(expected[record] != value for record, value in second_epoch(10).items())


def test_two_stages_and_two_seeds_draw_different_numbers(expected: dict[int, float]) -> None:
    assert all(expected[record] != value for record, value in noise_of(served(pipeline(50, seed=1), 1)).items())
    second = served(pipeline(50, stages=[lambda batch: batch, noise()]), 1)
    assert all(expected[record] != value for record, value in noise_of(second).items())


def test_a_state_of_another_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="stages_seed was"):
        pipeline(seed=1).set_state(pipeline(seed=0).get_state())


def test_a_stochastic_stage_needs_random_numbers() -> None:
    source = MemorySource(MemorySourceConfig(), {"id": np.arange(3)})
    with pytest.raises(ValueError, match="stage 0 is stochastic and needs random numbers: pass rngs="):
        Pipeline(source=source, stages=[noise()], batch_size=1)


def test_a_stochastic_stage_cannot_be_applied_to_records_without_ids() -> None:
    with pytest.raises(ValueError, match="has its keys from the records it is given"):
        pipeline()({"id": np.arange(3)})
