"""Stages as a graph: nodes that take the batch, or the results of other nodes, and one that gives the batch."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import jax
from flax import nnx

from datarax_core.errors import SpecError
from datarax_core.order.numbers import whole_number
from datarax_core.records.spec import Batch, named_fields

from .apply import require_hash, stage_name
from .randomness import is_stochastic, takes_record_indices

SOURCE: Final = "source"
"""The name by which edges call the batch as the source gives it."""


class Graph(nnx.Module):
    """A stage made of stages. A node is called with the results of the nodes that its edges come from, in their order.

    Args:
        nodes: Callables by name. Behind its inputs, a stochastic one gets a key for each record, and one that says
            ``takes_record_indices = True`` the records' indices, int32 (k,).
        edges: (from, to) names; ``"source"`` is the batch.
        sink: The node whose result is the batch.

    Raises:
        ValueError: A name is unknown or taken, there is a cycle, a node has no edge in, or does not lead to the sink; the
            message names each of them.
        TypeError: A node is not callable or has no hash, or an argument is of another kind.
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
        """The nodes in the order in which they run."""
        return f"graph of {', '.join(self.order)}"

    def __call__(self, batch: Batch, *stage_arguments: Any) -> Batch:
        """What the sink makes of the batch; ``stage_arguments``: keys if a node is stochastic, then indices."""
        keys = stage_arguments[0] if self.stochastic and stage_arguments else None
        results: dict[str, Any] = {SOURCE: batch}
        for name, inputs in self.inputs:
            node = self.nodes[name]
            arguments = [results[one] for one in inputs]
            if is_stochastic(node):
                arguments.append(_node_keys(keys, name))
            if takes_record_indices(node):
                arguments.append(_node_indices(stage_arguments, name))
            try:
                results[name] = node(*arguments)
            except Exception as error:
                error.add_note(f"in node {name!r} ({stage_name(node)})")
                raise
        return results[self.sink]


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
    """The names that each node takes its arguments from."""
    _check_nodes(nodes)
    if not isinstance(sink, str):
        raise TypeError(f"the sink is the name of a node, not {sink!r:.80}")
    if sink not in nodes:
        raise ValueError(f"the sink {sink!r} is no node; the nodes are {_listed(nodes)}")
    inputs = _inputs(nodes, edges)
    if lonely := [name for name, starts in inputs.items() if not starts]:
        raise ValueError(f"no edge leads to {_listed(lonely)}; begin it at a node, or at {SOURCE!r}")
    try:
        TopologicalSorter(inputs).prepare()
    except CycleError as cycle:
        raise ValueError(f"the edges go in a circle: {' -> '.join(reversed(cycle.args[1]))}") from None
    if idle := sorted(nodes.keys() - _leading_to(sink, inputs)):
        raise ValueError(f"nothing comes of {_listed(idle)}: no way leads from it to the sink {sink!r}")
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


