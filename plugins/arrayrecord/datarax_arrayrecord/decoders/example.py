"""Decoder of records that are tf.train.Examples or SequenceExamples, without TensorFlow."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from datarax_core.records import Batch, ElementSpec, Ragged, has_shape, limits, nested_fields, plain_name, varying_spec

from .declared import DeclaredFields, declared_schema, stored_names
from .dtypes import NUMBERS, AnyArray, DTypeName, dtype_rules, is_number, little_endian
from .example_rows import columns_of, features_of
from .example_sequences import Feature
from .example_specs import FeatureSpec
from .example_wire import BYTES, FLOATS, INTEGERS, Payload, entry_bytes, record_of, varint
from .fields import LARGEST, AnyColumn, ArrayField, declared_columns, fixed_axes, flat_fields

_TEXT: Final = ("bytes", "str")
_OBJECT: Final = np.dtype(object)
_DECODER: Final = "the decoder 'example'"


def _name_of_text(value: Any) -> Any:
    """Return the name of ``bytes`` and ``str``, and other values unchanged."""
    return value.__name__ if value in (bytes, str) else value


class ExampleField(ArrayField):
    """Feature of numbers or bools, as an array, or of ``bytes`` or ``str``, as objects."""

    schema_rules: ClassVar = dtype_rules(NUMBERS, *_TEXT)

    dtype: Annotated[Literal["bytes", "str"] | DTypeName, BeforeValidator(_name_of_text)] = Field(
        description="Dtype, such as uint8 or float32; bytes or str for the values of a bytes_list."
    )
    default: Any = Field(
        default=None,
        description="Value of records that lack the feature: one value, or an array of `shape`, such as [] for [null].",
    )

    @field_validator("shape")
    @classmethod
    def _first_axis_varies(cls, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if None in shape[1:] or (None in shape and 0 in fixed_axes(shape)):
            raise ValueError(
                f"a list has no shape but its length, which tells the size of the first axis only: null stands there, and the "
                f"other axes are numbers from 1, not {list(shape)}"
            )
        return shape

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
        kept = _as_json(default)
        _default_array(kept, info.data["dtype"], info.data["shape"])
        return kept

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype, as in an element spec."""
        return jax.ShapeDtypeStruct(self.shape, _OBJECT if self.dtype in _TEXT else np.dtype(self.dtype))

    @property
    def nbytes(self) -> int:
        """Number of bytes of the values in a record; those of a pointer for each text."""
        return self.size * int(self.struct.dtype.itemsize)


