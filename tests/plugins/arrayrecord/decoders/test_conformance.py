"""The decoders of the plugin pass the conformance kit."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_arrayrecord.decoders import ExampleDecoder, NpzDecoder
from datarax_core import Ragged
from datarax_core.testing import DecoderConformance, Shows

NUMBERS: dict[str, Any] = {
    "image": np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3),
    "label": np.arange(4, dtype=np.int32),
    "meta": {"weight": np.array([0.5, -1.0, 2.0, 3.5], np.float32), "seen": np.array([True, False, True, True])},
}
TEXT = {"name": np.array(["ab", "cde", "ü", ""], object), "blob": np.array([b"ab", b"c", b"dd", b"\0"], object)}
TOKENS = {"tokens": Ragged.from_list([np.arange(n, dtype=np.int32) for n in (2, 0, 3, 1)])}


def fields_of(**fields: Any) -> dict[str, Any]:
    return {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in fields.items()}


NUMBER_FIELDS = {
    **fields_of(image=("uint8", [2, 2, 3]), label=("int32", [])),
    "meta": fields_of(weight=("float32", []), seen=("bool", [])),
}
TEXT_FIELDS = fields_of(name=("object", []), blob=("object", []))
TOKEN_FIELDS = fields_of(tokens=("int32", [None]))


class FewMutations(DecoderConformance):
    mutations = 100


class TestArray(FewMutations):
    config = {"type": "array", "fields": NUMBER_FIELDS}
    batch = NUMBERS
    dtypes = ["int8", "uint64", "bfloat16", "complex64", "bool"]


class TestArrayOfTokens(FewMutations):
    config = {"type": "array", "fields": {**fields_of(label=("int32", [])), **TOKEN_FIELDS}}
    batch = {"label": NUMBERS["label"], **TOKENS}


class TestMsgpack(FewMutations):
    config = {"type": "msgpack", "fields": {**NUMBER_FIELDS, **TEXT_FIELDS, **TOKEN_FIELDS}}
    batch = {**NUMBERS, **TEXT, **TOKENS}
    dtypes = ["int8", "uint64", "bfloat16", "complex64", str, bytes, "M8[s]"]


class TestMsgpackWithoutFields(FewMutations):
    config = {"type": "msgpack"}
    batch = {**NUMBERS, **TEXT, **TOKENS}


class TestNpz(FewMutations):
    config = {
        "type": "npz",
        "fields": {**NUMBER_FIELDS, **fields_of(name=("object", [])), **TOKEN_FIELDS},
        "compressed": True,
    }
    batch = {**NUMBERS, "name": TEXT["name"], **TOKENS}


class TestRaw(FewMutations):
    config = {"type": "raw"}
    batch = {"record": TEXT["blob"]}


EXAMPLE_FIELDS = {
    "label": {"dtype": "int32"},
    "x": {"dtype": "float32", "shape": [3]},
    "flag": {"dtype": "bool"},
    "name": {"dtype": "str"},
    "blob": {"dtype": "bytes"},
}
EXAMPLE = {
    "label": NUMBERS["label"],
    "x": np.arange(12, dtype=np.float32).reshape(4, 3),
    "flag": NUMBERS["meta"]["seen"],
    **TEXT,
}


class TestExample(FewMutations):
    config = {"type": "example", "fields": EXAMPLE_FIELDS}
    batch = EXAMPLE


class TestExampleWithoutFields(FewMutations):
    config = {"type": "example"}

    def make_records(self, folder: Path) -> list[bytes]:  # noqa: ARG002 - the kit's signature
        return ExampleDecoder(fields=EXAMPLE_FIELDS).encode(EXAMPLE)


class TestNpzWithoutFields(FewMutations):
    config = {"type": "npz"}
    effective = {"compressed": Shows(value=True, needs={"fields": TestNpz.config["fields"]})}

    def make_records(self, folder: Path) -> list[bytes]:  # noqa: ARG002 - the kit's signature
        return NpzDecoder(fields=TestNpz.config["fields"]).encode(TestNpz.batch)
