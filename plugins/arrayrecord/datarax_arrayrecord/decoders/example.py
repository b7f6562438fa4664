"""Records that are tf.train.Examples, without TensorFlow."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from datarax_core.records import Batch, ElementSpec, limits, nested_fields
from datarax_core.registry import Decoder

from .dtypes import NUMBERS, AnyArray, DTypeName, dtype_rules, is_number, little_endian
from .example_rows import columns, features_of
from .example_values import Wanted
from .example_wire import BYTES, FLOATS, INTEGERS, Payload, record_of, varint, written
from .fields import DECLARED, LARGEST, ArrayField, columns_of, flat, require_names

_TEXT: Final = ("bytes", "str")
_OBJECT: Final = np.dtype(object)
_WHO: Final = "the decoder 'example'"


def _text_by_name(value: Any) -> Any:
    return value.__name__ if value in (bytes, str) else value


class ExampleField(ArrayField):
    """A feature: numbers or bools as an array of them; ``bytes`` or ``str`` as objects, of which [] is one."""

    schema_rules: ClassVar = dtype_rules(NUMBERS, *_TEXT)

    dtype: Annotated[Literal["bytes", "str"] | DTypeName, BeforeValidator(_text_by_name)] = Field(
        description="Its dtype, such as uint8 or float32; bytes or str for a bytes_list as it is."
    )
    default: Any = Field(
        default=None, description="The value of records that do not have the feature: one, or as many as `shape` says."
    )

    @field_validator("dtype")
    @classmethod
    def _number_or_text(cls, dtype: str) -> str:
        if dtype not in _TEXT and not is_number(np.dtype(dtype)):
            raise ValueError(f"a feature holds numbers, bools, bytes or str, not {dtype}")
        return dtype

    @field_validator("default")
    @classmethod
    def _fitting(cls, default: Any, info: ValidationInfo) -> Any:
        if default is None or not {"dtype", "shape"} <= info.data.keys():
            return default
        kept = _plain(default)
        _default_array(kept, info.data["dtype"], info.data["shape"])
        return kept

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """As an element spec has it."""
        return jax.ShapeDtypeStruct(self.shape, _OBJECT if self.dtype in _TEXT else np.dtype(self.dtype))

    @property
    def nbytes(self) -> int:
        """How many bytes its values take; of text, a pointer each."""
        return self.size * int(self.struct.dtype.itemsize)


class ExampleDecoder(Decoder):
    """tf.train.Examples: named features, each a list of bytes, floats or 64-bit integers.

    A field of numbers takes a ``bytes_list`` of one value as the little-endian bytes of an array of its dtype and shape;
    an ``int64_list`` of as many values as its shape has, if it is of integers or bools that hold them; a ``float_list``,
    if it is of floats. A field of ``bytes`` or ``str`` takes a ``bytes_list``. Features that are not declared are skipped.

    Without ``fields``, every feature of the first record is one, and each record has the same: integers int64, floats
    float32, bytes as they are; one value has shape [], others [n].

    Records that share one layout are decoded together, without a message for each.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "example",
                    "fields": {"image": {"dtype": "uint8", "shape": [28, 28]}, "label": {"dtype": "int32"}},
                }
            ]
        }
    )

    type: Literal["example"] = "example"
    fields: dict[str, ExampleField] | None = Field(
        default=None,
        json_schema_extra=DECLARED,
        description="The features to decode: name, dtype, shape, default; all of the first record if null.",
    )

    @field_validator("fields")
    @classmethod
    def _named(cls, fields: dict[str, ExampleField] | None) -> dict[str, ExampleField] | None:
        if fields is None:
            return fields
        require_names(fields)
        if not fields:
            raise ValueError("no feature is declared; name one, or leave `fields` out for all of the first record")
        for name, field in fields.items():
            if field.nbytes > LARGEST:
                raise ValueError(f"{name!r} has {field.nbytes} bytes; a record has up to {LARGEST}")
        return fields

    def element_spec(self) -> ElementSpec | None:
        """The fields; None if they are not declared."""
        return (
            None if self.fields is None else nested_fields({name: field.struct for name, field in self.fields.items()})
        )

    def spec_from(self, record: bytes) -> ElementSpec:
        """The features of the record.

        Raises:
            ValueError: It is no Example, or has none.
        """
        if self.fields is not None:
            return self.element_spec()
        features = features_of(record)
        if not features:
            raise ValueError("the record has no features, as one tf.train.Example that is empty, or something else")
        require_names(features)
        return nested_fields({name: _struct_of(kind, payload) for name, (kind, payload) in features.items()})

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:
        """The fields as columns; of numbers, in memory that a device can take over.

        Raises:
            ValueError: A record is no Example, or a feature is missing or not as declared; names the feature.
        """
        return nested_fields(columns(records, list(self._wanted(spec))))

    def encode(self, batch: Batch) -> list[bytes]:
        """An Example of each row.

        One integer or bool is written as an ``int64_list``, float32 as a ``float_list``, and every other field of numbers
        as the bytes of its array in a ``bytes_list``, which keep any dtype to the bit; text and bytes as a ``bytes_list``.

        Raises:
            ValueError: Nothing is declared, or the batch is not as declared; names each field that is not.
        """
        if self.fields is None:
            raise ValueError(f"{_WHO} writes declared fields only; give it `fields`, such as for_spec() does")
        written_columns = columns_of(batch, self.element_spec(), _WHO)
        features = [
            [written(name, kind, payload) for payload in payloads]
            for name, field in self.fields.items()
            for kind, payloads in [_payloads(name, field, written_columns[name])]
        ]
        return [record_of(list(row)) for row in zip(*features, strict=True)]

    @classmethod
    def for_spec(cls, spec: ElementSpec) -> Self:
        """The decoder for these fields.

        Raises:
            ValueError: A field is of objects, which may be text or bytes, or the spec is no dict; names it.
        """
        structs = flat(spec, "the element spec")
        for name, struct in structs.items():
            if not is_number(struct.dtype):
                raise ValueError(
                    f"field {name!r} is {struct.dtype}, and whether an Example is to hold bytes or text for it, its spec does "
                    "not say; give the decoder `fields` that do, or write msgpack, which keeps either"
                )
        return cls(fields={name: ExampleField(dtype=s.dtype, shape=s.shape) for name, s in structs.items()})

    def _wanted(self, spec: ElementSpec) -> Iterator[Wanted]:
        if self.fields is None:
            for name, struct in flat(spec, "the element spec").items():
                yield Wanted(name, np.dtype(struct.dtype), tuple(struct.shape))
            return
        for name, field in self.fields.items():
            default = None if field.default is None else _default_array(field.default, field.dtype, field.shape)
            yield Wanted(name, field.struct.dtype, field.shape, field.dtype == "str", default)


