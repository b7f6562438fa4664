"""Decoder of records that are msgpack maps, with arrays as flax.serialization writes them."""

import sys
from collections.abc import Sequence
from typing import Any, Final, Literal

import jax
import msgpack  # type: ignore[import-untyped]  # it has no stubs
import numpy as np

from datarax_core.records import Batch, ElementSpec, Ragged, aligned_empty, nested_fields

from .dtypes import AnyArray, is_number, little_endian
from .fields import AnyColumn, declared_columns, flat_fields, native_column
from .msgpack_arrays import ARRAY, SCALAR, dtype_named, extension, from_bytes, parts_of, reason
from .msgpack_step import columns_in_step
from .named_values import NamedValuesDecoder, ValueField, checked_columns

_CHUNKED: Final = "__msgpack_chunked_array__"
"""The key that marks an array of more than a gigabyte, which flax.serialization writes in chunks."""

_MSGPACK_NUMBERS: Final = (np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_))
"""Dtypes whose scalars are written as numbers of msgpack, and read back with the same dtype."""

_STORED: Final = frozenset((int, float, bool, str, bytes, msgpack.ExtType))  # types that `_checked` leaves as they are
_DECODER: Final = "the decoder 'msgpack'"


class MsgpackDecoder(NamedValuesDecoder):
    """Decodes maps of names to numbers, bools, text, bytes, lists and maps of these, and arrays of any dtype.

    Arrays and NumPy scalars have the form of ``flax.serialization.msgpack_serialize``, so that ``msgpack_restore`` reads the
    records written here. Maps in maps are nested dicts; a list is an array of its items.

    With ``fields``, only those are decoded, and bytes in a field of numbers are the little-endian bytes of its array. Without,
    each record must have the fields of the first. A length in a record that reaches past its end is an error, and allocates
    nothing. Records of one structure are decoded together.
    """

    type: Literal["msgpack"] = "msgpack"

    def named_values(self, record: bytes) -> dict[str, Any]:
        """Return the map of a record.

        Raises:
            ValueError: The record is no map of msgpack.
        """
        values: dict[str, Any] = _resolved(self.stored_values(record))
        return values

    def stored_values(self, record: bytes) -> dict[str, Any]:
        """Return the map of a record, with arrays as msgpack's extension types."""
        try:
            value = msgpack.unpackb(record, raw=False, strict_map_key=True)
        except (msgpack.UnpackException, ValueError, TypeError) as error:
            raise ValueError(f"the record is no map of msgpack's: {reason(error)}") from error
        if not isinstance(value, dict):
            raise ValueError(f"the record is {_noun(value)} of msgpack's, not a map of names to values")  # noqa: TRY004
        return {name: item if type(item) in _STORED else _checked(item, name) for name, item in value.items()}

    def arrays_of(self, name: str, field: ValueField, values: list[Any]) -> list[Any] | AnyColumn:
        """Return extension types as arrays, and bytes in a field of numbers as the array with these bytes."""
        types = set(map(type, values))
        struct = field.struct
        if types == {msgpack.ExtType}:
            column = _ragged(values, struct) if field.is_ragged else _column(values, struct, field.nbytes)
            if column is not None:
                return column
        if msgpack.ExtType in types:
            values = [_resolved(value) for value in values]
        if bytes in types and is_number(struct.dtype):
            values = [_from_all_bytes(name, field, value) if type(value) is bytes else value for value in values]
        return values

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:
        """Return the fields as columns; those of records of one structure are read for all of them at once.

        Raises:
            ValueError: A record has another format, or a value is missing or differs from its declaration; names the field.
        """
        columns, left = columns_in_step(records, self._structs(spec), takes_others=self.fields is not None)
        if not columns:
            return super().decode(records, spec)
        if len(left):
            others = super().decode([records[row] for row in left.tolist()], spec)
            for name, column in flat_fields(others, "the record").items():
                columns[name][left] = column
        return checked_columns(columns)

    def _structs(self, spec: ElementSpec) -> dict[str, jax.ShapeDtypeStruct]:
        """Return dtype and shape of each field by dotted name."""
        if self.fields is not None:
            return {name: field.struct for name, field in self.fields.items()}
        return flat_fields(spec, "the element spec")

    def encode(self, batch: Batch) -> list[bytes]:
        """Return a map for each row.

        int64, float64, bool, text and bytes are written as types of msgpack; scalars of other dtypes and arrays as
        flax.serialization writes them, which keeps every bit.

        Raises:
            ValueError: The batch differs from the declared fields, or a value is no number, text or bytes; names the field.
        """
        if self.fields is not None:
            columns = declared_columns(batch, self.element_spec(), _DECODER)
        else:
            columns = {
                name: native_column(column)
                for name, column in flat_fields(batch, f"what {_DECODER} is to write").items()
            }
            if len(lengths := {column.shape[:1] for column in columns.values()}) > 1 or () in lengths:
                raise ValueError(f"{_DECODER} writes fields of one length, not {', '.join(map(str, sorted(lengths)))}")
        rows = zip(*(_values(name, column) for name, column in columns.items()), strict=True)
        return [msgpack.packb(nested_fields(dict(zip(columns, row, strict=True))), use_bin_type=True) for row in rows]


def _resolved(value: Any) -> Any:
    """Return a value with its extension types as arrays and scalars."""
    if isinstance(value, dict):
        return {name: _resolved(item) for name, item in value.items()}
    return extension(*value) if type(value) is msgpack.ExtType else value


