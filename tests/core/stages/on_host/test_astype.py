"""Casts on the host: every value is kept, or the nearest taken, in all dtypes of 64 bits too."""

import math
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datarax_core import AsType, Cast, StageError
from datarax_core.records.dtypes import float_info, holds, limits
from datarax_core.records.ragged import Ragged

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "bfloat16", "float32", "float64"]


def extremes(name: str) -> np.ndarray:
    dtype = jnp.dtype(name)
    if name == "bool":
        return np.array([False, True])
    if name in INTEGERS:
        info = np.iinfo(dtype)
        some = [info.min, info.min + 1, 0, 1, 2, 127, 200, info.max // 2 + 1, info.max - 1, info.max]
        return np.array([value for value in some if info.min <= value <= info.max], dtype)
    info = jnp.finfo(dtype)  # type: ignore[no-untyped-call]
    half = 2.0 ** (info.nmant // 2)
    values = [
        info.min,
        -half - 0.5,
        -2.5,
        -0.5,
        0,
        0.5,
        1.5,
        2.5,
        1 + float(info.eps),
        half,
        info.max,
        np.inf,
        -np.inf,
        np.nan,
    ]
    return np.array(values, dtype)


def exact(value: Any) -> Fraction | float:
    number = value.item() if not isinstance(value, int) else value
    return number if isinstance(number, float) and not math.isfinite(number) else Fraction(number)


def nearest(value: Any, to: str) -> Fraction | float:
    """Return the nearest value by exact arithmetic; ties are left to the caller."""
    lowest, highest = (Fraction(limit) for limit in limits(jnp.dtype(to)))
    number = exact(value)
    if to in INTEGERS:
        if not isinstance(number, Fraction):
            return Fraction(0) if math.isnan(number) else highest if number > 0 else lowest
        return min(max(Fraction(round(number)), lowest), highest)
    return number if not isinstance(number, Fraction) else min(max(number, lowest), highest)


@pytest.mark.parametrize("to", [*INTEGERS, *FLOATS])
def test_a_cast_on_the_host_keeps_every_value_or_takes_the_nearest(to: Any) -> None:
    for dtype in ["bool", *INTEGERS, *FLOATS]:
        values = extremes(dtype)
        spec = {"x": jax.ShapeDtypeStruct((), values.dtype)}
        is_kept = holds(jnp.dtype(to), values.dtype)
        refused = nullcontext() if is_kept else pytest.raises(StageError, match=f"{to} does not hold all its values")
        with refused:
            AsType(field="x", dtype=to).build(spec, None)
        made = AsType(field="x", dtype=to, lossy=True)({"x": values})["x"]
        assert made.dtype == jnp.dtype(to)
        for value, result in zip(values, made, strict=True):
            if is_kept:
                assert exact(result) == exact(value) or np.isnan(float(value))
            elif to in INTEGERS:
                assert exact(result) == nearest(value, to), (dtype, value, result)
            elif np.isfinite(float(value)):
                error = abs(exact(result) - nearest(value, to))
                assert error <= abs(exact(result)) * Fraction(float(float_info(jnp.dtype(to)).eps)) / 2
            else:
                assert float(result) == float(value) or np.isnan(float(value))


@pytest.mark.parametrize(
    ("dtype", "to"), [("int32", "uint8"), ("uint32", "float16"), ("float32", "bfloat16"), ("bfloat16", "int32")]
)
def test_the_host_and_the_device_cast_alike(dtype: str, to: Any) -> None:
    values = extremes(dtype)
    on_host = AsType(field="x", dtype=to, lossy=True)({"x": values})["x"]
    on_device = Cast(field="x", dtype=to, lossy=True)({"x": values})["x"]
    np.testing.assert_array_equal(on_host.astype(float), np.asarray(on_device, float))


def test_ragged_columns_nested_fields_and_foreign_byte_orders_are_cast() -> None:
    ragged = Ragged(np.array([300, 1, 2, -5], np.int64), [1, 3, 3])
    batch = {"a": {"x": ragged}, "y": np.array([1, 2], ">i8")}
    made = AsType(field="a.x", dtype="uint8", lossy=True)(batch)
    assert isinstance(made["a"]["x"], Ragged)
    assert [row.tolist() for row in made["a"]["x"]] == [[1, 2], []]
    assert made["a"]["x"].dtype == np.uint8
    assert AsType(field="y", dtype="int64")(batch)["y"].dtype.isnative
    assert AsType(field="y", dtype="float32", lossy=True)(batch)["y"].tolist() == [1.0, 2.0]
    assert AsType(field="a.x", dtype="int64")(batch)["a"]["x"].values.base is not None
    spec = {"a": {"x": jax.ShapeDtypeStruct((None, 2), np.dtype("int16"))}}
    assert AsType(field="a.x", dtype="float64").element_spec(spec)["a"]["x"] == jax.ShapeDtypeStruct(
        (None, 2), np.dtype("float64")
    )


@pytest.mark.parametrize(
    ("name", "dtype", "option", "message"),
    [
        ("q", "int8", ("field",), "no field 'q'"),
        (
            "t",
            "int8",
            ("field",),
            r"field 't' is text\[\], which has no numbers to cast; lookup makes numbers of text that",
        ),
        ("c", "float32", ("field",), "field 'c' is complex64; take real numbers of it"),
        ("x", "float64", ("dtype",), "field 'x' is int64, and float64 does not hold all its values, integers from"),
        (
            "f",
            "int64",
            ("dtype",),
            "int64 does not hold all its values, fractions; choose a dtype that does, or set lossy",
        ),
    ],
)
def test_a_cast_that_cannot_work_is_refused_when_it_is_built(name: str, dtype: Any, option: Any, message: str) -> None:
    spec = {
        key: jax.ShapeDtypeStruct((), np.dtype(of)) for key, of in {"t": "U", "c": "c8", "x": "i8", "f": "f8"}.items()
    }
    with pytest.raises(StageError, match=message) as refused:
        AsType(field=name, dtype=dtype).build(spec, None)
    assert refused.value.option == option
