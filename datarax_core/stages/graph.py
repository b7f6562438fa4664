"""A stage that is a graph of stages: nodes take the batch or other nodes' results, and one node is the sink."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import jax
from flax import nnx

from datarax_core.records.intake import StoredField
from datarax_core.records.spec import Batch

from .apply import require_hash, stage_name
from .on_host.side import is_on_host
from .randomness import is_stochastic, takes_record_indices

SOURCE: Final = "source"
"""Name of the batch in edges: the batch that the graph is called with."""


class Graph(nnx.Module):
    """Stage made of stages. A node is called with the results of the nodes that its edges come from, in the edges' order.

    Args:
        nodes: Callables by name. After its inputs, a stochastic node gets a key for each record, and a node with
            ``takes_record_indices = True`` gets the record indices, int32 (k,).
        edges: Pairs of names (from, to); ``"source"`` is the batch that the graph is called with.
        sink: Name of the node whose result is the graph's result.

    Raises:
        ValueError: A name is unknown or taken, the edges have a cycle, no edge leads to a node, or no edges lead from a
            node to the sink; the message names the nodes.
        TypeError: A node is not callable or has no hash, or an argument has another type.
    """

    def __init__(self, *, nodes: Mapping[str, Callable[..., Any]], edges: Iterable[tuple[str, str]], sink: str) -> None:
        inputs = _checked_inputs(nodes, _pairs(edges), sink)
        self.nodes = nnx.Dict(dict(nodes))
        self.order = tuple(name for name in TopologicalSorter(inputs).static_order() if name != SOURCE)
        self.inputs = tuple((name, tuple(inputs[name])) for name in self.order)
        self.sink = sink
        self.stochastic = any(map(is_stochastic, nodes.values()))
        self.takes_record_indices = any(map(takes_record_indices, nodes.values()))

    @property
    def name(self) -> str:
        """Name in errors: lists the nodes in the order in which they run."""
        return f"graph of {', '.join(self.order)}"

    def __call__(self, batch: Batch, *stage_arguments: Any) -> Batch:
        """Return the result of the sink.

        Args:
            batch: The batch.
            *stage_arguments: Keys (k,) if a node is stochastic, then record indices int32 (k,) if a node takes them.
        """
        keys = stage_arguments[0] if self.stochastic and stage_arguments else None
        results: dict[str, Any] = {SOURCE: batch}
        for name, inputs in self.inputs:
            node = self.nodes[name]
            arguments = [results[start] for start in inputs]
            if is_stochastic(node):
                arguments.append(_node_keys(keys, name))
            if takes_record_indices(node):
                arguments.append(_node_indices(stage_arguments, name))
            with _noted(name, node):
                results[name] = node(*arguments)
        return results[self.sink]

    def uses_of(self, fields: Any) -> list[StoredField]:
        """Return the fields that nodes use, and those of the result, given the fields as stored of the graph's batch."""
        results: dict[str, Any] = {SOURCE: fields}
        uses: list[StoredField] = []
        for name, inputs in self.inputs:
            node, arguments = self.nodes[name], [results.get(start) for start in inputs]
            if hasattr(node, "before_narrowing") and all(argument is not None for argument in arguments):
                with _noted(name, node):
                    results[name] = node.before_narrowing(*arguments)
            else:  # it may use all that it is called with
                uses += jax.tree.leaves(arguments)
        return uses + jax.tree.leaves(results.get(self.sink))


@contextmanager
def _noted(name: str, node: Any) -> Iterator[None]:
    """Add the name of a node to errors."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in node {name!r} ({stage_name(node)})")
        raise


def _pairs(edges: Any) -> list[tuple[str, str]]:
    if isinstance(edges, str) or not isinstance(edges, Iterable):
        raise TypeError(f"edges is a list of (from, to) pairs of names, not {edges!r:.80}")
    pairs = list(edges)
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise TypeError(f"an edge is a (from, to) pair of names, such as ({SOURCE!r}, 'scale'), not {pair!r:.80}")
    return pairs


def _checked_inputs(
    nodes: Mapping[str, Callable[..., Any]], edges: Sequence[tuple[str, str]], sink: str
) -> dict[str, list[str]]:
    """Return the names of each node's inputs; raise if nodes, edges or sink are not those of a graph."""
    _check_nodes(nodes)
    if not isinstance(sink, str):
        raise TypeError(f"the sink is the name of a node, not {sink!r:.80}")
    if sink not in nodes:
        raise ValueError(f"the sink {sink!r} is no node; the nodes are {_listed(nodes)}")
    inputs = _inputs_of(nodes, edges)
    if lonely := [name for name, starts in inputs.items() if not starts]:
        raise ValueError(f"no edge leads to {_listed(lonely)}; begin it at a node, or at {SOURCE!r}")
    try:
        TopologicalSorter(inputs).prepare()
    except CycleError as cycle:
        raise ValueError(f"the edges form a cycle: {' -> '.join(reversed(cycle.args[1]))}") from None
    if idle := sorted(nodes.keys() - _leading_to(sink, inputs)):
        raise ValueError(f"the results of {_listed(idle)} are unused: no edges lead from there to the sink {sink!r}")
    return inputs


def _check_nodes(nodes: Mapping[str, Callable[..., Any]]) -> None:
    if not isinstance(nodes, Mapping):
        raise TypeError(f"nodes is a dict of callables by name, not {type(nodes).__name__}")
    if not nodes:
        raise ValueError("the graph has no nodes; give it one at least, which is the sink then")
    if unnamed := [name for name in nodes if not isinstance(name, str)]:
        raise TypeError(f"a node's name is text, not {unnamed[0]!r}")
    if SOURCE in nodes:
        raise ValueError(f"a node is named {SOURCE!r}, which is the name of the batch itself; give it another")
    for name, node in nodes.items():
        if not callable(node):
            raise TypeError(f"node {name!r} is not callable: {node!r}")
        require_hash(node, f"node {name!r}")
        if is_on_host(node):
            raise ValueError(
                f"node {name!r} runs on the host, where no graph runs; make it a stage of the pipeline, before the graph"
            )


def _inputs_of(nodes: Mapping[str, Any], edges: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    inputs: dict[str, list[str]] = {name: [] for name in nodes}
    for start, end in edges:
        if unknown := [name for name in (start, end) if name not in nodes and name != SOURCE]:
            raise ValueError(
                f"the edge {start!r} -> {end!r} names {unknown[0]!r}, which is no node; there are {_listed(nodes)}"
            )
        if end == SOURCE:
            raise ValueError(f"the edge {start!r} -> {end!r} leads into the source, which has no inputs")
        inputs[end].append(start)
    return inputs


def _leading_to(sink: str, inputs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return all names from which edges lead to the sink, the sink among them."""
    found, unvisited = {sink}, [sink]
    while unvisited:
        for name in inputs.get(unvisited.pop(), ()):
            if name not in found:
                found.add(name)
                unvisited.append(name)
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _node_keys(keys: jax.Array | None, name: str) -> jax.Array:
    if keys is None:
        raise ValueError(f"node {name!r} is stochastic and has its keys from the pipeline; iterate that")
    number = zlib.crc32(name.encode())  # by name, so that adding a node changes no other's randomness
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _node_indices(stage_arguments: Sequence[Any], name: str) -> jax.Array:
    if not stage_arguments:
        raise ValueError(f"node {name!r} takes record indices and has them from the pipeline; iterate that")
    indices: jax.Array = stage_arguments[-1]
    return indices
