"""The fields of a record: how the stored values of a batch fill its column. One class a way of storing.

``fill`` is written for many records. Where one of them is wrong, it says only what was found: `fill_field` finds which.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import jax
import numpy as np

from .items import Item, TensorItem, objects, stacked
from .numbers import AnyArray, kind_of, numbers_of, put_numbers, varying_numbers
from .stored import (
    BYTES,
    INTEGERS,
    Features,
    Missing,
    Records,
    UndecodableRecord,
    Unfit,
    counted,
    require_example,
    several,
    single,
)

OBJECT: Final = np.dtype(object)
_INT32: Final = np.dtype(np.int32)

Shape: TypeAlias = tuple[int | None, ...]
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """A field of the batch: its dotted name, its key in the records, and what TFDS declares of it."""

    name: str
    key: str
    shape: Shape
    dtype: np.dtype[Any]
    """Of objects, where the values are bytes."""

    default: Any = None
    """The value of records that do not have the feature, if it is optional."""

    @property
    def is_text(self) -> bool:
        """Whether its values are bytes, which no device holds."""
        return self.dtype == OBJECT

    @property
    def is_varying(self) -> bool:
        """Whether its arrays differ in shape from record to record."""
        return None in self.shape

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """As an element spec has it: arrays that vary are objects."""
        return jax.ShapeDtypeStruct((), OBJECT) if self.is_varying else jax.ShapeDtypeStruct(self.shape, self.dtype)

    @abstractmethod
    def fill(self, records: Records, out: AnyArray) -> None:
        """Fill the rows of ``out``, one a record.

        Raises:
            Unfit: A record is not as declared.
        """

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{'bytes' if self.is_text else self.dtype.name}[{sizes}]"

    def _values(
        self, read: Callable[[Features, str, int], _Value], records: Records, kind: int, absent: Callable[[], _Value]
    ) -> list[_Value]:
        """The stored values of each record; ``absent()`` for those that do not have the feature, or its error."""
        key = self.key
        try:
            return [read(record, key, kind) for record in records.features]
        except Missing:
            if len(records.features) == 1:
                require_example(records.stored[0])
                return [absent()]
            return [self._values(read, records.only(row), kind, absent)[0] for row in range(len(records.features))]


def fill_field(field: Field, records: Records, out: AnyArray) -> None:
    """Fill the rows of ``out``.

    Raises:
        UndecodableRecord: A record is not as declared; says which.
    """
    try:
        field.fill(records, out)
    except Unfit:
        for row in range(len(records.features)):
            try:
                field.fill(records.only(row), out[row : row + 1])
            except Unfit as error:
                reason = f"field {field.name!r} has {error} where {field} is expected"
                raise UndecodableRecord(row, field.name, reason) from error.__cause__
        raise


def _nothing() -> Any:
    raise Unfit("no value")


def _optional(record: Features, key: str, kind: int) -> bytes | None:
    """As `single`; None if the record does not have the feature."""
    try:
        return single(record, key, kind)
    except Missing:
        return None


@dataclass(frozen=True, kw_only=True)
class NumberField(Field):
    """Numbers, as many as the shape says or, where one size is not declared, any that fill it."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        kind = kind_of(self.dtype)
        if self.is_varying:
            packed = self._values(single, records, kind, bytes)  # TFDS takes what is missing as empty
            for row, numbers in enumerate(varying_numbers(packed, self.dtype)):
                out[row] = _reshaped(numbers, self.shape)
        elif self.default is None:
            _put(self._values(single, records, kind, _nothing), out)
        else:
            for row, numbers in enumerate(self._values(_optional, records, kind, _nothing)):
                if numbers is None:
                    out[row] = self.default
                else:
                    _put([numbers], out[row : row + 1])


def _put(packed: list[bytes], out: AnyArray) -> None:
    put_numbers(packed, out.reshape(len(out), math.prod(out.shape[1:])))


@dataclass(frozen=True, kw_only=True)
class BytesField(Field):
    """Text and other bytes, as TFDS gives them: ``bytes``, or arrays of them."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        if self.shape == ():
            out[:] = self._values(single, records, BYTES, _nothing if self.default is None else lambda: self.default)
            return
        for row, values in enumerate(self._values(several, records, BYTES, self._absent)):
            out[row] = _reshaped(objects(values), self.shape)

    def _absent(self) -> list[bytes]:
        if self.default is not None:
            return [str(value).encode() for value in np.asarray(self.default).reshape(-1)]
        return [] if self.is_varying else _nothing()


@dataclass(frozen=True, kw_only=True)
class ItemField(Field):
    """One value of bytes that becomes an array: an image, an encoded tensor."""

    item: Item

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        if self.default is not None:
            for row, value in enumerate(self._values(_optional, records, BYTES, _nothing)):
                if value is None:
                    out[row] = self.default
                else:
                    self.item.fill([value], out[row : row + 1])
            return
        self.item.fill(self._values(single, records, BYTES, _nothing), out)


@dataclass(frozen=True, kw_only=True)
class SequenceField(Field):
    """A sequence of such values."""

    item: Item

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        length = self.shape[0]
        rows = self._values(several, records, BYTES, list if length is None else _nothing)
        for values in rows:
            if length not in (None, len(values)):
                raise Unfit(counted(len(values), "value"))
        if self.is_varying:
            for row, values in enumerate(rows):
                out[row] = stacked(self.item, values)
        else:
            self.item.fill([value for values in rows for value in values], out.reshape(-1, *out.shape[2:]))


@dataclass(frozen=True, kw_only=True)
class DynamicField(Field):
    """A tensor of which several sizes vary: its bytes, with its shape beside."""

    item: TensorItem

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        for row, record in enumerate(records.features):
            try:
                value = single(record, f"{self.key}/value", BYTES)
                sizes = numbers_of(single(record, f"{self.key}/shape", INTEGERS), _INT32).tolist()
            except Missing:
                raise Unfit("no value") from None
            is_rank = len(sizes) == len(self.shape) and min(sizes) >= 0
            if not is_rank or any(size not in (None, found) for size, found in zip(self.shape, sizes, strict=True)):
                raise Unfit(f"the shape {sizes}")
            out[row] = self.item._replace(shape=tuple(sizes)).array(value)


def _reshaped(values: AnyArray, shape: Shape) -> AnyArray:
    """The values in this shape; one size may be any."""
    sizes = [-1 if size is None else size for size in shape]
    try:
        return values.reshape(sizes)
    except ValueError:
        raise Unfit(counted(len(values), "value")) from None


@dataclass(frozen=True, kw_only=True)
class ForeignField(Field):
    """A feature that TFDS decodes, from whole records."""

    alone: Any
    """A FeaturesDict that declares this feature in its place, and no other."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
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
        except Exception as error:  # its code may raise anything
            raise Unfit(f"what its own decoder refuses ({type(error).__name__}: {error})") from error
        for name in self.name.split("."):
            value = value[name]
        return list(value) if hasattr(value, "__getitem__") and hasattr(value, "getitem") else value  # of a Dataset
