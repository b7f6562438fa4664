"""Every decoder reads back the batches that it writes, to the bit, and raises for bytes of another format."""

import json
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from batches import DTYPES, assert_same, batches
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule, write
from datarax_arrayrecord.decoders import ArrayDecoder, ExampleDecoder, MsgpackDecoder, NpzDecoder
from datarax_core.records.spec import spec_of
from datarax_core.registry.decoders import AnyDecoder, Decoder, default_decoders

CLASSES: list[type[Decoder]] = [ArrayDecoder, ExampleDecoder, MsgpackDecoder, NpzDecoder]
NAMES = ["array", "example", "msgpack", "npz"]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=NAMES)


def _rich() -> dict[str, Any]:
    return {
        "image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
        "meta": {"label": np.arange(4), "seen": np.eye(4)[0] > 0},
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_dot_is_part_of_a_name_and_a_dict_is_nested(name: str, tmp_path: Path) -> None:
    batch = {
        "observation.state": np.arange(8, dtype=np.float32).reshape(4, 2),
        "action": {"left.arm": np.arange(4), "right": np.arange(4)},
    }
    write(tmp_path / "x.array_record", batch, decoder=name)
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), str(tmp_path / "x.array_record"))
    assert_same(source.get_batch(4), batch)
    assert list(source.fingerprint()["decoder"]["fields"]) == [
        "action.left\\.arm", "action.right", "observation\\.state"
    ]  # fmt: skip
    note = json.loads((tmp_path / "x.array_record.json").read_text())
    assert note["version"] == 2
    integer = {"dtype": "int64", "shape": []}
    config = {
        "type": name,
        "fields": {
            "action": {"left.arm": integer, "right": integer},
            "observation.state": {"dtype": "float32", "shape": [2]},
        },
    }
    made = TypeAdapter(AnyDecoder).validate_python(config)
    assert made == TypeAdapter(AnyDecoder).validate_python(note["decoder"])
    assert made.model_dump()["fields"].keys() == {"action", "observation.state"}
    assert_same(made.decode(made.encode(batch), made.element_spec()), batch)


@pytest.mark.parametrize("name", ["example", "npz"])
def test_records_without_nesting_hold_no_two_fields_of_one_name(name: str) -> None:
    batch = {"a.b": np.arange(2), "a": {"b": np.arange(2)}}
    with pytest.raises(ValueError, match=r"two fields would be stored as 'a\.b', one of them in a dict; rename"):
        default_decoders().get(name).for_spec(spec_of(batch)).encode(batch)


def test_a_note_of_version_1_nests_fields_by_dots(tmp_path: Path) -> None:
    batch = {"action": {"left": np.arange(4)}, "b": np.arange(4)}
    write(tmp_path / "x.array_record", batch, decoder="array")
    path = tmp_path / "x.array_record.json"
    note = json.loads(path.read_text())
    integer = {"dtype": "int64", "shape": []}
    old = note | {"version": 1, "decoder": {"type": "array", "fields": {"action.left": integer, "b": integer}}}
    path.write_text(json.dumps(old))
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), str(tmp_path / "x.array_record"))
    assert_same(source.get_batch(4), batch)


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_is_found_by_its_name(name: str) -> None:
    assert default_decoders().get(name) is dict(zip(NAMES, CLASSES, strict=True))[name]


@each_class
@settings(max_examples=60, deadline=None)
@given(batch=batches())
def test_written_batches_are_read_back_to_the_bit(cls: type[Decoder], batch: dict[str, Any]) -> None:
    decoder = cls.for_spec(spec_of(batch))
    records = decoder.encode(batch)
    spec = decoder.element_spec()
    assert spec == spec_of(batch)
    assert all(type(record) is bytes for record in records)
    assert_same(decoder.decode(records, spec), batch)
    assert_same(decoder.decode(records[-1:], spec), jax.tree.map(lambda column: column[-1:], batch))


@each_class
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_kept(cls: type[Decoder], dtype: np.dtype) -> None:
    batch = {"one": np.array([0, 1], np.int8).astype(dtype), "many": np.ones((2, 3)).astype(dtype)}
    decoder = cls.for_spec(spec_of(batch))
    assert_same(decoder.decode(decoder.encode(batch), decoder.element_spec()), batch)


