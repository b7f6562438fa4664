"""`Cache`: its stage runs in the first epoch only, and batches are those of the stage in every route, order and batch size."""

import copy
import gc
import operator
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from serving import Encode, batches_of, require_true

from datarax_core import Cache, Pipeline, SplitField

MakeSource = Callable[..., Any]
ROUTES = ["loop", "step", "scan", "traced"]


# -- what it serves -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "route", "as_node"),
    [(access, route, False) for access in ("device", "host") for route in ROUTES] + [("device", "scan", True)],
)
def test_from_the_second_epoch_on_the_stage_does_not_run(
    make_source: MakeSource, make_host_source: MakeSource, route: str, access: str, *, as_node: bool
) -> None:
    source = make_source(30, shuffle=True) if access == "device" else make_host_source(30, shuffle=True)
    encode = Encode()
    cache = Cache(encode, source)
    if as_node:
        graph: Any = {"nodes": {"encode": cache}, "edges": [("source", "encode")], "sink": "encode"}
        pipeline = Pipeline.from_dag(source=source, **graph, batch_size=10, num_epochs=None)
    else:
        pipeline = Pipeline(source=source, stages=[cache], batch_size=10, num_epochs=None)
    for batch in batches_of(pipeline, route, 9):
        require_true(batch)
    assert encode.runs == 3
    assert cache.num_known == 30


def test_results_that_one_route_kept_are_served_by_another(make_source: MakeSource) -> None:
    source, encode = make_source(12, shuffle=True), Encode()
    pipeline = Pipeline(source=source, stages=[Cache(encode, source)], batch_size=4, num_epochs=None)
    batches_of(pipeline, "scan", 3)
    assert encode.runs == 3
    for route in ROUTES:
        for batch in batches_of(pipeline, route, 4):
            require_true(batch)
    assert encode.runs == 3


@pytest.mark.parametrize(
    ("length", "sizes", "shuffle", "pad"),
    [(1, [4], False, True), (5, [4, 7], True, True), (30, [64, 7], True, False)],
)
def test_any_order_and_batch_size_serves_the_results_of_the_stage(
    make_source: MakeSource, length: int, sizes: list[int], *, shuffle: bool, pad: bool
) -> None:
    encode = Encode()
    cache = Cache(encode, length)
    for size in sizes:  # one cache, several pipelines over the same records
        source = make_source(length, shuffle=shuffle)
        options: dict[str, Any] = {"pad_last": "valid"} if pad else {}
        pipeline = Pipeline(source=source, stages=[cache], batch_size=size, num_epochs=2, **options)
        for batch in pipeline:
            require_true(batch)
    assert cache.num_known == length
    runs = encode.runs
    batches_of(Pipeline(source=make_source(length, shuffle=True), stages=[cache], batch_size=64), "step", 2)
    assert encode.runs == runs


def test_a_batch_with_one_unknown_record_is_computed_whole(make_source: MakeSource) -> None:
    source, encode = make_source(10), Encode()
    pipeline = Pipeline(source=source, stages=[Cache(encode, source)], batch_size=4, num_epochs=None)
    batches_of(pipeline, "step", 5)  # the third has records 8, 9, 0, 1
    assert encode.runs == 3


def test_shards_keep_their_own_records_by_global_index(make_source: MakeSource) -> None:
    encode = Encode()
    cache = Cache(encode, 10)
    for shard in (0, 1):
        source = make_source(10, shard=(shard, 2))
        for batch in Pipeline(source=source, stages=[cache], batch_size=5, num_epochs=2):
            require_true(batch)
        assert cache.num_known == 5 * (shard + 1)


# -- what is kept, and how long -----------------------------------------------------------------------------------------


def test_fields_that_the_stage_hands_on_untouched_are_not_kept(make_source: MakeSource) -> None:
    source = make_source(30)
    cache = Cache(Encode(), source)
    pipeline = Pipeline(source=source, stages=[cache], batch_size=10)
    assert cache.nbytes == 0
    assert "The cache of Encode keeps 0 of 30 records; its table is made with the first batch." in pipeline.explain()
    list(pipeline)
    assert cache.nbytes == 30 * (2 * 4 + 1 + 1)  # code, half, and whether they are known
    assert "The cache of Encode keeps 30 of 30 records in 300 bytes on the device." in pipeline.explain()


