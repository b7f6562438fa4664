"""Decoders that keep every promise, written as third parties write them: packed, text with delimiters, tokens, struct, JSON."""

import json
import struct
from collections.abc import Sequence
from typing import Any, Literal, Self

import jax
import numpy as np
from pydantic import Field, field_validator

from datarax_core import Decoder, DecoderRegistry, Ragged
from datarax_core.records import differences, spec_of
from datarax_core.registry import FunctionDecoder
from datarax_core.testing import DecoderConformance

ROWS = 6


class Packed(Decoder):
    """A label, two floats, and text to the end."""

    type: Literal["kit"] = "kit"
    big: bool = False

    def element_spec(self) -> Any:
        return {
            "label": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
            "x": jax.ShapeDtypeStruct((2,), np.dtype(np.float32)),
            "word": jax.ShapeDtypeStruct((), np.dtype(object)),
        }

    @property
    def order(self) -> str:
        return ">" if self.big else "<"

    def decode_record(self, record: bytes) -> Any:
        if len(record) < 12:
            raise ValueError(f"the record has {len(record)} bytes where 12 at least are expected: label, x, word")
        try:
            word = record[12:].decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"field 'word' is no UTF-8: {error}") from error
        return {
            "label": np.frombuffer(record, f"{self.order}i4", 1)[0].astype(np.int32),
            "x": np.frombuffer(record, f"{self.order}f4", 2, 4).astype(np.float32),
            "word": word,
        }

    def encode(self, batch: Any) -> list[bytes]:
        if sorted(batch) != ["label", "word", "x"]:
            raise ValueError(f"a batch has the fields label, word and x, not {', '.join(sorted(batch))}")
        label, x = batch["label"], batch["x"]
        if label.dtype.newbyteorder("=") != np.int32 or label.ndim != 1:
            raise ValueError(f"field 'label' is {label.dtype}[...] where int32 is expected, not {label.shape[1:]}")
        if x.dtype.newbyteorder("=") != np.float32 or x.shape[1:] != (2,):
            raise ValueError(f"field 'x' is {x.dtype}{list(x.shape[1:])} where float32[2] is expected")
        if not all(isinstance(word, str) for word in batch["word"]):
            raise ValueError("field 'word' holds something else than text")
        parts = self.parts(label, x, batch["word"])
        return [b"".join(part) for part in parts]

    def parts(self, label: Any, x: Any, word: Any) -> Any:
        heads = [each.tobytes() for each in label.astype(f"{self.order}i4")]
        middles = [each.tobytes() for each in x.astype(f"{self.order}f4")]
        return zip(heads, middles, [each.encode() for each in word], strict=True)


BATCH: dict[str, Any] = {
    "label": np.array([3, -1, 7, 0, 2**31 - 1, 5], np.int32),
    "x": np.arange(12, dtype=np.float32).reshape(ROWS, 2) / 4,
    "word": ["a", "bc", "", "dé", "e f", "g"],
}


class Lines(Decoder):
    """Fields of text and numbers in a line, with a delimiter between them."""

    type: Literal["kit_lines"] = "kit_lines"
    fields: dict[str, Literal["int", "float", "text"]] = Field(min_length=1)
    delimiter: str = Field(default="\t", min_length=1, max_length=1)

    @field_validator("delimiter")
    @classmethod
    def _no_part_of_a_number(cls, delimiter: str) -> str:
        if delimiter.isalnum() or delimiter in "+-.\n":
            raise ValueError(f"delimiter {delimiter!r} is part of numbers; use a tab, a comma or a semicolon")
        return delimiter

    def element_spec(self) -> Any:
        dtypes = {"int": np.int64, "float": np.float64, "text": object}
        return {name: jax.ShapeDtypeStruct((), np.dtype(dtypes[kind])) for name, kind in self.fields.items()}

    def decode_record(self, record: bytes) -> Any:
        try:
            values = record.decode().split(self.delimiter)
        except UnicodeDecodeError as error:
            raise ValueError(f"the line is no UTF-8: {error}") from error
        if len(values) != len(self.fields):
            raise ValueError(
                f"the line has {len(values)} values where {len(self.fields)} are expected: {', '.join(self.fields)}"
            )
        return {name: self._value(name, value) for name, value in zip(self.fields, values, strict=True)}

    def _value(self, name: str, text: str) -> Any:
        kind = self.fields[name]
        if kind == "text":
            return text
        try:
            return np.int64(text) if kind == "int" else np.float64(text)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"field {name!r} is {text[:40]!r}, not a number of 64 bits") from error

    def encode(self, batch: Any) -> list[bytes]:
        spec = self.element_spec()
        if set(batch) != set(spec):
            raise ValueError(f"a batch has the fields {', '.join(spec)}, not {', '.join(batch)}")
        for name, column in batch.items():
            if column.dtype.newbyteorder("=") != spec[name].dtype or column.ndim != 1 or isinstance(column, Ragged):
                raise ValueError(f"field {name!r} is {column.dtype} of {column.ndim - 1} axes, not {spec[name].dtype}")
            for value in column if column.dtype == object else ():
                if not isinstance(value, str) or self.delimiter in value or "\n" in value:
                    raise ValueError(f"field {name!r} holds {value!r:.40}, which a line with {self.delimiter!r} cannot")
        columns = [column.tolist() for column in (batch[name] for name in spec)]
        return [self.delimiter.join(map(str, row)).encode() for row in zip(*columns, strict=True)]

    @classmethod
    def for_spec(cls, spec: Any) -> Self:
        kinds = {"int64": "int", "float64": "float", "object": "text"}
        fields = {}
        for name, leaf in spec.items():
            kind = kinds.get(leaf.dtype.name)
            if kind is None or leaf.shape != ():
                raise ValueError(
                    f"field {name!r} is {leaf.dtype}{list(leaf.shape)}; a line holds int64, float64 and text"
                )
            fields[name] = kind
        return cls(fields=fields)


