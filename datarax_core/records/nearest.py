"""Columns converted to the nearest values of another dtype, on the host: before a device would narrow them, for example."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from .dtypes import is_integer, limits
from .gathers import aligned_empty
from .narrowing import SMALLEST

_CHUNK_BYTES: Final = 1 << 20

_LOW_BITS: Final = 11
"""Bits of an integer of 64 that float64 does not hold."""


def nearest(column: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return each value of a column of bool, integers or real floats as the nearest value of ``dtype``.

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
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if values.dtype == np.bool_:
            values = values.astype(np.uint8)
        if values.dtype.kind in "iu":
            return _clipped(values, dtype).astype(dtype) if is_integer(dtype) else _integers_as_floats(values, dtype)
        values = values.astype(np.float64, copy=False)
        return _floats_as_integers(values, dtype) if is_integer(dtype) else _floats_as_floats(values, dtype)


def _clipped(integers: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    (least, greatest), (lowest, highest) = limits(integers.dtype), limits(dtype)
    clipped: np.ndarray = np.clip(integers, max(int(least), int(lowest)), min(int(greatest), int(highest)))
    return clipped


def _integers_as_floats(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype in (np.float32, np.float64):
        return values.astype(dtype)
    if values.dtype.itemsize < 8:
        return _floats_as_floats(values.astype(np.float64), dtype)
    # a bit for all lower ones that are set: far below the digits of a small float, and float64 holds the rest
    low = values & values.dtype.type((1 << _LOW_BITS) - 1)
    sticky = (values - low) | ((low != 0).astype(values.dtype) << values.dtype.type(_LOW_BITS - 1))
    is_exact = np.abs(values.astype(np.float64)) < 2.0**53
    return _floats_as_floats(np.where(is_exact, values, sticky).astype(np.float64), dtype)


def _floats_as_integers(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    lowest, highest = limits(dtype)
    rounded = np.where(np.isnan(values), 0, np.rint(values))
    # float64 does not hold the greatest integers of 64 bits, so that values beyond the range are set as integers
    above, below = rounded >= float(highest), rounded <= float(lowest)
    integers: np.ndarray = np.where(above | below, 0, rounded).astype(dtype)
    integers[above], integers[below] = highest, lowest
    return integers


def _floats_as_floats(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype == np.float64:
        return values
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
