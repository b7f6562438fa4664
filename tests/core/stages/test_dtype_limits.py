"""Casts, rescaled fields and one-hot rows at the limits of every dtype: a table of all pairs, against exact arithmetic."""

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datarax_core import StageError
from datarax_core.records.dtypes import limits
from datarax_core.records.nearest import nearest
from datarax_core.stages import Cast, OneHot, Rescale

TO = ["bfloat16", "float16", "float32", "int16", "int32", "int8", "uint16", "uint32", "uint8"]
FROM = ["bool", *TO]
WIDE = ["int64", "uint64", "float64"]
SMALLEST = Fraction(1, 2**126)  # devices take smaller floats as 0


def is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, np.floating))


def interesting(dtype: str) -> np.ndarray:
    """Return values of a dtype at its limits, and at those of all others, with ties and their neighbours."""
    if dtype == "bool":
        return np.array([False, True])
    bounds = {int(bound) for other in [*TO, *WIDE] for bound in limits(jnp.dtype(other)) if abs(bound) < 2**70}
    near = {bound + step for bound in bounds for step in (-1, 0, 1)}
    for bits in (8, 9, 11, 12, 24, 25, 31, 53):
        for base in (2**bits, 3 * 2**bits):
            near |= {
                base + offset
                for half in (2 ** max(bits - k, 0) for k in (8, 9, 11, 12, 24, 25))
                for offset in (half, half + 1, -half)
            }
    near |= {-value for value in near} | {0, 1, 2, 3}
    least, greatest = limits(jnp.dtype(dtype))
    if not is_float(jnp.dtype(dtype)):
        return np.array(sorted(value for value in near if least <= value <= greatest), dtype)
    special = [
        0.5,
        1.5,
        2.5,
        -0.5,
        0.1,
        1e-3,
        1e-30,
        65504.0,
        65519.0,
        65520.0,
        3.3e38,
        3.3895e38,
        3.4e38,
        254.5,
        255.5,
    ]
    special += [-128.5, 32767.5, 2147483520.0, math.inf, -math.inf, math.nan]
    special += [1 + 2**-8, 1 + 2**-8 + 2**-30, 1 + 2**-11 + 2**-40]
    special += [float(least), float(greatest)]
    with np.errstate(over="ignore"):
        return np.array([*map(float, sorted(near)), *special], np.float64).astype(jnp.dtype(dtype))


def exact(value: Any) -> Any:
    number = value.item() if hasattr(value, "item") else value
    return Fraction(float(number)) if isinstance(number, float) and math.isfinite(number) else number


def nearest_in(value: Any, dtype: Any) -> Any:
    """Return the nearest value of a dtype by exact arithmetic."""
    lowest, highest = limits(dtype)
    if isinstance(value, float):  # NaN and infinity
        if is_float(dtype):
            return value
        return 0 if math.isnan(value) else (highest if value > 0 else lowest)
    value = Fraction(value)
    if not is_float(dtype):
        return min(max(round(value), int(lowest)), int(highest))
    value = min(max(value, Fraction(lowest)), Fraction(highest))
    if abs(value) < SMALLEST:
        return 0.0
    digits, least = jnp.finfo(dtype).nmant, jnp.finfo(dtype).minexp
    exponent = math.frexp(float(abs(value)))[1] - 1
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, least) - digits)
    rounded = round(value / unit) * unit
    return float(min(max(rounded, Fraction(lowest)), Fraction(highest)))


def require_nearest(values: np.ndarray, made: np.ndarray, dtype: Any) -> None:
    assert made.dtype == dtype
    for value, found in zip(values.tolist() if values.dtype == bool else list(values), made, strict=True):
        expected = nearest_in(exact(value), dtype)
        got = found.item() if not is_float(dtype) else float(found)
        assert got == expected or (math.isnan(got) and math.isnan(expected)), (
            str(values.dtype),
            str(dtype),
            value,
            got,
            expected,
        )


@pytest.mark.parametrize("dtype", FROM)
def test_a_lossy_cast_gives_the_nearest_value_of_every_dtype(dtype: str) -> None:
    values = interesting(dtype)
    casts = [Cast(field="x", dtype=to, lossy=True) for to in TO]  # type: ignore[arg-type]
    made = jax.jit(lambda x: [cast({"x": x})["x"] for cast in casts])(values)
    for to, column in zip(TO, made, strict=True):
        require_nearest(values, np.asarray(column), jnp.dtype(to))


@pytest.mark.parametrize("dtype", WIDE)
def test_the_nearest_values_of_64_bits_are_found_on_the_host(dtype: str) -> None:
    values = interesting(dtype)
    for to in TO:
        require_nearest(values, nearest(values, jnp.dtype(to)), jnp.dtype(to))


@pytest.mark.parametrize("dtype", FROM)
def test_a_cast_without_lossy_keeps_every_value_or_is_refused(dtype: str) -> None:
    values = interesting(dtype)
    kept = []
    for to in TO:
        cast = Cast(field="x", dtype=to)  # type: ignore[arg-type]
        is_held = all(_same(exact(value), nearest_in(exact(value), jnp.dtype(to))) for value in values.tolist())
        try:
            cast.build({"x": jax.ShapeDtypeStruct((), values.dtype)}, None)  # type: ignore[arg-type]
        except StageError:
            assert not is_held or is_float(values.dtype)  # a float is held by floats alone
        else:
            assert is_held
            kept.append((to, cast))
    made = jax.jit(lambda x: [cast({"x": x})["x"] for _, cast in kept])(values)
    for (to, _), column in zip(kept, made, strict=True):
        require_nearest(values, np.asarray(column), jnp.dtype(to))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - NaN


@pytest.mark.parametrize("dtype", FROM)
def test_rescale_keeps_integers_or_is_refused(dtype: str) -> None:
    values = interesting(dtype)
    struct = {"x": jax.ShapeDtypeStruct((), values.dtype)}
    stage = Rescale(field="x", scale=1.0)
    if dtype in ("int32", "uint32"):
        message = (
            rf"field 'x' is {dtype}, and float32, in which it .* does not hold all integers above 16777216; set lossy"
        )
        with pytest.raises(StageError, match=message):
            stage.build(struct, None)  # type: ignore[arg-type]
        stage = Rescale(field="x", scale=1.0, lossy=True)
    made = np.asarray(jax.jit(stage.build(struct, None))({"x": values})["x"])  # type: ignore[arg-type]
    require_nearest(values, made, np.float32)


def test_one_hot_rows_of_every_dtype_at_its_limits() -> None:
    stage = OneHot(field="y", classes=300)
    labels = {dtype: np.array((*limits(np.dtype(dtype)), 5, 2), dtype) for dtype in TO if "int" in dtype}
    made = jax.jit(lambda batch: {dtype: stage({"y": column})["y"] for dtype, column in batch.items()})(labels)
    for dtype, column in labels.items():
        for label, row in zip(column.tolist(), np.asarray(made[dtype]), strict=True):
            expected = np.eye(300, dtype=np.float32)[label] if 0 <= label < 300 else np.full(300, np.nan)
            np.testing.assert_array_equal(row, expected, err_msg=f"{dtype} {label}")


def test_a_number_of_classes_that_no_device_addresses_is_refused() -> None:
    for classes in (2**31, 4 * 10**12):
        with pytest.raises(ValueError, match=r"classes\n.*less than or equal to 2147483647"):
            OneHot(field="y", classes=classes)
