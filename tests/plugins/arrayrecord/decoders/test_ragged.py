"""Fields that vary in length: every decoder reads back the ragged columns that it writes, and names what does not fit."""

from typing import Any

import jax
import numpy as np
import pytest
from batches import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datarax_arrayrecord.decoders import ArrayDecoder, ExampleDecoder, MsgpackDecoder, NpzDecoder
from datarax_arrayrecord.decoders import example_wire as wire
from datarax_core.errors import RecordError
from datarax_core.records import Ragged, spec_of
from datarax_core.registry import Decoder, FunctionDecoder

CLASSES: list[type[Decoder]] = [ArrayDecoder, ExampleDecoder, MsgpackDecoder, NpzDecoder]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=["array", "example", "msgpack", "npz"])
TOKENS = {"tokens": {"dtype": "int32", "shape": [None]}}


def documents(*lengths: int, dtype: Any = np.int32, inner: tuple[int, ...] = ()) -> Ragged:
    """Return records of these lengths, numbered through."""
    starts = np.cumsum([0, *lengths])
    size = int(np.prod(inner))
    values = np.arange(starts[-1] * size) % 100
    return Ragged(values.reshape(starts[-1], *inner).astype(dtype), starts)


def assert_equal(found: Any, expected: Ragged) -> None:
    assert isinstance(found, Ragged)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert [row.shape for row in found] == [row.shape for row in expected]
    assert [row.tobytes() for row in found] == [row.tobytes() for row in expected]


@st.composite
def ragged_columns(draw: st.DrawFn, rows: int) -> Ragged:
    """Draw a column of any dtype and lengths, often of items of several values, sometimes a slice of a longer one."""
    dtype, inner = draw(st.sampled_from(DTYPES)), draw(st.sampled_from([(), (), (2,), (1, 3)]))
    lengths = draw(st.lists(st.integers(0, 4), min_size=rows + 2, max_size=rows + 2))
    highest = 0 if dtype.itemsize == 1 else 255  # unused bits of small dtypes are 0
    size = sum(lengths) * int(np.prod(inner)) * dtype.itemsize
    values = np.array(draw(st.lists(st.integers(0, highest), min_size=size, max_size=size)), np.uint8)
    column = Ragged(values.view(dtype).reshape(-1, *inner), np.cumsum([0, *lengths]))
    return column[1:-1]


@each_class
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ragged_columns_are_read_back_to_the_bit(cls: type[Decoder], data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 40))
    batch: dict[str, Any] = {"label": np.arange(rows), "x": data.draw(ragged_columns(rows))}
    if cls is not ArrayDecoder:
        batch["inner"] = {"y": data.draw(ragged_columns(rows))}
    decoder = cls.for_spec(spec_of(batch))
    found = decoder.decode(decoder.encode(batch), decoder.element_spec())
    assert_equal(found["x"], batch["x"])
    assert found["label"].tolist() == batch["label"].tolist()
    if "inner" in batch:
        assert_equal(found["inner"]["y"], batch["inner"]["y"])


@pytest.mark.parametrize("cls", [MsgpackDecoder, NpzDecoder])
def test_records_that_vary_in_several_axes_are_read_back(cls: type[Decoder]) -> None:
    images = [np.full((h, w, 3), h, np.uint8) for h, w in ((2, 5), (0, 3), (4, 1))]
    batch = {"image": Ragged.from_list(images, np.uint8, (None, None, 3))}
    decoder = cls.for_spec(spec_of(batch))
    assert_equal(decoder.decode(decoder.encode(batch), decoder.element_spec())["image"], batch["image"])


@pytest.mark.parametrize("kind", ["str", "bytes"])
def test_lists_of_text_of_any_length_are_read_back(kind: str) -> None:
    values = [["a", "", "ccc"], [], ["ü"]] if kind == "str" else [[b"a\1", b""], [], [b"c"]]
    batch = {"words": Ragged.from_list(values, object, (None,))}
    decoders: list[Decoder] = [
        ExampleDecoder(fields={"words": {"dtype": kind, "shape": [None]}}),
        *(cls.for_spec(spec_of(batch)) for cls in (MsgpackDecoder, NpzDecoder)),
    ]
    for decoder in decoders:
        found = decoder.decode(decoder.encode(batch), decoder.element_spec())["words"]
        assert [row.tolist() for row in found] == values


