"""The decoder example: valid features, errors, and equality of all ways of reading with protobuf."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from batches import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_arrayrecord.decoders import ExampleDecoder
from datarax_arrayrecord.decoders import example_wire as wire

VALUES = {
    "bytes_list": st.binary(max_size=300),
    "float_list": st.floats(width=32),
    "int64_list": st.one_of(st.integers(-3, 300), st.integers(-(2**63), 2**63 - 1)),
}
DTYPES = {"bytes_list": "bytes", "float_list": "float32", "int64_list": "int64"}


def example(**features: tuple[str, list[Any]]) -> bytes:
    """Return a record that protobuf wrote."""
    message = wire.Example()
    for name, (kind, values) in features.items():
        getattr(message.features.feature[name], kind).value.extend(values)
    return message.SerializeToString()


def unpacked(name: str, values: list[int]) -> bytes:
    """Return an Example with one int64_list that is not packed, as proto2 writes it."""
    items = b"".join(b"\x08" + wire.varint(value % 2**64) for value in values)
    feature = b"\x1a" + wire.varint(len(items)) + items
    entry = b"\x0a" + wire.varint(len(name)) + name.encode() + b"\x12" + wire.varint(len(feature)) + feature
    features = b"\x0a" + wire.varint(len(entry)) + entry
    return b"\x0a" + wire.varint(len(features)) + features


def decoder(**fields: Any) -> ExampleDecoder:
    return ExampleDecoder(fields=fields)


def one(made: ExampleDecoder, record: bytes) -> Any:
    return made.decode([record], made.element_spec())


# -- equal to protobuf, however the records are laid out ------------------------------------------------------------------


def by_protobuf(records: list[bytes], kinds: dict[str, str], spec: Any) -> dict[str, np.ndarray]:
    """Return the columns, decoded by protobuf, message by message."""
    columns = {name: np.empty((len(records), *struct.shape), struct.dtype) for name, struct in spec.items()}
    for row, record in enumerate(records):
        message = wire.Example.FromString(record)
        for name, column in columns.items():
            values = list(getattr(message.features.feature[name], kinds[name]).value)
            column[row] = np.array(values, column.dtype).reshape(column.shape[1:])[()]
    return columns


@st.composite
def example_records(draw: st.DrawFn, kinds: dict[str, str], counts: dict[str, int]) -> list[bytes]:
    """Draw records in few or many layouts: with features in another order, or an undeclared feature."""
    several = {
        name: st.lists(VALUES[kind], min_size=counts[name], max_size=counts[name]) for name, kind in kinds.items()
    }
    pool = draw(st.lists(st.fixed_dictionaries(several), min_size=1, max_size=5))
    chance = random.Random(draw(st.integers(0, 99)))  # noqa: S311 - shuffles records
    odd = draw(st.sampled_from([0, 0.2, 1]))
    records = []
    for _ in range(draw(st.integers(1, 40))):
        chosen, names = chance.choice(pool), list(kinds)
        entries = {name: example(**{name: (kinds[name], chosen[name])}) for name in names}
        if chance.random() < odd:
            chance.shuffle(names)
            names.insert(0, "other")
            entries["other"] = example(other=("int64_list", [chance.randrange(3)]))
        records.append(joined([entries[name] for name in names]))
    return records


def joined(records: list[bytes]) -> bytes:
    """Return a record with the features of all these records in order."""
    body = b"".join(record[len(wire.header(len(record))) :] for record in records)
    return b"\x0a" + wire.varint(len(body)) + body


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_way_of_reading_gives_the_values_of_protobuf(data: st.DataObject) -> None:
    kinds = {name: data.draw(st.sampled_from(sorted(VALUES))) for name in ("a", "bb", "image")}
    counts = {name: data.draw(st.integers(0, 3)) for name in kinds}
    records = data.draw(example_records(kinds, counts))
    made = decoder(
        **{
            name: {"dtype": DTYPES[kind], "shape": [] if counts[name] == 1 else [counts[name]]}
            for name, kind in kinds.items()
        }
    )
    spec = made.element_spec()
    found, expected = made.decode(records, spec), by_protobuf(records, kinds, spec)
    for name in kinds:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_the_values_of_a_record_do_not_depend_on_the_other_records() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (300, 40), np.uint8)
    labels = rng.choice([0, 1, 127, 128, 300, 2**40, -1], 300)
    records = [
        joined(
            [example(image=("bytes_list", [image.tobytes()])), unpacked("label", [label])][:: -1 if label == 1 else 1]
        )
        if label in (0, 1)
        else example(image=("bytes_list", [image.tobytes()]), label=("int64_list", [label]))
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    made = decoder(image={"dtype": "uint8", "shape": [40]}, label={"dtype": "int64"})
    whole = made.decode(records, made.element_spec())
    assert_same(whole, {"image": images, "label": labels})
    for row in range(0, 300, 17):
        assert_same(one(made, records[row]), {"image": images[row : row + 1], "label": labels[row : row + 1]})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_record_is_decoded_the_same_alone_and_among_others(data: st.DataObject) -> None:
    records = [
        example(a=("bytes_list", [bytes(at)]), b=("int64_list", [at, 1]), c=("float_list", [at])) for at in range(40)
    ]
    if data.draw(st.booleans()):
        records = records[7:8] * 40
    broken = bytearray(records[30])
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=3)):
        broken[at] = data.draw(st.integers(0, 255))
    records[30] = bytes(broken)
    made = decoder(a={"dtype": "bytes"}, b={"dtype": "int64", "shape": [2]}, c={"dtype": "float32"})

    def outcome(*given: bytes) -> Any:
        try:
            batch = made.decode(given, made.element_spec())
        except ValueError as error:
            return str(error)
        return [column[-1:].tobytes() if column.dtype != object else column[-1] for column in batch.values()]

    assert outcome(*records[:31]) == outcome(records[30])


@pytest.mark.parametrize("count", [1, 40])
def test_records_without_features_have_only_defaults(count: int) -> None:
    made = decoder(x={"dtype": "int64", "default": 3})
    for record in (b"", b"\x0a\x00"):
        assert made.decode([record] * count, made.element_spec())["x"].tolist() == [3] * count


def test_lengths_with_more_bytes_than_necessary_are_read() -> None:
    entry = wire.prefix_of("x", wire.INTEGERS, 1) + b"\7"
    long = b"\x0a" + bytes([0x80 | entry[1], 0x80, 0x80, 0x80, 0]) + entry[2:]
    made = decoder(x={"dtype": "int64"})
    for one_entry in (entry, long):
        assert made.decode([wire.record_of([one_entry])] * 40, made.element_spec())["x"].tolist() == [7] * 40
    mixed = [wire.record_of([entry]), wire.record_of([long])] * 30
    assert made.decode(mixed, made.element_spec())["x"].tolist() == [7] * 60


@pytest.mark.parametrize("values", [[0], [1, 300, -1], [2**63 - 1, -(2**63)]])
def test_integers_that_are_not_packed_are_read(values: list[int]) -> None:
    made = decoder(x={"dtype": "int64", "shape": [len(values)]})
    packed = example(x=("int64_list", values))
    assert unpacked("x", values) != packed
    records = [packed, unpacked("x", values)] * 10
    assert made.decode(records, made.element_spec())["x"].tolist() == [values] * 20


def test_of_a_repeated_feature_the_last_one_is_decoded() -> None:
    first, last = example(x=("int64_list", [1])), example(x=("int64_list", [2]))
    merged = joined([first, last])
    made = decoder(x={"dtype": "int64"})
    assert made.decode([first, merged, first + last], made.element_spec())["x"].tolist() == [1, 2, 2]


def test_features_in_any_order_are_read() -> None:
    rng = random.Random(0)  # noqa: S311 - shuffles features
    features = {f"f{at}": ("int64_list", [at]) for at in range(6)}
    records = []
    for _ in range(100):
        names = list(features)
        rng.shuffle(names)
        records.append(joined([example(**{name: features[name]}) for name in names]))
    assert len(set(records)) > 50
    made = decoder(**{name: {"dtype": "int8"} for name in features})
    assert made.decode(records, made.element_spec())["f5"].tolist() == [5] * 100


# -- what a feature may be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "feature", "value"),
    [
        ("uint8", ("bytes_list", [b"\1\2"]), [1, 2]),
        ("uint8", ("int64_list", [1, 255]), [1, 255]),
        ("bool", ("int64_list", [0, 1]), [False, True]),
        ("bool", ("bytes_list", [b"\0\1"]), [False, True]),
        ("float32", ("float_list", [0.5, 2.0]), [0.5, 2.0]),
        ("float64", ("float_list", [0.5, 2.0]), [0.5, 2.0]),
        ("bfloat16", ("float_list", [0.5, 2.0]), [0.5, 2.0]),
        ("float16", ("bytes_list", [b"\0\x3c\0\x40"]), [1.0, 2.0]),
        ("int4", ("int64_list", [-8, 7]), [-8, 7]),
        ("str", ("bytes_list", [b"a", "é".encode()]), ["a", "é"]),
        ("bytes", ("bytes_list", [b"a", b"\xff"]), [b"a", b"\xff"]),
    ],
)
def test_a_feature_is_decoded_to_its_declared_dtype(dtype: str, feature: Any, value: list[Any]) -> None:
    made = decoder(x={"dtype": dtype, "shape": [2]})
    column = one(made, example(x=feature))["x"]
    assert column.dtype == made.element_spec()["x"].dtype
    assert column.tolist() == [value]


@pytest.mark.parametrize(
    ("dtype", "shape", "feature", "message"),
    [
        ("uint8", [2], ("bytes_list", [b"a"]), r"feature 'x' has 1 bytes where the 2 bytes of uint8\[2\] is expected"),
        ("uint8", [2], ("bytes_list", [b"a", b"b"]), r"has a bytes_list of 2 values where uint8\[2\] is expected"),
        ("uint8", [2], ("int64_list", [1]), r"has an int64_list of 1 values where uint8\[2\] is expected"),
        ("uint8", [], ("int64_list", [256]), r"has the value 256 where uint8, 0 to 255, is expected"),
        ("bool", [], ("int64_list", [2]), r"has the value 2 where bool, 0 to 1, is expected"),
        ("uint64", [], ("int64_list", [-1]), r"has the value -1 where uint64, 0 to 18446744073709551615,"),
        ("bool", [], ("bytes_list", [b"\2"]), r"a byte of it is 2, which is no bool"),
        ("float32", [], ("int64_list", [1]), r"has an int64_list where float32\[\], a float_list or raw bytes,"),
        ("int32", [], ("float_list", [1.0]), r"has a float_list where int32\[\], an int64_list or raw bytes,"),
        ("float32", [2], ("float_list", [1.0]), r"has a float_list of 1 values where float32\[2\] is expected"),
        ("float16", [], ("float_list", [1e30]), r"has the value 1e\+30 where a number that float16 holds is expected"),
        ("str", [], ("int64_list", [1]), r"has the list int64_list where a bytes_list, str\[\], is expected"),
        ("str", [], ("bytes_list", [b"\xff"]), r"is declared as str, and its bytes b'\\xff' are no UTF-8 text"),
        ("bytes", [2], ("bytes_list", [b"a"]), r"has a bytes_list of 1 values where bytes\[2\] is expected"),
        ("int64", [], ("int64_list", []), r"has an int64_list of 0 values where int64\[\] is expected"),
    ],
)
@pytest.mark.parametrize("company", [0, 12])
def test_a_feature_that_differs_from_its_declaration_is_an_error(
    dtype: str, shape: list[int], feature: Any, message: str, company: int
) -> None:
    made = decoder(x={"dtype": dtype, "shape": shape})
    with pytest.raises(ValueError, match=message):
        made.decode([example(x=feature)] * (1 + company), made.element_spec())


def test_a_missing_feature_is_an_error_that_lists_the_features_found() -> None:
    made = decoder(x={"dtype": "int64"})
    for records in [[example(y=("int64_list", [1]), z=("int64_list", [1]))], [example(y=("int64_list", [1]))] * 20]:
        with pytest.raises(ValueError, match=r"the feature 'x' is missing; the record has 'y'"):
            made.decode(records, made.element_spec())
    with pytest.raises(ValueError, match=r"the feature 'x' is missing; the record has no features"):
        one(made, b"")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"dtype": "int32", "default": -1}, -1),
        ({"dtype": "int32", "shape": [2], "default": 7}, [7, 7]),
        ({"dtype": "float32", "shape": [2], "default": [0.5, float("inf")]}, [0.5, float("inf")]),
        ({"dtype": "bool", "default": True}, True),
        ({"dtype": "str", "default": "none"}, "none"),
        ({"dtype": "bytes", "default": b"none"}, b"none"),
        ({"dtype": "str", "shape": [2], "default": ["a", "b"]}, ["a", "b"]),
        ({"dtype": "uint64", "default": 2**64 - 1}, 2**64 - 1),
    ],
)
@pytest.mark.parametrize("count", [1, 20])
def test_a_missing_feature_takes_its_default(field: Any, value: Any, count: int) -> None:
    made = decoder(x=field, y={"dtype": "int64"})
    made = ExampleDecoder.model_validate_json(made.model_dump_json())
    column = made.decode([example(y=("int64_list", [1]))] * count, made.element_spec())["x"]
    assert column.dtype == made.element_spec()["x"].dtype
    assert column.tolist() == [value] * count


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"dtype": "int8", "default": 200}, "the default 200 is out of range: int8 holds -128 to 127"),
        ({"dtype": "int8", "default": 1.5}, "the default 1.5 is no int8"),
        ({"dtype": "float16", "default": 1e30}, r"the default 1e\+30 is out of range for float16"),
        ({"dtype": "float32", "default": "x"}, "the default 'x' is no float32"),
        ({"dtype": "str", "default": 3}, "a default of str is text, not 3"),
        ({"dtype": "int8", "shape": [3], "default": [1, 2]}, r"has shape \[2\] where \[\] or \[3\] is expected"),
        ({"dtype": "S4"}, "a feature holds numbers, bools, bytes or str, not S4"),
    ],
)
def test_an_invalid_field_is_refused(field: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder(x=field)


def test_undeclared_features_are_skipped() -> None:
    made = decoder(x={"dtype": "int64"})
    assert one(made, example(y=("bytes_list", [b"a"]), x=("int64_list", [3]))).keys() == {"x"}


def test_undeclared_features_are_refused_where_no_field_is_declared() -> None:
    """In each of the three ways of reading: by layout, in step, and record by record."""
    first, other = example(x=("int64_list", [3])), example(x=("int64_list", [3]), y=("bytes_list", [b"a"]))
    made = ExampleDecoder()
    spec = made.spec_from(first)
    longer = [example(x=("int64_list", [3]), y=("bytes_list", [bytes(size)])) for size in range(40)]
    odd = unpacked("x", [3])
    for records in ([first] * 9 + [other], [first] + [other] * 9, [first, *longer], [odd, other], [other]):
        with pytest.raises(
            ValueError, match="the record has the feature 'y', which the first record does not have; declare"
        ):
            made.decode(records, spec)
    assert made.decode([first, odd], spec)["x"].tolist() == [3, 3]
    assert "'y'" in made.difference(other, spec)
    assert made.difference(first, made.spec_from(other)) == "lacks the feature 'y', which the first one has"
    assert not made.difference(odd, spec)


# -- without declared fields ----------------------------------------------------------------------------------------------


def test_without_fields_the_spec_is_that_of_the_first_record() -> None:
    features = {
        "f": ("float_list", [0.5]),
        "fs": ("float_list", [0.5, 1.0]),
        "inner.i": ("int64_list", [2**40]),
        "is": ("int64_list", [1, 300]),
        "b": ("bytes_list", [b"\xff"]),
        "bs": ("bytes_list", [b"a", b"b"]),
    }
    made = ExampleDecoder()
    record = example(**features)
    assert made.element_spec() is None
    spec = made.spec_from(record)
    batch = made.decode([record, record], spec)
    expected: dict[str, Any] = {
        "f": np.full(2, 0.5, np.float32),
        "fs": np.array([[0.5, 1.0]] * 2, np.float32),
        "inner.i": np.full(2, 2**40),
        "is": np.array([[1, 300]] * 2),
        "b": np.array([b"\xff"] * 2, object),
        "bs": np.array([[b"a", b"b"]] * 2, object),
    }
    assert_same(batch, expected)
    with pytest.raises(ValueError, match=r"'fs' has a float_list of 1 values where float32\[2\]"):
        made.decode([record, example(**{**features, "fs": ("float_list", [1.0])})], spec)


def test_an_empty_record_has_no_spec() -> None:
    with pytest.raises(ValueError, match="the record has no features"):
        ExampleDecoder().spec_from(b"")


def test_a_decoder_without_fields_does_not_write() -> None:
    with pytest.raises(ValueError, match="the decoder 'example' writes declared fields only"):
        ExampleDecoder().encode({"x": np.zeros(2)})


def test_objects_are_declared_as_text_or_bytes() -> None:
    batch = {"t": np.array(["a", "é"], object), "b": np.array([[b"", b"\0"], [b"x", b"y"]], object)}
    made = decoder(t={"dtype": "str"}, b={"dtype": bytes, "shape": [2]})
    assert_same(made.decode(made.encode(batch), made.element_spec()), batch)
    with pytest.raises(ValueError, match=r"field 'b' is object, and whether .* bytes or text"):
        ExampleDecoder.for_spec({"b": made.element_spec()["b"]})
    with pytest.raises(ValueError, match=r"field 't' is declared as str, and .* cannot write b'x' there"):
        made.encode({**batch, "t": np.array(["a", b"x"], object)})


def test_written_records_have_the_form_that_other_readers_expect() -> None:
    made = decoder(i={"dtype": "int32"}, f={"dtype": "float32", "shape": [2]}, u={"dtype": "uint8", "shape": [2]})
    batch = {"i": np.array([-5], np.int32), "f": np.array([[1, 2]], np.float32), "u": np.array([[3, 4]], np.uint8)}
    feature = wire.Example.FromString(made.encode(batch)[0]).features.feature
    assert list(feature["i"].int64_list.value) == [-5]
    assert list(feature["f"].float_list.value) == [1, 2]
    assert list(feature["u"].bytes_list.value) == [b"\3\4"]


def test_bytes_of_another_format_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"the record is no tf\.train\.Example: "):
        one(decoder(x={"dtype": "int64"}), b"\xff\xff\xff")


@pytest.mark.parametrize("length", [11, 12])
def test_an_integer_of_too_many_bytes_is_an_error(length: int) -> None:
    entry = wire.prefix_of("x", wire.INTEGERS, length) + b"\x80" * (length - 1) + b"\1"
    made = decoder(x={"dtype": "int64"})
    with pytest.raises(ValueError, match=f"has an int64_list with a value of {length} bytes"):
        made.decode([wire.record_of([entry])] * 10, made.element_spec())


def test_another_registration_of_the_same_messages_does_no_harm() -> None:
    script = (
        "from google.protobuf import descriptor_pb2, descriptor_pool;"
        "pool = descriptor_pool.Default();"
        "file = descriptor_pb2.FileDescriptorProto(name='example.proto', package='tensorflow', syntax='proto3');"
        "file.message_type.add(name='Example').field.add(name='other', number=1, label=1, type=5);"
        "pool.AddSerializedFile(file.SerializeToString());"
        "from datarax_arrayrecord.decoders import ExampleDecoder;"
        "print(ExampleDecoder().spec_from(bytes.fromhex('0a0d0a0b0a01781206 1a040a02ac02'.replace(' ', ''))))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert "int64" in printed