class ExampleDecoder(DeclaredFields):
    """Decodes tf.train.Examples and SequenceExamples: named features, each a list of bytes, floats or 64-bit integers.

    A field of numbers decodes a ``bytes_list`` of one value as the little-endian bytes of an array of its dtype and shape; an
    ``int64_list``, if the field is of integers or bools that hold the values; a ``float_list``, if it is of floats. A list has
    as many values as the shape of the field. A field of ``bytes`` or ``str`` decodes a ``bytes_list``. Features that are not
    declared are skipped.

    A feature with a list of varying length is declared with ``shape: [null]`` ([null, 4] for items of four values), and is a
    ragged column; a ``bytes_list`` of numbers then has the bytes of the whole array, or of one item in each value.

    Without ``fields``, the features of the first record are the fields, and each record must have these and no others: integers
    as int64, floats as float32, bytes unchanged; one value has shape [], n values have [n]. A source looks at some more of its
    records before it serves the first one: features whose numbers of values differ are ragged.

    Of a SequenceExample, the features of the context are fields, and so are the feature lists: the first axis of such a field
    are the steps, and varies; each step has the same number of values.

    Records of the same features, of any length and in any order, are decoded together, without a protobuf message for each.
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
        json_schema_extra=declared_schema,
        description="Features to decode: name, dtype, shape, default; null decodes all features of the first record.",
    )

    @field_validator("fields")
    @classmethod
    def _named(cls, fields: dict[str, ExampleField] | None) -> dict[str, ExampleField] | None:
        if fields is None:
            return fields
        stored_names(fields)
        if not fields:
            raise ValueError("no feature is declared; name one, or leave `fields` out for all of the first record")
        for name, field in fields.items():
            if field.nbytes > LARGEST:
                raise ValueError(f"{name!r} has {field.nbytes} bytes; a record has up to {LARGEST}")
        return fields

    def element_spec(self) -> ElementSpec | None:
        """Return the element spec of the declared fields; None if none are declared."""
        return (
            None if self.fields is None else nested_fields({name: field.struct for name, field in self.fields.items()})
        )

    def spec_from(self, record: bytes) -> ElementSpec:
        """Return the element spec of the declared fields, or else that of the features of a record.

        Raises:
            ValueError: The record is no Example, or has no features.
        """
        if self.fields is not None:
            return self.element_spec()
        features = features_of(record)
        if not features:
            raise ValueError("the record has no features, as one tf.train.Example that is empty, or something else")
        return {name: _struct_of(name, feature) for name, feature in features.items()}

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:
        """Return the fields as columns; those of numbers in memory that a device can take over without a copy.

        Raises:
            ValueError: A record is no Example, or a feature is missing or differs from its declaration; names the feature.
        """
        stored = stored_names(flat_fields(spec, "the element spec") if self.fields is None else self.fields)
        made = columns_of(records, list(self._features(spec)), takes_others=self.fields is not None)
        return nested_fields({name: made[key] for name, key in stored.items()})

    def covering(self, spec: ElementSpec, record: bytes) -> ElementSpec:
        """Return ``spec`` with None for the number of values of a feature where a record has another one."""
        found, covered = self.spec_from(record), {}
        for name, struct in spec.items():
            of_record = found.get(name, struct)
            is_list = not (struct.shape == of_record.shape == ())
            one, other = (_with_axis(each) if is_list else each for each in (struct, of_record))
            covered[name] = struct if one.shape == other.shape else varying_spec(one, other)
        return covered

    def difference(self, record: bytes, spec: ElementSpec) -> str:
        """Return which feature a record has and the first one has not, or the other way round; "" if their names are equal."""
        names, wanted = set(features_of(record)), set(stored_names(flat_fields(spec, "the element spec")).values())
        if others := sorted(names - wanted):
            return f"has the feature {others[0]!r}, which the first one does not have"
        if missing := sorted(wanted - names):
            return f"lacks the feature {missing[0]!r}, which the first one has"
        return ""

    def encode(self, batch: Batch) -> list[bytes]:
        """Return an Example for each row.

        One integer or bool is written as an ``int64_list``, float32 as a ``float_list``, and every other field of numbers
        as the bytes of its array in a ``bytes_list``, which keep every bit; text and bytes as a ``bytes_list``.

        Raises:
            ValueError: No fields are declared, or the batch differs from them; names each difference.
        """
        if self.fields is None:
            raise ValueError(f"{_DECODER} writes declared fields only; give it `fields`, such as for_spec() does")
        declared = declared_columns(batch, self.element_spec(), _DECODER)
        features = [
            [entry_bytes(plain_name(name), kind, payload) for payload in payloads]
            for name, field in self.fields.items()
            for kind, payloads in [_payloads(name, field, declared[name])]
        ]
        return [record_of(list(row)) for row in zip(*features, strict=True)]

    @classmethod
    def for_spec(cls, spec: ElementSpec) -> Self:
        """Return the decoder of the fields of an element spec.

        Raises:
            ValueError: A field is of objects, which may be text or bytes, or the spec is no dict; names it.
        """
        structs = flat_fields(spec, "the element spec")
        for name, struct in structs.items():
            if not is_number(struct.dtype):
                raise ValueError(
                    f"field {name!r} is {struct.dtype}, and whether an Example is to hold bytes or text for it, its spec does "
                    "not say; give the decoder `fields` that do, or write msgpack, which keeps either"
                )
        fields = {name: ExampleField(dtype=s.dtype, shape=s.shape) for name, s in structs.items()}
        return cls(fields=nested_fields(fields))

    def _features(self, spec: ElementSpec) -> Iterator[FeatureSpec]:
        """Yield the features to decode."""
        if self.fields is None:
            for name, struct in flat_fields(spec, "the element spec").items():
                yield FeatureSpec(plain_name(name), np.dtype(struct.dtype), tuple(struct.shape))
            return
        for name, field in self.fields.items():
            default = None if field.default is None else _default_array(field.default, field.dtype, field.shape)
            dtype = _OBJECT if field.dtype in _TEXT else np.dtype(field.dtype)
            yield FeatureSpec(plain_name(name), dtype, field.shape, field.dtype == "str", default)


def _struct_of(name: str, feature: Feature) -> jax.ShapeDtypeStruct:
    kind, payload, values_a_step = feature
    dtype = {BYTES: _OBJECT, FLOATS: np.dtype(np.float32), INTEGERS: np.dtype(np.int64)}[kind]
    if values_a_step == -1:  # no steps: the first record that has some says what they hold, see `covering`
        return jax.ShapeDtypeStruct((0,), np.dtype(np.float32))
    if values_a_step is not None:
        if not values_a_step:
            raise ValueError(
                f"the feature list {name!r} has steps without values, which do not say what it holds; declare it: "
                f"fields: {{{name}: {{dtype: ..., shape: [null]}}}}"
            )
        return jax.ShapeDtypeStruct((None,) if values_a_step == 1 else (None, values_a_step), dtype)
    if kind == BYTES:
        count = 1 if isinstance(payload, bytes) else len(payload)
    else:
        count = len(payload) // 4 if kind == FLOATS else sum(byte < 0x80 for byte in payload)  # type: ignore[operator]
    return jax.ShapeDtypeStruct(() if count == 1 else (count,), dtype)


def _with_axis(struct: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Return the struct of one value as that of a list of one."""
    return struct if struct.shape else jax.ShapeDtypeStruct((1,), struct.dtype)


