"""A stage with `takes_record_indices = True` is called with the record indices of the batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from serving import batches_of

from datarax_core import Cache, DataSourceModule, Pipeline, StructuralConfig

MakeSource = Callable[..., Any]
ROUTES = ["loop", "step", "scan", "traced"]


class Index:
    takes_record_indices = True

    def __call__(self, batch: Any, indices: Any) -> Any:
        return batch | {"index": jnp.asarray(indices)}


class IndexAndNoise:
    stochastic = True
    takes_record_indices = True

    def __call__(self, batch: Any, keys: jax.Array, indices: Any) -> Any:
        return batch | {"index": jnp.asarray(indices), "noise": jax.vmap(jax.random.uniform)(keys)}


class Noise:
    stochastic = True

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        return batch | {"noise": jax.vmap(jax.random.uniform)(keys)}


def in_a_graph(source: Any, node: Any, **options: Any) -> Pipeline:
    return Pipeline.from_dag(source=source, nodes={"n": node}, edges=[("source", "n")], sink="n", **options)


def in_a_list(source: Any, node: Any, **options: Any) -> Pipeline:
    return Pipeline(source=source, stages=[node], **options)


@pytest.mark.parametrize(
    ("build", "route", "access"),
    [(in_a_list, route, access) for route in ROUTES for access in ("device", "host")]
    + [(in_a_graph, "loop", "host"), (in_a_graph, "traced", "device")],
)
def test_the_indices_are_those_of_the_records(
    make_source: MakeSource, make_host_source: MakeSource, build: Any, route: str, access: str
) -> None:
    source = make_source(20, shuffle=True) if access == "device" else make_host_source(20, shuffle=True)
    for batch in batches_of(build(source, Index(), batch_size=7, num_epochs=None), route, 6):
        assert batch["index"].dtype == np.int32
        assert batch["index"].tolist() == batch["id"].tolist()


def test_padding_has_the_index_of_the_record_that_is_repeated(make_source: MakeSource) -> None:
    *_, last = Pipeline(source=make_source(10), stages=[Index()], batch_size=8, pad_last="valid")
    assert last["index"].tolist() == [8, 9, 9, 9, 9, 9, 9, 9]


@pytest.mark.parametrize(
    ("build", "route"), [(in_a_list, "scan"), (in_a_list, "traced"), (in_a_graph, "loop"), (in_a_graph, "scan")]
)
def test_a_stage_may_take_keys_and_indices(make_source: MakeSource, build: Any, route: str) -> None:
    def made(node: Any) -> Pipeline:
        return build(make_source(20, shuffle=True), node, batch_size=5, rngs=nnx.Rngs(0))

    both, noise = batches_of(made(IndexAndNoise()), route, 4), batches_of(made(Noise()), route, 4)
    for batch, other in zip(both, noise, strict=True):
        assert batch["index"].tolist() == batch["id"].tolist()
        assert batch["noise"].tolist() == other["noise"].tolist()


def test_one_node_takes_keys_and_another_indices(make_source: MakeSource) -> None:
    pipeline = Pipeline.from_dag(
        source=make_source(20, shuffle=True),
        nodes={"index": Index(), "noise": Noise()},
        edges=[("source", "index"), ("index", "noise")],
        sink="noise",
        batch_size=20,
        rngs=nnx.Rngs(0),
    )
    (batch,) = pipeline
    assert batch["index"].tolist() == batch["id"].tolist()
    assert len(set(batch["noise"].tolist())) == 20


def test_the_element_spec_knows_what_is_made_of_indices(make_source: MakeSource) -> None:
    spec = Pipeline(source=make_source(20), stages=[Index()], batch_size=4).element_spec()
    assert spec["index"] == jax.ShapeDtypeStruct((), np.int32)


def test_a_batch_of_your_own_has_no_indices(make_source: MakeSource) -> None:
    with pytest.raises(
        ValueError, match=r"^a stage that takes record indices has them from the pipeline; iterate that"
    ):
        in_a_list(make_source(4), Index(), batch_size=2)({"id": jnp.arange(2)})
    graph = in_a_graph(make_source(4), Index(), batch_size=2).stages[0]
    with pytest.raises(
        ValueError, match=r"^node 'n' takes record indices and has them from the pipeline; iterate that$"
    ):
        graph({"id": jnp.arange(2)})


def test_more_records_than_an_int32_counts_are_refused(make_host_source: MakeSource) -> None:
    source = make_host_source(2**31, name="all")
    with pytest.raises(
        ValueError,
        match=r"^stage 1 \(Index\) takes .* int32, which count to 2147483647, and HostRecords 'all' has 2147483648 rec",
    ):
        Pipeline(source=source, stages=[lambda batch: batch, Index()], batch_size=4)


def test_a_stream_has_no_indices() -> None:
    class Ticks(DataSourceModule):
        def get_batch(self, batch_size: int) -> Any:
            return {"id": np.zeros(batch_size)}

    with pytest.raises(
        ValueError, match=r"^Index in a Cache takes record indices, and Ticks 'live' is a stream, whose"
    ):
        Cache(Index(), Ticks(StructuralConfig(), name="live"))
