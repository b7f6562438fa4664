"""`Graph`: the order of inputs, keys and writes of nodes, and the graphs that it refuses."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig

ID = {"id": lambda batch: batch}


def source() -> MemorySource:
    return MemorySource(MemorySourceConfig(), {"x": np.arange(12, dtype=np.float32)})


def dag(nodes: Any, edges: Any, sink: str, **options: Any) -> Pipeline:
    return Pipeline.from_dag(source=source(), nodes=nodes, edges=edges, sink=sink, batch_size=4, **options)


def test_a_diamond_joins_its_branches_in_the_order_of_their_edges() -> None:
    pipeline = dag(
        {
            "double": lambda batch: batch["x"] * 2,
            "square": lambda batch: batch["x"] ** 2,
            "join": lambda square, double: {"difference": square - double},
        },
        [("source", "double"), ("source", "square"), ("square", "join"), ("double", "join")],
        "join",
    )
    x = np.arange(12)
    assert np.array_equal(np.concatenate([b["difference"] for b in pipeline]), x**2 - 2 * x)
    assert "stages: graph of" in repr(pipeline)


class Scale(nnx.Module):
    """Stage that multiplies by a parameter, and counts its calls."""

    def __init__(self) -> None:
        self.factor = nnx.Param(jnp.ones(()))
        self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, batch: Any) -> Any:
        self.calls[...] += 1
        return {"x": batch["x"] * self.factor[...]}


@pytest.mark.parametrize("route", ["loop", "step", "scan", "traced"])
def test_variables_that_nodes_write_are_kept_in_every_route(route: str) -> None:
    scale = Scale()
    pipeline = dag({"scale": scale}, [("source", "scale")], "scale")
    if route == "loop":
        assert len(list(pipeline)) == 3
    elif route == "scan":
        pipeline.scan(lambda batch: batch["x"].sum(), length=3)
    else:
        step = nnx.jit(lambda p: p.step()) if route == "traced" else (lambda p: p.step())
        for _ in range(3):
            step(pipeline)
    assert int(scale.calls[...]) == 3


def test_a_node_with_parameters_trains_inside_scan_and_its_batches_follow() -> None:
    scale = Scale()
    pipeline = dag({"scale": scale}, [("source", "scale")], "scale")

    def train(scale: Scale, batch: Any) -> tuple[jax.Array, jax.Array]:
        def loss_of(scale: Scale) -> jax.Array:
            return ((scale({"x": jnp.ones(4)})["x"] - 3.0) ** 2).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(scale)
        scale.factor[...] -= 0.1 * gradients.factor[...]
        return loss, batch["x"][1]

    losses, seconds = pipeline.scan(train, modules=(scale,), length=20)
    assert losses[-1] < 0.01 * losses[0]
    assert seconds[0] == 1.0  # the batch's second record is 1, scaled by what the node had learned by then
    assert seconds[18] == pytest.approx(3, rel=0.1)


class Noise:
    stochastic = True

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        return {**batch, "noise": jax.vmap(jax.random.uniform)(keys)}


def test_the_keys_of_a_stochastic_node_do_not_depend_on_other_nodes() -> None:
    def noise(nodes: Any, edges: Any) -> list[float]:
        batch = next(iter(dag(nodes, edges, "noise", rngs=nnx.Rngs(0))))
        return np.asarray(batch["noise"]).tolist()

    alone = noise({"noise": Noise()}, [("source", "noise")])
    assert len(set(alone)) == 4
    assert noise({**ID, "noise": Noise()}, [("source", "id"), ("id", "noise")]) == alone


def test_an_error_names_the_node() -> None:
    with pytest.raises(KeyError) as caught:
        next(iter(dag({"pick": lambda batch: batch["y"]}, [("source", "pick")], "pick")))
    assert "in node 'pick' (<lambda>)" in caught.value.__notes__


@pytest.mark.parametrize(
    ("nodes", "edges", "sink", "message"),
    [
        (ID, [("source", "id")], "out", "the sink 'out' is no node; the nodes are 'id'"),
        (ID, [("source", "ix")], "id", "the edge 'source' -> 'ix' names 'ix', which is no node; there are 'id'"),
        (ID, [("id", "source")], "id", "leads into the source, which has no inputs"),
        ({**ID, "b": max}, [("source", "id")], "id", "no edge leads to 'b'"),
        (
            {**ID, "b": max},
            [("source", "id"), ("source", "b")],
            "id",
            "the results of 'b' are unused: no edges lead from there to the sink 'id'",
        ),
        ({**ID, "b": max}, [("id", "b"), ("b", "id")], "id", "the edges form a cycle: (id -> b -> id|b -> id -> b)"),
        ({"source": max}, [], "source", "a node is named 'source', which is the name of the batch itself"),
        (ID, [("source", "id")], "nix", "the sink 'nix' is no node; the nodes are 'id'"),
        (ID, [("source", "id")], "source", "the sink 'source' is no node; the nodes are 'id'"),
        (ID, [("id", "id")], "id", "the edges form a cycle: id -> id"),
        (
            {**ID, "b": max, "c": max},
            [("source", "id"), ("b", "c"), ("c", "b"), ("c", "id")],
            "id",
            "the edges form a cycle: (c -> b -> c|b -> c -> b)",
        ),
        (
            {**ID, "b": max, "c": max},
            [("source", "id"), ("id", "b"), ("b", "c"), ("source", "b")],
            "id",
            "the results of 'b', 'c' are unused: no edges lead from there to the sink 'id'",
        ),
        ({**ID, "b": max, "c": max}, [("source", "id")], "id", "no edge leads to 'b', 'c'; begin it at a node, or at"),
        (ID, [("source", "id"), ("b", "id")], "id", "the edge 'b' -> 'id' names 'b', which is no node; there are 'id'"),
        ({}, [], "id", "the graph has no nodes; give it one at least"),
    ],
)
def test_a_graph_that_cannot_work_is_refused_with_the_names_of_nodes(
    nodes: Any, edges: Any, sink: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dag(nodes, edges, sink)


@dataclass
class Unhashable:
    factor: float = 2.0

    def __call__(self, batch: Any) -> Any:
        return batch


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ({"id": 3}, [("source", "id")], r"^node 'id' is not callable: 3$"),
        (
            {"id": Unhashable()},
            [("source", "id")],
            r"^node 'id' \(Unhashable\) has no hash .* @dataclass\(eq=False\) or",
        ),
        ([max], [("source", "id")], r"^nodes is a dict of callables by name, not list$"),
        ({1: max}, [("source", 1)], r"^a node's name is text, not 1$"),
        (ID, "source", r"^edges is a list of \(from, to\) pairs of names, not 'source'$"),
        (ID, 3, r"^edges is a list of \(from, to\) pairs of names, not 3$"),
        (ID, ["id"], r"^an edge is a \(from, to\) pair of names, such as \('source', 'scale'\), not 'id'$"),
        (ID, [("source", "id", "id")], r"^an edge is a \(from, to\) pair .*, not \('source', 'id', 'id'\)$"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_with_their_value(nodes: Any, edges: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        dag(nodes, edges, "id")


@pytest.mark.parametrize("name", ["items", "keys", "update", "a b.c/d", "nodes"])
def test_a_node_may_have_any_name(name: str) -> None:
    assert len(list(dag({name: lambda batch: batch}, [("source", name)], name))) == 3
