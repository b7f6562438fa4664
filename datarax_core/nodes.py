"""Small stages that graphs need: regroup the records of a batch, take fields out of it, bring them together again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from ._batch_rule import whole_number
from .errors import SpecError
from .spec import Batch, named_fields


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
                f"SplitField: the batch has no field {', '.join(map(repr, missing))}; it has {_listed(batch)}"
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


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"
