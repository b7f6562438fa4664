"""The fields of a record: how the stored values of a batch fill its column. One class a way of storing.

``fill`` is written for many records. Where one of them is wrong, it says only what was found: `fill_field` finds which.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import jax
import numpy as np

from ._items import Item, TensorItem, objects, stacked
from ._numbers import AnyArray, kind_of, put_numbers, varying_numbers
from ._stored import Features, Missing, Records, bytes_value, bytes_values, packed_reader
from ._undecodable import UndecodableRecord, Unfit

OBJECT: Final = np.dtype(object)

Shape = tuple[int | None, ...]
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
        self, read: Callable[[Features, str], _Value], records: Records, absent: Callable[[], _Value]
    ) -> list[_Value]:
        """The stored values of each record; ``absent()`` for those without, or its error."""
        key = self.key
        try:
            return [read(record, key) for record in records.features]
        except Missing:
            return [self._value(read, record, absent) for record in records.features]

    def _value(self, read: Callable[[Features, str], _Value], record: Features, absent: Callable[[], _Value]) -> _Value:
        try:
            return read(record, self.key)
        except Missing:
            return absent()


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
            except Unfit as error:  # noqa: PERF203 - of one record that is looked for
                reason = f"field {field.name!r} has {error} where {field} is expected"
                raise UndecodableRecord(row, field.name, reason) from error.__cause__
        raise


def _nothing() -> Any:
    raise Unfit("no value")


@dataclass(frozen=True, kw_only=True)
class NumberField(Field):
    """Numbers, as many as the shape says or, where one size is not declared, any that fill it."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        read = packed_reader(kind_of(self.dtype))
        if self.is_varying:
            packed = self._values(read, records, bytes)  # TFDS takes what is missing as empty
            sizes = [-1 if size is None else size for size in self.shape]
            unit = math.prod(size for size in self.shape if size is not None)
            for row, numbers in enumerate(varying_numbers(packed, self.dtype)):
                if not unit or len(numbers) % unit:
                    raise Unfit(f"{len(numbers)} values")
                out[row] = numbers.reshape(sizes)
        elif self.default is None:
            put_numbers(self._values(read, records, _nothing), out.reshape(len(out), -1) if out.size else out)
        else:
            self._fill_optional(read, records, out)

    def _fill_optional(self, read: Callable[[Features, str], bytes], records: Records, out: AnyArray) -> None:
        for row, record in enumerate(records.features):
            try:
                packed = read(record, self.key)
            except Missing:
                out[row] = self.default
            else:
                put_numbers([packed], out[row].reshape(1, -1))


@dataclass(frozen=True, kw_only=True)
class BytesField(Field):
    """Text and other bytes, as TFDS gives them: ``bytes``, or arrays of them."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        if self.shape == ():
            absent = _nothing if self.default is None else lambda: self.default
            out[:] = self._values(bytes_value, records, absent)
            return
        for row, values in enumerate(self._values(bytes_values, records, self._absent)):
            cells = objects(values)
            if self.is_varying:
                out[row] = _reshaped(cells, self.shape)
            elif len(values) == math.prod(self.shape):  # type: ignore[arg-type]  # it is fixed
                out[row] = cells.reshape(self.shape)  # type: ignore[arg-type]  # likewise
            else:
                raise Unfit(f"{len(values)} values")

    def _absent(self) -> list[bytes]:
        if self.default is not None:
            return list(np.asarray(self.default, object).reshape(-1))
        return [] if self.is_varying else _nothing()  # type: ignore[no-any-return]  # it raises


@dataclass(frozen=True, kw_only=True)
class ItemField(Field):
    """One value of bytes that becomes an array: an image, an encoded tensor."""

    item: Item

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        item = self.item
        absent = _nothing if self.default is None else bytes
        for row, value in enumerate(self._values(bytes_value, records, absent)):
            if not value and self.default is not None:
                out[row] = self.default
            elif self.is_varying:
                out[row] = item.new(value)
            else:
                item.put(value, out[row])


@dataclass(frozen=True, kw_only=True)
class SequenceField(Field):
    """A sequence of such values."""

    item: Item

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        absent = list if self.shape[0] is None else _nothing
        for row, values in enumerate(self._values(bytes_values, records, absent)):
            if self.shape[0] not in (None, len(values)):
                raise Unfit(f"{len(values)} values")
            if self.is_varying:
                out[row] = stacked(self.item, values)
            else:
                for place, value in enumerate(values):
                    self.item.put(value, out[row, place])


@dataclass(frozen=True, kw_only=True)
class DynamicField(Field):
    """A tensor of which several sizes vary: its bytes, with its shape beside."""

    item: TensorItem

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        read_shape = packed_reader("int64_list")
        for row, record in enumerate(records.features):
            try:
                value = bytes_value(record, f"{self.key}/value")
                sizes = next(varying_numbers([read_shape(record, f"{self.key}/shape")], np.dtype(np.int32))).tolist()
            except Missing:
                raise Unfit("no value") from None
            fits = len(sizes) == len(self.shape) and min(sizes, default=0) >= 0
            if not fits or any(size not in (None, found) for size, found in zip(self.shape, sizes, strict=True)):
                raise Unfit(f"the shape {sizes}")
            out[row] = self.item.new(value, tuple(sizes))


def _reshaped(cells: AnyArray, shape: Shape) -> AnyArray:
    try:
        return cells.reshape([-1 if size is None else size for size in shape])
    except ValueError:
        raise Unfit(f"{len(cells)} values") from None
