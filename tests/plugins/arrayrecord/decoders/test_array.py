"""The decoder array: the layout of records, and errors of records with another layout."""

import numpy as np
import pytest
from batches import assert_same

from datarax_arrayrecord.decoders import ArrayDecoder


def _decoder(**fields: tuple[str, list[int]]) -> ArrayDecoder:
    return ArrayDecoder(fields={name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in fields.items()})


def test_fields_are_packed_in_order_without_padding_little_endian() -> None:
    decoder = _decoder(a=("bool", []), b=("int32", []), c=("uint16", [2]))
    batch = {"a": np.array([True]), "b": np.array([1], np.int32), "c": np.array([[2, 3]], np.uint16)}
    assert decoder.encode(batch) == [b"\1\1\0\0\0\2\0\3\0"]
    assert_same(decoder.decode(decoder.encode(batch), decoder.element_spec()), batch)


def test_decoders_with_another_order_of_fields_are_not_equal() -> None:
    one, other = _decoder(a=("int8", []), b=("int32", [])), _decoder(b=("int32", []), a=("int8", []))
    assert one != other
    assert one == _decoder(a=("int8", []), b=("int32", []))
    assert hash(one) == hash(_decoder(a=("int8", []), b=("int32", [])))
    assert list(ArrayDecoder.model_validate_json(other.model_dump_json()).fields) == ["b", "a"]


@pytest.mark.parametrize("size", [1, 7, 3072, 300_000])
def test_batches_of_any_size_are_decoded(size: int) -> None:
    decoder = _decoder(x=("uint8", [size]), y=("int16", []))
    rng = np.random.default_rng(0)
    batch = {"x": rng.integers(0, 255, (9, size), np.uint8), "y": rng.integers(-9, 9, 9, np.int16)}
    assert_same(decoder.decode(decoder.encode(batch), decoder.element_spec()), batch)


def test_a_single_field_keeps_its_trailing_zeros() -> None:
    decoder = _decoder(x=("uint8", [3]))
    assert decoder.decode([b"a\0\0", b"\0\0\0"], None)["x"].tolist() == [[97, 0, 0], [0, 0, 0]]


def test_a_field_may_be_bytes_of_a_fixed_length() -> None:
    decoder = _decoder(key=("S4", []), x=("int8", []))
    batch = {"key": np.array([b"ab", b"a\0bc"]), "x": np.zeros(2, np.int8)}
    assert_same(decoder.decode(decoder.encode(batch), decoder.element_spec()), batch)


def test_a_record_of_another_size_is_an_error_with_both_sizes_and_the_layout() -> None:
    decoder = _decoder(label=("int32", []), image=("uint8", [2, 2]))
    with pytest.raises(
        ValueError, match=r"has 7 bytes where 8 are expected: label int32\[\] at 0, image uint8\[2, 2\] at 4"
    ):
        decoder.decode([bytes(8), bytes(7)], decoder.element_spec())


@pytest.mark.parametrize(
    ("dtype", "byte", "message"),
    [
        ("bool", 2, r"field 'x' is bool\[2\], and a byte of it is 2, which is no bool"),
        ("int4", 255, "255, which is no int4"),
    ],
)
def test_bytes_that_are_no_value_of_their_dtype_are_refused(dtype: str, byte: int, message: str) -> None:
    decoder = _decoder(x=(dtype, [2]), y=("int8", []))
    with pytest.raises(ValueError, match=message):
        decoder.decode([bytes(3), bytes([1, byte, 0])], decoder.element_spec())


@pytest.mark.parametrize("dtype", ["object", "U3", "S0", "datetime64[s]", "float128"])
def test_a_dtype_without_a_fixed_form_is_refused_with_its_field(dtype: str) -> None:
    with pytest.raises(ValueError, match=rf"fields\.x\.dtype\s+Value error, .*{dtype[:6]}"):
        _decoder(x=(dtype, []))


def test_fields_without_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="the fields have 0 bytes in all; a record has from 1 to 2147483647"):
        _decoder(x=("int8", [0]))
