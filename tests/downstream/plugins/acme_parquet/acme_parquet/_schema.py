"""From the schemas of the files to the element spec: which columns are served, and what each looks like."""

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
    "list": "write it as lists of one size, pyarrow.list_(type, size)",
    "map": "write each key as a column of its own",
    "null": "it holds nothing",
    "struct": "write each of its fields as a column of its own",
    "time": "write it as whole numbers",
}
"""What to do about a type that is no array, by a word in its name."""


def spec_of(files: Sequence[ParquetFile], columns: Sequence[str] | None) -> Spec:
    """What a record looks like: the named columns of the files, or all of them. Reads no row.

    Raises:
        ConfigError: A column is not there, or of a type that is no array; names all of the latter.
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


def column_spec(kind: pa.DataType) -> jax.ShapeDtypeStruct | None:
    """What one value of an Arrow type is as an array; None if it is none."""
    if isinstance(kind, pa.FixedShapeTensorType):
        shape = tuple(kind.shape)
        in_order = kind.permutation is None or list(kind.permutation) == list(range(len(shape)))
        return _array_of(shape, kind.value_type) if in_order else None
    if pa.types.is_fixed_size_list(kind):
        return _array_of((kind.list_size,), kind.value_type)
    if pa.types.is_dictionary(kind):
        return column_spec(kind.value_type)
    dtype = _dtype(kind)
    return None if dtype is None else jax.ShapeDtypeStruct((), np.dtype(dtype))


def require_fill(given: Mapping[str, Any], schema: pa.Schema, spec: Spec) -> dict[str, Any]:
    """What stands in for nulls, by column, if each value can stand in its column.

    Raises:
        ConfigError: A column is not read, or a value is of another kind, or does not fit the column's type.
    """
    for name, value in given.items():
        if name not in spec:
            raise ConfigError(f"fill_null names column {name!r}, which is not read; the columns are {', '.join(spec)}")
        kind = schema.field(name).type
        if not _fits(value, spec[name].dtype, holds_text="string" in str(kind)):
            raise ConfigError(f"fill_null: {value!r} cannot stand in column {name!r}, which is {kind}")
    return dict(given)


def _array_of(shape: tuple[int, ...], kind: pa.DataType) -> jax.ShapeDtypeStruct | None:
    items = column_spec(kind)
    return None if items is None else jax.ShapeDtypeStruct((*shape, *items.shape), items.dtype)


def _dtype(kind: pa.DataType) -> str | None:
    """The dtype of a type that is one value; those of texts, bytes and dates have no place on a device and ride beside."""
    types = pa.types
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind) or types.is_floating(kind):
        word = "float" if types.is_floating(kind) else "uint" if types.is_unsigned_integer(kind) else "int"
        return f"{word}{kind.bit_width}"
    if types.is_date(kind):
        return "datetime64[D]" if types.is_date32(kind) else "datetime64[ms]"
    if types.is_timestamp(kind):  # with a time zone or without: the instant, in UTC
        return f"datetime64[{kind.unit}]"
    if types.is_duration(kind):
        return f"timedelta64[{kind.unit}]"
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    blobs = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return "object" if texts or blobs or types.is_fixed_size_binary(kind) else None


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
