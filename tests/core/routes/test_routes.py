"""Positions past 32 bits, in shards, under jit, and of a source by itself. Runs and routes are in test_invariant.py."""

from collections.abc import Callable
from typing import Any, get_args

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Order, Pipeline, columns_of
from datarax_core.routes.table import ROUTES
from datarax_core.sources import Access

MakeSource = Callable[..., Any]
LENGTHS, BATCH_SIZES, PLACEMENTS, SHARDS = [1, 5, 33, 300], [1, 4, 32], ["device", "host"], [(0, 1), (0, 3), (2, 3)]
COLUMNS = {length: columns_of({"id": np.arange(length, dtype=np.int32)}, "the test's data") for length in LENGTHS}


def ids(batch: Any) -> Any:
    return batch["id"]


def traced_ids(pipeline: Pipeline) -> Any:
    return pipeline.step()["id"]


def joined(batches: Any) -> list[int]:
    return [int(i) for batch in batches for i in batch["id"]]


def expected(source: Any, start: int, stop: int) -> list[int]:
    """Return the expected ids: whole epochs of the unsharded order, one after another, of which a shard takes every n-th."""
    order, shard, num_shards = Order(len(source)), source.order().shard, source.order().num_shards
    epochs: list[int] = []
    for epoch in range(start // source.order().epoch_length, -(-stop // source.order().epoch_length)):
        epochs += order.record_indices(epoch * len(source), len(source), source.order_key_data())[
            shard::num_shards
        ].tolist()
    skipped = start // source.order().epoch_length * source.order().epoch_length
    return epochs[start - skipped : stop - skipped]


def through(route: str, pipeline: Pipeline, batches: int) -> list[int]:
    """Return the ids of the next full ``batches`` of an endless pipeline, by one route."""
    if route == "iteration":
        return joined(batch for _, batch in zip(range(batches), pipeline, strict=False))
    if route == "step":
        return joined(pipeline.step() for _ in range(batches))
    if route == "traced step":
        step = nnx.jit(traced_ids)
        return np.concatenate([step(pipeline) for _ in range(batches)]).tolist()
    return np.asarray(pipeline.scan(ids, length=batches)).ravel().tolist()


drawn = st.fixed_dictionaries(
    {
        "length": st.sampled_from(LENGTHS),
        "size": st.sampled_from(BATCH_SIZES),
        "placement": st.sampled_from(PLACEMENTS),
        "shard": st.sampled_from(SHARDS),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
).filter(lambda case: case["shard"][0] < case["length"])
budget = settings(max_examples=40, deadline=None, derandomize=True)


def source_of(make_source: MakeSource, case: dict[str, Any]) -> Any:
    options = {name: case[name] for name in ("placement", "shard", "shuffle", "seed")}
    return make_source(COLUMNS[case["length"]], **options)


@budget
@given(case=drawn, skipped=st.integers(0, 400))
def test_a_source_serves_the_same_records_by_itself(
    make_source: MakeSource, case: dict[str, Any], skipped: int
) -> None:
    source, size = source_of(make_source, case), case["size"]
    wanted = expected(source, skipped, skipped + 3 * size)
    pipeline = Pipeline(source=source_of(make_source, case), batch_size=size, num_epochs=None, prefetch=0)
    pipeline.set_state(pipeline.get_state() | {"position": skipped})
    assert through("iteration", pipeline, 3) == wanted
    assert source.get_batch_at(skipped, 3 * size, source.order_key_data())["id"].tolist() == wanted
    source.set_state(source.get_state() | {"position": skipped})
    assert joined(source.get_batch(size) for _ in range(3)) == wanted
    source.reset()
    epoch_length = source.order().epoch_length
    assert [int(record["id"]) for _ in range(2) for record in source] == expected(source, 0, 2 * epoch_length)


def test_a_step_under_jit_serves_a_shard_of_the_order(make_source: MakeSource) -> None:
    source = make_source(COLUMNS[300], shuffle=True, shard=(1, 3))
    pipeline = Pipeline(source=source, batch_size=64, num_epochs=None)
    assert through("traced step", pipeline, 4) == expected(source, 0, 4 * 64)


def test_get_batch_at_is_traceable_in_start_and_key(make_source: MakeSource, make_host_source: MakeSource) -> None:
    key = jax.random.key(5)
    wanted = Order(300).record_indices(280, 40, key).tolist()
    for source in (make_source(300, shuffle=True), make_host_source(300, shuffle=True)):
        read = jax.jit(lambda start, key, source=source: source.get_batch_at(start, 40, key)["id"])
        assert read(280, key).tolist() == wanted
        assert source.get_batch_at(280, 40, key)["id"].tolist() == wanted


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_shards_are_disjoint_and_together_complete_in_every_epoch(
    make_source: MakeSource, placement: str, *, shuffle: bool
) -> None:
    sources = [make_source(COLUMNS[300], shuffle=shuffle, placement=placement, shard=(shard, 7)) for shard in range(7)]
    pipelines = [Pipeline(source=source, batch_size=32) for source in sources]
    for _ in range(2):
        assert sorted(i for pipeline in pipelines for i in joined(pipeline)) == list(range(300))


def test_whole_epochs_are_served_in_different_orders_that_depend_on_the_seed(make_source: MakeSource) -> None:
    orders = {
        tuple(expected(make_source(COLUMNS[300], shuffle=True, seed=seed), epoch * 300, (epoch + 1) * 300))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_positions_past_32_bits_are_served_from_python(make_source: MakeSource, placement: str) -> None:
    source = make_source(COLUMNS[300], shuffle=True, placement=placement)
    for start in (2**31 - 32, 2**31 + 7, 2**40 + 11):
        for route in ("iteration", "step", "scan"):
            pipeline = Pipeline(source=source, batch_size=32, num_epochs=None)
            pipeline.set_state(pipeline.get_state() | {"position": start})
            assert through(route, pipeline, 3) == expected(source, start, start + 3 * 32)
            assert pipeline.get_state()["position"] == start + 3 * 32


def test_a_step_under_jit_past_32_bits_is_refused(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(COLUMNS[300]), batch_size=32, num_epochs=None)
    pipeline.set_state(pipeline.get_state() | {"position": 2**31 + 7})
    with pytest.raises(ValueError, match=r"stands past position 2147483655, which 32-bit positions under jit cannot"):
        nnx.jit(traced_ids)(pipeline)
    assert pipeline.get_state()["position"] == 2**31 + 7


def test_a_pipeline_is_neither_iterated_nor_scanned_inside_a_compiled_function(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(COLUMNS[300]), batch_size=32)
    with pytest.raises(RuntimeError, match=r"cannot iterate a pipeline inside a compiled function; call pipeline.step"):
        nnx.jit(lambda pipeline: ids(next(iter(pipeline))))(pipeline)
    with pytest.raises(RuntimeError, match=r"cannot scan a pipeline inside a compiled function; call pipeline.step"):
        nnx.jit(lambda pipeline: pipeline.scan(ids, length=2))(pipeline)


def test_every_way_of_access_has_one_class_of_routes() -> None:
    assert set(ROUTES) == set(get_args(Access))
    assert len(set(ROUTES.values())) == len(ROUTES)
