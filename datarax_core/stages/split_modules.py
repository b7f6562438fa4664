"""Modules split for compiled programs: a hashable structure to look programs up by, and the values of variables."""

from typing import Any

import jax
from flax import nnx

from datarax_core.modules.cursor import Cursor

from .record_table import RecordTable, tables_in

Values = list[Any]
"""Values of the variables of modules, and their plain arrays, in the order of their state's leaves."""


class SplitModules:
    """Modules split into their `structure` and their variables, which are read before a program runs and written after it.

    Arrays that are plain attributes are read too, as constants that a program is given; compiled code must not replace them.
    """

    def __init__(self, modules: Any) -> None:
        graphdef, state = nnx.split(modules)
        self.structure = Structure(graphdef, jax.tree.structure(state), next(tables_in(modules), None))
        self._leaves = _leaves(state)
        self._with_arrays = None if all(isinstance(leaf, nnx.Variable) for leaf in self._leaves) else modules

    def read(self) -> Values:
        """Return the current values of all variables, and the plain arrays."""
        if self._with_arrays is None:
            return [variable.get_raw_value() for variable in self._leaves]
        return _values(nnx.state(self._with_arrays))  # an array may have been replaced

    def write(self, values: Values) -> None:
        """Set every variable to its new value."""
        for leaf, value in zip(self._leaves, values, strict=True):
            if isinstance(leaf, nnx.Variable):
                leaf.set_raw_value(value)


class Structure:
    """Structure of modules without the values of their variables: hashable, so that equal modules share a compiled program.

    ``table`` is the first `RecordTable` that a stage among the modules holds, or None. A program with a table lives as long
    as the table.
    """

    def __init__(self, graphdef: Any, treedef: Any, table: RecordTable | None) -> None:
        self.table = table
        self._graphdef = graphdef
        self._treedef = treedef
        self._hash = hash((graphdef, treedef))  # once: hashing a graph costs more than a batch

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Structure):
            return NotImplemented
        return self is other or bool(
            self._hash == other._hash and self._treedef == other._treedef and self._graphdef == other._graphdef
        )

    @property
    def moves_positions(self) -> bool:
        """Whether a source or pipeline is among the modules, whose errors come from the host while a program runs."""
        return any(getattr(node, "type", None) is Cursor for node in getattr(self._graphdef, "nodes", ()))

    def merge(self, values: Values) -> Any:
        """Return the modules with these values in their variables; inside a trace they may be called and changed."""
        return nnx.merge(self._graphdef, jax.tree.unflatten(self._treedef, jax.tree.leaves(values)))

    def values(self, modules: Any, given: Values) -> Values:
        """Return the current values of the variables of modules that were merged with ``given``.

        Raises:
            ValueError: A call changed a plain attribute or made a variable. Compiled code would do so once, not once a batch.
        """
        graphdef, state = nnx.split(modules)
        leaves = _leaves(state)
        if graphdef != self._graphdef or any(
            leaf is not value
            for leaf, value in zip(leaves, jax.tree.leaves(given), strict=True)
            if not isinstance(leaf, nnx.Variable)
        ):
            raise ValueError(
                "a stage or module changed a plain attribute, or made a variable, while it was called; compiled code "
                "keeps only what is written to an nnx.Variable that exists before: create it in __init__ and assign to it there"
            )
        return _values(state)


def _leaves(state: Any) -> list[Any]:
    """Return the variables and the plain arrays of a state."""
    return jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))


def _values(state: Any) -> Values:
    return [leaf.get_raw_value() if isinstance(leaf, nnx.Variable) else leaf for leaf in _leaves(state)]
