"""Decoder of records with one layout: fields packed in order, without padding, little-endian; the last may vary in length."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self

import numpy as np
from pydantic import ConfigDict, Field, field_validator

from datarax_core.records import Batch, ElementSpec, Ragged, aligned_empty, nested_fields

from .declared import DeclaredFields, declared_schema
from .dtypes import (
    FIXED_BYTES,
    NUMBERS,
    AnyArray,
    dtype_rules,
    invalid_byte,
    is_number,
    little_endian,
    may_be_invalid,
    name_of,
    native,
)
from .fields import LARGEST, AnyColumn, ArrayField, declared_columns, flat_fields

_CHUNK: Final = 1 << 19
"""Bytes that are joined at a time: few enough to stay in the processor's cache until they are copied to their columns."""

_COPIED_AS: Final = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
"""Dtype that a field of so many bytes is copied as; other fields are copied as bytes."""


class PackedField(ArrayField):
    """Field of numbers, bools, or bytes of a fixed length (S8)."""

    schema_rules: ClassVar = dtype_rules(NUMBERS, FIXED_BYTES)

    @field_validator("dtype")
    @classmethod
    def _fixed_size(cls, dtype: str) -> str:
        if not (is_number(np.dtype(dtype)) or (dtype[0] == "S" and np.dtype(dtype).itemsize)):
            raise ValueError(
                f"{dtype} has no fixed number of bytes that stand for its value; declare numbers, bool, or bytes such as S8, "
                "or keep such records as msgpack"
            )
        return dtype


class ArrayDecoder(DeclaredFields):
    """Decodes fields that are packed in order without padding, little-endian, as ``tobytes()`` writes each of them.

    The first axis of the last field may vary (``shape: [null]``): it takes the rest of the record. All other fields have the
    same number of bytes in each record.

    A batch is copied once from its records to its columns, for any number of fields, without a step for each record.
    The order of ``fields`` is the order in the record, so decoders with another order are not equal.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "array",
                    "fields": {"image": {"dtype": "uint8", "shape": [28, 28]}, "label": {"dtype": "int32"}},
                }
            ]
        }
    )

    type: Literal["array"] = "array"
    fields: dict[str, PackedField] = Field(
        json_schema_extra=declared_schema, description="The fields of a record in their order: name, dtype and shape."
    )

    @field_validator("fields")
    @classmethod
    def _last_may_vary(cls, fields: dict[str, PackedField]) -> dict[str, PackedField]:
        for place, (name, field) in enumerate(fields.items()):
            if field.is_ragged and (place + 1 < len(fields) or None in field.shape[1:] or not field.size):
                raise ValueError(
                    f"{name!r} is {field}: the size of a record tells the length of one axis, the first one of the last field; "
                    "put it last, or keep records of several fields that vary as msgpack"
                )
        return fields

    @field_validator("fields")
    @classmethod
    def _record_size(cls, fields: dict[str, PackedField]) -> dict[str, PackedField]:
        size = sum(field.nbytes for field in fields.values())
        if not 0 < size <= LARGEST:
            raise ValueError(f"the fields have {size} bytes in all; a record has from 1 to {LARGEST}")
        return fields

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and list(self.fields) == list(other.fields)  # type: ignore[attr-defined]

    __hash__ = DeclaredFields.__hash__

    def element_spec(self) -> ElementSpec:
        """Return the element spec of the declared fields."""
        return nested_fields({name: field.struct for name, field in self.fields.items()})

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:  # noqa: ARG002 - equals that of `fields`
        """Return the fields as columns, each in memory that a device can take over without a copy.

        Raises:
            ValueError: A record has another size than the fields, whose layout is listed, or a bool is neither 0 nor 1.
        """
        plan = _plan_of(self)
        columns: dict[str, AnyColumn] = {}
        if plan.rest is not None:
            rest = plan.rest
            columns[rest.name] = _ragged(records, rest, self._layout())
            records = [record[: rest.start] for record in records]
        if plan.copies:
            columns = {**self._fixed(records, plan), **columns}
        for name in plan.checked:
            column = columns[name]
            if wrong := invalid_byte(column.values if isinstance(column, Ragged) else column):
                raise ValueError(f"field {name!r} is {self.fields[name]}, and {wrong}")
        return nested_fields(columns) if plan.is_nested else columns

    def _fixed(self, records: Sequence[bytes], plan: "_Plan") -> dict[str, AnyArray]:
        """Return the columns of fields of one size."""
        size, count = plan.size, len(records)
        if set(map(len, records)) != {size}:
            found = next(length for length in map(len, records) if length != size)
            raise ValueError(f"the record has {found} bytes where {size} are expected: {self._layout()}")
        columns = {each.name: aligned_empty((count, *each.shape), each.dtype) for each in plan.copies}
        if not size:
            return columns
        if len(plan.copies) == 1:
            columns[plan.copies[0].name].reshape(-1).view(f"S{size}")[:] = records
            return columns
        step = max(1, _CHUNK // size)
        for start in range(0, count, step):
            joined = b"".join(records[start : start + step] if step < count else records)
            rows = min(step, count - start)
            for name, _, _, first, items, dtype in plan.copies:
                if items:
                    strides = (items * dtype.itemsize, dtype.itemsize)
                    target = np.ndarray((rows, items), dtype, columns[name], start * strides[0], strides)
                    target[...] = np.ndarray((rows, items), dtype, joined, first, (size, dtype.itemsize))
        return columns

    def encode(self, batch: Batch) -> list[bytes]:
        """Return the packed fields of each row.

        Raises:
            ValueError: The batch differs from the declared fields; names each difference.
        """
        declared = declared_columns(batch, self.element_spec(), "the decoder 'array'")
        rests = [
            [little_endian(row).tobytes() for row in column]
            for column in declared.values()
            if isinstance(column, Ragged)
        ]
        columns = {name: column for name, column in declared.items() if not isinstance(column, Ragged)}
        if not columns:
            return rests[0]
        parts = [part for part in self._packed_bytes() if part.name in columns]
        count, size = len(next(iter(columns.values()))), parts[-1].stop
        packed = np.empty((count, size), np.uint8)
        for part in parts:
            if part.field.nbytes:
                packed[:, part.start : part.stop] = _row_bytes(columns[part.name])
        joined = packed.tobytes()
        heads = [joined[row * size : (row + 1) * size] for row in range(count)]
        return [head + tail for head, tail in zip(heads, rests[0], strict=True)] if rests else heads

    @classmethod
    def for_spec(cls, spec: ElementSpec) -> Self:
        """Return the decoder of the fields of an element spec, in their order; a field that varies in length comes last.

        Raises:
            ValueError: A field is not one of numbers or fixed-length bytes, two vary, or the spec is no dict; names it.
        """
        structs = flat_fields(spec, "the element spec")
        structs = dict(sorted(structs.items(), key=lambda item: None in item[1].shape))
        fields = {name: {"dtype": name_of(s.dtype), "shape": s.shape} for name, s in structs.items()}
        return cls(fields=nested_fields(fields))

    def _packed_bytes(self) -> Iterator["_PackedBytes"]:
        start = 0
        for name, field in self.fields.items():
            yield _PackedBytes(name, field, start, start + field.nbytes)
            start += field.nbytes

    def _layout(self) -> str:
        return ", ".join(map(str, self._packed_bytes()))


class _PackedBytes(NamedTuple):
    """Bytes ``start .. stop`` of a record that hold a field; of one that varies in length, those of its first item."""

    name: str
    field: PackedField
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.name} {self.field} at {self.start}"


class _Copy(NamedTuple):
    """A field of one size: its column, and ``items`` of ``copied_as`` that are copied from byte ``start`` of a record on."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    items: int
    copied_as: np.dtype[Any]