@each_class
def test_columns_of_another_byte_order_give_the_same_bytes(cls: type[Decoder]) -> None:
    batch = {"x": np.arange(6, dtype=np.int32).reshape(2, 3), "y": np.array([1.5, -2.5], np.float32)}
    swapped = {name: column.astype(column.dtype.newbyteorder(">")) for name, column in batch.items()}
    decoder = cls.for_spec(spec_of(batch))
    assert decoder.encode(swapped) == decoder.encode(batch)


@each_class
def test_arrays_of_jax_and_of_any_memory_layout_give_the_same_bytes(cls: type[Decoder]) -> None:
    batch = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    decoder = cls.for_spec(spec_of(batch))
    assert decoder.encode({"x": jax.numpy.asarray(batch["x"])}) == decoder.encode(batch)
    assert decoder.encode({"x": np.asfortranarray(batch["x"])}) == decoder.encode(batch)


@each_class
def test_a_decoder_goes_through_json_and_pickle_and_hashes(cls: type[Decoder]) -> None:
    decoder = cls.for_spec(spec_of(_rich()))
    again = cls.model_validate_json(decoder.model_dump_json())
    assert again == decoder
    assert hash(again) == hash(decoder)
    assert pickle.loads(pickle.dumps(decoder)) == decoder  # noqa: S301 - our own bytes
    assert cls.model_validate(decoder.model_dump()) == decoder
    other = cls.for_spec(spec_of({"image": _rich()["image"]}))
    assert other != decoder


@each_class
def test_a_device_takes_columns_over_without_a_copy(cls: type[Decoder]) -> None:
    decoder = cls.for_spec(spec_of(_rich()))
    decoded = decoder.decode(decoder.encode(_rich()), decoder.element_spec())
    assert all(column.ctypes.data % 64 == 0 for column in jax.tree.leaves(decoded))


@each_class
@pytest.mark.parametrize("missing", [0, 1, 7])
def test_a_truncated_record_is_an_error(cls: type[Decoder], missing: int) -> None:
    decoder = cls.for_spec(spec_of(_rich()))
    records = decoder.encode(_rich())
    records[2] = records[2][: len(records[2]) * missing // 8]
    with pytest.raises(ValueError, match=r"the record|field|feature"):
        decoder.decode(records, decoder.element_spec())


@each_class
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_bytes_give_a_value_error_or_a_batch_of_the_declared_spec(
    cls: type[Decoder], data: st.DataObject
) -> None:
    decoder = cls.for_spec(spec_of(_rich()))
    records = decoder.encode(_rich())
    broken = bytearray(records[0])
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=4)):
        broken[at] = data.draw(st.integers(0, 255))
    noise = data.draw(st.one_of(st.just(bytes(broken)), st.binary(max_size=80)))
    for fields in ({}, {"fields": None}):
        if fields and cls is ArrayDecoder:
            continue
        reader = decoder.model_copy(update=fields)
        try:
            spec = reader.element_spec() or reader.spec_from(noise)
            batch = reader.decode([noise, records[1]], spec)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - whether it is raised depends on the noise
        else:
            assert spec_of(batch) == spec


@pytest.mark.parametrize("writer", CLASSES, ids=NAMES)
@pytest.mark.parametrize("reader", CLASSES, ids=NAMES)
def test_records_of_another_format_are_an_error(writer: type[Decoder], reader: type[Decoder]) -> None:
    if writer is reader:
        return
    spec = spec_of(_rich())
    record = writer.for_spec(spec).encode(_rich())[0]
    with pytest.raises(ValueError, match=r"the record|feature"):
        reader.for_spec(spec).decode([record], spec)


