"""Gathers of windows: copies of runs of one length, from memory or a mapped file, and the same in compiled code."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def gather_windows(
    values: np.ndarray, starts: np.ndarray, length: int, valid: np.ndarray | None = None, padding: Any = 0
) -> np.ndarray:
    """Return (k, length, ...): the rows from each start on, in new memory; what is past the valid ones is padding.

    One gather over overlapping views of the values, so that no matrix of indices is made: for windows of 1,024 uint16 half the
    time of slices put together, a quarter of that of ``values[starts[:, None] + np.arange(length)]``.

    Args:
        values: An array (n, ...).
        starts: int64 (k,): the first row of each window.
        length: Rows of a window.
        valid: int64 (k,): how many rows of each window are taken, from 0 to ``length``; None for all of them. The valid rows
            are in range.
        padding: What stands in place of the other rows.
    """
    last = len(values) - length
    if valid is None:
        return np.asarray(_all_windows(values, length)[starts])
    if last < 0:
        windows = np.empty((len(starts), length, *values.shape[1:]), values.dtype)
        is_past_end = np.ones(len(starts), np.bool_)
    else:
        windows = np.asarray(_all_windows(values, length)[np.minimum(starts, last)])
        is_past_end = starts > last
    for row in np.flatnonzero(is_past_end).tolist():
        start, count = int(starts[row]), int(valid[row])
        windows[row, :count] = values[start : start + count]
    short = np.flatnonzero(valid < length)
    if short.size:
        part = windows[short]
        part[np.arange(length) >= valid[short, None]] = padding
        windows[short] = part
    return windows


def _all_windows(values: np.ndarray, length: int) -> np.ndarray:
    """Return (n - length + 1, length, ...): views of all windows, which share the memory of the values."""
    shape = (len(values) - length + 1, length, *values.shape[1:])
    strides = (values.strides[0], *values.strides)
    if values.dtype.hasobject or not values.flags.c_contiguous:
        return np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
    memory = values.reshape(math.prod(values.shape)).view(np.uint8)
    return np.ndarray(shape, values.dtype, memory, 0, strides)  # a tenth of the time of as_strided


def window_rows(starts: Any, span: int, num_rows: Any) -> Any:
    """Return (k, span): the rows of windows, traced or not; those past the end are the last row."""
    array = jnp if isinstance(starts, jax.core.Tracer) else np
    rows = starts[:, None] + array.arange(span, dtype=starts.dtype)
    return array.minimum(rows, num_rows - 1)


def num_valid(starts: Any, ends: Any, length: int, shift: int = 0) -> Any:
    """Return (k,): the rows of windows that are before the ends of their sequences, ``shift`` rows further on."""
    array = jnp if isinstance(starts, jax.core.Tracer) else np
    return array.clip(ends - starts - shift, 0, length)
