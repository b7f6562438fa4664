"""Modules split for compiled programs: a hashable structure to look programs up by, and the values of variables."""

from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from datarax_core.errors import StageError
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
            StageError: A call changed a plain attribute or made a variable. Compiled code would do so once, not once a batch.
        """
        graphdef, state = nnx.split(modules)
        leaves = _leaves(state)
        if graphdef != self._graphdef or any(
            leaf is not value
            for leaf, value in zip(leaves, jax.tree.leaves(given), strict=True)
            if not isinstance(leaf, nnx.Variable)
        ):
            changed = sorted(set(_changed(self.merge(given), modules)))
            raise StageError(
                f"{', '.join(changed) or 'a stage or module'} changed a plain attribute, or made a variable, while it was "
                "called; compiled code keeps only what is written to an nnx.Variable that exists before: create it in __init__ "
                "and assign to it there"
            )
        return _values(state)


def _leaves(state: Any) -> list[Any]:
    """Return the variables and the plain arrays of a state."""
    return jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))


def _changed(before: Any, now: Any) -> Iterator[str]:
    """Yield class and attribute of what differs between two versions of modules, which may be nested in tuples and lists."""
    if isinstance(now, tuple | list):
        for old, new in zip(before, now, strict=True):
            yield from _changed(old, new)
    elif isinstance(now, nnx.Module):
        old, new = vars(before), vars(now)
        for name in {**old, **new}:
            pair = old.get(name), new.get(name)
            if all(isinstance(each, nnx.Module) for each in pair):
                yield from _changed(*pair)
            elif (
                pair[0] is not pair[1]
                and not name.startswith("_pytree")  # of Flax
                and not all(isinstance(each, nnx.Variable) for each in pair)
            ):
                yield f"{type(now).__name__}.{name}"


def _values(state: Any) -> Values:
    return [leaf.get_raw_value() if isinstance(leaf, nnx.Variable) else leaf for leaf in _leaves(state)]
