"""Fields: how the stored values of a batch's records fill a column, one class for each way of storing.

``Field.fill`` decodes many records at once, and its error says what was found, but not in which record; `fill_field` decodes
the records again, one by one, to find the record.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import jax
import numpy as np

from datarax_core.records import Ragged, aligned_empty, has_shape

from .items import Item, TensorItem, object_array, sequence_array
from .numbers import AnyArray, feature_type_of, joined_numbers, numbers_of, put_numbers, varying_numbers
from .stored import (
    BYTES,
    FLOATS,
    INTEGERS,
    Features,
    Missing,
    ParsedRecords,
    UndecodableRecord,
    Unfit,
    all_values,
    counted,
    require_example,
    single_value,
)

OBJECT: Final = np.dtype(object)
_INT32: Final = np.dtype(np.int32)

Shape: TypeAlias = tuple[int | None, ...]
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """A field of the batch: its names from the outside in, its key in the records, and its declaration by TFDS."""

    path: tuple[str, ...]
    key: str
    shape: Shape
    dtype: np.dtype[Any]
    """``object`` if the values are bytes."""

    default: Any = None
    """The value for records without the feature, if the feature is optional."""

    is_ragged: bool = False
    """Whether each record is one array, of varying shape, and all are served as a ragged column; else they are objects."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "name" in state:  # a pickle of version 0.1.0, which had the names joined by dots
            state = {**state, "path": tuple(state["name"].split("."))}
            del state["name"]
        vars(self).update(state)

    @property
    def name(self) -> str:
        """The names joined by dots, for messages."""
        return ".".join(self.path)

    @property
    def is_text(self) -> bool:
        """Whether the values are bytes, which have no device dtype."""
        return self.dtype == OBJECT

    @property
    def is_varying(self) -> bool:
        """Whether the shape of the arrays varies from record to record."""
        return None in self.shape

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype for an element spec: None for an axis that varies, unless the arrays are objects."""
        is_object = self.is_varying and not self.is_ragged
        return jax.ShapeDtypeStruct((), OBJECT) if is_object else jax.ShapeDtypeStruct(self.shape, self.dtype)

    def require_room(self, record: ParsedRecords) -> None:  # noqa: B027 - varying arrays take what they are
        """Look whether one record can have as many values as are declared, before as many are allocated.

        Raises:
            Unfit: It cannot.
        """

    @abstractmethod
    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Decode the field of each record into a row of ``out``.

        Raises:
            Unfit: A record is not as declared.
        """

    def ragged(self, records: ParsedRecords) -> Ragged:
        """Return the arrays of the records as a ragged column.

        Raises:
            Unfit: A record is not as declared.
        """
        rows = np.empty(len(records.stored), object)
        self.fill(records, rows)
        return Ragged.from_list([self.as_array(row) for row in rows], self.dtype, self.shape)

    def as_array(self, value: Any) -> AnyArray:
        """Return what `fill` makes of a record as an array of the declared shape."""
        try:
            array = np.asarray(value, self.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise Unfit(f"a value of which no array can be made ({error})") from error
        if array.ndim == 1 and not array.size:
            array = array.reshape([size or 0 for size in self.shape])
        if not has_shape(array.shape, self.shape):
            raise Unfit(f"an array of the shape {list(array.shape)}")
        return array

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{'bytes' if self.is_text else self.dtype.name}[{sizes}]"

    def _values(
        self,
        read: Callable[[Features, str, int], _Value],
        records: ParsedRecords,
        feature_type: int,
        absent: Callable[[], _Value],
    ) -> list[_Value]:
        """Read the stored values of each record; for a record without the feature, return or raise as ``absent()`` does."""
        key = self.key
        if read in (single_value, _optional):
            values: Any = records.single_values(key, feature_type)
            if values is not None:
                return list(values)
        try:
            return [read(record, key, feature_type) for record in records.features]
        except Missing:
            if len(records.stored) == 1:
                require_example(records.stored[0])
                return [absent()]
            return [
                self._values(read, records.only(row), feature_type, absent)[0] for row in range(len(records.stored))
            ]


def fill_field(field: Field, records: ParsedRecords, out: AnyArray) -> None:
    """Decode a field of each record into a row of ``out``.

    Raises:
        UndecodableRecord: A record is not as declared; the error names the record's row and the field.
    """
    try:
        field.fill(records, out)
    except Unfit:
        for row in range(len(records.stored)):
            try:
                field.fill(records.only(row), out[row : row + 1])
            except Unfit as error:
                raise UndecodableRecord(row, field.name, _found(field, error)) from error.__cause__
        raise


def ragged_column(field: Field, records: ParsedRecords) -> Ragged:
    """Return a field of all records as a ragged column.

    Raises:
        UndecodableRecord: A record is not as declared; the error names the record's row and the field.
    """
    try:
        return field.ragged(records)
    except Unfit:
        for row in range(len(records.stored)):
            try:
                field.ragged(records.only(row))
            except Unfit as error:
                raise UndecodableRecord(row, field.name, _found(field, error)) from error.__cause__
        raise


def require_room(field: Field, records: ParsedRecords) -> None:
    """Look whether the first record can have the field as it is declared, before arrays of the declared shape are made.

    Raises:
        UndecodableRecord: It cannot; the error names the field.
    """
    try:
        field.require_room(records.only(0))
    except Unfit as error:
        raise UndecodableRecord(0, field.name, _found(field, error)) from error.__cause__


def _found(field: Field, error: Unfit) -> str:
    return f"field {field.name!r} has {error} where {field} is expected"


def _no_value() -> Any:
    raise Unfit("no value")


def _optional(record: Features, key: str, feature_type: int) -> bytes | None:
    """Return `single_value`; None if the record does not have the feature."""
    try:
        return single_value(record, key, feature_type)
    except Missing:
        return None


@dataclass(frozen=True, kw_only=True)
class NumberField(Field):
    """Numbers: as many as the shape has or, if one size varies, any multiple of the other sizes."""

    def require_room(self, record: ParsedRecords) -> None:
        """Raise `Unfit` if a record's bytes cannot be the declared numbers; see `Field.require_room`."""
        feature_type = feature_type_of(self.dtype)
        (packed,) = self._values(_optional, record, feature_type, _no_value)
        if packed is not None and not self.is_varying:
            most = len(packed) // 4 if feature_type == FLOATS else len(packed)
            if math.prod(self.struct.shape) > most:
                raise Unfit(f"{most} values or fewer")

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Unpack numbers; see `Field.fill`."""
        feature_type = feature_type_of(self.dtype)
        if self.is_varying:
            packed = self._values(single_value, records, feature_type, bytes)  # TFDS reads a missing feature as empty
            for row, numbers in enumerate(varying_numbers(packed, self.dtype)):
                out[row] = _reshaped(numbers, self.shape)
        elif self.default is None:
            _put(self._values(single_value, records, feature_type, _no_value), out)
        else:
            for row, numbers in enumerate(self._values(_optional, records, feature_type, _no_value)):
                if numbers is None:
                    out[row] = self.default
                else:
                    _put([numbers], out[row : row + 1])

    def ragged(self, records: ParsedRecords) -> Ragged:
        """Unpack the numbers of all records into one array, if their first axis is the one that varies."""
        if self.shape[0] is not None or 0 in self.shape:
            return super().ragged(records)
        packed = self._values(single_value, records, feature_type_of(self.dtype), bytes)
        values, ends = joined_numbers(packed, self.dtype)
        inner = self.shape[1:]
        size = math.prod(inner)  # type: ignore[arg-type]  # one axis varies
        if len(odd := np.flatnonzero(ends % size)):
            raise Unfit(counted(int(np.diff(ends, prepend=0)[odd[0]]), "value"))
        offsets = np.concatenate([np.zeros(1, np.int64), ends // size])
        return Ragged(values.reshape(-1, *inner), offsets)


def _put(packed: list[bytes], out: AnyArray) -> None:
    put_numbers(packed, out.reshape(len(out), math.prod(out.shape[1:])))


@dataclass(frozen=True, kw_only=True)
class BytesField(Field):
    """Text and other bytes: ``bytes``, or arrays of ``bytes``, as TFDS returns them."""

    def require_room(self, record: ParsedRecords) -> None:
        """Raise `Unfit` if a record has not the declared number of values; see `Field.require_room`."""
        (values,) = self._values(all_values, record, BYTES, self._absent)
        if not self.is_varying and len(values) != math.prod(self.struct.shape):
            raise Unfit(counted(len(values), "value"))

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Store the values; see `Field.fill`."""
        if self.shape == ():
            out[:] = self._values(
                single_value, records, BYTES, _no_value if self.default is None else lambda: self.default
            )
            return
        for row, values in enumerate(self._values(all_values, records, BYTES, self._absent)):
            out[row] = _reshaped(object_array(values), self.shape)

    def _absent(self) -> list[bytes]:
        if self.default is not None:
            return [str(value).encode() for value in np.asarray(self.default).reshape(-1)]
        return [] if self.is_varying else _no_value()


@dataclass(frozen=True, kw_only=True)
class ItemField(Field):
    """One value of bytes that is decoded to an array: an image, or an encoded tensor."""

    item: Item

    def require_room(self, record: ParsedRecords) -> None:
        """Raise `Unfit` if a record's value cannot be of the declared shape; see `Field.require_room`."""
        (value,) = self._values(_optional, record, BYTES, _no_value)
        if value is not None:
            self.item.check(value)

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Decode one value a record; see `Field.fill`."""
        if self.default is not None:
            for row, value in enumerate(self._values(_optional, records, BYTES, _no_value)):
                if value is None:
                    out[row] = self.default
                else:
                    self.item.fill([value], out[row : row + 1])
            return
        values: Sequence[bytes] | None = records.single_values(self.key, BYTES)
        self.item.fill(self._values(single_value, records, BYTES, _no_value) if values is None else values, out)

    def ragged(self, records: ParsedRecords) -> Ragged:
        """Decode one value a record into one array; see `Field.ragged`."""
        made = None
        if self.default is None:
            made = self.item.ragged(self._values(single_value, records, BYTES, _no_value))
        return super().ragged(records) if made is None else made


@dataclass(frozen=True, kw_only=True)
class SequenceField(Field):
    """A sequence of values of bytes that are decoded to arrays."""

    item: Item

    def require_room(self, record: ParsedRecords) -> None:
        """Raise `Unfit` if a record has another number of values, or values of another shape; see `Field.require_room`."""
        (values,) = self._values(all_values, record, BYTES, list if self.shape[0] is None else _no_value)
        if self.shape[0] not in (None, len(values)):
            raise Unfit(counted(len(values), "value"))
        if values:
            self.item.check(values[0])

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Decode the values of all records; see `Field.fill`."""
        length = self.shape[0]
        rows = self._values(all_values, records, BYTES, list if length is None else _no_value)
        for values in rows:
            if length not in (None, len(values)):
                raise Unfit(counted(len(values), "value"))
        if self.is_varying:
            for row, values in enumerate(rows):
                out[row] = sequence_array(self.item, values)
        else:
            self.item.fill([value for values in rows for value in values], out.reshape(-1, *out.shape[2:]))

    def ragged(self, records: ParsedRecords) -> Ragged:
        """Decode the values of all records into one array; see `Field.ragged`."""
        rows: list[list[bytes]] = self._values(all_values, records, BYTES, list)
        for values in rows:
            if values:
                self.item.check(values[0])
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        decoded = aligned_empty((int(offsets[-1]), *self.shape[1:]), self.dtype)  # type: ignore[arg-type]  # no size varies
        self.item.fill([value for values in rows for value in values], decoded)
        return Ragged(decoded, offsets)


@dataclass(frozen=True, kw_only=True)
class DynamicField(Field):
    """A tensor of which several sizes vary: stored as its bytes and, in a feature of its own, its shape."""

    item: TensorItem

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Decode one tensor a record; see `Field.fill`."""
        for row, record in enumerate(records.features):
            try:
                value = single_value(record, f"{self.key}/value", BYTES)
                sizes = numbers_of(single_value(record, f"{self.key}/shape", INTEGERS), _INT32).tolist()
            except Missing:
                raise Unfit("no value") from None
            is_rank = len(sizes) == len(self.shape) and min(sizes) >= 0
            if not is_rank or any(size not in (None, found) for size, found in zip(self.shape, sizes, strict=True)):
                raise Unfit(f"the shape {sizes}")
            out[row] = self.item._replace(shape=tuple(sizes)).array(value)


def _reshaped(values: AnyArray, shape: Shape) -> AnyArray:
    """Return the values in a shape, one size of which may vary."""
    sizes = [-1 if size is None else size for size in shape]
    try:
        return values.reshape(sizes)
    except ValueError:
        raise Unfit(counted(len(values), "value")) from None


@dataclass(frozen=True, kw_only=True)
class ForeignField(Field):
    """A feature that TFDS's own NumPy decoder decodes, from whole records."""

    alone: Any
    """A FeaturesDict that declares this feature, in its place, and no other feature."""

    def require_room(self, record: ParsedRecords) -> None:
        """Raise `Unfit` if the value of a record is not of the declared shape; see `Field.require_room`."""
        if not self.is_varying and np.shape(value := self._decoded(bytes(record.stored[0]))) != self.shape:
            raise Unfit(f"an array of the shape {list(np.shape(value))}")

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Decode record by record; see `Field.fill`."""
        for row, record in enumerate(records.stored):
            value = self._decoded(bytes(record))
            if self.is_varying:
                out[row] = value
                continue
            try:
                array = np.asarray(value, self.dtype)
            except (TypeError, ValueError, OverflowError) as error:
                raise Unfit(f"a value of which no array can be made ({error})") from error
            if array.shape != out[row].shape:
                raise Unfit(f"an array of the shape {list(array.shape)}")
            out[row] = array

    def _decoded(self, record: bytes) -> Any:
        try:
            value = self.alone.deserialize_example_np(record)
            for name in self.path:
                value = value[name]
            is_data_set = hasattr(value, "__getitem__") and hasattr(value, "getitem")  # of a feature that is a Dataset
            return list(value) if is_data_set else value  # its elements are decoded when they are read
        except Exception as error:  # a feature's own code may raise any error
            raise Unfit(f"a value that its own decoder refuses ({type(error).__name__}: {error})") from error
