"""Copies of runs of rows of an array: gathered one after another, or padded to one length."""

import math
from typing import Any, Final

import numpy as np

ALIGNMENT: Final = 64
"""Bytes to which JAX wants the memory of an array aligned that it takes over on a CPU."""

_LONG_RUN: Final = 256
"""Bytes of a run above which it is quicker copied by itself than as rows of one gather."""


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new, unfilled array that `jax.device_put` takes over without a copy on a CPU; write to it only before that."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array: np.ndarray = memory[start : start + size].view(dtype).reshape(shape)
    return array


def gather_runs(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the rows ``start .. start + length`` of each run, one run after another, in new memory.

    Args:
        values: An array of rows.
        starts: int64 (k,), the first row of each run.
        lengths: int64 (k,), the number of rows of each run.
        offsets: int64 (k + 1,), where the runs begin in the result, and its number of rows.
    """
    total = int(offsets[-1])
    if not total:
        return np.empty((0, *values.shape[1:]), values.dtype)
    if len(starts) > 1 and _has_short_runs(values, len(starts), total):
        rows = np.arange(total)
        rows += np.repeat(starts - offsets[:-1], lengths)
        gathered: np.ndarray = values[rows]
        return gathered
    ends = (starts + lengths).tolist()
    return np.concatenate([values[start:end] for start, end in zip(starts.tolist(), ends, strict=True)])


def pad_runs(values: np.ndarray, offsets: np.ndarray, padded: np.ndarray, value: Any, *, left: bool) -> None:
    """Fill each row of ``padded`` with a run, at its beginning, or with ``left`` at its end, and with ``value``.

    Args:
        values: An array of rows.
        offsets: int64 (k + 1,), the first row of each run, and the end of the last.
        padded: (k, longest, ...), what is filled.
        value: What is written where a run has no rows.
        left: Whether the padding is on the left.
    """
    runs, length = padded.shape[:2]
    first, last = int(offsets[0]), int(offsets[-1])
    if _has_short_runs(values, runs, last - first):
        padded[...] = value
        places, lengths = np.arange(length), np.diff(offsets)[:, None]
        padded[places >= length - lengths if left else places < lengths] = values[first:last]
        return
    places_of = offsets.tolist()
    for row, start, end in zip(padded, places_of, places_of[1:], strict=False):
        if left:
            at = length - (end - start)
            row[:at], row[at:] = value, values[start:end]
        else:
            at = end - start
            row[:at], row[at:] = values[start:end], value


def _has_short_runs(values: np.ndarray, runs: int, total: int) -> bool:
    return total * values.dtype.itemsize * math.prod(values.shape[1:]) < _LONG_RUN * runs
