"""64-bit fields become 32-bit ones if every value fits, and are refused with field, row and value if one does not."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataraxError, NarrowingError, SpecError
from datarax_core.records import narrowing as narrowing_module
from datarax_core.records.narrowed import merged_reports, narrowed_fields
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import device_spec

LARGEST = float(np.finfo(np.float32).max)
HALFWAY = LARGEST + 2.0**103  # the first double that float32 rounds to infinity


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (np.array([-(2**31), 0, 2**31 - 1]), "int32"),
        (np.array([0, 2**32 - 1], np.uint64), "uint32"),
        (np.array([0.1, -LARGEST, np.nextafter(HALFWAY, 0), np.inf, -np.inf, np.nan]), "float32"),
        (np.array([2.0**24, -(2.0**24), 2.0**24 + 2, 2.0**53 + 2, 1e300 * 0, -0.0, 123456789.5]), "float32"),
        (np.array([complex(2**24, 0.1), complex(2**25, -np.inf)]), "complex64"),
        (np.arange(6.0)[::2], "float32"),
        (np.array([1 + 2j, complex(np.inf, 0)]), "complex64"),
        (np.array(5), "int32"),
        (np.zeros((0, 3)), "float32"),
        (np.zeros((3, 0), np.int64), "int32"),
    ],
)
def test_values_that_fit_are_narrowed_as_a_cast_does(column: np.ndarray, dtype: str) -> None:
    made = narrow({"wide": column})["wide"]
    assert (str(made.dtype), made.shape) == (dtype, column.shape)
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(made, column.astype(dtype))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.array([0, 2**31]), r"field 'wide' is int64 and 2147483648 \(row 1\) does not fit int32"),
        (np.array([0, -(2**31) - 1, 2**40]), r"-2147483649 \(row 1\) does not fit int32"),
        (np.array([[0, 1], [2, 2**40 + 7]]), r"1099511627783 \(row 1\)"),
        (np.array(2**33), r"8589934592 \(row 0\)"),
        (
            np.array([2**63], np.uint64),
            r"field 'wide' is uint64 and 9223372036854775808 \(row 0\) .* uint32",
        ),
        (
            np.array([0.0, HALFWAY]),
            r"field 'wide' is float64 and 3\.40\d*e\+38 \(row 1\) does not fit float32",
        ),
        (np.array([0.0, -1e300]), r"-1e\+300 \(row 1\)"),
        (np.array([0.5, 2.0**24 + 1]), r"16777217\.0 \(row 1\)"),
        (1_700_000_000 + np.arange(1000.0), r"float64 and 1700000001\.0 \(row 1\)"),
        (np.array([np.nan, np.inf, -(2.0**53) + 1]), r"-9007199254740991\.0 \(row 2\)"),
        (np.array([1.0, complex(0.5, 2**24 + 1)]), r"complex128 and \(0\.5\+16777217j\) \(row 1\)"),
        (np.array([1.0, 1e-46, 0.5]), r"1e-46 \(row 1\)"),
        (np.array([1.0, -1e-40]), r"-1e-40 \(row 1\)"),
        (np.array([[0.0, 5e-324], [1, 0]]), r"5e-324 \(row 0\)"),
        (np.array([1.0, complex(0, 1e-50)]), r"1e-50j \(row 1\)"),
        (
            np.array([0, complex(0, 1e200)]),
            r"field 'wide' is complex128 and 1e\+200j \(row 1\) .* complex64",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_field_row_and_value(column: np.ndarray, message: str) -> None:
    select = r"let the pipeline begin with a stage that leaves the field out, \{type: select, fields: \[\.\.\.\]\}"
    cast = r"(, or takes the nearest values, \{type: cast, field: wide, dtype: float32, lossy: true\})?"
    becomes = r"(, and would become \S+)?"
    remedy = rf".*, which is what a device keeps{becomes}; {select}{cast}, or run with JAX_ENABLE_X64=1$"
    with pytest.raises(NarrowingError, match=message + remedy) as caught:
        narrow({"fine": np.zeros(2, np.int8), "wide": column})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DataraxError)


@pytest.mark.parametrize("size", [1e9, 1e12, 1e15])
def test_measurements_that_are_whole_by_chance_are_measurements(size: float) -> None:
    column = np.random.default_rng(0).standard_normal(100_000) * size
    column[::50] = np.rint(column[::50])
    made = narrow({"flux": column})["flux"]
    np.testing.assert_array_equal(made, column.astype(np.float32))
    with pytest.raises(NarrowingError, match="does not fit float32"):
        narrow({"flux": np.rint(column)})
    with pytest.raises(NarrowingError, match=r"1700000001\.0 \(row 0\)"):  # small fractions say nothing of time stamps
        narrow({"both": np.stack([1_700_000_001 + np.arange(100.0), np.linspace(0, 1, 100)], axis=1)})


def test_the_error_says_what_a_float_would_become() -> None:
    for value, made in ((2**24 + 1, r"16777216\.0"), (1e-46, r"0\.0"), (-1e300, "-inf")):
        with pytest.raises(NarrowingError, match=rf"which is what a device keeps, and would become {made}; let the"):
            narrow({"x": np.array([0.5, value])})


def test_the_error_names_record_and_source_if_they_are_known() -> None:
    batch = {"id": np.array([5, 2**40])}
    with pytest.raises(NarrowingError, match=rf"^field 'id' is int64 and {2**40} \(row 1\) does not fit int32"):
        narrow(batch)
    message = rf"^field 'id' of MemorySource 'train' is int64 and {2**40} \(record 77\) does not fit int32, which is"
    with pytest.raises(NarrowingError, match=message):
        narrow(batch, records=np.array([3, 77]), origin="MemorySource 'train'")


def test_the_row_is_found_in_a_field_that_is_checked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing_module, "_CHUNK_BYTES", 256)
    column = np.zeros((1000, 3), np.int64)
    narrow({"wide": column})
    column[777, 2] = 2**31
    with pytest.raises(NarrowingError, match=r"2147483648 \(row 777\)"):
        narrow({"wide": column})


def test_small_numbers_become_zero_beside_larger_ones_of_their_record() -> None:
    smallest = 2.0**-126
    column = np.array([[1.0, 1e-46, -1e-40, 0.0], [smallest, smallest * (1 - 2**-40), 5e-324, np.nan]])
    made = narrow({"heat": column})["heat"]
    np.testing.assert_array_equal(made, np.array([[1, 0, 0, 0], [smallest, 0, 0, np.nan]], np.float32))
    assert np.signbit(made[0]).tolist() == [False, False, True, False]
    pairs = narrow({"z": np.array([complex(1, 1e-46), complex(1e-40, 1)])})["z"]
    assert pairs.tolist() == [1, 1j]


def test_bytes_are_in_native_order_afterwards() -> None:
    for dtype in ">f4", ">i8", ">c16", ">u2", ">f8":
        made = narrow({"x": np.arange(3).astype(dtype)})["x"]
        assert made.dtype.isnative
        assert made.tolist() == [0, 1, 2]
        struct = device_spec({"x": jax.ShapeDtypeStruct((), np.dtype(dtype))})["x"]
        assert struct.dtype.isnative
        assert struct.dtype == made.dtype
    with pytest.raises(NarrowingError, match=r"is float64 and 16777217\.0 \(row 0\)"):
        narrow({"x": np.array([2**24 + 1], ">f8")})


def test_fields_that_need_no_change_are_not_copied() -> None:
    batch: Any = {
        "i": np.zeros(2, np.int32),
        "b": np.zeros(2, np.bool_),
        "half": np.zeros(2, np.float16),
        "jax": jax.numpy.ones(2),
    }
    assert all(made is batch[name] for name, made in narrow(batch).items())


def test_the_structure_of_a_batch_is_kept() -> None:
    made = narrow((np.arange(2), {"a": np.ones(2)}))
    assert isinstance(made, tuple)
    assert (str(made[0].dtype), str(made[1]["a"].dtype)) == ("int32", "float32")
    with pytest.raises(NarrowingError, match=r"field '1\.a'"):
        narrow((np.arange(2), {"a": np.array([1e300])}))
    with pytest.raises(NarrowingError, match="field 'record'"):
        narrow(np.array([2**40]))


@pytest.mark.parametrize("column", [np.array(["a"]), np.array([b"a"]), np.array([{}]), np.zeros(1, "datetime64[s]")])
def test_a_field_that_no_device_has_is_refused_by_name(column: np.ndarray) -> None:
    with pytest.raises(SpecError, match=r"^field 'word' is \S+, which no device has; drop it, or iterate from Python$"):
        narrow({"word": column})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_integers_are_kept_or_refused_but_never_changed(values: list[int]) -> None:
    column = np.array(values, np.int64)
    if all(-(2**31) <= value < 2**31 for value in values):
        assert narrow({"i": column})["i"].tolist() == values
    else:
        with pytest.raises(NarrowingError, match="field 'i' is int64 and"):
            narrow({"i": column})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(value=st.floats(allow_nan=False) | st.integers(-(2**60), 2**60).map(float))
def test_a_float_keeps_its_kind_whole_finite_or_other_than_zero(value: float) -> None:
    column = np.array([value])
    try:
        made = float(narrow({"f": column})["f"][0])
    except NarrowingError:
        is_whole = 2**24 < abs(value) <= 2**53 and value.is_integer()
        assert is_whole or LARGEST < abs(value) < np.inf or 0 < abs(value) < 2**-126
    else:
        assert np.isfinite(made) == np.isfinite(value)
        assert (made == 0) == (value == 0)
        assert made == value or abs(value) > 2**53 or not value.is_integer()


def test_reports_say_which_fields_are_narrowed_and_by_how_much() -> None:
    batch = {
        "share": np.array([0.1, 0.5, np.nan]),
        "whole": np.array([1.0, 2.0, np.inf]),
        "in": {"id": np.array([1, 2**40, 3]), "label": np.arange(3)},
        "x": np.zeros(3, np.float32),
        "text": np.array(["a", "b", "c"]),
    }
    found = narrowed_fields(batch, records=[5, 6, 7])
    assert found.keys() == {"share", "whole", "in.id", "in.label"}
    assert found["share"].max_relative_error == pytest.approx(1.49e-8, rel=0.01)
    assert str(found["share"]) == "float64 as float32: largest relative error 1.5e-08"
    assert str(found["whole"]) == "float64 as float32: exact"
    assert str(found["in.label"]) == "int64 as int32: exact"
    assert "refused, field 'in.id' is int64 and 1099511627776 (record 6) does not fit" in str(found["in.id"])
    other = narrowed_fields({"share": np.array([0.5]), "more": np.arange(3)})
    merged = merged_reports(found, other)
    assert merged.keys() == found.keys() | {"more"}
    assert merged["share"] == found["share"]
