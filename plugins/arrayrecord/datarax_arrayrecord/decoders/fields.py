"""Fields with dtype and shape, nested dicts by dotted name, and checks of batches against declared fields."""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import jax
import numpy as np
from pydantic import Field

from datarax_core.config import FrozenConfig, NonNegative
from datarax_core.records import Batch, ElementSpec, Ragged, dotted_name, has_shape, text_as

from .dtypes import AnyArray, DTypeName, native

AnyColumn: TypeAlias = AnyArray | Ragged
"""Column of records of one shape, or of records that vary in length."""

LARGEST: Final = 2**31 - 1
"""Greatest number of bytes of a record, in ArrayRecord files and in protobuf."""


class ArrayField(FrozenConfig):
    """Dtype of a field, and its shape in one record."""

    dtype: DTypeName = Field(description="Dtype, such as uint8, float32 or bfloat16.")
    shape: tuple[NonNegative | None, ...] = Field(
        default=(),
        description="Shape in one record; [] is one value, and null an axis that varies from record to record.",
    )

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype, as in an element spec."""
        return jax.ShapeDtypeStruct(self.shape, np.dtype(self.dtype))

    @property
    def is_ragged(self) -> bool:
        """Whether an axis varies from record to record."""
        return None in self.shape

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """Axes that do not vary; all of them if the field is not ragged."""
        return fixed_axes(self.shape)

    @property
    def size(self) -> int:
        """Number of values in a record; if an axis varies, for each item of it."""
        return math.prod(self.fixed_shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the values in a record; if an axis varies, of each item of it."""
        return self.size * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def fixed_axes(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the axes of a shape that do not vary."""
    return tuple(n for n in shape if n is not None) if None in shape else cast("tuple[int, ...]", shape)


def flat_fields(tree: Any, title: str, at: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts by dotted name.

    Args:
        tree: Nested dicts, whose leaves have a dtype and a shape.
        title: Name of the tree in errors.
        at: Dotted name of the part of the tree that ``tree`` is; empty for all of it.

    Raises:
        ValueError: A dict is empty, or a name is no text or empty; names it.
    """
    where = f"field {at!r} of {title}" if at else title
    if not isinstance(tree, Mapping):
        raise ValueError(f"{where} is a {type(tree).__name__}; records are written by names: make it a dict")  # noqa: TRY004
    if not tree:
        raise ValueError(f"{where} is a dict without fields, of which nothing can be written; leave it out")
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"{where} has the name {key!r}; names are texts that are not empty")
        name = f"{at}.{dotted_name([key])}" if at else dotted_name([key])
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            leaves[name] = value
        else:
            leaves |= flat_fields(value, title, name)
    return leaves


def native_column(column: Any) -> AnyColumn:
    """Return a column in the byte order of this machine."""
    if not isinstance(column, Ragged):
        return native(column)
    if column.dtype.isnative:
        return column
    own = column.compact()  # without the records around a slice
    return own.with_values(native(own.values))


def declared_columns(batch: Batch, spec: ElementSpec, decoder: str) -> dict[str, AnyColumn]:
    """Return the columns of a batch by dotted name, in the byte order of this machine; ragged where that is declared.

    Args:
        batch: The batch.
        spec: Element spec that the decoder declares.
        decoder: Name of the decoder in errors.

    Raises:
        ValueError: A column is missing, not declared, or differs from ``spec``, or columns differ in length; names each field.
    """
    columns = {name: native_column(leaf) for name, leaf in flat_fields(batch, f"what {decoder} is to write").items()}
    wanted = flat_fields(spec, f"the element spec of {decoder}")
    wrong = [
        f"field {name!r} ({_described(struct)}) is missing" for name, struct in wanted.items() if name not in columns
    ]
    columns = {name: _as_declared(c, wanted[name]) if name in wanted else c for name, c in columns.items()}
    for name, column in columns.items():
        if not column.ndim:
            wrong.append(f"field {name!r} has no axis of records")
            continue
        found = jax.ShapeDtypeStruct(column.shape[1:], column.dtype)
        if name not in wanted:
            wrong.append(f"field {name!r} ({_described(found)}) is not declared")
        elif (tuple(found.shape), found.dtype) != (wanted[name].shape, wanted[name].dtype):
            wrong.append(f"field {name!r} is {_described(found)} where {_described(wanted[name])} is declared")
    lengths = {name: len(column) for name, column in columns.items() if column.ndim}
    if not wrong and len(set(lengths.values())) > 1:
        wrong.append("fields differ in their number of records: " + ", ".join(f"{n!r} {k}" for n, k in lengths.items()))
    if wrong:
        raise ValueError(f"{decoder} cannot write this batch: {'; '.join(wrong)}")
    return {name: columns[name] for name in wanted}


def _as_declared(column: AnyColumn, struct: jax.ShapeDtypeStruct) -> AnyColumn:
    """Return a column in the declared dtype of text, or as a ragged one, if that changes nothing but the form."""
    if isinstance(column, Ragged) or not column.ndim:
        return column
    column = text_as(column, struct.dtype)
    if None in struct.shape and has_shape(column.shape[1:], struct.shape):
        return Ragged.from_list(list(column), column.dtype, struct.shape)
    return column


def _described(struct: Any) -> str:
    return f"{struct.dtype}{list(struct.shape)}"
