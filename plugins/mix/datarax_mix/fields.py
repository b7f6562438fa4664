"""The fields of a mixture's records: the children's fields, fields that are filled in, and the number of the child."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records import (
    ElementSpec,
    Ragged,
    are_one_kind,
    common_spec,
    common_text,
    differences,
    dtype_title,
    is_text,
    named_fields,
)

from .chosen_fields import ChosenFields

Constant: TypeAlias = np.ndarray | Ragged
"""The value of a field in all records of a child; a ragged column of one record where the field varies in length."""

_CHILD_NUMBER = jax.ShapeDtypeStruct((), np.dtype(np.int32))


class Fields:
    """The element spec of a mixture, and for each child the constant fields that its records lack.

    Args:
        specs: Element specs of the children; None for a child that is empty, and never served.
        chosen: For each child, the fields that are taken of it; None takes all as they are.
        names: Names of the children in errors.
        fill: Values for fields that some children do not have.
        source_field: Name of the field that holds the number of the child; None for no such field.
        title: Name of the mixture in errors.

    Raises:
        SpecError: The children differ; names child, field and both specs. Or a field cannot be added.
    """

    chosen: tuple[ChosenFields | None, ...] = ()
    """For each child, the fields that are taken of it; empty in pickles of version 0.1.0, and where all are taken."""

    def __init__(
        self,
        specs: Sequence[ElementSpec | None],
        names: Sequence[str],
        *,
        chosen: Sequence[ChosenFields | None],
        fill: Mapping[str, Any],
        source_field: str | None,
        title: str,
    ) -> None:
        self.chosen = tuple(chosen)
        specs = [taken(spec) if taken and spec is not None else spec for taken, spec in zip(chosen, specs, strict=True)]
        known = [spec for spec in specs if spec is not None]
        if (fill or source_field) and not all(isinstance(spec, Mapping) for spec in known):
            field = source_field or next(iter(fill))
            raise SpecError(
                f"{title} adds the field {field!r} to records, which have to be dicts of named fields for that"
            )
        self.constants: list[dict[str, Constant]] = [{} for _ in specs]
        for field, value in fill.items():
            struct = _struct_of(field, known, title)
            filled = _constant(field, value, struct, title)
            for constants, spec in zip(self.constants, specs, strict=True):
                if spec is not None and field not in spec:
                    constants[field] = filled
        completed = [
            None if spec is None else ({**spec, **_structs(constants)} if constants else spec)
            for spec, constants in zip(specs, self.constants, strict=True)
        ]
        self.spec = _common_spec(completed, names, title)
        if source_field is not None:
            if source_field in self.spec:
                raise SpecError(
                    f"source_field={source_field!r} is a field of the children of {title} already; choose another name"
                )
            self.spec = {**self.spec, source_field: _CHILD_NUMBER}
            for number, constants in enumerate(self.constants):
                constants[source_field] = np.asarray(number, np.int32)

    @property
    def changes(self) -> bool:
        """Whether the records of any child get fields, lose fields, or have other names for them."""
        return any(self.constants) or any(self.chosen)

    @property
    def stored_names(self) -> list[dict[str, str]]:
        """For each child of which fields are chosen, their names in the mixture and in the child; else an empty dict."""
        return [{} if chosen is None else dict(chosen.stored) for chosen in self.chosen]

    def spec_of(self, child: int, spec: ElementSpec) -> ElementSpec:
        """Return the element spec of a child's records with the fields that are taken, and those that they lack."""
        taken, constants = self._taken(child, spec), self.constants[child]
        return {**taken, **_structs(constants)} if constants else taken

    def completed(self, child: int, batch: Any, size: int) -> Any:
        """Return a batch of ``size`` records of a child with the fields that are taken, and those that its records lack."""
        constants, batch = self.constants[child], self._taken(child, batch)
        if not constants:
            return batch
        return {**batch, **{name: _repeated(value, size) for name, value in constants.items()}}

    def element(self, child: int, element: Any) -> Any:
        """Return one record of a child with the fields that are taken, and those that it lacks."""
        element = self._taken(child, element)
        return {**element, **self.values_of(child)} if self.constants[child] else element

    def values_of(self, child: int) -> dict[str, np.ndarray]:
        """Return the values of the fields that the records of a child lack."""
        return {name: _of_one_record(value) for name, value in self.constants[child].items()}

    def _taken(self, child: int, record: Any) -> Any:
        chosen = self.chosen[child] if self.chosen else None
        return record if chosen is None else chosen(record)


