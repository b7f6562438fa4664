"""Elements whose lengths vary, as batches with ragged columns."""

from typing import Any

import jax
import numpy as np
import pytest

from datarax_core.errors import SpecError
from datarax_core.records import Ragged, batch_of, has_shape, varying_spec
from datarax_core.sources import from_sequence


def struct(shape: Any, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))


def stacked(values: list[Any], field: jax.ShapeDtypeStruct) -> Any:
    return batch_of([{"x": value} for value in values], {"x": field}, lambda row: f"element {row}")["x"]


def test_arrays_of_varying_length_become_one_ragged_column() -> None:
    column = stacked([np.array([1, 2], np.int32), np.array([], np.int32), np.array([3], np.int32)], struct([None]))
    assert isinstance(column, Ragged)
    assert column.shape == (3, None)
    assert [row.tolist() for row in column] == [[1, 2], [], [3]]
    assert column.values.dtype == np.int32


def test_lists_take_the_dtype_of_the_spec() -> None:
    column = stacked([[1, 2], [], [3]], struct([None], np.uint8))
    assert column.dtype == np.uint8
    assert [row.tolist() for row in column] == [[1, 2], [], [3]]
    text = stacked([["a", "bc"], [], ["d"]], struct([None], object))
    assert text.dtype == object
    assert [row.tolist() for row in text] == [["a", "bc"], [], ["d"]]


def test_lists_and_arrays_mix_and_empty_lists_have_any_dtype() -> None:
    column = stacked([np.array([1.5], np.float32), [2, 3], []], struct([None], np.float32))
    assert [row.tolist() for row in column] == [[1.5], [2.0, 3.0], []]
    boxes = stacked([[], [[1, 2, 3, 4]], np.ones((2, 4), np.int32)], struct([None, 4]))
    assert boxes.shape == (3, None, 4)
    assert boxes.lengths.tolist() == [0, 1, 2]


def test_several_axes_vary() -> None:
    images = [np.arange(h * w * 3, dtype=np.uint8).reshape(h, w, 3) for h, w in ((2, 3), (1, 5), (0, 4))]
    column = stacked(images, struct([None, None, 3], np.uint8))
    for row, image in zip(column, images, strict=True):
        np.testing.assert_array_equal(row, image)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (
            [300],
            r"element 1 is not what the element spec says: field 'x' is int64\[1\] where uint8\[None\] is expected",
        ),
        (np.zeros(2, np.int64), r"field 'x' is int64\[2\] where uint8\[None\] is expected"),
        (7, r"field 'x' is int64\[\] \(7\) where uint8\[None\] is expected"),
        (np.zeros((2, 2), np.uint8), r"field 'x' is uint8\[2, 2\] where uint8\[None\] is expected"),
    ],
)
def test_an_element_that_does_not_fit_is_named(value: Any, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        stacked([[1], value], struct([None], np.uint8))


def test_an_inner_axis_of_another_length_is_named() -> None:
    with pytest.raises(SpecError, match=r"field 'x' is int32\[2, 3\] where int32\[None, 4\] is expected"):
        stacked([np.ones((1, 4), np.int32), np.ones((2, 3), np.int32)], struct([None, 4]))


def test_specs_of_two_elements_have_none_where_they_differ() -> None:
    one = {"a": struct([3]), "b": struct([2, 4]), "c": struct([]), "d": struct([5])}
    other = {"a": struct([5]), "b": struct([2, 4]), "c": struct([1]), "d": struct([6], np.int64)}
    assert varying_spec(one, other) == {"a": struct([None]), "b": struct([2, 4]), "c": struct([]), "d": struct([None])}
    assert varying_spec(varying_spec(one, other), one)["a"] == struct([None])
    assert varying_spec(one, {"a": struct([4])}) == one


def test_a_list_without_items_says_nothing_of_the_others() -> None:
    empty, boxes = {"a": struct([0], np.float64)}, {"a": struct([2, 4])}
    assert varying_spec(empty, boxes) == varying_spec(boxes, empty) == {"a": struct([None, 4])}
    assert varying_spec(empty, empty) == empty


def test_lists_of_another_dtype_vary_in_length_all_the_same() -> None:
    source = from_sequence([{"x": [1.5, 2.0]}, {"x": [1]}, {"x": []}])
    assert source.get_batch(3)["x"].tolist() == [[1.5, 2.0], [1.0], []]
    with pytest.raises(SpecError, match=r"field 'x' is float64\[1\] where int64\[None\] is expected$"):
        from_sequence([{"x": [1, 2]}, {"x": [1.5]}]).get_batch(2)


def test_elements_of_varying_length_keep_the_order_of_bytes() -> None:
    source = from_sequence([{"x": np.arange(n, dtype=">i4")} for n in (1, 300)])
    column = source.get_batch(2)["x"]
    assert (column.dtype.str, column[1].tolist()) == (">i4", list(range(300)))
    strided = Ragged(np.arange(600, dtype=">i4")[::2], [0, 0, 300])
    assert (strided[[1, 0]].dtype.str, strided[[1, 0]].tolist()) == (">i4", [list(range(0, 600, 2)), []])


def test_has_shape() -> None:
    assert has_shape((3, 4), (None, 4))
    assert has_shape((None, 4), (None, 4))
    assert not has_shape((3, 4), (4, 4))
    assert not has_shape((3,), (None, 4))
    assert not has_shape((None,), (3,))
