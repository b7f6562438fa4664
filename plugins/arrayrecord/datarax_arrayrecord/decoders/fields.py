"""Fields that a config declares: their dtype and shape, checked there, and batches that are held against them.

A dot in the name of a field is a step into a nested dict: ``pose.left`` is the field ``left`` of the dict ``pose``.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jax
import numpy as np
from pydantic import Field

from datarax_core.config import FrozenConfig, NonNegative
from datarax_core.records import Batch, ElementSpec

from .dtypes import AnyArray, DTypeName, native

LARGEST: Final = 2**31 - 1
"""Bytes that a record can have, in ArrayRecord files and in protobuf."""


DECLARED: Final[dict[str, Any]] = {"minProperties": 1, "propertyNames": {"pattern": r"^[^.]+(\.[^.]+)*$"}}
"""JSON Schema of fields that are declared: at least one, and each with a name that `require_names` takes by itself."""


class ArrayField(FrozenConfig):
    """The dtype of a field, and its shape in one record."""

    dtype: DTypeName = Field(description="Its dtype, such as uint8, float32 or bfloat16.")
    shape: tuple[NonNegative, ...] = Field(default=(), description="Its shape in one record; [] is one value.")

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """As an element spec has it."""
        return jax.ShapeDtypeStruct(self.shape, np.dtype(self.dtype))

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return self.size * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def require_names(names: Iterable[str]) -> None:
    """Refuse names that make no nested dict: one without a text between its dots, or one that is a field and a dict.

    Raises:
        ValueError: Names it.
    """
    names = set(names)
    for name in names:
        steps = name.split(".")
        if not all(steps):
            raise ValueError(
                f"{name!r} is no name of a field; text stands on both sides of a dot, a step into a nested dict"
            )
        for depth in range(1, len(steps)):
            if (outer := ".".join(steps[:depth])) in names:
                raise ValueError(f"{outer!r} is a field, and with {name!r} a dict of fields too; rename one of them")


def flat(tree: Any, what: str, at: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by dotted name; ``what`` is the tree in errors.

    Raises:
        ValueError: It has no names, or such as `nested` would not give back; says which.
    """
    where = f"field {at!r} of {what}" if at else what
    if not isinstance(tree, Mapping):
        raise ValueError(f"{where} is a {type(tree).__name__}; records are written by names: make it a dict")  # noqa: TRY004
    if not tree:
        raise ValueError(f"{where} is a dict without fields, of which nothing can be written; leave it out")
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "." in key:
            raise ValueError(
                f"{where} has the name {key!r}; names are texts without a dot, which is a step into a nested dict"
            )
        name = f"{at}.{key}" if at else key
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            leaves[name] = value
        else:
            leaves |= flat(value, what, name)
    return leaves


def columns_of(batch: Batch, spec: ElementSpec, who: str) -> dict[str, AnyArray]:
    """The columns of a batch by dotted name, in this machine's byte order, rows in their order.

    Raises:
        ValueError: They are not as ``spec`` says, or not equally long; names ``who`` cannot write them, and each field.
    """
    columns = {name: native(leaf) for name, leaf in flat(batch, f"what {who} is to write").items()}
    wanted = flat(spec, f"the element spec of {who}")
    wrong = [f"field {name!r} ({_called(struct)}) is missing" for name, struct in wanted.items() if name not in columns]
    for name, column in columns.items():
        if not column.ndim:
            wrong.append(f"field {name!r} has no axis of records")
            continue
        found = jax.ShapeDtypeStruct(column.shape[1:], column.dtype)
        if name not in wanted:
            wrong.append(f"field {name!r} ({_called(found)}) is not declared")
        elif (found.shape, found.dtype) != (wanted[name].shape, wanted[name].dtype):
            wrong.append(f"field {name!r} is {_called(found)} where {_called(wanted[name])} is declared")
    lengths = {name: len(column) for name, column in columns.items() if column.ndim}
    if not wrong and len(set(lengths.values())) > 1:
        wrong.append("fields differ in their number of records: " + ", ".join(f"{n!r} {k}" for n, k in lengths.items()))
    if wrong:
        raise ValueError(f"{who} cannot write this batch: {'; '.join(wrong)}")
    return {name: columns[name] for name in wanted}


def _called(struct: Any) -> str:
    return f"{struct.dtype}{list(struct.shape)}"
