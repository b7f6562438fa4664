"""64-bit fields become 32-bit ones if every value fits, and are refused with field, row and value if one does not."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataraxError, NarrowingError, SpecError
from datarax_core.records import narrowing as narrowing_module
from datarax_core.records.narrowing import narrow

LARGEST = float(np.finfo(np.float32).max)
HALFWAY = LARGEST + 2.0**103  # the first double that float32 rounds to infinity


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (np.array([-(2**31), 0, 2**31 - 1]), "int32"),
        (np.array([0, 2**32 - 1], np.uint64), "uint32"),
        (np.array([0.1, -LARGEST, np.nextafter(HALFWAY, 0), 1e-300, np.inf, -np.inf, np.nan]), "float32"),
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
        (
            np.array([0, complex(0, 1e200)]),
            r"field 'wide' is complex128 and 1e\+200j \(row 1\) .* complex64",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_field_row_and_value(column: np.ndarray, message: str) -> None:
    remedy = ".*, which is what a device keeps; convert the field, or run with JAX_ENABLE_X64=1$"
    with pytest.raises(NarrowingError, match=message + remedy) as caught:
        narrow({"fine": np.zeros(2, np.int8), "wide": column})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DataraxError)


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
@given(value=st.floats(allow_nan=False))
def test_a_finite_float_never_becomes_infinite(value: float) -> None:
    column = np.array([value])
    try:
        made = narrow({"f": column})["f"]
    except NarrowingError:
        assert LARGEST < abs(value) < np.inf
    else:
        assert np.isfinite(made[0]) == np.isfinite(value)
