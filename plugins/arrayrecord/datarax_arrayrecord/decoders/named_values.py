"""What msgpack and npz have in common: records that are values by name and say their dtypes, so that fields may be declared."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import jax
import numpy as np
from pydantic import Field, field_validator

from datarax_core.records import Batch, ElementSpec, nested_fields
from datarax_core.registry import Decoder, stack_values

from .dtypes import DATES_AND_TEXT, FIXED_BYTES, NUMBERS, AnyArray, dtype_rules, invalid_byte, is_number, name_of
from .fields import DECLARED, LARGEST, ArrayField, flat, require_names

_OBJECT: Final = np.dtype(object)


class ValueField(ArrayField):
    """A field of numbers or bools, of text or bytes as objects, of text or bytes of a fixed width (U8, S8), or of dates."""

    schema_rules: ClassVar = dtype_rules(NUMBERS, FIXED_BYTES, DATES_AND_TEXT)

    @field_validator("dtype")
    @classmethod
    def _storable(cls, dtype: str) -> str:
        given = np.dtype(dtype)
        if not (is_number(given) or given == _OBJECT or given.kind in "mM" or (given.kind in "US" and given.itemsize)):
            raise ValueError(f"a record holds numbers, bools, dates, text and bytes, not {dtype}")
        return dtype


class NamedValuesDecoder(Decoder):
    """Records that hold a value for each name. A subclass says how one is read, `named_values`, and written."""

    fields: dict[str, ValueField] | None = Field(
        default=None,
        json_schema_extra=DECLARED,
        description="The fields to decode: name, dtype and shape; all that the first record has if null.",
    )

    @field_validator("fields")
    @classmethod
    def _nested_names(cls, fields: dict[str, ValueField] | None) -> dict[str, ValueField] | None:
        if fields is None:
            return fields
        require_names(fields)
        if not fields:
            raise ValueError("no field is declared; name one, or leave `fields` out for all of the first record")
        for name, field in fields.items():
            if field.nbytes > LARGEST:
                raise ValueError(f"{name!r} has {field.nbytes} bytes; a record has up to {LARGEST}")
        return fields

    @abstractmethod
    def named_values(self, record: bytes) -> dict[str, Any]:
        """The values of a record by name, dicts where they are nested.

        Raises:
            ValueError: It is no such record.
        """

    def stored_values(self, record: bytes) -> dict[str, Any]:
        """The same as they are stored, for `arrays_of` to make arrays of many at once."""
        return self.named_values(record)

    @abstractmethod
    def arrays_of(self, name: str, field: ValueField, values: list[Any]) -> list[Any] | AnyArray:
        """The stored values of a declared field as what they say, or as the column if all are quickly seen to fit it."""

    def element_spec(self) -> ElementSpec | None:
        """The fields; None if they are not declared."""
        return (
            None if self.fields is None else nested_fields({name: field.struct for name, field in self.fields.items()})
        )

    def decode_record(self, record: bytes) -> Any:
        """The values of one record."""
        return self.named_values(record)

    def spec_from(self, record: bytes) -> ElementSpec:
        """The fields, or what the values of the record are.

        Raises:
            ValueError: It is no such record, or holds something that is no array.
        """
        return super().spec_from(record) if self.fields is None else self.element_spec()

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:
        """The fields as columns.

        Raises:
            ValueError: A record is no such record, or a value is missing or not as declared; names the field.
        """
        if self.fields is None:
            batch = stack_values([self.named_values(record) for record in records], spec)
        else:
            values = [self.stored_values(record) for record in records]
            columns = {name: self._column(name, field, values) for name, field in self.fields.items()}
            batch = nested_fields(columns)
        for name, column in flat(batch, "the record").items():
            if wrong := invalid_byte(column):
                raise ValueError(f"field {name!r} is {column.dtype}{list(column.shape[1:])}, and {wrong}")
        return batch

    def _column(self, name: str, field: ValueField, values: Sequence[Any]) -> AnyArray:
        found = self.arrays_of(name, field, _at(values, name))
        if isinstance(found, np.ndarray):
            return found
        column: AnyArray = stack_values([{name: value} for value in found], {name: field.struct})[name]
        return column

    @classmethod
    def for_spec(cls, spec: ElementSpec) -> Self:
        """The decoder for these fields.

        Raises:
            ValueError: A field is of a dtype that no such record holds, or the spec is no dict; names it.
        """
        structs: dict[str, jax.ShapeDtypeStruct] = flat(spec, "the element spec")
        return cls(fields={name: ValueField(dtype=name_of(s.dtype), shape=s.shape) for name, s in structs.items()})  # type: ignore[call-arg]  # a subclass gives `type` its default


def _at(values: Sequence[Any], name: str) -> list[Any]:
    """The value of that name in each record."""
    found = list(values)
    for step in name.split("."):
        try:
            found = [value[step] for value in found]
        except (KeyError, TypeError, IndexError):
            culprit = next(at for at, value in enumerate(found) if not isinstance(value, Mapping) or step not in value)
            has = ", ".join(map(repr, values[culprit])) or "none"
            raise ValueError(f"field {name!r} is missing; the record has {has:.200}") from None
    return found
