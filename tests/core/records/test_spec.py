"""Element specs: derived, described, compared with every difference named, and checked against batches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datarax_core import SpecError
from datarax_core.records.dtypes import fits_device
from datarax_core.records.spec import (
    batch_struct,
    check_batch,
    describe,
    device_spec,
    differences,
    named_fields,
    spec_of,
    split_host_fields,
)

BATCH = {"id": np.zeros(3, np.int64), "image": np.zeros((3, 28, 28), np.uint8), "text": np.array(["a", "bc", "def"])}


def struct(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


SPEC = {"id": struct(np.int64), "image": struct(np.uint8, 28, 28), "text": struct(np.dtype("<U3"))}


def test_the_spec_of_a_batch_leaves_out_the_leading_dimension() -> None:
    assert spec_of(BATCH) == SPEC
    assert spec_of((np.zeros((2, 5), np.float32), jnp.zeros(2))) == (struct(np.float32, 5), struct(np.float32))
    assert batch_struct(SPEC, 3)["image"] == struct(np.uint8, 3, 28, 28)


def test_a_spec_is_described_field_by_field() -> None:
    assert describe(SPEC) == {"id": "int64[]", "image": "uint8[28, 28]", "text": "text[]"}
    nested = {"a": {"b": struct(np.int8)}, "pair": (struct(np.bool_), struct(np.float32, 2))}
    assert describe(nested) == {"a.b": "int8[]", "pair.0": "bool[]", "pair.1": "float32[2]"}
    assert list(named_fields(struct(np.int8))) == ["record"]


def test_a_device_holds_32_bits_and_host_fields_keep_their_dtype() -> None:
    spec = {
        "i": struct(np.int64, 2), "u": struct(np.uint64), "f": struct(np.float64), "c": struct(np.complex128),
        "b": struct(np.bool_), "half": struct(np.float16), "bf": struct(jnp.bfloat16), "text": struct(np.dtype("S4")),
    }  # fmt: skip
    assert describe(device_spec(spec)) == {
        "i": "int32[2]", "u": "uint32[]", "f": "float32[]", "c": "complex64[]",
        "b": "bool[]", "half": "float16[]", "bf": "bfloat16[]", "text": "bytes[]",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float64", "complex64", jnp.bfloat16, jnp.int4])
def test_numbers_fit_a_device(dtype: Any) -> None:
    assert fits_device(np.dtype(dtype))


@pytest.mark.parametrize(
    "dtype", ["<U3", "S1", "O", "datetime64[s]", "timedelta64[ns]", "longdouble", "clongdouble", "V4"]
)
def test_text_dates_objects_and_long_doubles_do_not(dtype: str) -> None:
    assert not fits_device(np.dtype(dtype))


def test_specs_that_agree_have_no_differences() -> None:
    assert differences(SPEC, spec_of(BATCH)) == []


def test_every_field_that_differs_is_named() -> None:
    found = {"id": struct(np.int32), "image": struct(np.uint8, 28, 27), "extra": struct(np.bool_)}
    assert differences(SPEC, found) == [
        "field 'extra' (bool[]) is not expected",
        "field 'id' is int32[] where int64[] is expected",
        "field 'image' is uint8[28, 27] where uint8[28, 28] is expected",
        "field 'text' (text[]) is missing",
    ]


def test_a_batch_that_fits_its_spec_passes() -> None:
    check_batch(BATCH, SPEC, 3, origin="the source")
    check_batch(jnp.zeros((2, 5)), struct(np.float32, 5), 2, origin="the source")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (BATCH | {"id": [0, 1, 2]}, r"field 'id' is a list, not an array$"),
        ({f"f{i:02}": i for i in range(30)}, r".*field 'f19' is a int, not an array; and 10 more$"),
        (BATCH | {"id": np.zeros(2), "text": np.zeros(())}, "field 'id' has 2 rows where 3 were asked for; field 'text' has"),
        (BATCH | {"id": np.zeros(3)}, r"field 'id' is float64\[\] where int64\[\] is expected"),
        ({"image": BATCH["image"]}, r"field 'id' \(int64\[\]\) is missing; field 'text' \(text\[\]\) is missing"),
        (BATCH["image"], r"field 'id' \(int64\[\]\) is missing; .*field 'record' \(uint8\[28, 28\]\) is not expected"),
    ],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_refused_with_its_origin(batch: Any, message: str) -> None:
    origin = r"^source 'digits' gave a batch that its element_spec\(\) does not describe: "
    with pytest.raises(SpecError, match=origin + message):
        check_batch(batch, SPEC, 3, origin="source 'digits'")


def test_the_order_of_bytes_is_free_since_pickles_change_it() -> None:
    spec = {"x": jax.ShapeDtypeStruct((2,), np.dtype(">f4"))}
    check_batch({"x": np.zeros((3, 2), np.float32)}, spec, 3, origin="it")
    with pytest.raises(SpecError, match="field 'x' is float64"):
        check_batch({"x": np.zeros((3, 2))}, spec, 3, origin="it")
    wrong = {**spec, "y": jax.ShapeDtypeStruct((), np.dtype(np.int32))}
    with pytest.raises(SpecError, match=r"describe: field 'y' \(int32\[\]\) is missing$"):
        check_batch({"x": np.zeros((3, 2), np.float32)}, wrong, 3, origin="it")


def test_batches_that_differ_in_shape_are_held_against_the_greatest() -> None:
    spec = {"x": struct(np.int32, 8), "y": struct(np.float32, 4, 3)}

    def batch(x: tuple[int, ...], y: tuple[int, ...]) -> Any:
        return {"x": np.zeros((2, *x), np.int32), "y": np.zeros((2, *y), np.float32)}

    for fitting in (batch((8,), (4, 3)), batch((5,), (1, 3)), batch((0,), (4, 3))):
        check_batch(fitting, spec, 2, origin="the source", may_be_smaller=True)
    with pytest.raises(SpecError, match=r"field 'x' is int32\[9\] where int32\[8\] is expected"):
        check_batch(batch((9,), (2, 3)), spec, 2, origin="the source", may_be_smaller=True)
    with pytest.raises(SpecError, match=r"field 'y' is float32\[4\] where float32\[4, 3\] is expected"):
        check_batch(batch((8,), (4,)), spec, 2, origin="the source", may_be_smaller=True)
    with pytest.raises(SpecError, match=r"field 'x' has 2 rows where 3 were asked for"):
        check_batch(batch((5,), (4, 3)), spec, 3, origin="the source", may_be_smaller=True)
    with pytest.raises(SpecError, match=r"field 'x' is int32\[5\] where int32\[8\] is expected"):
        check_batch(batch((5,), (4, 3)), spec, 2, origin="the source")


def test_host_fields_are_split_off_by_name() -> None:
    device_fields, host_fields = split_host_fields(BATCH)
    assert (set(device_fields), set(host_fields)) == ({"id", "image"}, {"text"})
    plain = {"id": BATCH["id"]}
    assert split_host_fields(plain) == (plain, {})
    spec, host_fields = split_host_fields(SPEC)
    assert (set(spec), host_fields) == ({"id", "image"}, {"text": SPEC["text"]})


@pytest.mark.parametrize(
    ("batch", "name"),
    [
        (np.array(["a", "b"]), "record"),
        ((np.zeros(2), np.array(["a", "b"])), "1"),
        ({"nested": (np.zeros(2), np.array(["a", "b"]))}, r"nested\.1"),
    ],
)
def test_host_fields_need_a_name(batch: Any, name: str) -> None:
    with pytest.raises(
        SpecError, match=rf"text or object records \({name}\) need a field name, since they stay on the host"
    ):
        split_host_fields(batch)