@each_class
def test_an_array_is_written_where_lengths_may_vary(cls: type[Decoder]) -> None:
    decoder = cls.for_spec({"tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))})
    records = decoder.encode({"tokens": np.arange(6, dtype=np.int32).reshape(2, 3)})
    assert_equal(
        decoder.decode(records, decoder.element_spec())["tokens"], Ragged(np.arange(6, dtype=np.int32), [0, 3, 6])
    )


@each_class
def test_a_ragged_column_is_not_written_where_lengths_do_not_vary(cls: type[Decoder]) -> None:
    decoder = cls.for_spec({"tokens": jax.ShapeDtypeStruct((3,), np.dtype(np.int32))})
    with pytest.raises(ValueError, match=r"field 'tokens' is int32\[None\] where int32\[3\] is declared"):
        decoder.encode({"tokens": documents(3, 3)})


# -- array ----------------------------------------------------------------------------------------------------------------


def test_the_last_field_of_an_array_record_takes_its_rest() -> None:
    decoder = ArrayDecoder(fields={"label": {"dtype": "uint16"}, "boxes": {"dtype": "int16", "shape": [None, 2]}})
    found = decoder.decode([b"\1\0", b"\2\0" + bytes(range(8))], decoder.element_spec())
    assert found["label"].tolist() == [1, 2]
    assert [row.tolist() for row in found["boxes"]] == [[], [[0x100, 0x302], [0x504, 0x706]]]


def test_a_field_that_varies_is_written_last() -> None:
    decoder = ArrayDecoder.for_spec(spec_of({"t": documents(1, 2), "label": np.arange(2)}))
    assert list(decoder.fields) == ["label", "t"]


@pytest.mark.parametrize("size", [1, 5, 9])
def test_an_array_record_with_a_part_of_an_item_is_refused(size: int) -> None:
    decoder = ArrayDecoder(fields={"label": {"dtype": "int16"}, **TOKENS})
    match = (
        rf"has {size} bytes where 2 and a multiple of 4 are expected: label int16\[\] at 0, tokens int32\[None\] at 2"
    )
    with pytest.raises(RecordError, match=match) as caught:
        decoder.decode([bytes(6), bytes(size)], decoder.element_spec())
    assert caught.value.record == 1


def test_bools_of_an_array_record_are_checked_where_their_number_varies() -> None:
    decoder = ArrayDecoder(fields={"f": {"dtype": "bool", "shape": [None]}})
    with pytest.raises(RecordError, match=r"field 'f' is bool\[None\], and a byte of it is 2, which is no bool"):
        decoder.decode([b"\1", b"\0\2"], decoder.element_spec())


@pytest.mark.parametrize(
    "fields",
    [
        {**TOKENS, "label": {"dtype": "int32"}},
        {"a": {"dtype": "int32", "shape": [2, None]}},
        {"a": {"dtype": "int32", "shape": [None, None]}},
        {"a": {"dtype": "int32", "shape": [None, 0]}},
    ],
)
def test_an_array_record_has_one_axis_that_varies_at_its_end(fields: dict[str, Any]) -> None:
    with pytest.raises(
        ValidationError, match="the length of one axis, the first one of the last field; put it last, or"
    ):
        ArrayDecoder(fields=fields)


# -- example --------------------------------------------------------------------------------------------------------------


def example(name: str, kind: str, values: list[Any]) -> bytes:
    message = wire.Example()
    getattr(message.features.feature[name], kind).value.extend(values)
    return message.SerializeToString()


@pytest.mark.parametrize("count", [1, 7, 60])
@pytest.mark.parametrize(
    ("kind", "dtype", "value"),
    [
        ("int64_list", "int64", -(2**40)),
        ("int64_list", "int64", 300),
        ("int64_list", "uint8", 200),
        ("int64_list", "bool", 1),
        ("float_list", "float32", 0.5),
        ("float_list", "float64", 0.5),
        ("float_list", "bfloat16", -2.0),
    ],
)
def test_lists_of_any_length_are_read_in_every_way(kind: str, dtype: str, value: float, count: int) -> None:
    lengths = [(row * 7) % 5 * (row % 9) for row in range(count)]  # few and many records of a length
    records = [example("x", kind, [value] * length) for length in lengths]
    decoder = ExampleDecoder(fields={"x": {"dtype": dtype, "shape": [None]}})
    column = decoder.decode(records, decoder.element_spec())["x"]
    assert column.dtype == np.dtype(dtype)
    assert column.lengths.tolist() == lengths
    assert set(column.values.astype(np.float64).tolist()) <= {value}


def test_features_of_varying_length_in_another_order_get_their_own_rows() -> None:
    records = []
    for row in range(100):
        message = wire.Example()
        message.features.feature["id"].int64_list.value.append(row)
        message.features.feature["x"].float_list.value.extend([row] * (row % 4))
        if row % 3 == 0:
            message.features.feature["other"].bytes_list.value.append(b"?" * row)
        records.append(message.SerializeToString())
    decoder = ExampleDecoder(fields={"x": {"dtype": "float32", "shape": [None]}, "id": {"dtype": "int32"}})
    found = decoder.decode(records, decoder.element_spec())
    assert found["id"].tolist() == list(range(100))
    assert [row.tolist() for row in found["x"]] == [[row] * (row % 4) for row in range(100)]


def test_numbers_stored_as_bytes_may_be_one_value_or_a_value_an_item() -> None:
    decoder = ExampleDecoder(fields={"x": {"dtype": "int16", "shape": [None, 2]}})
    found = decoder.decode(
        [example("x", "bytes_list", [bytes(8)]), example("x", "bytes_list", [b"\1\0\2\0", b"\3\0\4\0", b"\5\0\6\0"])],
        decoder.element_spec(),
    )["x"]
    assert [row.tolist() for row in found] == [[[0, 0], [0, 0]], [[1, 2], [3, 4], [5, 6]]]


def test_a_record_without_the_feature_gets_the_default() -> None:
    records = [example("x", "int64_list", [1, 2]), example("other", "int64_list", [1])] * 20
    empty = ExampleDecoder(fields={"x": {"dtype": "int32", "shape": [None], "default": []}})
    assert [row.tolist() for row in empty.decode(records, empty.element_spec())["x"]] == [[1, 2], []] * 20
    some = ExampleDecoder(fields={"x": {"dtype": "int32", "shape": [None], "default": [7, 8, 9]}})
    assert [row.tolist() for row in some.decode(records, some.element_spec())["x"]] == [[1, 2], [7, 8, 9]] * 20
    none = ExampleDecoder(fields={"x": {"dtype": "int32", "shape": [None]}})
    with pytest.raises(RecordError, match="the feature 'x' is missing; the record has 'other'"):
        none.decode(records, none.element_spec())


@pytest.mark.parametrize(
    ("field", "records", "match"),
    [
        (
            {"shape": [None, 3]},
            [("int64_list", [1, 2, 3, 4])],
            r"'x' has 4 values where int32\[None, 3\], 3 values an item, is",
        ),
        ({}, [("bytes_list", [b"12345"])], r"'x' has 5 bytes where int32\[None\], 4 bytes a value, is expected"),
        ({}, [("bytes_list", [b"1234", b"12"])], "a bytes_list of 2 values, one of them with 2 bytes, where"),
        (
            {},
            [("float_list", [1.0])],
            r"'x' has a float_list where int32\[None\], an int64_list or raw bytes, is expected",
        ),
        (
            {"dtype": "float32"},
            [("int64_list", [1])],
            r"'x' has an int64_list where float32\[None\], a float_list or raw",
        ),
        ({"dtype": "uint8"}, [("int64_list", [1, 300])], "'x' has the value 300 where uint8, 0 to 255, is expected"),
        (
            {"dtype": "float16"},
            [("float_list", [1e9])],
            r"'x' has the value 1e\+09 where a number that float16 holds is",
        ),
        ({"dtype": "str"}, [("bytes_list", [b"a", b"\xff"])], "is declared as str, and its bytes .* are no UTF-8 text"),
        (
            {"dtype": "str"},
            [("int64_list", [1])],
            r"'x' has the list int64_list where a bytes_list, str\[None\], is expected",
        ),
        (
            {"dtype": "bool"},
            [("bytes_list", [b"\0\3"])],
            r"'x' is bool\[None\], and a byte of it is 3, which is no bool",
        ),
    ],
)
def test_a_list_that_does_not_fit_is_named(field: dict[str, Any], records: list[Any], match: str) -> None:
    decoder = ExampleDecoder(fields={"x": {"dtype": "int32", "shape": [None], **field}})
    for others in (0, 40):  # alone, and among many
        bad = [example("x", *record) for record in records]
        good = example("x", "bytes_list", [] if field.get("dtype") in ("str", "bytes") else [b""])
        with pytest.raises(RecordError, match=match) as caught:
            decoder.decode([good] * others + bad, decoder.element_spec())
        assert caught.value.record == others


@pytest.mark.parametrize(
    ("kind", "dtype", "value"),
    [("int64_list", "int64", 1), ("float_list", "float32", 1.0), ("bytes_list", "bytes", b"a")],
)
def test_another_number_of_values_than_declared_says_how_to_declare_it(kind: str, dtype: str, value: Any) -> None:
    match = (
        rf"'x' has an? {kind} of 3 values where {dtype}\[2\] is expected; if their number varies .* declare the shape"
    )
    decoder = ExampleDecoder(fields={"x": {"dtype": dtype, "shape": [2]}})
    with pytest.raises(RecordError, match=match):
        decoder.decode([example("x", kind, [value] * 2), example("x", kind, [value] * 3)], decoder.element_spec())


def test_damaged_integers_are_named() -> None:
    decoder = ExampleDecoder(fields={"x": {"dtype": "int64", "shape": [None]}})
    for payload, match in (
        (b"\1\x80", "'x' has an int64_list that ends within a value"),
        (b"\xff" * 11 + b"\1", "'x' has an int64_list with a value of 12 bytes"),
    ):
        record = wire.record_of([wire.prefix_of("x", wire.INTEGERS, len(payload)) + payload])
        with pytest.raises(RecordError, match=match):
            decoder.decode([record] * 30, decoder.element_spec())


@pytest.mark.parametrize("shape", [[2, None], [None, None], [None, 0]])
def test_a_list_tells_the_length_of_the_first_axis_only(shape: list[int | None]) -> None:
    with pytest.raises(ValidationError, match="tells the size of the first axis only: null stands there"):
        ExampleDecoder(fields={"x": {"dtype": "int32", "shape": shape}})


@pytest.mark.parametrize("default", [1, [[1]], [1.5]])
def test_a_default_of_another_shape_is_refused(default: Any) -> None:
    with pytest.raises(ValidationError, match="the default"):
        ExampleDecoder(fields={"x": {"dtype": "int32", "shape": [None], "default": default}})


def test_many_long_lists_of_integers_are_read_exactly() -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(-(2**63), 2**63, n) >> rng.integers(0, 63, n) for n in rng.integers(0, 3000, 60)]
    records = [example("x", "int64_list", document.tolist()) for document in documents]
    decoder = ExampleDecoder(fields={"x": {"dtype": "int64", "shape": [None]}})
    for row, document in zip(decoder.decode(records, decoder.element_spec())["x"], documents, strict=True):
        np.testing.assert_array_equal(row, document)


# -- msgpack, npz and functions -------------------------------------------------------------------------------------------


def test_msgpack_reads_lists_bytes_and_arrays_of_any_length() -> None:
    import msgpack  # noqa: PLC0415

    made = MsgpackDecoder(fields=TOKENS)
    array = made.encode({"tokens": documents(2)})[0]
    others = [msgpack.packb({"tokens": value}) for value in ([5, 6, 7], [], np.arange(2, dtype="<i4").tobytes())]
    found = made.decode([array, *others], made.element_spec())["tokens"]
    assert [row.tolist() for row in found] == [[0, 1], [5, 6, 7], [], [0, 1]]


@pytest.mark.parametrize(
    ("shape", "value", "match"),
    [
        ([None], bytes(5), r"'tokens' has 5 bytes where a multiple of 4 is expected: int32\[None\]"),
        (
            [None, None],
            bytes(4),
            r"'tokens' has 4 bytes, which do not say the lengths of all axes of int32\[None, None\]",
        ),
        ([None], [1, 2**40], r"field 'tokens' is int64\[2\] where int32\[None\] is expected"),
        ([None], 7, r"field 'tokens' is int64\[\] \(7\) where int32\[None\] is expected"),
        ([None], {"a": 1}, "field 'tokens'"),
    ],
)
def test_msgpack_names_what_does_not_fit(shape: list[Any], value: Any, match: str) -> None:
    import msgpack  # noqa: PLC0415

    made = MsgpackDecoder(fields={"tokens": {"dtype": "int32", "shape": shape}})
    with pytest.raises(RecordError, match=match):
        made.decode([msgpack.packb({"tokens": value})], made.element_spec())


def test_a_function_gives_ragged_columns_by_the_spec_that_it_is_given() -> None:
    spec = {"words": jax.ShapeDtypeStruct((None,), np.dtype(object)), "n": jax.ShapeDtypeStruct((), np.dtype(np.int32))}
    decoder = FunctionDecoder(function=lambda record: {"words": record.decode().split(), "n": len(record)}, spec=spec)
    found = decoder.decode([b"a b", b"", b"c"], decoder.element_spec())
    assert [row.tolist() for row in found["words"]] == [["a", "b"], [], ["c"]]
    assert found["n"].tolist() == [3, 0, 1]
    assert decoder.model_dump()["spec"] == {"n": "int32[]", "words": "object[None]"}
    assert "spec" not in FunctionDecoder(function=len).model_dump()  # as in states of earlier versions
    with pytest.raises(ValidationError, match=r"has a jax.ShapeDtypeStruct for each field, not 'int32'"):
        FunctionDecoder(function=len, spec={"n": "int32"})
