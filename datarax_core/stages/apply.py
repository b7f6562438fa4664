"""Stages inside compiled programs: taken apart once an iteration, put together in the trace, applied one after another."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from datarax_core.registry.stages import Stage

from .randomness import RecordIds, stage_arguments
from .record_table import RecordTable, tables_in

Values = list[Any]


class Structure:
    """What modules are besides their variables' values: hashable, so that equal modules share one compiled program.

    ``table`` is one that a stage among them keeps its records in, if there is one: such programs live with it.
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

    def merge(self, values: Values) -> Any:
        """The modules, with these values in their variables; inside a trace they may be called and changed."""
        return nnx.merge(self._graphdef, jax.tree.unflatten(self._treedef, jax.tree.leaves(values)))

    def values(self, modules: Any) -> Values:
        """The values that the variables of merged modules have by now.

        Raises:
            ValueError: A call changed something that is no variable: compiled code would do that once, not once a batch.
        """
        graphdef, state = nnx.split(modules)
        if graphdef != self._graphdef:
            raise ValueError(
                "a stage or module changed a plain attribute, or made a variable, while it was called; compiled code "
                "keeps only what is written to an nnx.Variable that exists before: create it in __init__ and assign to it there"
            )
        return [variable.get_raw_value() for variable in _variables(state)]


class Split:
    """Modules taken apart: their `structure`, and their variables, to be read before a program and written after it."""

    def __init__(self, modules: Any) -> None:
        graphdef, state = nnx.split(modules)
        self.structure = Structure(graphdef, jax.tree.structure(state), next(tables_in(modules), None))
        self._variables = _variables(state)

    def read(self) -> Values:
        """The values of all variables now."""
        return [variable.get_raw_value() for variable in self._variables]

    def write(self, values: Values) -> None:
        """Give every variable its new value."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.set_raw_value(value)


def apply_stages(stages: Sequence[Any], batch: Any, record_ids: RecordIds | None = None, *, first: int = 0) -> Any:
    """The batch after every stage; see `stage_arguments` for what else they get. An error says in which stage it arose.

    ``first`` is the number of the first of them.
    """
    for number, stage in enumerate(stages, first):
        try:
            batch = stage(batch, *stage_arguments(stage, number, record_ids))
        except StopIteration as error:  # a loop would take it for its own end
            raise RuntimeError(f"stage {number} ({stage_name(stage)}) of the pipeline raised StopIteration") from error
        except Exception as error:
            error.add_note(f"in stage {number} ({stage_name(stage)}) of the pipeline")
            raise
        if batch is None:
            raise TypeError(f"stage {number} ({stage_name(stage)}) returned None; a stage returns the batch it made")
    return batch


def require_hash(stage: Any, what: str) -> None:
    """Refuse a stage that cannot be looked up.

    Raises:
        TypeError: Says ``what`` it is, and how a dataclass gets its hash.
    """
    try:
        hash(stage)
    except TypeError as cause:
        raise TypeError(
            f"{what} ({stage_name(stage)}) has no hash to find its compiled program by: {cause}; if it is a dataclass, write "
            "@dataclass(eq=False) or @dataclass(frozen=True)"
        ) from cause


def stage_name(stage: Any) -> str:
    """What errors call a stage: its name in a config, its name, or its class."""
    if isinstance(stage, Stage):
        return stage.type
    return getattr(stage, "name", None) or getattr(stage, "__name__", None) or type(stage).__name__


def _variables(state: Any) -> list[nnx.Variable[Any]]:
    return jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))


def require_stages(stages: Any) -> None:
    """Refuse what is no list of callables, or cannot be a part of what a compiled program is found by."""
    if callable(stages) or not isinstance(stages, Sequence):
        raise TypeError(f"stages is a list of callables, not {type(stages).__name__}")
    for number, stage in enumerate(stages):
        require_stage(stage, f"stage {number}")


def require_stage(stage: Any, what: str) -> None:
    """Refuse what is not callable, or cannot be looked up."""
    if not callable(stage):
        raise TypeError(f"{what} is not callable: {stage!r}; a stage takes a batch and returns one")
    require_hash(stage, what)
