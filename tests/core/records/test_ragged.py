"""Ragged columns against lists of arrays, and what they refuse."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Ragged
from datarax_core.errors import SpecError

DTYPES = st.sampled_from([np.int32, np.uint8, np.float64, np.bool_, "<U3", object])

FORMS: dict[tuple[Any, ...], int] = {(None,): 1, (None, 2): 1, (None, None): 2, (3, None): 2, (None, 2, None, 2): 3}
"""Shapes of records, and the number of their leading axes whose sizes are kept."""


@st.composite
def columns(draw: Any) -> tuple[Ragged, list[np.ndarray]]:
    """Draw a ragged column, at times a slice of a longer one, and its records."""
    form, dtype = draw(st.sampled_from(list(FORMS))), draw(DTYPES)
    long = draw(st.booleans())
    records = []
    for _ in range(draw(st.integers(0, 6))):
        shape = [draw(st.integers(0, 200 if long else 4)) if size is None else size for size in form]
        values = np.arange(int(np.prod(shape))) % 7 + len(records)
        records.append(values.astype(dtype).reshape(shape))
    column = Ragged.from_list(records, dtype, form)
    start, stop = draw(st.integers(0, len(records))), draw(st.integers(0, len(records)))
    if draw(st.booleans()):
        column, records = column[start:stop], records[start:stop]
    return column, records


def require_same(column: Ragged, records: list[np.ndarray]) -> None:
    assert len(column) == len(records)
    for found, wanted in zip(column, records, strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    assert column.nbytes == sum(record.nbytes for record in records)
    assert column.lengths.tolist() == [int(np.prod(record.shape[: FORMS[column.record_shape]])) for record in records]


@settings(max_examples=150, deadline=None)
@given(columns(), st.data())
def test_records_are_those_of_a_list_of_arrays(drawn: tuple[Ragged, list[np.ndarray]], data: Any) -> None:
    column, records = drawn
    require_same(column, records)
    count = len(records)
    indices = data.draw(st.lists(st.integers(-count, count - 1), max_size=8)) if count else []
    require_same(column.take(indices), [records[index] for index in indices])
    require_same(column[np.array(indices, np.int32)], [records[index] for index in indices])
    mask = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    require_same(column[np.array(mask, np.bool_)], [record for record, kept in zip(records, mask, strict=True) if kept])
    cut = slice(
        *(data.draw(st.none() | st.integers(-7, 7)) for _ in range(2)), data.draw(st.sampled_from([None, 1, 2, -1]))
    )
    require_same(column[cut], records[cut])
    for index in indices:
        np.testing.assert_array_equal(column[index], records[index])
    assert column.shape == (count, *column.record_shape)
    assert column.ndim == len(column.shape)
    assert column[...] is column


@settings(max_examples=40, deadline=None)
@given(columns(), st.data())
def test_columns_are_joined_copied_and_pickled(drawn: tuple[Ragged, list[np.ndarray]], data: Any) -> None:
    column, records = drawn
    at = data.draw(st.integers(0, len(records)))
    parts = [column[at:], column[:at], column[:0]]
    require_same(Ragged.concatenate(parts), [*records[at:], *records[:at]])
    for twin in (
        pickle.loads(pickle.dumps(column)),  # noqa: S301 - of this test
        copy.deepcopy(column),
        copy.copy(column),
        column.copy(),
        column.compact(),
    ):
        require_same(twin, records)
        assert twin == column
        assert twin.record_shape == column.record_shape
    require_same(Ragged(column.values, column.offsets, column.shapes, record_shape=column.record_shape), records)
    assert column.tolist() == [record.tolist() for record in records]
    assert [record.tolist() for record in column.to_list()] == column.tolist()
    assert (column == column[:at]) == (at == len(records))


@settings(max_examples=100, deadline=None)
@given(columns(), st.sampled_from(["left", "right"]), st.integers(0, 3))
def test_padded_records_are_followed_or_preceded_by_the_value(
    drawn: tuple[Ragged, list[np.ndarray]], side: Any, more: int
) -> None:
    column, records = drawn
    value: Any = {"U": "zz", "O": None, "b": True}.get(column.dtype.kind, 9)
    varying = [axis for axis, size in enumerate(column.record_shape) if size is None]
    longest = [max((record.shape[axis] for record in records), default=0) + more for axis in varying]
    shape: list[Any] = list(column.record_shape)
    for axis, size in zip(varying, longest, strict=True):
        shape[axis] = size
    wanted = np.full((len(records), *shape), value, column.dtype)
    for row, record in enumerate(records):
        corner = tuple(
            slice(total - n, None) if side == "left" else slice(n) for total, n in zip(shape, record.shape, strict=True)
        )
        wanted[(row, *corner)] = record
    found = column.to_padded(longest if more else None, value, side)
    np.testing.assert_array_equal(found, wanted)
    assert (found.dtype, found.shape) == (column.dtype, wanted.shape)


@settings(max_examples=50, deadline=None)
@given(columns(), st.integers(0, 5), st.sampled_from(["left", "right"]))
def test_truncated_records_keep_one_end(drawn: tuple[Ragged, list[np.ndarray]], length: int, side: Any) -> None:
    column, records = drawn
    if column.shapes is not None:
        with pytest.raises(SpecError, match="are not truncated: more than their first axis varies"):
            column.truncate(length)
        return
    require_same(
        column.truncate(length, side),
        [record[:length] if side == "right" else record[max(0, len(record) - length) :] for record in records],
    )


def test_slices_share_memory_and_nothing_can_be_written() -> None:
    values = np.arange(10)
    column = Ragged(values, [0, 3, 3, 10])
    assert np.shares_memory(column[1:].values, values)
    assert np.shares_memory(column[2], values)
    with pytest.raises(ValueError, match="read-only"):
        column[2][0] = 1
    with pytest.raises(ValueError, match="read-only"):
        column.values[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        column.offsets[0] = 1
    with pytest.raises(TypeError, match=r"immutable: make another, Ragged\.from_list"):
        column[0] = np.arange(3)
    with pytest.raises(AttributeError):
        column.values = values  # type: ignore[misc]
    values[0] = 7  # the caller's array stays the caller's
    assert column[0][0] == 7


def test_offsets_and_shapes_that_their_owner_changes_later_stay_those_that_were_checked() -> None:
    offsets, shapes = np.array([0, 2, 6]), np.array([[1, 2], [2, 2]])
    column = Ragged(np.arange(6), offsets, shapes)
    offsets[1], shapes[0] = 100, -1
    assert column.tolist() == [[[0, 1]], [[2, 3], [4, 5]]]
    fixed = np.array([0, 2, 6])
    fixed.flags.writeable = False
    assert np.shares_memory(Ragged(np.arange(6), fixed).offsets, fixed)


def test_arrays_of_text_of_several_widths_become_objects() -> None:
    texts = [np.array(["abcd", "é"]), np.array(["b"]), ["c\0"], np.array(["d"], object)]
    column = Ragged.from_list(texts)
    assert (column.dtype, column.tolist()) == (np.dtype(object), [["abcd", "é"], ["b"], ["c\0"], ["d"]])
    assert Ragged.from_list([np.array([b"abc"]), np.array([b"d"] * 2)]).tolist() == [[b"abc"], [b"d", b"d"]]
    with pytest.raises(SpecError, match=r"record 1 is <U1 where record 0 is \|S1"):
        Ragged.from_list([np.array([b"a"]), np.array(["b"])])


@pytest.mark.parametrize("shape", [(None,), (None, None)])
def test_columns_keep_the_order_of_bytes(shape: tuple[None, ...]) -> None:
    arrays = [np.full([n] * len(shape), 258, ">i4") for n in (1, 0, 2)]
    column = Ragged.from_list(arrays, shape=shape)
    assert (column.dtype.str, Ragged.concatenate([column, column]).dtype.str) == (">i4", ">i4")
    assert Ragged.from_list([[258], []], ">i4").dtype.str == ">i4"
    assert [record.tolist() for record in column] == [array.tolist() for array in arrays]


def test_a_pickle_holds_the_records_of_a_slice_only() -> None:
    column = Ragged(np.zeros(1_000_000), [0, 999_000, 1_000_000])
    assert len(pickle.dumps(column[1:])) < 10_000


def test_other_values_of_the_same_lengths() -> None:
    column = Ragged.from_list([[1, 2], [3]], np.int32)[1:]
    assert column.astype(np.int32) is column
    assert column.astype(np.float32).tolist() == [[3.0]]
    made = column.with_values(column.values[:, None] * [1.0, 2.0])
    assert (made.shape, made.tolist()) == ((1, None, 2), [[[3.0, 6.0]]])
    images = Ragged.from_list([np.ones((2, 1, 3)), np.ones((1, 2, 3))])
    assert images.with_values(images.values[:, 0]).shape == (2, None, None)
    with pytest.raises(SpecError, match="has 3 rows of values, and the new values have 2"):
        column.with_values([1, 2])


def test_the_shape_of_records_is_seen_or_said() -> None:
    assert Ragged.from_list([[1], [2]]).shape == (2, None)
    assert Ragged.from_list([np.zeros((3, 1)), np.zeros((3, 2))]).shape == (2, 3, None)
    assert Ragged.from_list([np.zeros((3, 2)), np.zeros((3, 2))]).shape == (2, None, 2)
    assert Ragged.from_list([np.zeros((1, 2)), np.zeros((1, 2))], shape=(None, None)).shape == (2, None, None)
    assert Ragged.from_list([], np.int8, (None, 4)).shape == (0, None, 4)
    assert Ragged.from_list([[], [[1, 2]]]).tolist() == [[], [[1, 2]]]
    assert Ragged.from_list([[], [1]]).dtype == np.int64
    assert Ragged.from_list([[0.5], [1]], np.float32).dtype == np.float32
    text = Ragged.from_list([["a", "bc\0"], [], [b"d"]])
    assert (text.dtype, text.tolist()) == (object, [["a", "bc\0"], [], [b"d"]])


def test_a_ragged_column_is_a_leaf_without_a_hash() -> None:
    column = Ragged.from_list([[1], []])
    assert jax.tree.leaves({"x": column}) == [column]
    assert repr(column) == "<Ragged int64[None]: 2 records, lengths 0 to 1>"
    assert column != [[1], []]
    with pytest.raises(TypeError, match="unhashable"):
        hash(column)


def test_equality_is_of_dtype_axes_lengths_and_values() -> None:
    column = Ragged.from_list([[1, 2], [3]])
    assert column == Ragged(np.array([0, 1, 2, 3]), [1, 3, 4])
    for other in (Ragged.from_list([[1], [2, 3]]), column.astype(float), column[:1], Ragged.from_list([[1, 2], [4]])):
        assert column != other
    nan = Ragged.from_list([[np.nan]])
    assert (nan == nan, nan.equals(nan, equal_nan=True)) == (False, True)  # noqa: PLR0124 - as with arrays


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "offsets go down": (
        lambda: Ragged([1, 2, 3], [0, 2, 1]),
        SpecError,
        r"offsets go down from 2 to 1 at record 1; each is",
    ),
    "past the end": (
        lambda: Ragged([1, 2], [0, 1, 3]),
        SpecError,
        r"past the end of the values at record 1: to row 3 of 2",
    ),
    "huge": (
        lambda: Ragged([1], np.array([0, 2**63], np.uint64)),
        SpecError,
        r"past the end of the values at record 0",
    ),
    "negative": (lambda: Ragged([1, 2], [-1, 1]), SpecError, r"offsets begin at -1; the first row of values is 0"),
    "no offsets": (
        lambda: Ragged([1, 2], np.empty(0, int)),
        SpecError,
        r"not int64\[0\]; without records they are \[0\]",
    ),
    "offsets of floats": (
        lambda: Ragged([1, 2], [0.0, 1.0]),
        SpecError,
        r"offsets are integers \(k \+ 1,\).* not float64\[2\]",
    ),
    "a single value": (lambda: Ragged(1, [0]), SpecError, r"an array of rows \(n, \.\.\.\), not a single value"),
    "shapes of others": (
        lambda: Ragged(np.ones(6), [0, 6], [[2, 2]]),
        SpecError,
        r"record 0 has 6 rows .* its shape \[2, 2\]",
    ),
    "shapes that overflow": (
        lambda: Ragged(np.ones(0), [0, 0], [[2**32, 2**32]]),
        SpecError,
        r"record 0 has 0 rows of values, and its shape",
    ),
    "shapes of floats": (lambda: Ragged(np.ones(1), [0, 1], [[1.0]]), SpecError, r"shapes are integers \(1, d\)"),
    "another number of shapes": (lambda: Ragged(np.ones(1), [0, 1], [[1], [1]]), SpecError, r"of each of 1 records"),
    "an axis that is not fixed": (
        lambda: Ragged(np.ones(2), [0, 2], [[1, 2]], record_shape=(3, None)),
        SpecError,
        r"axis 0 of record 0 is 1 where each record has 3",
    ),
    "a shape of other axes": (
        lambda: Ragged(np.ones((2, 3)), [0, 2], [[1, 2]], record_shape=(None, None, 4)),
        SpecError,
        r"make records of 3 axes that end in \[3\]",
    ),
    "a shape without shapes": (
        lambda: Ragged(np.ones(2), [0, 2], record_shape=(None, None)),
        SpecError,
        r"without shapes has records of \[None\], not \[None, None\]",
    ),
    "no varying axis": (lambda: Ragged.from_list([[1]], shape=(1,)), SpecError, r"records of \[1\] all have one shape"),
    "no records": (
        lambda: Ragged.from_list([]),
        SpecError,
        r"say what they are, Ragged\.from_list\(\[\], dtype, shape\)",
    ),
    "a scalar": (lambda: Ragged.from_list([[1], 2]), SpecError, r"record 1 is a single value, 2; a record"),
    "other axes": (lambda: Ragged.from_list([[1], [[1]]]), SpecError, r"record 1 has 2 axes where others have 1"),
    "another shape": (
        lambda: Ragged.from_list([np.ones((2, 3))], shape=(None, 4)),
        SpecError,
        r"record 0 has shape \[2, 3\] where \[None, 4\] is expected",
    ),
    "uneven lists": (lambda: Ragged.from_list([[[1], [1, 2]]]), SpecError, r"record 0 is no array"),
    "masked values": (
        lambda: Ragged(np.ma.masked_array([1, 2], [0, 1]), [0, 2]),
        TypeError,
        r"the values of a ragged column would lose a mask; fill it: array\.filled\(value\)",
    ),
    "a masked record": (
        lambda: Ragged.from_list([np.arange(1), np.ma.masked_array([1, 2], [0, 1])]),
        TypeError,
        r"record 1 of a ragged column would lose a mask",
    ),
    "two dtypes": (
        lambda: Ragged.from_list([[1], [0.5]]),
        SpecError,
        r"record 1 is float64 where record 0 is int64; say the",
    ),
    "a dtype that is too small": (
        lambda: Ragged.from_list([[1], [300]], np.uint8),
        SpecError,
        r"record 1 is int64, with values that would change in uint8",
    ),
    "out of range": (lambda: Ragged.from_list([[1]])[1], IndexError, r"record 1 is out of range: .* has 1 records"),
    "taken out of range": (lambda: Ragged.from_list([[1]])[[0, -2]], IndexError, r"record -2 is out of range"),
    "a mask of another length": (
        lambda: Ragged.from_list([[1]])[np.array([True, False])],
        IndexError,
        r"a mask of shape \[2\] does not fit a ragged column of 1 records",
    ),
    "taken by floats": (
        lambda: Ragged.from_list([[1]]).take([0.5]),
        IndexError,
        r"by integers \(k,\), not by float64\[1\]",
    ),
    "two indices": (lambda: Ragged.from_list([[1]])[0, 0], TypeError, r"not by \(0, 0\); the rows of one record"),
    "an array": (
        lambda: np.asarray(Ragged.from_list([[1]])),
        TypeError,
        r"int64\[None\], is no array: .* column\.to_padded\(\)",
    ),
    "an array of JAX": (lambda: jax.numpy.asarray(Ragged.from_list([[1]])), TypeError, r"to_padded|valid JAX"),
    "padded to less": (
        lambda: Ragged.from_list([[1, 2, 3]]).to_padded(2),
        SpecError,
        r"record 0 has 3 rows where records are padded to 2; pad to more, or cut them before, column\.truncate\(2\)",
    ),
    "padded with a fraction": (
        lambda: Ragged.from_list([[1]]).to_padded(2, 0.5),
        SpecError,
        r"0\.5 is no value of int64",
    ),
    "padded with too much": (
        lambda: Ragged.from_list([[1]], np.int8).to_padded(2, 300),
        SpecError,
        r"300 is no value of int8",
    ),
    "padded with text": (lambda: Ragged.from_list([[1.0]]).to_padded(2, "x"), SpecError, r"'x' is no value of float64"),
    "padded to lengths": (
        lambda: Ragged.from_list([[1]]).to_padded((2, 3)),
        SpecError,
        r"for each of 1 axes, not to \(2, 3\)",
    ),
    "padded to a fraction": (
        lambda: Ragged.from_list([[1]]).to_padded(2.5),
        ValueError,
        r"a number of rows, 0 or more, not 2\.5",
    ),
    "padded on top": (
        lambda: Ragged.from_list([[1]]).to_padded(side="top"),  # type: ignore[arg-type]
        ValueError,
        r"side is \"left\" or \"right\", not 'top'",
    ),
    "nothing joined": (lambda: Ragged.concatenate([]), SpecError, r"give one at least"),
    "joined with others": (
        lambda: Ragged.concatenate([Ragged.from_list([[1]]), Ragged.from_list([[[1]]])]),
        SpecError,
        r"ragged columns of int64\[None\] and of int64\[None, 1\] do not make one",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case: str) -> None:
    make, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        make()