def _inputs(nodes: Mapping[str, Any], edges: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    inputs: dict[str, list[str]] = {name: [] for name in nodes}
    for start, end in edges:
        if unknown := [name for name in (start, end) if name not in nodes and name != SOURCE]:
            raise ValueError(
                f"the edge {start!r} -> {end!r} names {unknown[0]!r}, which is no node; there are {_listed(nodes)}"
            )
        if end == SOURCE:
            raise ValueError(f"the edge {start!r} -> {end!r} leads into the source, which takes nothing")
        inputs[end].append(start)
    return inputs


def _leading_to(sink: str, inputs: Mapping[str, Sequence[str]]) -> set[str]:
    found, to_do = {sink}, [sink]
    while to_do:
        for name in inputs.get(to_do.pop(), ()):
            if name not in found:
                found.add(name)
                to_do.append(name)
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


@dataclass(frozen=True, slots=True)
class Rebatch:
    """A batch of groups: each array (N, ...) becomes (N // group_size, group_size, ...), records in their order.

    For micro-batches and gradient accumulation: a ``lax.scan`` over the batch then takes a group at a time. Costs nothing
    but a reshape, and gradients flow through it. An element of such a pipeline's ``element_spec()`` is a group. The mask of
    ``pad_last`` is regrouped like every field.

    Args:
        group_size: Records in a group; it must divide every batch, also a short last one: leave that out with
            ``drop_last``, or complete it with ``pad_last``.

    Raises:
        TypeError, ValueError: ``group_size`` is not a whole number from 1.
    """

    group_size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "group_size", whole_number("group_size", self.group_size, at_least=1))

    def __call__(self, batch: Batch) -> Batch:
        """The batch, regrouped.

        Raises:
            SpecError: A field has no rows, or a number of rows that ``group_size`` does not divide.
        """
        for name, array in named_fields(batch).items():
            if not array.ndim:
                raise SpecError(f"Rebatch: field {name!r} is a scalar, which has no records to group")
            if array.shape[0] % self.group_size:
                raise SpecError(
                    f"Rebatch: field {name!r} has {array.shape[0]} rows, which groups of {self.group_size} do not divide; "
                    "choose a batch_size that they divide, and for a short last batch drop_last=True or pad_last='valid'"
                )
        return jax.tree.map(lambda array: array.reshape(-1, self.group_size, *array.shape[1:]), batch)


@dataclass(frozen=True, slots=True)
class SplitField:
    """A batch of the named fields alone, in the order of their names here: a branch of a graph, joined by `MergeFields`.

    Args:
        fields: Names of fields of a dict batch; a text is one name.

    Raises:
        TypeError, ValueError: ``fields`` is no sequence of names, has none, or one of them twice.
    """

    fields: Sequence[str]

    def __post_init__(self) -> None:
        fields = (self.fields,) if isinstance(self.fields, str) else self.fields
        if not isinstance(fields, Sequence) or not all(isinstance(name, str) for name in fields):
            raise TypeError(f"SplitField takes a list of field names, such as ['image', 'label'], not {self.fields!r}")
        if not fields:
            raise ValueError("SplitField was given no field, and would leave an empty batch; name one at least")
        if twice := [name for place, name in enumerate(fields) if name in fields[:place]]:
            raise ValueError(f"SplitField was given the field {twice[0]!r} twice; name each once")
        object.__setattr__(self, "fields", tuple(fields))

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """The fields of the batch.

        Raises:
            SpecError: The batch is no dict, or has no such field; the message lists what it has.
        """
        _require_fields(batch, "SplitField needs a batch")
        if missing := [name for name in self.fields if name not in batch]:
            raise SpecError(
                f"SplitField: the batch has no field {', '.join(map(repr, missing))}; it has {_listed_nodes(batch)}"
            )
        return {name: batch[name] for name in self.fields}


@dataclass(frozen=True, slots=True)
class MergeFields:
    """One batch with the fields of several: a node of a graph with an edge from each of them."""

    def __call__(self, *batches: Batch) -> dict[str, Any]:
        """The fields of all batches, in their order.

        Raises:
            SpecError: One of them is no dict, or two have the same field; the message says which, counted as the edges
                into the node are.
        """
        merged: dict[str, Any] = {}
        home: dict[str, int] = {}
        for number, batch in enumerate(batches):
            _require_fields(batch, f"MergeFields needs input {number}")
            if taken := [name for name in batch if name in merged]:
                raise SpecError(
                    f"MergeFields: input {number} has the field {taken[0]!r}, and so has input {home[taken[0]]}; leave it out "
                    "of one of them with SplitField, or give it another name"
                )
            merged.update(batch)
            home.update(dict.fromkeys(batch, number))
        return merged


def _require_fields(batch: Any, what: str) -> None:
    if not isinstance(batch, Mapping):
        raise SpecError(f"{what} to be a dict of named fields, not {type(batch).__name__}")


def _listed_nodes(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"