def _payloads(name: str, field: ExampleField, column: AnyColumn) -> tuple[int, list[Payload]]:
    """Return the kind of the feature, and the payload of each row."""
    kind = FLOATS if column.dtype == np.float32 else BYTES
    if isinstance(column, Ragged):
        if field.dtype in _TEXT:
            return BYTES, [_text_payload(name, field, row.reshape(-1).tolist()) for row in column]
        return kind, [little_endian(row).tobytes() for row in column]
    rows = column.reshape(len(column), -1) if field.size else column
    if field.dtype in _TEXT:
        return BYTES, [_text_payload(name, field, row.reshape(-1).tolist()) for row in rows]
    if not field.shape and _is_signed(column.dtype):
        return INTEGERS, [varint(int(value) & 2**64 - 1) for value in column.tolist()]
    joined, size = little_endian(column).tobytes(), field.nbytes
    return kind, [joined[row * size : (row + 1) * size] for row in range(len(column))]


def _is_signed(dtype: np.dtype[Any]) -> bool:
    """Return whether int64 holds every value of a dtype: true of bools and integers other than uint64."""
    return dtype == np.bool_ or bool(jnp.issubdtype(dtype, np.integer) and limits(dtype)[1] < 2**63)


def _text_payload(name: str, field: ExampleField, values: list[Any]) -> Payload:
    """Return text or bytes as the payload of a bytes_list."""
    expected = str if field.dtype == "str" else bytes
    if odd := [value for value in values if not isinstance(value, expected)]:
        raise ValueError(
            f"field {name!r} is declared as {field.dtype}, and {_DECODER} cannot write {odd[0]!r:.80} there"
        )
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return encoded[0] if len(encoded) == 1 else encoded


def _as_json(default: Any) -> Any:
    """Return a default as JSON has it, with text for bytes, NaN and infinities."""
    if isinstance(default, np.ndarray | np.generic):
        default = default.tolist()
    if isinstance(default, list | tuple):
        return [_as_json(item) for item in default]
    if isinstance(default, bytes):
        return default.decode()
    if isinstance(default, float) and not math.isfinite(default):
        return str(default)
    return default


def _default_array(default: Any, name: str, shape: tuple[int | None, ...]) -> AnyArray:
    """Return a default as an array that broadcasts to the shape of its field."""
    if name in ("bytes", "str"):
        values = np.array(default, object)
        if not all(isinstance(value, str) for value in values.flat):
            raise ValueError(f"a default of {name} is text, not {default!r:.80}")
        if name == "bytes":
            values = np.vectorize(str.encode, otypes=[object])(values) if values.size else values
    else:
        values = _default_numbers(default, np.dtype(name))
    if values.shape == (0,) and None in shape:  # an empty list does not say how many values its items would have
        values = values.reshape(0, *shape[1:])
    if not (has_shape(values.shape, shape) or (values.shape == () and None not in shape)):
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