def _common_spec(specs: Sequence[ElementSpec | None], names: Sequence[str], title: str) -> ElementSpec:
    first, wrong = next(i for i, spec in enumerate(specs) if spec is not None), []
    for number, spec in enumerate(specs):
        if spec is None:
            continue
        where = f"in child {names[number]!r}, compared with child {names[first]!r}"
        wrong += [f"{sentence} {where}" for sentence in differences(specs[first], spec)]
        forms = [str(jax.tree.structure(one)) for one in (spec, specs[first])]
        if not wrong and forms[0] != forms[1]:
            wrong.append(f"records are {forms[0]} where {forms[1]} is expected {where}")
    if wrong:
        raise SpecError(
            f"the children of {title} differ: {'; '.join(wrong)}; give all children the same fields: choose and name "
            f"them with `select` and `rename`, and add missing ones with `fill`{_remedy(specs)}"
        )
    return common_spec([spec for spec in specs if spec is not None])


def _remedy(specs: Sequence[ElementSpec | None]) -> str:
    """Return what to do about fields that vary in length in some children only."""
    varies: dict[str, set[bool]] = {}
    for spec in specs:
        for name, struct in named_fields(spec).items():
            varies.setdefault(name, set()).add(None in struct.shape)
    if not (mixed := [name for name, found in varies.items() if len(found) > 1]):
        return ""
    return (
        f"; {mixed[0]!r} varies in length in one child and has to in all: Ragged.from_list(records) in Python, "
        "shape: [null] in a decoder"
    )


def _struct_of(field: str, specs: Sequence[ElementSpec], title: str) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of the field that is filled in; some children must have it, and some not."""
    owners = [spec[field] for spec in specs if field in spec]
    if not owners:
        raise SpecError(f"fill names the field {field!r}, which no child of {title} has; there is nothing to fill")
    if len(owners) == len(specs):
        raise SpecError(f"fill names the field {field!r}, which every child of {title} has; leave it out")
    if not isinstance(owners[0], jax.ShapeDtypeStruct):
        raise SpecError(
            f"fill names {field!r}, which is not one field of {title}, but a {type(owners[0]).__name__} of fields"
        )
    kinds = [owner.dtype for owner in owners]
    are_texts = all(are_one_kind(kinds[0], dtype) for dtype in kinds)  # differing specs are refused later
    return jax.ShapeDtypeStruct(owners[0].shape, common_text(kinds)) if are_texts else owners[0]


def _constant(field: str, value: Any, struct: jax.ShapeDtypeStruct, title: str) -> Constant:
    """Return the value in dtype and shape of its field; raise `SpecError` if that changes the value.

    The value of a field that varies in length is a ragged column of one record.
    """
    refused = (
        f"fill gives the field {field!r} of {title} the value {value!r:.80}, which is no "
        f"{dtype_title(struct.dtype)}{list(struct.shape)}"
    )
    if None in struct.shape:
        try:
            return Ragged.from_list([value], struct.dtype, struct.shape)
        except SpecError as cause:
            raise SpecError(refused) from cause
    if is_text(struct.dtype) and isinstance(value, bytes if struct.dtype.kind == "S" else str):
        return np.broadcast_to(np.asarray(value, common_text([struct.dtype, np.asarray(value).dtype])), struct.shape)
    if struct.dtype.hasobject:
        filled = np.empty((), object)
        filled[()] = value
        return np.broadcast_to(filled, struct.shape)
    try:
        given = np.asarray(value)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = given.astype(struct.dtype)
        shaped = np.broadcast_to(cast, struct.shape)
    except (ValueError, TypeError, OverflowError) as cause:
        raise SpecError(refused) from cause
    is_float = np.issubdtype(struct.dtype, np.inexact) and np.issubdtype(given.dtype, np.number)
    same = np.array_equal(np.isfinite(cast), np.isfinite(given)) if is_float else np.array_equal(cast, given)
    if not same or (given.dtype.kind == "U") != (struct.dtype.kind == "U"):
        raise SpecError(refused)
    return shaped


def _structs(constants: Mapping[str, Constant]) -> dict[str, jax.ShapeDtypeStruct]:
    shapes = {
        name: value.record_shape if isinstance(value, Ragged) else value.shape for name, value in constants.items()
    }
    return {name: jax.ShapeDtypeStruct(shapes[name], value.dtype) for name, value in constants.items()}


def _repeated(value: Constant, size: int) -> Any:
    if isinstance(value, Ragged):
        return value.take(np.zeros(size, np.int64))
    return np.broadcast_to(value, (size, *value.shape))


def _of_one_record(value: Constant) -> np.ndarray:
    return np.asarray(value[0]) if isinstance(value, Ragged) else value