def test_the_mask_of_pad_last_is_never_kept(make_source: MakeSource) -> None:
    source = make_source(5)
    seen = lambda batch: batch | {"seen": batch["valid"]}  # noqa: E731 - a stage behind the cache
    pipeline = Pipeline(
        source=source, stages=[Cache(Encode(), source), seen], batch_size=4, pad_last="valid", num_epochs=None
    )
    (first, *_), (*_, last) = (
        batches_of(pipeline, "step", 4),
        Pipeline(source=source, stages=list(pipeline.stages), batch_size=4, pad_last="valid"),
    )
    assert first["seen"].tolist() == [True] * 4
    assert last["seen"].tolist() == last["valid"].tolist() == [True, False, False, False]
    require_true(last)


def test_a_stage_that_makes_no_new_field_needs_no_table(make_source: MakeSource) -> None:
    source = make_source(10)
    cache = Cache(SplitField(["id"]), source)
    assert [list(batch) for batch in Pipeline(source=source, stages=[cache], batch_size=5)] == [["id"], ["id"]]
    assert (cache.nbytes, cache.num_known) == (0, 0)


@pytest.mark.parametrize("route", ROUTES)
def test_reset_forgets_in_every_route(make_source: MakeSource, route: str) -> None:
    source, encode = make_source(8), Encode()
    cache = Cache(encode, source)
    cache.reset()  # before there is anything to forget
    pipeline = Pipeline(source=source, stages=[cache], batch_size=4, num_epochs=None)
    batches_of(pipeline, route, 4)
    assert encode.runs == 2
    cache.reset()
    assert cache.num_known == 0
    batches_of(pipeline, route, 4)
    assert encode.runs == 4


def test_after_the_parameters_changed_a_reset_brings_the_new_rows(make_source: MakeSource) -> None:
    class Scale(nnx.Module):
        def __init__(self) -> None:
            self.factor = nnx.Param(jnp.ones(()))

        def __call__(self, batch: Any) -> Any:
            return {"y": batch["x"] * self.factor[...]}

    source = make_source(8)
    cache = Cache(scale := Scale(), source)
    pipeline = Pipeline(source=source, stages=[cache], batch_size=8, num_epochs=None)
    before = pipeline.step()["y"]
    scale.factor[...] = jnp.asarray(2.0)
    assert np.array_equal(pipeline.step()["y"], before)  # what is kept does not follow
    cache.reset()
    assert np.array_equal(pipeline.step()["y"], 2 * before)


def test_a_clone_has_a_table_of_its_own(make_source: MakeSource) -> None:
    source, encode = make_source(8), Encode()
    pipeline = Pipeline(source=source, stages=[cache := Cache(encode, source)], batch_size=4, num_epochs=None)
    batches_of(pipeline, "step", 2)
    twin = pipeline.clone()
    for batch in batches_of(twin, "step", 2):
        require_true(batch)
    assert encode.runs == 4
    twin.stages[0].reset()
    assert (twin.stages[0].num_known, cache.num_known) == (0, 8)


def test_copies_have_empty_tables() -> None:
    cache = Cache(operator.neg, 8)
    assert cache(jnp.arange(2), np.array([3, 4])).tolist() == [0, -1]
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):  # noqa: S301 - our own bytes
        assert (cache.num_known, twin.num_known, twin.table.length) == (2, 0, 8)
        assert twin.table is not cache.table
        twin(jnp.ones(1), np.array([0]))
        assert (cache.num_known, twin.num_known) == (2, 1)


