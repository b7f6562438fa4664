"""Padding and truncation: right values, masks and lengths at any side, and what cannot be padded."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pad, Pipeline, StageError, TokenizeBytes, Truncate, from_sequence
from datarax_core.devices.layout import OneDevice
from datarax_core.records.ragged import Ragged
from datarax_core.routes.definition import require_batches

SIDES = st.sampled_from(["right", "left"])
ROWS = st.lists(st.lists(st.integers(-100, 100), max_size=6), max_size=5)


def struct(shape: tuple[int | None, ...], dtype: Any = np.int32) -> Any:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


def ragged(*rows: Any, dtype: Any = np.int32, inner: tuple[int, ...] = ()) -> Ragged:
    return Ragged.from_list([np.array(row, dtype).reshape(-1, *inner) for row in rows], dtype, (None, *inner))


def as_lists(column: Any) -> list[Any]:
    return [np.asarray(row).tolist() for row in column]


def cut(row: list[int], length: int, side: str) -> list[int]:
    return row[:length] if side == "right" else row[max(0, len(row) - length) :]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 8), SIDES, SIDES, st.integers(0, 2))
def test_records_are_padded_on_either_side_with_mask_and_lengths(
    rows: list[list[int]], length: int, side: Any, cut_side: Any, outside: int
) -> None:
    column = ragged(*[[9, 9]] * outside, *rows, [8])[outside:-1]
    pad = Pad(field="x", length=length, value=-7, side=side, truncate=cut_side, mask_field="m", length_field="n")
    made = pad({"x": column, "y": np.arange(len(rows))})
    kept = [cut(row, length, cut_side) for row in rows]
    gaps = [[-7] * (length - len(row)) for row in kept]
    expected = [row + gap if side == "right" else gap + row for row, gap in zip(kept, gaps, strict=True)]
    assert made["x"].shape == made["m"].shape == (len(rows), length)
    assert (made["x"].dtype, made["m"].dtype, made["n"].dtype) == (np.int32, np.bool_, np.int32)
    assert made["x"].tolist() == expected
    assert [row[mask].tolist() for row, mask in zip(made["x"], made["m"], strict=True)] == kept
    assert made["n"].tolist() == [len(row) for row in kept]


@settings(max_examples=30, deadline=None)
@given(ROWS, st.integers(1, 8), SIDES)
def test_records_are_cut_on_either_side(rows: list[list[int]], length: int, side: Any) -> None:
    made = Truncate(field="x", length=length, side=side)({"x": ragged(*rows)})["x"]
    assert as_lists(made) == [cut(row, length, side) for row in rows]


def test_a_batch_has_the_smallest_of_several_lengths_that_fits_its_longest_record() -> None:
    pad = Pad(field=("x", "y"), lengths=(8, 2, 4), truncate="right")
    for longest, expected in [(0, 2), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 8)]:
        made = pad({"x": ragged([], range(longest)), "y": ragged([1], [])})
        assert made["x"].shape == made["y"].shape == (2, expected)
    spec = {"x": struct((None,)), "y": struct((None,))}
    assert pad.element_spec(spec)["x"] == struct((8,))
    assert pad.whole_batch
    assert not Pad(field="x", length=8).whole_batch


def test_images_are_padded_in_both_axes_that_vary() -> None:
    first, second = np.arange(2 * 3 * 2).reshape(2, 3, 2), np.arange(100, 100 + 4 * 1 * 2).reshape(4, 1, 2)
    column = Ragged.from_list([first, second], np.int64, (None, None, 2))
    pad = Pad(field="x", length=(3, 3), truncate="right", mask_field="m", length_field="n")
    made = pad({"x": column})
    expected = np.zeros((2, 3, 3, 2), np.int64)
    expected[0, :2, :3], expected[1, :3, :1] = first, second[:3]
    np.testing.assert_array_equal(made["x"], expected)
    assert made["m"].sum(axis=(1, 2)).tolist() == [6, 3]
    np.testing.assert_array_equal(made["x"][0][made["m"][0]], first.reshape(-1, 2))
    assert made["n"].tolist() == [[2, 3], [3, 1]]
    left = Pad(field="x", length=(4, 3), side="left", truncate="left")({"x": column})["x"]
    np.testing.assert_array_equal(left[0, 2:], first)
    np.testing.assert_array_equal(left[1, :, 2:], second)
    spec = pad.element_spec({"x": struct((None, None, 2), np.int64)})
    assert spec == {"x": struct((3, 3, 2), np.int64), "m": struct((3, 3), np.bool_), "n": struct((2,))}


def test_axes_of_one_size_around_one_that_varies_stay() -> None:
    columns = Ragged.from_list([np.ones((2, 3)), np.ones((2, 1))], np.float64, (2, None))
    made = Pad(field="x", length=4, length_field="n")({"x": columns})
    assert made["x"].shape == (2, 2, 4)
    assert made["n"].tolist() == [3, 1]
    assert Pad(field="x", length=4).element_spec({"x": struct((2, None))}) == {"x": struct((2, 4))}
    boxes = Pad(field="x", length=2)({"x": ragged([[1, 2]], [], inner=(2,))})["x"]
    assert boxes.tolist() == [[[1, 2], [0, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize(("side", "expected"), [("right", [[1, 2, 0], [3, 4, 0]]), ("left", [[0, 1, 2], [0, 3, 4]])])
def test_fields_of_one_length_are_padded_and_cut_too(side: Literal["right", "left"], expected: Any) -> None:
    batch = {"x": np.array([[1, 2], [3, 4]]), "a": {"b": np.zeros((2, 5, 2))}}
    made = Pad(field="x", length=3, side=side, mask_field="a.m", length_field="n")(batch)
    assert made["x"].tolist() == expected
    assert made["a"]["m"].sum() == 4
    assert made["n"].tolist() == [2, 2]
    assert Truncate(field="a.b", length=3)(batch)["a"]["b"].shape == (2, 3, 2)
    assert Pad(field="a.b", length=(4, 4), truncate="left")(batch)["a"]["b"].shape == (2, 4, 4)
    spec = {"x": struct((2,)), "a": {"b": struct((5, 2), float)}}
    assert Truncate(field=("x", "a.b"), length=3).element_spec(spec) == {
        "x": struct((2,)),
        "a": {"b": struct((3, 2), float)},
    }
    assert Pad(field="x", length=2)(batch)["x"] is batch["x"]


def test_text_is_cut_to_characters_and_bytes_to_bytes() -> None:
    batch = {"t": np.array(["héllo", "a"], object), "u": np.array(["abcd", "x"]), "b": np.array([b"abc", b""], object)}
    made = Truncate(field=("t", "u", "b"), length=2, side="left")(batch)
    assert [made[name].tolist() for name in "tub"] == [["lo", "a"], ["cd", "x"], [b"bc", b""]]
    spec = {"t": struct((), "U"), "u": struct((), "U4"), "b": struct((), object)}
    assert Truncate(field=("t", "u", "b"), length=2).element_spec(spec) == spec


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("bool", 0), ("bool", True), ("uint8", 255), ("int64", 2**62), ("float32", -0.5), ("float32", 7), ("complex64", 1)],
)  # fmt: skip
def test_values_that_a_dtype_has_are_padded_with(dtype: str, value: Any) -> None:
    pad = Pad(field="x", length=2, value=value)
    pad.element_spec({"x": struct((None,), dtype)})
    made = pad({"x": ragged([], dtype=dtype)})["x"]
    assert made.tolist() == [[value, value]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"field": "x"}, "padded to one `length`, or to one of `lengths` for each batch; neither is given"),
        ({"field": "x", "length": 1, "lengths": (1, 2)}, "both are given"),
        ({"field": "x", "length": 0}, "greater than or equal to 1"),
        ({"field": "x", "length": 2.0}, "valid integer"),
        ({"field": "x", "lengths": ()}, "at least 1 item"),
        ({"field": "x", "lengths": (2, 3, 2)}, "2 is in the list twice; write it once"),
        ({"field": (), "length": 1}, "at least 1 item"),
        ({"field": ("x", "x"), "length": 1}, "'x' is in the list twice"),
        ({"field": "x", "length": 1, "value": "0"}, "valid integer"),
        ({"field": "x", "length": 1, "value": float("nan")}, "finite number"),
        ({"field": "x", "length": 1, "side": "top"}, "'right' or 'left'"),
        ({"field": "x", "length": 1, "mask_field": "a..b"}, "should match pattern"),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pad.model_validate(fields)


SPEC = {
    "t": struct((), "U"), "o": struct((), object), "n": struct(()), "x": struct((None,)), "u": struct((None,), "uint8"),
    "f": struct((None,), "float16"), "image": struct((None, None, 3), "uint8"), "dense": struct((5,)),
    "b": struct((None,), bool),
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "option", "message"),
    [
        (Pad(field="y", length=2), ("field",), r"the records have no field 'y' \(fields: "),
        (Pad(field=("x", "y"), length=2), ("field", 1), "the records have no field 'y'"),
        (Pad(field="t", length=2), ("field",), r"'t' is text\[\]; numbers and bool are padded; tokenize_bytes makes tokens"),
        (Pad(field="o", length=2), ("field",), r"'o' is object\[\]; numbers and bool are padded; tokenize_bytes makes tokens"),
        (Pad(field="n", length=2), ("field",), r"'n' is int32\[\], a single value a record, which has no length"),
        (Pad(field="image", length=2), ("length",), r"is uint8\[None, None, 3\], of which 2 axes are padded; give length"),
        (Pad(field="image", lengths=(2, 4)), ("lengths",), "of which 2 axes are padded"),
        (Pad(field="x", length=(2, 2)), ("length",), "of which 1 axes are padded; give length a list of 1 numbers"),
        (Pad(field="dense", length=4), ("length",), "has a record of length 5, and records are padded to 4; choose a greater"),
        (Pad(field="u", length=2, value=256), ("value",), "field 'u' is uint8, which has no value 256 to pad with"),
        (Pad(field="u", length=2, value=-1), ("value",), "no value -1"),
        (Pad(field="x", length=2, value=0.0), ("value",), r"no value 0\.0"),
        (Pad(field="x", length=2, value=True), ("value",), "no value True"),
        (Pad(field="b", length=2, value=2), ("value",), "field 'b' is bool, which has no value 2"),
        (Pad(field="f", length=2, value=70000), ("value",), "no value 70000"),
        (Pad(field="f", length=2, value=2049), ("value",), "no value 2049"),
        (Pad(field="x", length=2, mask_field="u"), ("mask_field",), "the name 'u' is taken by another field"),
        (Pad(field="x", length=2, length_field="x.n"), ("length_field",), "'x' is a field, which 'n' cannot be put into"),
        (Truncate(field="n", length=2), ("field",), "a single value a record, which has no length"),
        (Truncate(field="image", length=2), ("field",), "more than the first axis varies; pad cuts several axes"),
        (Truncate(field=("x", "q"), length=2), ("field", 1), "no field 'q'"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_work_is_refused_when_it_is_built(stage: Any, option: Any, message: str) -> None:
    with pytest.raises(StageError, match=message) as refused:
        stage.build(SPEC, None)
    assert refused.value.option == option


@pytest.mark.parametrize(
    ("stage", "batch", "option", "message"),
    [
        (Pad(field="x", length=2), {"x": ragged([1], [1, 2, 3])}, ("length",),
         "'x' has a record of length 3, and records are padded to 2; choose a greater length, or set truncate to cut"),
        (Pad(field="x", lengths=(1, 2)), {"x": ragged([1, 2, 3])}, ("lengths",),
         "'x' has a record of length 3, and records are padded to 2"),
        (Pad(field=("x", "y"), length=4, mask_field="m"), {"x": ragged([1], [2]), "y": ragged([1], [2, 2])}, ("mask_field",),
         "a record has length 1 in field 'x' and 2 in field 'y', so that one mask_field does not fit both"),
        (Truncate(field="o", length=2), {"o": np.array(["a", 3], object)}, ("field",),
         "field 'o' holds 3, a int, which is neither text nor bytes"),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_padded_is_refused(stage: Any, batch: Any, option: Any, message: str) -> None:
    with pytest.raises(StageError, match=message) as refused:
        stage(batch)
    assert refused.value.option == option


def test_records_without_field_names_are_refused() -> None:
    with pytest.raises(
        StageError, match=r"the records are single values, object\[\], not dicts .*such as \{'text': record\}"
    ):
        Pipeline(source=from_sequence(["a", "b"]), stages=[Pad(field="text", length=2)], batch_size=2)


def test_processes_that_each_read_their_rows_of_a_batch_pad_to_one_length() -> None:
    source = from_sequence([{"x": np.zeros(2, np.int32)}] * 6)
    refused = pytest.raises(
        ValueError, match=r"stage 0 \(pad\) needs all rows of a batch, .* and each of 2 processes reads"
    )
    for stage, expected in [(Pad(field="x", lengths=(2, 4)), refused), (Pad(field="x", length=4), nullcontext())]:
        definition = Pipeline(source=source, stages=[stage], batch_size=2)._definition()
        with expected:
            require_batches(replace(definition, layout=OneDevice(num_processes=2)))


def test_stages_are_compiled_once_for_each_length_that_occurs() -> None:
    traced: list[tuple[int, ...]] = []

    def noted(batch: Any) -> Any:
        traced.append(batch["text"].shape)
        return batch

    source = from_sequence([{"text": "x" * (1 + number % 8)} for number in range(24)])
    stages = [TokenizeBytes(field="text"), Pad(field="text", lengths=(4, 8, 16)), noted]
    pipeline = Pipeline(source=source, stages=stages, batch_size=2, num_epochs=3)
    shapes = [batch["text"].shape for batch in pipeline]
    assert traced == [(2, 4), (2, 8)]
    assert shapes == [(2, 4), (2, 4), (2, 8), (2, 8)] * 9
    assert pipeline.element_spec()["text"].shape == (16,)
    traced.clear()
    assert pipeline.step()["text"].shape == (2, 4)
    assert traced == []