class _Plan(NamedTuple):
    """The steps that decode a batch, the same for each."""

    copies: tuple[_Copy, ...]
    size: int
    """Bytes of these fields in a record."""
    rest: _PackedBytes | None
    """The field that varies in length."""
    checked: tuple[str, ...]
    """Fields of which not every byte is a value."""
    is_nested: bool


_plans: Final[dict[int, tuple[weakref.ref[ArrayDecoder], _Plan]]] = {}
"""Plans by the identity of their decoder, which is equal to others by its fields alone."""


def _plan_of(decoder: ArrayDecoder) -> _Plan:
    """Return the plan of a decoder, made once."""
    key = id(decoder)
    known = _plans.get(key)
    if known is not None and known[0]() is decoder:
        return known[1]
    parts = list(decoder._packed_bytes())  # noqa: SLF001 - of this module
    rest = parts.pop() if parts[-1].field.is_ragged else None
    copies = []
    for name, field, start, _ in parts:
        copied_as = _COPIED_AS.get(field.nbytes, _COPIED_AS[1])
        copies.append(
            _Copy(name, field.fixed_shape, np.dtype(field.dtype), start, field.nbytes // copied_as.itemsize, copied_as)
        )
    names = decoder.fields
    plan = _Plan(
        tuple(copies),
        parts[-1].stop if parts else 0,
        rest,
        tuple(name for name, field in names.items() if may_be_invalid(np.dtype(field.dtype))),
        any("." in name or "\\" in name for name in names),
    )
    _plans[key] = weakref.ref(decoder, lambda _: _plans.pop(key, None)), plan
    return plan


def _ragged(records: Sequence[bytes], part: _PackedBytes, layout: str) -> Ragged:
    """Return the field that has the rest of each record: its values one after another, and where those of a record begin."""
    size = part.stop - part.start
    counts, odd = np.divmod(np.fromiter(map(len, records), np.int64, len(records)) - part.start, size)
    if (wrong := (counts < 0) | (odd != 0)).any():
        found = len(records[int(np.flatnonzero(wrong)[0])])
        raise ValueError(
            f"the record has {found} bytes where {part.start} and a multiple of {size} are expected: {layout}"
        )
    rest = b"".join([memoryview(record)[part.start :] for record in records] if part.start else records)
    values = native(np.frombuffer(rest, np.dtype(part.field.dtype).newbyteorder("<")))
    return Ragged(values.reshape(-1, *part.field.shape[1:]), np.concatenate([[0], np.cumsum(counts)]))


def _row_bytes(column: AnyArray) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the little-endian bytes of each row of a column, uint8 (rows, bytes)."""
    return little_endian(column).reshape(-1).view(np.uint8).reshape(len(column), -1)