@each_class
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": np.zeros((2, 3), np.float32)}, r"field 'y' \(int8\[\]\) is missing"),
        (
            {"x": np.zeros((2, 3), np.float32), "y": np.zeros(2, np.int16)},
            r"'y' is int16\[\] where int8\[\] is declared",
        ),
        (
            {"x": np.zeros((2, 2), np.float32), "y": np.zeros(2, np.int8)},
            r"float32\[2\] where float32\[3\] is declared",
        ),
        (
            {"x": np.zeros((2, 3), np.float32), "y": np.zeros(3, np.int8)},
            r"differ in their number of records: 'x' 2, 'y' 3",
        ),
        ({"x": np.zeros((2, 3), np.float32), "y": np.int8(1)}, r"field 'y' has no axis of records"),
        (
            {"x": np.zeros((2, 3), np.float32), "y": np.zeros(2, np.int8), "z": {"w": np.zeros(2)}},
            r"field 'z\.w' \(float64\[\]\) is not declared",
        ),
        ({"x": np.zeros((2, 3), np.float32), "y": {}}, r"field 'y' of what .* is a dict without fields"),
        ((np.zeros(2),), r"is a tuple; records are written by names"),
        ({"": np.zeros(2)}, r"has the name ''; names are texts that are not empty"),
        ({1: np.zeros(2)}, r"has the name 1; names are texts that are not empty"),
    ],
)
def test_a_batch_that_differs_from_the_declared_fields_is_not_written(
    cls: type[Decoder], batch: Any, message: str
) -> None:
    spec = {"x": jax.ShapeDtypeStruct((3,), np.float32), "y": jax.ShapeDtypeStruct((), np.int8)}
    with pytest.raises(ValueError, match=message):
        cls.for_spec(spec).encode(batch)


@each_class
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (jax.ShapeDtypeStruct((), np.int8), r"is a ShapeDtypeStruct; records are written by names"),
        ({"a": (jax.ShapeDtypeStruct((), np.int8),)}, r"field 'a' of the element spec is a tuple"),
        ({"a": {}}, r"field 'a' of the element spec is a dict without fields"),
    ],
)
def test_a_spec_without_names_has_no_decoder(cls: type[Decoder], spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls.for_spec(spec)


@each_class
@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        (
            {"a": {"dtype": "int"}},
            ("fields", "a", "dtype"),
            "'int' is not the same in every record .*; write int64",
        ),
        ({"a": {"dtype": ">i4"}}, ("fields", "a", "dtype"), "'>i4' is not the same .*; write int32"),
        ({"a": {"dtype": "foo"}}, ("fields", "a", "dtype"), "no dtype is named 'foo'"),
        ({"a": {"dtype": "i4,f4"}}, ("fields", "a", "dtype"), "no dtype is named 'i4,f4'"),
        ({"a": {"dtype": 3}}, ("fields", "a", "dtype"), "a dtype is a name, such as int32, not 3"),
        ({"a": {"dtype": "float128"}}, ("fields", "a", "dtype"), "float128"),
        ({"a": {"dtype": "int8", "shape": [-1]}}, ("fields", "a", "shape", 0), "greater than or equal to 0"),
        ({"a": {"dtype": "int8", "shap": [1]}}, ("fields", "a", "shap"), "did you mean 'shape'"),
        ({"a": {"dtype": "int8", "shape": [2**31]}}, ("fields",), "2147483648 bytes"),
        ({"": {"dtype": "int8"}}, ("fields",), "a field has no name: '' is empty"),
        ({"a": {"": {"dtype": "int8"}}}, ("fields",), "a field has no name: '' is empty"),
        ({"a": {"b": {"dtype": "foo"}}}, ("fields", "a.b", "dtype"), "no dtype is named 'foo'"),
        ({}, ("fields",), r"no (field|feature) is declared|the fields have 0 bytes"),
    ],
)
def test_invalid_fields_are_refused_at_their_location(
    cls: type[Decoder], fields: Any, place: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        cls.model_validate({"type": cls.model_fields["type"].default, "fields": fields})
    assert place in [error["loc"][: len(place)] for error in refused.value.errors()]  # type: ignore[attr-defined]


@each_class
@pytest.mark.parametrize("name", ["<i4", "=i4", "i4", "int32", np.int32, np.dtype(">i4")])
def test_names_with_a_width_name_one_dtype(cls: type[Decoder], name: Any) -> None:
    decoder: Any = cls.model_validate({"type": cls.model_fields["type"].default, "fields": {"x": {"dtype": name}}})
    assert decoder.fields["x"].dtype == "int32"
