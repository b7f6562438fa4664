"""The decoder msgpack: valid values, errors, and exchange with flax.serialization."""

from typing import Any

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from batches import DTYPES, assert_same
from flax import serialization

from datarax_arrayrecord.decoders import MsgpackDecoder
from datarax_core.records.spec import spec_of


def read(*records: bytes, **fields: Any) -> Any:
    """Return the batch of these records, with declared fields, or those of the first record."""
    decoder = MsgpackDecoder(fields=fields or None)
    return decoder.decode(records, decoder.element_spec() or decoder.spec_from(records[0]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flax_and_the_decoder_read_each_other_s_records(dtype: np.dtype) -> None:
    batch = {"a": {"x": np.ones((2, 3)).astype(dtype)}, "y": np.ones(2).astype(dtype)}
    records = MsgpackDecoder().encode(batch)
    for row, record in enumerate(records):
        restored = serialization.msgpack_restore(record)
        assert np.asarray(restored["a"]["x"]).tobytes() == batch["a"]["x"][row].tobytes()
        assert np.asarray(restored["y"]) == batch["y"][row]
    by_flax = [
        serialization.msgpack_serialize({"a": {"x": batch["a"]["x"][row]}, "y": batch["y"][row]}) for row in (0, 1)
    ]
    assert_same(read(*by_flax), batch)
    assert_same(read(*records), batch)


def test_arrays_that_flax_writes_in_chunks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 16)
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    record = serialization.msgpack_serialize({"x": array, "in": {"y": jnp.asarray(array)}})
    assert b"__msgpack_chunked_array__" in record
    assert_same(read(record), {"x": array[None], "in": {"y": array[None]}})


def test_plain_values_become_numpy_arrays() -> None:
    record = {
        "i": 2**40,
        "f": 0.5,
        "b": True,
        "t": "é",
        "y": b"a\0",
        "l": [[1, 2], [3, 4]],
        "m": {"n": 1},
        "s": ["a", "bc"],
    }
    assert_same(
        read(msgpack.packb(record)),
        {
            "i": np.array([2**40]),
            "f": np.array([0.5]),
            "b": np.array([True]),
            "t": np.array(["é"], object),
            "y": np.array([b"a\0"], object),
            "l": np.array([[[1, 2], [3, 4]]]),
            "m": {"n": np.array([1])},
            "s": np.array([["a", "bc"]], object),
        },
    )


def test_complex_numbers_have_the_form_of_flax() -> None:
    assert read(serialization.msgpack_serialize({"c": 1 + 2j}))["c"].tolist() == [1 + 2j]


def test_bytes_in_a_field_of_numbers_are_the_bytes_of_its_array() -> None:
    image = np.arange(12, dtype="<u2").reshape(3, 4)
    record = msgpack.packb({"image": image.tobytes(), "label": 7, "more": [1]})
    batch = read(record, record, image={"dtype": "uint16", "shape": [3, 4]}, label={"dtype": "uint8"})
    assert_same(batch, {"image": np.stack([image, image]), "label": np.array([7, 7], np.uint8)})


def test_text_bytes_and_dates_are_kept() -> None:
    batch = {
        "t": np.array(["a\0", "", "é"], object),
        "b": np.array([[b"", b"\0"], [b"x", b"y"], [b"\xff", b"z"]], object),
        "d": np.array([0, 1, 2], "datetime64[s]"),
        "u": np.array(["ab", "c", ""]),
    }
    decoder = MsgpackDecoder.for_spec(spec_of(batch))
    assert_same(decoder.decode(decoder.encode(batch), decoder.element_spec()), batch)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "the record is no map of msgpack's: "),
        (b"\xc1", "the record is no map of msgpack's: "),
        (msgpack.packb({"a": 1}) + b"x", "the record is no map of msgpack's: "),
        (msgpack.packb([1]), r"the record is a value \(list\) of msgpack's, not a map"),
        (msgpack.packb(None), r"the record is nothing \(nil\) of msgpack's, not a map"),
        (msgpack.packb({1: 2}), "the record is no map of msgpack's: int is not allowed for map key"),
        (b"\xdf\xff\xff\xff\xff", "the record is no map of msgpack's: "),
        (b"\x81\xa1a\xc6\xff\xff\xff\xff", "the record is no map of msgpack's: "),
        (b"\x91" * 100_000, "the record is no map of msgpack's: "),
        (msgpack.packb({"a": None}), "field 'a' of the record is None"),
        (msgpack.packb({}), "the record is empty"),
        (msgpack.packb({"a": [[1], [1, 2]]}), "field 'a' of the record is no array"),
        (msgpack.packb({"a": ["x", 1]}), "field 'a' of the record is a list of str with 1 in it"),
        (msgpack.packb({"a": [{"b": 1}]}), "field 'a' is a list with a dict in it"),
        (msgpack.packb({"a": msgpack.Timestamp(1)}), "field 'a' is a timestamp of msgpack's"),
        (msgpack.packb({"a": msgpack.ExtType(9, b"")}), "extension type 9; those of flax.serialization are 1 to 3"),
        (msgpack.packb({"a": msgpack.ExtType(1, b"\x90")}), r"an array in it is not \(shape, dtype, bytes\): \[\]"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([2], "int8", b"a")))}), r"has 1 bytes, .* int8\[2\]"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([-1], "int8", b"a")))}), r"has 1 bytes, .* int8\[-1\]"),
        (
            msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([1], "O", b"12345678")))}),
            "the dtype b'O'; those of numbers",
        ),
        (
            msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([1], "foo", b"a")))}),
            "b'foo', which NumPy does not know",
        ),
        (
            msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([1], "bool", b"\2")))}),
            "a byte of it is 2, which is no bool",
        ),
        (
            msgpack.packb({"a": msgpack.ExtType(2, msgpack.packb([1.0]))}),
            r"a complex number in it has not two parts: \[1.0\]",
        ),
        (msgpack.packb({"a": {"__msgpack_chunked_array__": True}}), "field 'a' is no array in chunks"),
    ],
)
def test_a_record_that_is_no_map_of_arrays_is_an_error(record: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(record)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"y": 1}, "field 'x' is missing; the record has 'y'"),
        ({"x": b"abc"}, r"field 'x' has 3 bytes where the 4 of int16\[2\] are expected"),
        ({"x": [1, 2, 3]}, r"field 'x' is int64\[3\] where int16\[2\] is expected"),
        ({"x": [1, 70000]}, r"field 'x' is int64\[2\] where int16\[2\] is expected"),
        ({"x": "ab"}, r"field 'x' is object\[\] \('ab'\) where int16\[2\] is expected"),
        ({"x": np.zeros(2, np.int32)}, r"field 'x' is int32\[2\] where int16\[2\] is expected"),
    ],
)
def test_a_value_that_differs_from_its_declaration_is_an_error(values: Any, message: str) -> None:
    good = serialization.msgpack_serialize({"x": np.zeros(2, np.int16)})
    with pytest.raises(ValueError, match=message):
        read(good, serialization.msgpack_serialize(values), x={"dtype": "int16", "shape": [2]})


@pytest.mark.parametrize("name", ["x", "y"])
def test_without_fields_every_record_must_be_like_the_first(name: str) -> None:
    first, other = msgpack.packb({"x": 1}), msgpack.packb({"x": 1, "z": 2} if name == "x" else {"y": 1})
    with pytest.raises(ValueError, match=r"the record is not what the element spec says"):
        read(first, other)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": np.array([1, None], object)}, "field 'x' is of objects, and .* writes text and bytes of them, not 1"),
        ({"x": np.empty((2, 0), object)}, "field 'x' has lists without items"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, r"writes fields of one length, not \(2,\), \(3,\)"),
        ({"x": np.zeros(2, [("a", "i4")])}, "field 'x' is .*; the decoder 'msgpack' writes numbers"),
    ],
)
def test_values_that_msgpack_cannot_hold_are_not_written(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MsgpackDecoder().encode(batch)