class Tokens(Decoder):
    """Tokens to the end of the record: a ragged column."""

    type: Literal["kit_tokens"] = "kit_tokens"
    wide: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<u4" if self.wide else "<u2")

    def element_spec(self) -> Any:
        return {"tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))}

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:  # noqa: ARG002 - the signature of Decoder
        size = self.dtype.itemsize
        for record in records:
            if len(record) % size:
                raise ValueError(f"field 'tokens' has {len(record)} bytes where a multiple of {size} is expected")
        values = np.frombuffer(b"".join(records), self.dtype)
        if values.size and values.max() >= 2**31:
            raise ValueError(f"field 'tokens' has the token {values.max()} where less than 2**31 is expected")
        lengths = [len(record) // size for record in records]
        return {"tokens": Ragged(values.astype(np.int32), np.cumsum([0, *lengths]))}

    def encode(self, batch: Any) -> list[bytes]:
        if list(batch) != ["tokens"]:
            raise ValueError(f"a batch has the field tokens alone, not {', '.join(batch)}")
        tokens = batch["tokens"]
        if tokens.dtype.newbyteorder("=") != np.int32 or tokens.ndim != 2:
            raise ValueError(f"field 'tokens' is {tokens.dtype} of {tokens.ndim - 1} axes, not int32 of one")
        for row in tokens:
            if row.size and (row.min() < 0 or row.max() > np.iinfo(self.dtype).max):
                raise ValueError(f"field 'tokens' has {row.min()} to {row.max()}, which {self.dtype} cannot hold")
        return [row.astype(self.dtype).tobytes() for row in tokens]


class Struct(Decoder):
    """Numbers of a format of the module struct; it reads only."""

    type: Literal["kit_struct"] = "kit_struct"
    format: str
    names: tuple[str, ...]

    def decode_record(self, record: bytes) -> Any:
        size = struct.calcsize(self.format)
        if len(record) != size:
            raise ValueError(f"the record has {len(record)} bytes where {self.format!r} has {size}")
        return dict(zip(self.names, struct.unpack(self.format, record), strict=True))


class Json(Decoder):
    """Objects of JSON; the first record says what they hold."""

    type: Literal["kit_json"] = "kit_json"
    sort_keys: bool = False

    def decode_record(self, record: bytes) -> Any:
        value = json.loads(record)
        if not isinstance(value, dict) or not value:
            raise ValueError(f"the record is {record[:40]!r} where an object of JSON with fields is expected")
        return value

    def encode(self, batch: Any) -> list[bytes]:
        for name, column in batch.items():
            kept = (
                column.dtype.newbyteorder("=") in (np.int64, np.float64, np.bool_, object) or column.dtype.kind == "U"
            )
            if not kept or 0 in column.shape[1:]:
                raise ValueError(f"field {name!r} is {column.dtype}{list(column.shape[1:])}, which JSON does not keep")
            values = np.concatenate([np.ravel(row) for row in column]) if column.dtype == object else ()
            if odd := [value for value in values if not isinstance(value, str)]:
                raise ValueError(f"field {name!r} holds {odd[0]!r:.40}, which JSON does not keep")
        columns = [column.tolist() for column in batch.values()]
        rows = zip(*columns, strict=True)
        return [json.dumps(dict(zip(batch, row, strict=True)), sort_keys=self.sort_keys).encode() for row in rows]


class Pairs(Decoder):
    """Two numbers without names: a record is a tuple."""

    type: Literal["kit_pairs"] = "kit_pairs"

    def element_spec(self) -> Any:
        return (jax.ShapeDtypeStruct((), np.dtype(np.int16)), {"y": jax.ShapeDtypeStruct((2,), np.dtype(np.float32))})

    def decode_record(self, record: bytes) -> Any:
        if len(record) != 10:
            raise ValueError(f"the record has {len(record)} bytes where 10 are expected: int16, float32[2]")
        return np.frombuffer(record, "<i2", 1)[0], {"y": np.frombuffer(record, "<f4", 2, 2)}

    def encode(self, batch: Any) -> list[bytes]:
        if (wrong := differences(self.element_spec(), spec_of(batch))) or len(batch) != 2:
            raise ValueError(f"the record is a pair, and {'; '.join(wrong)}")
        rows = zip(batch[0].astype("<i2"), batch[1]["y"].astype("<f4"), strict=True)
        return [one.tobytes() + other.tobytes() for one, other in rows]


class Plain(Decoder):
    """Text: a record has no fields."""

    type: Literal["kit_plain"] = "kit_plain"
    upper: bool = False

    def element_spec(self) -> Any:
        return jax.ShapeDtypeStruct((), np.dtype(object))

    def decode_record(self, record: bytes) -> Any:
        return record.decode().upper() if self.upper else record.decode()


def first_byte(record: bytes) -> dict[str, Any]:
    """Return the values of a record for `FunctionDecoder`."""
    if len(record) != 2:
        raise ValueError(f"the record has {len(record)} bytes where 2 are expected")
    return {"first": np.uint8(record[0]), "second": np.uint8(record[1])}


class Conformance(DecoderConformance):
    """The conformance test of a decoder class; subclasses name it."""

    decoder_class: Any = Packed
    config = {"type": "kit"}
    batch = BATCH
    expected_records = {1: {"label": -1, "x": [0.5, 0.75], "word": "bc"}, 3: {"word": "dé"}}
    mutations = 120
    most_seconds = 0.5

    @property
    def registry(self) -> DecoderRegistry:
        registry = DecoderRegistry()
        registry.register(self.decoder_class)
        return registry


class LinesConformance(Conformance):
    config = {"type": "kit_lines", "fields": {"id": "int", "rate": "float", "name": "text"}}
    batch = {"id": np.arange(ROWS), "rate": np.arange(ROWS) / 8, "name": BATCH["word"]}
    dtypes = ["int64", "float64", str]
    effective = {"delimiter": ";"}
    expected_records = {2: {"id": 2, "rate": 0.25, "name": ""}}


class TokensConformance(Conformance):
    config = {"type": "kit_tokens"}
    batch = {"tokens": Ragged.from_list([np.arange(n % 4, dtype=np.int32) + n for n in range(ROWS)])}
    expected_records = {2: {"tokens": [2, 3]}}


class StructConformance(Conformance):
    config = {"type": "kit_struct", "format": "<if", "names": ["id", "x"]}
    batch = None
    records = [struct.pack("<if", n, n / 2) for n in range(ROWS)]
    expected_records = {2: {"id": 2, "x": 1.0}}
    effective = {"format": "<fi", "names": ["a", "b"]}


class JsonConformance(Conformance):
    config = {"type": "kit_json"}
    batch = {"z": np.arange(ROWS), "name": BATCH["word"], "walk": [np.arange(n % 3) * 0.5 for n in range(ROWS)]}
    expected_records = {5: {"z": 5, "walk": [0.0, 0.5]}}


class PairsConformance(Conformance):
    config = {"type": "kit_pairs"}
    batch = None
    records = [struct.pack("<hff", n, n / 2, -n) for n in range(ROWS)]
    expected_records = {2: (2, {"y": [1.0, -2.0]})}


class PlainConformance(Conformance):
    config = {"type": "kit_plain"}
    batch = None
    records = [b"one", b"tw\xc3\xb6", b""]
    expected_records = {1: "tw\u00f6"}


class FunctionConformance(DecoderConformance):
    config = FunctionDecoder(function=first_byte)
    records = [bytes([n, 2 * n]) for n in range(ROWS)]
    expected_records = {3: {"first": 3, "second": 6}}
    mutations = 60