def _column(values: list[Any], struct: jax.ShapeDtypeStruct, nbytes: int) -> AnyArray | None:
    """Return arrays with equal headers as a column; None if headers differ, or differ from ``struct``."""
    code, first = values[0]
    array = extension(code, first)
    if (array.dtype, array.shape) != (struct.dtype, struct.shape) or not nbytes or sys.byteorder == "big":
        return None
    head, size = first[: len(first) - nbytes], len(first)
    if not all(each_code == code and len(data) == size and data.startswith(head) for each_code, data in values):
        return None
    column = aligned_empty((len(values), *struct.shape), struct.dtype)
    column.reshape(-1).view(f"S{nbytes}")[:] = [data[len(head) :] for _, data in values]
    return column


def _ragged(values: list[Any], struct: jax.ShapeDtypeStruct) -> Ragged | None:
    """Return arrays of the dtype of ``struct`` as a ragged column; None if one is no array of it, or several axes vary."""
    if None in struct.shape[1:] or any(code != ARRAY for code, _ in values) or sys.byteorder == "big":
        return None
    inner, lengths, contents = list(struct.shape[1:]), [], []
    for _, data in values:
        shape, name, content = parts_of(data)
        if shape[1:] != inner or not shape or dtype_named(name) != struct.dtype:
            return None
        lengths.append(shape[0])
        contents.append(content)
    rows = np.frombuffer(b"".join(contents), struct.dtype)
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))])
    return Ragged(rows.reshape(offsets[-1], *inner), offsets)


def _from_all_bytes(name: str, field: ValueField, value: bytes) -> AnyArray:
    """Return the array of a field whose little-endian bytes these are."""
    shape, nbytes = field.shape, field.nbytes
    if shape.count(None) == 1 and nbytes:
        length, rest = divmod(len(value), nbytes)
        if rest:
            raise ValueError(f"field {name!r} has {len(value)} bytes where a multiple of {nbytes} is expected: {field}")
        return from_bytes(value, field.struct.dtype, [length if n is None else n for n in shape])
    if None in shape:
        raise ValueError(f"field {name!r} has {len(value)} bytes, which do not say the lengths of all axes of {field}")
    if len(value) != nbytes:
        raise ValueError(f"field {name!r} has {len(value)} bytes where the {nbytes} of {field} are expected")
    return from_bytes(value, field.struct.dtype, field.fixed_shape)


def _checked(value: Any, name: str) -> Any:
    """Return a value with its chunked arrays joined; raise ValueError if it cannot become an array."""
    if isinstance(value, dict):
        if _CHUNKED in value:
            return _joined(value, name)
        return {key: _checked(item, f"{name}.{key}") for key, item in value.items()}
    if type(value) is msgpack.Timestamp:
        raise ValueError(
            f"field {name!r} is a timestamp of msgpack's; write it as a number, or as an array of datetime64"
        )
    if isinstance(value, list):
        if any(isinstance(item, dict) for item in value):
            raise ValueError(f"field {name!r} is a list with a dict in it, of which no array is made")
        return [_resolved(_checked(item, name)) for item in value]
    return value


def _joined(value: dict[str, Any], name: str) -> AnyArray:
    """Return the array that flax.serialization wrote in chunks."""
    try:
        shape = [value["shape"][str(axis)] for axis in range(len(value["shape"]))]
        chunks = [_resolved(value["chunks"][str(at)]) for at in range(len(value["chunks"]))]
        return np.concatenate(chunks).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"field {name!r} is no array in chunks as flax.serialization writes it: {error}") from error


def _values(name: str, column: AnyColumn) -> list[Any]:
    """Return the value to pack for each row of a column."""
    if isinstance(column, Ragged):
        return _ragged_values(name, column)
    if column.dtype.kind in "OUS":
        if column.ndim > 1 and not column.size and len(column):
            raise ValueError(
                f"field {name!r} has lists without items, which do not say that they are of text; leave it out"
            )
        return [_text_values(name, value) for value in column.tolist()]
    if column.ndim == 1 and column.dtype in _MSGPACK_NUMBERS:
        values: list[Any] = column.tolist()
        return values
    if not (is_number(column.dtype) or column.dtype.kind in "mM"):
        raise ValueError(f"field {name!r} is {column.dtype}; {_DECODER} writes numbers, bools, dates, text and bytes")
    code = ARRAY if column.ndim > 1 else SCALAR
    shape, dtype = column.shape[1:], column.dtype.name
    return [_packed_array(code, shape, dtype, row.tobytes()) for row in little_endian(column)]


def _ragged_values(name: str, column: Ragged) -> list[Any]:
    if column.dtype.kind in "OUS":
        return [_text_values(name, row.tolist()) for row in column]
    if not (is_number(column.dtype) or column.dtype.kind in "mM"):
        raise ValueError(f"field {name!r} is {column.dtype}; {_DECODER} writes numbers, bools, dates, text and bytes")
    return [_packed_array(ARRAY, row.shape, column.dtype.name, little_endian(row).tobytes()) for row in column]


def _packed_array(code: int, shape: Sequence[int], dtype: str, content: bytes) -> msgpack.ExtType:
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, content), use_bin_type=True))


def _text_values(name: str, value: Any) -> Any:
    """Return text or bytes, or nested lists of them, unchanged; raise ValueError for any other value."""
    if isinstance(value, list):
        return [_text_values(name, item) for item in value]
    if not isinstance(value, str | bytes):
        raise ValueError(  # noqa: TRY004 - Decoder.encode raises ValueError for what it cannot write
            f"field {name!r} is of objects, and {_DECODER} writes text and bytes of them, not {value!r:.80}"
        )
    return value


def _noun(value: Any) -> str:
    return "nothing (nil)" if value is None else f"a value ({type(value).__name__})"
