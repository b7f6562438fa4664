"""Summaries of fields for `drx peek`: equal to NumPy's over all batches at once, however the batches are cut."""

import json
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datarax_core import Ragged
from datarax_core._cli.looking.summaries import Summary, first_values, summary_for, summary_of


def summarised(values: Any, cuts: list[int] | None = None) -> Summary:
    column = np.asarray(values)
    summary = summary_of(column.dtype)
    for part in np.split(column, sorted(cuts or [])):
        summary.add(part)
    return summary


@settings(max_examples=50, deadline=None)
@given(
    column=hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=12), elements=st.floats(width=32)),
    cuts=st.lists(st.integers(0, 12), max_size=3),
)
def test_numbers_are_reported_as_numpy_computes_them(column: np.ndarray, cuts: list[int]) -> None:
    reported = summarised(column, cuts).as_dict()
    finite = column[np.isfinite(column)].astype(np.float64)
    assert reported["records"] == len(column)
    assert math.isclose(reported["nan"], np.isnan(column).mean())
    assert math.isclose(reported["infinite"], np.isinf(column).mean())
    assert ("min" in reported) == bool(finite.size)
    if finite.size:
        assert (reported["min"], reported["max"]) == (finite.min(), finite.max())
        scale = max(abs(reported["min"]), abs(reported["max"]))
        assert math.isclose(reported["mean"], finite.mean(), abs_tol=1e-9 * scale)
        assert math.isclose(reported["std"], finite.std(), rel_tol=1e-6, abs_tol=1e-7 * scale)


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        (
            np.array([3, 1, 3, 2**40]),
            "1 .. 1.09951e+12, mean 2.74878e+11, std 4.76103e+11; 3 distinct: 3 (2), 1 (1), 1099511627776 (1)",
        ),
        (np.array([True, False, True]), "0 .. 1, mean 0.666667, std 0.471405; 2 distinct: True (2), False (1)"),
        (np.array([1.0, np.nan, np.inf, 2.0]), "1 .. 2, mean 1.5, std 0.5; 25.00% nan; 25.00% infinite"),
        (np.array([np.nan, np.nan], np.float32), "100.00% nan"),
        (np.zeros((0, 3), np.float32), "no values"),
        (np.array([3 + 4j]), "5 .. 5, mean 5, std 0"),
        (np.asarray(jnp.array([1.5, 2.5], jnp.bfloat16)), "1.5 .. 2.5, mean 2, std 0.5"),
        (np.array([[1, 2], [3, 4]], np.uint8), "1 .. 4, mean 2.5, std 1.11803"),
        (np.arange(5), "0 .. 4, mean 2, std 1.41421; 5 distinct"),
        (np.arange(1001), "0 .. 1000, mean 500, std 288.964; more than 1,000 distinct"),
        (np.array(["b", "a", "b", "ccc"]), "lengths 1 .. 3, mean 1.5; 3 distinct: 'b' (2), 'a' (1), 'ccc' (1)"),
        (np.array([b"", b"xy"], object), "lengths 0 .. 2, mean 1; 2 distinct"),
        (np.array(["a", b"a", "a"], object), "lengths 1 .. 1, mean 1; 2 distinct: 'a' (2), b'a' (1)"),
        (np.array([None, {}, None], object), "NoneType (2), dict (1)"),
        (np.array(["2024-02-01", "NaT", "2023-01-01"], "M8[D]"), "2023-01-01 .. 2024-02-01"),
        (np.array(["NaT"], "m8[s]"), "no values"),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, np.ndarray) else "",
)
def test_a_summary_is_one_line(values: np.ndarray, reported: str) -> None:
    assert str(summarised(values)) == reported
    assert str(summarised(values, [len(values) // 2])) == reported


def test_many_values_are_counted_exactly_up_to_a_thousand() -> None:
    labels = np.random.default_rng(0).integers(0, 1000, 20_000)
    reported = summarised(labels, [7, 5000]).as_dict()
    assert reported["distinct"] == 1000
    assert {int(label): count for label, count in reported["counts"].items()} == dict(
        zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True)
    )
    assert "counts" not in summarised(np.arange(1001)).as_dict()


def test_numbers_near_the_largest_have_a_range_and_no_warning() -> None:
    reported = summarised(np.array([1e308, -1e308, 1e308])).as_dict()
    assert (reported["min"], reported["max"]) == (-1e308, 1e308)
    json.dumps(reported)


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (np.arange(3), "0, 1, 2"),
        (np.arange(12).reshape(2, 6) / 2, "[0, 0.5, 1, 1.5, 2, 2.5]"),
        (np.array(["x" * 50, "y"]), f"'{'x' * 40}'..., 'y'"),
        (np.array(["z" * 40] * 9), ", ".join([f"'{'z' * 40}'"] * 2) + ", ..."),
        (np.arange(1000, 1100), ", ".join(map(str, range(1000, 1016))) + ", ..."),
        (np.zeros((0, 2)), "[]"),
    ],
    ids=["few", "matrix", "long text", "many texts", "many", "none"],
)
def test_first_values_fit_a_line(column: np.ndarray, shown: str) -> None:
    assert first_values(column) == shown


def test_records_of_varying_length_are_summed_up_by_their_lengths() -> None:
    lengths = [0, 1, 1, 2, 3, 40, 7]
    column = Ragged.from_list([np.full(n, 5, np.int16) for n in lengths])
    summary = summary_for(column)
    for part in (column[:3], column[3:]):
        summary.add(part)
    facts = summary.as_dict()
    assert facts["records"] == 7
    found = facts["lengths"]
    assert [found[name] for name in ("min", "median", "max")] == [0, np.median(lengths), 40]
    assert math.isclose(found["mean"], np.mean(lengths))
    assert sum(part["records"] for part in found["histogram"]) == 7
    assert found["histogram"][0] == {"from": 0, "to": 5, "records": 5}
    assert found["histogram"][-1] == {"from": 36, "to": 40, "records": 1}
    assert facts["values"]["max"] == 5
    assert str(summary) == "lengths 0 .. 40, median 2, mean 7.714 █▃▁▁▁▁▃; values 5 .. 5, mean 5, std 0"
    assert json.loads(json.dumps(facts)) == facts
    assert first_values(column[1:4]) == "[5], [5], [5, 5]"
    assert first_values(column[5:]) == "[5, 5, 5, 5, 5, 5, 5, 5, ...], [5, 5, 5, 5, 5, 5, 5]"


def test_each_axis_that_varies_has_lengths() -> None:
    images = Ragged.from_list(
        [np.ones((h, w, 3), np.uint8) for h, w in ((4, 6), (4, 9), (5, 6))], shape=(None, None, 3)
    )
    summary = summary_for(images)
    summary.add(images)
    facts = summary.as_dict()
    assert (facts["lengths_of_axis_0"]["max"], facts["lengths_of_axis_1"]["max"]) == (5, 9)
    assert str(summary).startswith(
        "lengths of axis 0 4 .. 5, median 4, mean 4.333 █▅; lengths of axis 1 6 .. 9, median 6,"
    )
    assert first_values(images[:1]).startswith("4 x 6 x 3: [1, 1, 1,")
    words = Ragged.from_list([["a", "bc"], []])
    summary = summary_for(words)
    summary.add(words)
    assert str(summary) == "lengths 0 .. 2, median 1, mean 1 █▁█; values lengths 1 .. 2, mean 1.5"
    assert first_values(words) == "['a', 'bc'], []"
    empty = summary_for(words)
    empty.add(words[:0])
    assert str(empty) == "values no values"