def _struct_of(kind: int, payload: Payload) -> jax.ShapeDtypeStruct:
    if kind == BYTES:
        count = 1 if isinstance(payload, bytes) else len(payload)
    else:
        count = len(payload) // 4 if kind == FLOATS else sum(byte < 0x80 for byte in payload)  # type: ignore[operator]
    dtype = {BYTES: _OBJECT, FLOATS: np.dtype(np.float32), INTEGERS: np.dtype(np.int64)}[kind]
    return jax.ShapeDtypeStruct(() if count == 1 else (count,), dtype)


def _payloads(name: str, field: ExampleField, column: AnyArray) -> tuple[int, list[Payload]]:
    """The kind and payload of each row."""
    rows = column.reshape(len(column), -1) if field.size else column
    if field.dtype in _TEXT:
        return BYTES, [_values(name, field, row.reshape(-1).tolist()) for row in rows]
    if not field.shape and _is_signed(column.dtype):
        return INTEGERS, [varint(int(value) & 2**64 - 1) for value in column.tolist()]
    joined, size = little_endian(column).tobytes(), field.nbytes
    kind = FLOATS if column.dtype == np.float32 else BYTES
    return kind, [joined[row * size : (row + 1) * size] for row in range(len(column))]


def _is_signed(dtype: np.dtype[Any]) -> bool:
    """Whether 64 bits with a sign hold every value: bools do, uint64 and floats do not."""
    return dtype == np.bool_ or bool(jnp.issubdtype(dtype, np.integer) and limits(dtype)[1] < 2**63)


def _values(name: str, field: ExampleField, values: list[Any]) -> Payload:
    kind = str if field.dtype == "str" else bytes
    if odd := [value for value in values if not isinstance(value, kind)]:
        raise ValueError(f"field {name!r} is declared as {field.dtype}, and {_WHO} cannot write {odd[0]!r:.80} there")
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return encoded[0] if len(encoded) == 1 else encoded


def _plain(default: Any) -> Any:
    """The default in terms of JSON, which has no NaN and no bytes: text stands for both."""
    if isinstance(default, np.ndarray | np.generic):
        default = default.tolist()
    if isinstance(default, list | tuple):
        return [_plain(item) for item in default]
    if isinstance(default, bytes):
        return default.decode()
    if isinstance(default, float) and not math.isfinite(default):
        return str(default)
    return default


def _default_array(default: Any, name: str, shape: tuple[int, ...]) -> AnyArray:
    """The default as an array that broadcasts to the field."""
    if name in ("bytes", "str"):
        values = np.array(default, object)
        if not all(isinstance(value, str) for value in values.flat):
            raise ValueError(f"a default of {name} is text, not {default!r:.80}")
        if name == "bytes":
            values = np.vectorize(str.encode, otypes=[object])(values) if values.size else values
    else:
        values = _default_numbers(default, np.dtype(name))
    if values.shape not in ((), shape):
        raise ValueError(
            f"the default {default!r:.80} has shape {list(values.shape)} where [] or {list(shape)} is expected"
        )
    return values


def _default_numbers(default: Any, dtype: np.dtype[Any]) -> AnyArray:
    given = np.array(default, object)
    is_whole = dtype == np.bool_ or jnp.issubdtype(dtype, np.integer)
    if not all(isinstance(value, (bool, int) if is_whole else (bool, int, float, str)) for value in given.flat):
        raise ValueError(f"the default {default!r:.80} is no {dtype}")
    return _default_integers(default, given, dtype) if is_whole else _default_floats(default, given, dtype)


def _default_integers(default: Any, given: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    low, high = limits(dtype)
    if any(not low <= value <= high for value in given.flat):
        raise ValueError(f"the default {default!r:.80} is out of range: {dtype} holds {low} to {high}")
    return given.astype(np.uint64 if low == 0 else np.int64).astype(dtype)


def _default_floats(default: Any, given: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    try:
        wide = given.astype(np.float64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the default {default!r:.80} is no {dtype}: {error}") from error
    with np.errstate(all="ignore"):
        fitted: AnyArray = wide.astype(dtype)
    if (np.isfinite(wide) != np.isfinite(fitted.astype(np.complex128))).any():
        raise ValueError(f"the default {default!r:.80} is out of range for {dtype}")
    return fitted
