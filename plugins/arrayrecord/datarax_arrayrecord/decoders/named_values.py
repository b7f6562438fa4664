"""Base of the decoders msgpack and npz: records hold values by name with their dtypes, so that fields are optional."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import jax
import numpy as np
from pydantic import Field, field_validator

from datarax_core.records import Batch, ElementSpec, Ragged, nested_fields, split_name
from datarax_core.registry import stack_values

from .declared import DeclaredFields, declared_schema
from .dtypes import DATES_AND_TEXT, FIXED_BYTES, NUMBERS, dtype_rules, invalid_byte, is_number, name_of
from .fields import LARGEST, AnyColumn, ArrayField, flat_fields

_OBJECT: Final = np.dtype(object)


class ValueField(ArrayField):
    """Field of numbers or bools, of text or bytes as objects, of text or bytes of a fixed width (U8, S8), or of dates."""

    schema_rules: ClassVar = dtype_rules(NUMBERS, FIXED_BYTES, DATES_AND_TEXT)

    @field_validator("dtype")
    @classmethod
    def _storable(cls, dtype: str) -> str:
        given = np.dtype(dtype)
        if not (is_number(given) or given == _OBJECT or given.kind in "mM" or (given.kind in "US" and given.itemsize)):
            raise ValueError(f"a record holds numbers, bools, dates, text and bytes, not {dtype}")
        return dtype


class NamedValuesDecoder(DeclaredFields):
    """Decodes records that hold values by name; a subclass reads a record with `named_values`, and writes it with `encode`."""

    fields: dict[str, ValueField] | None = Field(
        default=None,
        json_schema_extra=declared_schema,
        description="Fields to decode: name, dtype and shape; null decodes all fields of the first record.",
    )

    @field_validator("fields")
    @classmethod
    def _nested_names(cls, fields: dict[str, ValueField] | None) -> dict[str, ValueField] | None:
        if fields is None:
            return fields
        if not fields:
            raise ValueError("no field is declared; name one, or leave `fields` out for all of the first record")
        for name, field in fields.items():
            if field.nbytes > LARGEST:
                raise ValueError(f"{name!r} has {field.nbytes} bytes; a record has up to {LARGEST}")
        return fields

    @abstractmethod
    def named_values(self, record: bytes) -> dict[str, Any]:
        """Return the values of a record by name, as nested dicts.

        Raises:
            ValueError: The record has another format.
        """

    def stored_values(self, record: bytes) -> dict[str, Any]:
        """Return the values of a record as stored, which `arrays_of` converts for many records at once."""
        return self.named_values(record)

    def reader_of(self, spec: ElementSpec) -> Callable[[bytes], dict[str, Any]]:  # noqa: ARG002 - for subclasses
        """Return the function that reads the values of a record, of which ``spec`` says how large they should be."""
        return self.named_values if self.fields is None else self.stored_values

    @abstractmethod
    def arrays_of(self, name: str, field: ValueField, values: list[Any]) -> list[Any] | AnyColumn:
        """Return the stored values of a declared field as values, or at once as a column if a quick check allows it."""

    def element_spec(self) -> ElementSpec | None:
        """Return the element spec of the declared fields; None if none are declared."""
        return (
            None if self.fields is None else nested_fields({name: field.struct for name, field in self.fields.items()})
        )

    def decode_record(self, record: bytes) -> Any:
        """Return the values of one record by name, nested as the declared fields are."""
        if self.fields is None:
            return self.named_values(record)
        return jax.tree.map(lambda column: column[0], self.decode([record], self.element_spec()))

    def spec_from(self, record: bytes) -> ElementSpec:
        """Return the element spec of the declared fields, or else that of the values of a record.

        Raises:
            ValueError: The record has another format, or holds a value that is no array.
        """
        return super().spec_from(record) if self.fields is None else self.element_spec()

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:
        """Return the fields as columns.

        Raises:
            ValueError: A record has another format, or a value is missing or differs from its declaration; names the field.
        """
        read = self.reader_of(spec)
        values = [read(record) for record in records]
        if self.fields is None:
            return checked_columns(flat_fields(stack_values(values, spec), "the record"))
        return checked_columns({name: self._column(name, field, values) for name, field in self.fields.items()})

    def _column(self, name: str, field: ValueField, values: Sequence[Any]) -> AnyColumn:
        found = self.arrays_of(name, field, self.values_named(values, name))
        if isinstance(found, np.ndarray | Ragged):
            return found
        column: AnyColumn = stack_values([{name: value} for value in found], {name: field.struct})[name]
        return column

    def values_named(self, values: Sequence[Any], name: str) -> list[Any]:
        """Return the value of the field with this dotted name of each record.

        Raises:
            ValueError: A record lacks it.
        """
        return values_at(values, split_name(name), name)

    @classmethod
    def for_spec(cls, spec: ElementSpec) -> Self:
        """Return the decoder of the fields of an element spec.

        Raises:
            ValueError: A field has a dtype that such records cannot hold, or the spec is no dict; names it.
        """
        structs: dict[str, jax.ShapeDtypeStruct] = flat_fields(spec, "the element spec")
        fields = {name: ValueField(dtype=name_of(s.dtype), shape=s.shape) for name, s in structs.items()}
        return cls(fields=nested_fields(fields))  # type: ignore[call-arg]  # a subclass gives `type` its default


def checked_columns(columns: Mapping[str, AnyColumn]) -> Batch:
    """Return columns by dotted name as nested dicts.

    Raises:
        ValueError: A byte is no value of the dtype of its column; names the field.
    """
    for name, column in columns.items():
        if wrong := invalid_byte(column.values if isinstance(column, Ragged) else column):
            raise ValueError(f"field {name!r} is {column.dtype}{list(column.shape[1:])}, and {wrong}")
    return nested_fields(columns)


def values_at(values: Sequence[Any], steps: Sequence[str], name: str) -> list[Any]:
    """Return the value of each record to which these steps through dicts lead; ``name`` is the field's name in errors."""
    found = list(values)
    for step in steps:
        try:
            found = [value[step] for value in found]
        except (KeyError, TypeError, IndexError):
            culprit = next(at for at, value in enumerate(found) if not isinstance(value, Mapping) or step not in value)
            has = ", ".join(map(repr, values[culprit])) or "none"
            raise ValueError(f"field {name!r} is missing; the record has {has:.200}") from None
    return found
