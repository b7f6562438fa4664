"""Conditions on fields, against comparisons in plain Python: every dtype, many values, wide ranges, missing values."""

from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from datarax_core import from_sequence
from datarax_core.sources.views.conditions import condition_of

TENTHS = (np.arange(40) / 10).astype(np.float32)
LARGE = np.array([0, 1, 2**63 + 5, 2**64 - 1], np.uint64)


def kept(condition: Any, column: np.ndarray) -> list[int]:
    return np.flatnonzero(condition_of(condition, "x").keeps(column)).tolist()


@pytest.mark.parametrize("count", [3, 8, 9, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_fractions_are_found_however_many_are_asked_for(count: int, dtype: Any) -> None:
    column = (np.arange(40) / 10).astype(dtype)
    wanted = {dtype(number / 10) for number in range(count)}
    assert kept([number / 10 for number in range(count)], column) == [
        row for row, value in enumerate(column) if value in wanted
    ]
    assert kept({"min": 0.5, "max": 1.5}, column) == [
        row for row, value in enumerate(column) if dtype(0.5) <= value <= dtype(1.5)
    ]


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_nan_is_missing_and_in_no_range(dtype: Any) -> None:
    column = TENTHS.astype(dtype)
    column[[3, 9]] = np.nan
    assert kept({"missing": True}, column) == [3, 9]
    assert kept({"min": 0.3, "max": 1.0}, column) == [4, 5, 6, 7, 8, 10]
    assert kept(range(3), column) == [0, 10, 20]
    assert kept(range(0, 9, 2), column) == [0, 20]


@pytest.mark.parametrize(
    "condition",
    [
        range(2**63 + 1, 2**64, 2),
        range(2**63 + 1, 2**64),
        range(0, 2**64, 5),
        range(2**64 - 1, -1, -5),
        range(-4, 3, 2),
        range(2**65, 2**66, 3),
    ],
)
@pytest.mark.parametrize("column", [LARGE, np.arange(-5, 5, dtype=np.int8), np.array([False, True])])
def test_ranges_hold_the_numbers_that_they_hold_in_python(condition: range, column: np.ndarray) -> None:
    assert kept(condition, column) == [row for row, value in enumerate(column.tolist()) if value in condition]


def test_long_ranges_cost_no_time() -> None:
    began = perf_counter()
    for numbers in (range(10**15), range(10**15, 0, -1), range(0, 10**15, 7)):
        condition = condition_of(numbers, "x")
        assert condition.keeps(np.array([-1, 0, 7, 8]))[2]
        assert condition.entry() is not None
    assert perf_counter() - began < 1


def test_ranges_are_told_apart_and_equal_ones_are_not() -> None:
    def entry(numbers: range) -> Any:
        return condition_of(numbers, "x").entry()

    assert entry(range(0, 10, 3)) == entry(range(0, 12, 3)) == entry(range(9, -1, -3))
    assert len({repr(entry(numbers)) for numbers in (range(0, 10, 3), range(0, 13, 3), range(1, 11, 3))}) == 3


def test_none_is_in_no_range() -> None:
    column = np.array(["a", None, "c", "d"], object)
    assert kept(("a", "c"), column) == [0, 2]
    assert kept(("b", None), column) == [2, 3]
    assert kept({"missing": True}, column) == [1]


def test_an_array_of_one_number_is_that_number() -> None:
    source = from_sequence([{"x": np.int64(number)} for number in range(5)])
    assert [int(record["x"]) for record in source.where(x=np.array(3))] == [3]
