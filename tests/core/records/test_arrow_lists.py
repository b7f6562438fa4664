"""Ragged columns from and to Arrow's lists, without a copy of their numbers."""

import sys
from typing import Any

import numpy as np
import pytest

from datarax_core import Ragged
from datarax_core.errors import SpecError
from datarax_core.records.arrow_lists import is_arrow_lists

pa: Any = pytest.importorskip("pyarrow")

LISTS: list[list[Any]] = [[1, 2, 3], [], [4], [5, 6]]


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_lists_become_a_column_that_shares_their_memory(kind: Any) -> None:
    array = pa.array(LISTS, kind(pa.int32()))
    column = Ragged.from_arrow(array)
    assert (column.dtype, column.tolist()) == (np.int32, LISTS)
    assert column.values.ctypes.data == array.values.buffers()[1].address
    assert Ragged.from_arrow(array[1:3]).tolist() == LISTS[1:3]
    assert Ragged.from_arrow(array[4:]).tolist() == []


def test_a_column_becomes_lists_that_share_its_memory() -> None:
    column = Ragged.from_list(LISTS, np.float32)
    array = column[1:].to_arrow()
    assert (array.type, array.to_pylist()) == (pa.large_list(pa.float32()), LISTS[1:])
    assert array.values.buffers()[1].address == column.values.ctypes.data
    array.validate(full=True)
    assert Ragged.from_arrow(array) == column[1:]


@pytest.mark.parametrize("inner", [(2,), (2, 3)])
def test_fixed_axes_are_fixed_size_lists(inner: tuple[int, ...]) -> None:
    column = Ragged.from_list([np.arange(n * int(np.prod(inner))).reshape(n, *inner) for n in (2, 0, 1)])
    array = column.to_arrow()
    assert array.to_pylist() == column.tolist()
    assert Ragged.from_arrow(array) == column
    assert Ragged.from_arrow(array[1:]) == column[1:]


@pytest.mark.parametrize(
    "lists", [[["a", "bc"], [], ["d\0"]], [[b"a"], [b"\0", b""]], [[True, False], [True]], [[0.5], []], [[], []]]
)
def test_text_bytes_and_booleans_go_both_ways(lists: list[Any]) -> None:
    column = Ragged.from_list(lists, bool if lists[0] and lists[0][0] is True else None)
    assert Ragged.from_arrow(column.to_arrow()) == column
    assert Ragged.from_arrow(pa.chunked_array([column[:1].to_arrow(), column[1:].to_arrow()])) == column


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1], None], r"1 of 2 values of list<item: int64> are null, which no array holds; fill or drop them"),
        ([[1, None]], r"1 of 2 values of int64 are null"),
        ([[[1], [1, 2]]], r"records of list<item: int64> items vary in more than their first axis"),
        ([1, 2], r"made of a pyarrow ListArray or LargeListArray, not of int64"),
        ([[{"a": 1}]], r"a ragged column of Arrow has lists of numbers or text"),
    ],
)
def test_what_is_no_column_is_refused(lists: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Ragged.from_arrow(pa.array(lists))


def test_a_null_outside_of_a_slice_is_no_trouble() -> None:
    assert Ragged.from_arrow(pa.array([[1, None], [2]])[1:]).tolist() == [[2]]


def test_records_of_all_shapes_are_no_lists_of_arrow() -> None:
    images = Ragged.from_list([np.ones((1, 2)), np.ones((2, 1))])
    with pytest.raises(
        SpecError, match=r"records of \[None, None\] are not given to Arrow: more than their first axis"
    ):
        images.to_arrow()
    with pytest.raises(SpecError, match=r"Arrow has no lists of complex128"):
        Ragged.from_list([[1j]]).to_arrow()


def test_lists_of_arrow_are_told_from_other_columns() -> None:
    assert is_arrow_lists(pa.array(LISTS))
    assert is_arrow_lists(pa.array([[[1, 2]]], pa.list_(pa.list_(pa.int8(), 2))))
    for other in (pa.array([1]), pa.array([[[1]]]), pa.table({"x": LISTS}), LISTS, np.arange(3)):
        assert not is_arrow_lists(other)


def test_without_pyarrow_the_import_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pyarrow"):
        Ragged.from_list(LISTS).to_arrow()


def test_numbers_of_the_other_order_of_bytes_are_converted() -> None:
    array = Ragged.from_list([[258], [], [1, 2]], ">i4").to_arrow()
    assert (array.type, array.to_pylist()) == (pa.large_list(pa.int32()), [[258], [], [1, 2]])


def test_no_lists_and_lists_of_extension_types_are_refused() -> None:
    with pytest.raises(SpecError, match=r"made of a pyarrow ListArray or LargeListArray, not of builtins\.list"):
        Ragged.from_arrow([[1]])
    with pytest.raises(SpecError, match=r"Arrow has no lists of no items, as records of \[None, 0\]"):
        Ragged.from_list([np.empty((2, 0))]).to_arrow()
    storage = pa.array([[1, 2]], pa.list_(pa.int32(), 2))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int32(), (2,)), storage)
    lists = pa.ListArray.from_arrays([0, 1], tensors)
    assert not is_arrow_lists(lists)
    with pytest.raises(SpecError, match=r"are no ragged column, .* take their storage"):
        Ragged.from_arrow(lists)


@pytest.mark.skipif(not hasattr(pa, "list_view"), reason="list views came with pyarrow 16")
@pytest.mark.parametrize("kind", ["list_view", "large_list_view"])
def test_list_views_are_copied_in_their_order(kind: str) -> None:
    array = pa.array(LISTS, getattr(pa, kind)(pa.int32()))
    assert is_arrow_lists(array)
    assert Ragged.from_arrow(array).tolist() == LISTS
    assert Ragged.from_arrow(array[1:3]).tolist() == LISTS[1:3]
    assert Ragged.from_arrow(array[:0]).tolist() == []
    assert Ragged.from_arrow(pa.chunked_array([array, array[2:]])).tolist() == LISTS + LISTS[2:]
    starts, lengths = pa.array([2, 0, 0], pa.int32()), pa.array([2, 3, 0], pa.int32())
    views = pa.ListViewArray.from_arrays(starts, lengths, pa.array([1, 2, 3, 4]))
    assert Ragged.from_arrow(views).tolist() == [[3, 4], [1, 2, 3], []]
    with pytest.raises(SpecError, match=r"1 of 5 values of .*list_view<item: int32> are null"):
        Ragged.from_arrow(pa.array([*LISTS, None], getattr(pa, kind)(pa.int32())))
