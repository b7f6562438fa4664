"""Columns of 64 bits converted to the nearest values of a smaller dtype, on the host, before a device would narrow them."""

from collections.abc import Iterator
from typing import Any, Final

import jax.numpy as jnp
import numpy as np

from .dtypes import limits
from .narrowing import SMALLEST, aligned_empty

_CHUNK_BYTES: Final = 1 << 20

_LOW_BITS: Final = 11
"""Bits of an integer of 64 that float64 does not hold."""


def nearest(column: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return each value of a column of 64 bits as the nearest value of ``dtype``.

    Of two values that are equally near, it is the even one; a value out of range becomes the end of the range. Infinity stays
    infinity in a float, and NaN becomes 0 in an integer. Floats below 1.2e-38 become 0, as devices take them.
    """
    column = np.asarray(column)
    made = aligned_empty(column.shape, dtype)
    rows, made_rows = (column, made) if column.ndim else (column[None], made[None])
    for start, stop in _chunks(rows):
        made_rows[start:stop] = _nearest(rows[start:stop], dtype)
    return made


def _chunks(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    count = max(1, _CHUNK_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), count):
        yield start, start + count


def _nearest(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    is_integer = bool(jnp.issubdtype(dtype, np.integer))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if values.dtype.kind in "iu":
            return _clipped(values, dtype).astype(dtype) if is_integer else _integers_as_floats(values, dtype)
        return _floats_as_integers(values, dtype) if is_integer else _floats_as_floats(values, dtype)


def _clipped(integers: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    (least, greatest), (lowest, highest) = limits(integers.dtype), limits(dtype)
    clipped: np.ndarray = np.clip(integers, max(int(least), int(lowest)), min(int(greatest), int(highest)))
    return clipped


def _integers_as_floats(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype == np.float32:
        return values.astype(np.float32)
    # a bit for all lower ones that are set: far below the digits of a small float, and float64 holds the rest
    low = values & values.dtype.type((1 << _LOW_BITS) - 1)
    sticky = (values - low) | ((low != 0).astype(values.dtype) << values.dtype.type(_LOW_BITS - 1))
    is_exact = np.abs(values.astype(np.float64)) < 2.0**53
    return _floats_as_floats(np.where(is_exact, values, sticky).astype(np.float64), dtype)


def _floats_as_integers(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    lowest, highest = limits(dtype)
    rounded = np.where(np.isnan(values), 0, np.rint(values))
    integers: np.ndarray = np.clip(rounded, float(lowest), float(highest)).astype(dtype)
    return integers


def _floats_as_floats(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    lowest, highest = limits(dtype)
    bounded = np.where(np.isinf(values), values, np.clip(values, lowest, highest))
    bounded = np.where(np.abs(bounded) < SMALLEST, np.copysign(0.0, bounded), bounded)
    if dtype in (np.float32, np.float16):
        return bounded.astype(dtype)
    return _rounded_to_odd(bounded).astype(dtype)


def _rounded_to_odd(values: np.ndarray) -> np.ndarray:
    """Return float32, inexact values with an odd last bit, so that rounding to fewer bits gives what one rounding would."""
    rounded = values.astype(np.float32)
    back = rounded.astype(np.float64)
    bits = rounded.view(np.uint32)
    bits -= (np.abs(back) > np.abs(values)).astype(np.uint32)
    bits |= (back != values).astype(np.uint32)
    return rounded
