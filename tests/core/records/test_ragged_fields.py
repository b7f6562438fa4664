"""Ragged fields in element specs, checks of batches, stacking and digests."""

import tracemalloc
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import Ragged
from datarax_core.errors import SpecError
from datarax_core.records import (
    ValuePath,
    batch_of,
    check_batch,
    column_of,
    common_spec,
    describe,
    device_spec,
    differences,
    element_spec_of,
    empty_batch,
    narrowed_fields,
    nbytes_of,
    spec_of,
    split_host_fields,
    with_host_fields,
)
from datarax_core.records.digests import digest_of
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import describe_one_kind

TOKENS = Ragged.from_list([[1, 2, 3], [], [4]], np.int64)
IMAGES = Ragged.from_list([np.zeros((h, 2, 3), np.uint8) for h in (1, 2, 3)], shape=(None, None, 3))
BATCH = {"tokens": TOKENS, "image": IMAGES, "label": np.arange(3), "text": np.array(["a", "bc", ""], object)}
SPEC = spec_of(BATCH)
PATH = ValuePath("x", "the test's data")


def struct(shape: Any, dtype: Any = np.int64) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


def test_a_spec_has_none_for_each_axis_that_varies() -> None:
    assert SPEC["tokens"] == struct((None,))
    assert SPEC["image"] == struct((None, None, 3), np.uint8)
    assert describe(SPEC) == {
        "image": "uint8[None, None, 3]", "label": "int64[]", "text": "object[]", "tokens": "int64[None]"
    }  # fmt: skip
    assert describe_one_kind(describe(SPEC), describe(SPEC))
    assert not describe_one_kind(describe(SPEC), describe(SPEC) | {"tokens": "int64[3]"})
    former = describe(SPEC) | {"tokens": "object[]"}  # as an earlier version wrote it
    assert describe_one_kind(describe(SPEC), former)
    assert describe_one_kind(former, describe(SPEC))
    assert not describe_one_kind(former, describe(SPEC) | {"tokens": "int64[3]"})
    assert device_spec(SPEC)["tokens"] == struct((None,)), "host fields are not narrowed"
    assert device_spec(SPEC)["label"] == struct((), np.int32)
    assert common_spec([SPEC, SPEC])["tokens"] == struct((None,))
    assert spec_of(empty_batch(SPEC)) == SPEC


def test_ragged_fields_are_host_fields() -> None:
    on_device, on_host = split_host_fields(BATCH)
    assert (set(on_device), set(on_host)) == ({"label"}, {"tokens", "image", "text"})
    assert with_host_fields(on_device, on_host).keys() == BATCH.keys()
    assert [*map(set, split_host_fields(SPEC))] == [{"label"}, {"tokens", "image", "text"}]
    nested = {"a": {"tokens": TOKENS, "n": np.arange(3)}}
    assert split_host_fields(nested) == ({"a": {"n": nested["a"]["n"]}}, {"a": {"tokens": TOKENS}})
    with pytest.raises(
        SpecError, match=r"ragged, text or object records \(record\) need a field name.*\{'text': record\}"
    ):
        split_host_fields(TOKENS)
    with pytest.raises(SpecError, match=r"field 'x' is int64\[None\], which no device has"):
        narrow({"x": TOKENS})
    assert set(narrowed_fields(BATCH)) == {"label"}


def test_bytes_are_those_of_the_records() -> None:
    assert nbytes_of(BATCH) == 4 * 8 + 12 * 3 + 3 * 8 + 3
    assert nbytes_of({"x": TOKENS[1:]}) == 8
    assert nbytes_of({"x": Ragged.from_list([["abc"], ["d", "e"]])}) == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokens": TOKENS[:2]}, r"field 'tokens' has 2 rows where 3 were asked for"),
        ({"tokens": TOKENS.astype(np.int32)}, r"field 'tokens' is int32\[None\] where int64\[None\] is expected"),
        (
            {"tokens": np.zeros((3, 2), np.int64)},
            r"field 'tokens' is int64\[2\] where int64\[None\] is expected; values of varying length are Ragged\.from_list",
        ),
        ({"label": TOKENS}, r"field 'label' is int64\[None\] where int64\[\] is expected"),
        ({"image": TOKENS}, r"field 'image' is int64\[None\] where uint8\[None, None, 3\] is expected"),
        ({"tokens": TOKENS.to_list()}, r"field 'tokens' is a list, not an array"),
    ],
)
def test_a_batch_that_its_spec_does_not_describe_is_refused(changed: Any, message: str) -> None:
    check_batch(BATCH, SPEC, 3, origin="a source")
    with pytest.raises(SpecError, match=rf"a source gave a batch .* does not describe: {message}"):
        check_batch({**BATCH, **changed}, SPEC, 3, origin="a source")