def test_no_saved_state_holds_the_table(make_source: MakeSource) -> None:
    source = make_source(8)
    pipeline = Pipeline(source=source, stages=[Cache(Encode(), source)], batch_size=4, num_epochs=None)
    bare = Pipeline(source=make_source(8), batch_size=4, num_epochs=None)
    batches_of(pipeline, "step", 1)
    batches_of(bare, "step", 1)
    assert pipeline.get_state() == bare.get_state()
    assert not jax.tree.leaves(nnx.state(pipeline.stages))
    resumed = Pipeline(source=make_source(8), stages=[Cache(Encode(), 8)], batch_size=4)
    resumed.set_state(pipeline.get_state())
    assert resumed.step()["id"].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("route", ["loop", "step", "scan"])
def test_its_memory_is_freed_with_its_last_pipeline(make_source: MakeSource, route: str) -> None:
    source = make_source(8)
    cache = Cache(Encode(), source)
    pipeline = Pipeline(source=source, stages=[cache], batch_size=4)
    batches_of(pipeline, route, 2)
    pipeline.element_spec()
    table = weakref.ref(cache.table)
    del cache, pipeline
    gc.collect()
    assert table() is None


# -- what it is compiled to ---------------------------------------------------------------------------------------------


def test_later_batches_compile_nothing(make_source: MakeSource) -> None:
    traces: list[int] = []

    def noted(batch: Any) -> Any:
        traces.append(1)
        return {"y": jnp.sin(batch["x"])}

    source = make_source(8, shuffle=True)
    pipeline = Pipeline(source=source, stages=[Cache(noted, source)], batch_size=4, num_epochs=None)
    batches_of(pipeline, "loop", 1)
    assert traces.pop() == 1
    traces.clear()
    for _ in range(2):
        batches_of(pipeline, "loop", 5)
        batches_of(pipeline, "step", 5)
    pipeline.stages[0].reset()
    batches_of(pipeline, "loop", 5)
    assert traces == []


def test_no_program_holds_or_copies_the_table() -> None:
    """The arguments and the memory of the compiled program do not grow with the number of records."""

    def temporaries(length: int) -> int:
        cache = Cache(lambda x: jnp.sin(x) + 1, length)
        compiled = jax.jit(cache).lower(jnp.ones((4, 64)), jnp.arange(4)).compile()
        assert cache.nbytes == length * (64 * 4 + 1)
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert temporaries(100_000) == temporaries(100) < 10_000


def test_no_gradient_passes_through() -> None:
    cache = Cache(jnp.sin, 4)
    through = jax.grad(lambda x: jnp.sum(cache(x, jnp.arange(4)) * x))
    for _ in range(2):  # the stage runs, and does not: alike
        np.testing.assert_allclose(through(jnp.ones(4)), np.sin(np.ones(4)), rtol=1e-6)


def test_a_table_is_placed_by_its_sharding() -> None:
    script = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from datarax_core import Cache
rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
x, indices = jax.device_put(np.arange(8.0, dtype=np.float32), rows), np.arange(8) % 5
for place in (NamedSharding(rows.mesh, PartitionSpec()), rows):
    cache = Cache(lambda x: x * 2, 16, sharding=place)
    call = jax.jit(cache)
    assert np.array_equal(call(x, indices), 2 * np.arange(8.0)), call(x, indices)
    kept = call(x * 0, indices)
    assert kept[5:].tolist() in ([0, 2, 4], [10, 12, 14]) and kept[3:5].tolist() == [6, 8], kept
    assert cache.num_known == 5
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=dict(os.environ) | flags
    )
    assert done.returncode == 0, done.stderr


def test_a_cache_of_two_inputs(make_source: MakeSource) -> None:
    source, runs = make_source(6, shuffle=True), Encode()

    def both(first: Any, second: Any) -> Any:
        runs({"x": first["x"], "id": first["id"]})
        return {"sum": first["x"] + second["x"]}

    pipeline = Pipeline.from_dag(
        source=source,
        nodes={"double": lambda batch: {"x": batch["x"] * 2}, "both": Cache(both, source)},
        edges=[("source", "double"), ("source", "both"), ("double", "both")],
        sink="both",
        batch_size=6,
        num_epochs=3,
    )
    for batch in pipeline:
        assert sorted(batch["sum"][:, 0].tolist()) == [1.5 * i for i in range(6)]
    assert runs.runs == 1
