"""The element spec: dtype and shape of each column that is served, from the schemas of the files."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
import pyarrow as pa

from datarax_core import ConfigError, DataFileError

from ._files import ParquetFile

Spec: TypeAlias = dict[str, jax.ShapeDtypeStruct]

REMEDIES = {
    "decimal": "write it as float64, or as whole numbers of its smallest unit",
    "list": "of lists in lists, one may be of any length: write the others with one size, pyarrow.list_(type, size)",
    "map": "write each key as a column of its own",
    "null": "it holds nothing",
    "struct": "write each of its fields as a column of its own",
    "time": "write it as whole numbers",
}
"""The remedy for a type that is no array, by a word in the type's name."""


def spec_of(files: Sequence[ParquetFile], columns: Sequence[str] | None) -> Spec:
    """Return the element spec of the named columns, or of all columns. Reads no row.

    Raises:
        ConfigError: A column does not exist, or columns have types that are no arrays; names all of the latter.
        DataFileError: A file has a column twice, or other columns than the first file.
    """
    first = files[0]
    wanted = first.schema.names if columns is None else columns
    if missing := [name for name in wanted if name not in first.schema.names]:
        there = ", ".join(first.schema.names)
        raise ConfigError(f"columns names {missing[0]!r}, which {first.path} does not have; it has {there}")
    for file in files:
        _require_same_columns(file, first, wanted, are_all=columns is None)
    specs = {name: column_spec(first.schema.field(name).type) for name in wanted}
    if problems := [_problem(first.schema.field(name)) for name, spec in specs.items() if spec is None]:
        raise ConfigError(
            f"{first.path} has columns that cannot be served: {'; '.join(problems)}; or leave them out: name those to "
            "read in 'columns'"
        )
    return {name: spec for name, spec in specs.items() if spec is not None}


def column_spec(arrow_type: pa.DataType) -> jax.ShapeDtypeStruct | None:
    """Return dtype and shape of one value of an Arrow type; None if no array holds its values."""
    if isinstance(arrow_type, pa.FixedShapeTensorType):
        shape = tuple(arrow_type.shape)
        in_order = arrow_type.permutation is None or list(arrow_type.permutation) == list(range(len(shape)))
        return _array_of(shape, arrow_type.value_type) if in_order else None
    if pa.types.is_fixed_size_list(arrow_type):
        return _array_of((arrow_type.list_size,), arrow_type.value_type)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):  # of any length: a ragged column
        return _array_of((None,), arrow_type.value_type)
    if pa.types.is_dictionary(arrow_type):
        return column_spec(arrow_type.value_type)
    dtype = _dtype(arrow_type)
    return None if dtype is None else jax.ShapeDtypeStruct((), np.dtype(dtype))


def require_fill(given: Mapping[str, Any], schema: pa.Schema, spec: Spec) -> dict[str, Any]:
    """Return the replacement of nulls, by column, after checking each against its column.

    Raises:
        ConfigError: A column is not read, or a value does not fit the column's type.
    """
    for name, value in given.items():
        if name not in spec:
            raise ConfigError(f"fill_null names column {name!r}, which is not read; the columns are {', '.join(spec)}")
        arrow_type = schema.field(name).type
        if not _fits(value, spec[name].dtype, holds_text="string" in str(arrow_type)):
            raise ConfigError(f"fill_null: {value!r} cannot replace nulls of column {name!r}, which is {arrow_type}")
    return dict(given)


def _array_of(shape: tuple[int | None, ...], arrow_type: pa.DataType) -> jax.ShapeDtypeStruct | None:
    items = column_spec(arrow_type)
    return None if items is None or None in items.shape else jax.ShapeDtypeStruct((*shape, *items.shape), items.dtype)


def _dtype(arrow_type: pa.DataType) -> str | None:
    """Return the dtype of a type whose values are single values; text, bytes and dates become host fields."""
    types = pa.types
    if types.is_boolean(arrow_type):
        return "bool"
    if types.is_integer(arrow_type) or types.is_floating(arrow_type):
        prefix = (
            "float" if types.is_floating(arrow_type) else "uint" if types.is_unsigned_integer(arrow_type) else "int"
        )
        return f"{prefix}{arrow_type.bit_width}"
    if types.is_date(arrow_type):
        return "datetime64[D]" if types.is_date32(arrow_type) else "datetime64[ms]"
    if types.is_timestamp(arrow_type):  # with a time zone or without: the instant, in UTC
        return f"datetime64[{arrow_type.unit}]"
    if types.is_duration(arrow_type):
        return f"timedelta64[{arrow_type.unit}]"
    texts = types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type)
    blobs = types.is_binary(arrow_type) or types.is_large_binary(arrow_type) or types.is_binary_view(arrow_type)
    return "object" if texts or blobs or types.is_fixed_size_binary(arrow_type) else None


def _require_same_columns(file: ParquetFile, first: ParquetFile, wanted: Sequence[str], *, are_all: bool) -> None:
    names = file.schema.names
    for name in wanted:
        if names.count(name) > 1:
            raise DataFileError(file.path, f"{file.path} has two columns {name!r}; give each a name of its own")
        found = file.schema.field(name).type if name in names else "not there"
        if found != first.schema.field(name).type:
            raise DataFileError(
                file.path,
                f"column {name!r} of {file.path} is {found} where that of {first.path} is "
                f"{first.schema.field(name).type}; write all files alike",
            )
    if are_all and (more := [name for name in names if name not in wanted]):
        raise DataFileError(
            file.path,
            f"{file.path} has a column {more[0]!r} that {first.path} does not have; write all files alike, or name the "
            "columns to read in 'columns'",
        )


def _problem(field: pa.Field) -> str:
    remedy = next((remedy for word, remedy in REMEDIES.items() if word in str(field.type)), "no array holds its values")
    return f"column {field.name!r} is {field.type}: {remedy}"


def _fits(value: Any, dtype: np.dtype[Any], *, holds_text: bool) -> bool:
    if isinstance(value, str):
        return holds_text
    if isinstance(value, bool) or dtype.kind not in "iuf":
        return isinstance(value, bool) and dtype.kind == "b"
    if dtype.kind == "f":
        return not np.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return isinstance(value, int) and limits.min <= value <= limits.max