def test_ragged_text_is_text_in_any_dtype() -> None:
    words, spec = Ragged.from_list([["a"], ["b", "cd"]]), {"x": struct((None,), "<U1")}
    check_batch({"x": words}, spec, 2, origin="a source")
    check_batch({"x": words.astype("<U2")}, spec, 2, origin="a source")
    with pytest.raises(SpecError, match=r"field 'x' holds 7 where text is expected"):
        check_batch({"x": Ragged(np.array(["a", 7], object), [0, 1, 2])}, spec, 2, origin="a source")
    assert differences(spec, {"x": struct((None,), object)}) == []
    assert differences(spec, {"x": struct((2,), object)}) == ["field 'x' is object[2] where text[None] is expected"]


def test_values_of_differing_lengths_stack_to_a_ragged_column() -> None:
    column = column_of([np.arange(2, dtype=np.int32), np.arange(3, dtype=np.int64), []], PATH)
    assert isinstance(column, Ragged)
    assert (column.dtype, column.tolist()) == (np.int64, [[0, 1], [0, 1, 2], []])
    assert column_of([[1], [0.5, 2]], PATH).tolist() == [[1.0], [0.5, 2.0]]
    assert column_of([["a", "b\0"], [], ["c"]], PATH).tolist() == [["a", "b\0"], [], ["c"]]
    assert column_of([[[1, 2]], [[1, 2], [3, 4]]], PATH).shape == (2, None, 2)
    same = column_of([[1, 2], [3, 4]], PATH)
    assert isinstance(same, np.ndarray)
    assert isinstance(column_of([[1, 2], [3, 4]], PATH, (None,)), Ragged)


@pytest.mark.parametrize(
    ("values", "shape", "message"),
    [
        ([[1], [1, 2]], (1,), r"field 'x' of element 1 of the test's data has shape \[2\] where element 0 has \[1\]"),
        ([[1], [[1, 2]]], None, r"'x' of the test's data is no ragged column: record 1 has 2 axes where others have 1"),
        ([[1], 2], None, r"is no ragged column: record 1 is a single value"),
        ([[1], ["a", "b"]], None, r"field 'x' of element 1 of the test's data is .* where element 0 is int64"),
        ([[2**60 + 1], [0.5, 1.5]], None, r"the integer 1152921504606846977, which would change in float64"),
        ([[[1], [1, 2]], [[1]]], None, r"has shape \[2\] where .* has \[1\]"),
    ],
)
def test_values_that_do_not_stack_are_named(values: Any, shape: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        column_of(values, PATH, shape)


def test_digests_depend_on_records_and_not_on_how_they_are_kept() -> None:
    one = Ragged.from_list([[1, 2], [3]])
    digest = digest_of({"x": one})
    assert digest == digest_of({"x": Ragged(np.array([0, 1, 2, 3, 9]), [1, 3, 4])})
    for other in (Ragged.from_list([[1], [2, 3]]), one.astype(np.int32), one[:1], Ragged.from_list([[1, 2], [4]])):
        assert digest_of({"x": other}) != digest
    images = [np.zeros((2, 3, 1)), np.zeros((3, 2, 1))]
    assert digest_of(Ragged.from_list(images)) != digest_of(Ragged.from_list(images[::-1]))
    words = [["a"], ["b", "c"]]
    assert digest_of(Ragged.from_list(words)) == digest_of(Ragged.from_list(words).astype("<U8"))


@pytest.mark.parametrize("long", ["b" * 200_000, b"b" * 800_000])
def test_one_long_text_takes_its_own_room_only(long: Any) -> None:
    texts = [long[:1]] * 1000 + [long]
    tracemalloc.start()
    try:
        element_spec_of({"x": texts}, "an element")
        Ragged.from_list([texts, texts[:2]])
        Ragged(texts, [0, 1, 1001])
        column_of([texts, texts[1:]], PATH)
        column_of(texts, PATH)
        batch_of([{"x": texts}, {"x": []}], {"x": struct((None,), object)}, str)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000, "of NumPy's dtypes, a thousand times the longest"
