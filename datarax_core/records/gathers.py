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


def gather_runs(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the rows ``start .. start + length`` of each run, one run after another, in new memory.

    Args:
        values: An array of rows.
        starts: int64 (k,), the first row of each run.
        lengths: int64 (k,), the number of rows of each run.
    """
    total = int(lengths.sum())
    if not total:
        return np.empty((0, *values.shape[1:]), values.dtype)
    if len(starts) > 1 and _has_short_runs(values, len(starts), total):
        gathered: np.ndarray = values[_rows_of(starts, lengths, total)]
        return gathered
    if (own := _bytes_of(values)) is None:
        ends = (starts + lengths).tolist()
        return np.concatenate([values[start:end] for start, end in zip(starts.tolist(), ends, strict=True)])
    row_bytes = _row_bytes(values)
    begins, ends = (starts * row_bytes).tolist(), ((starts + lengths) * row_bytes).tolist()
    joined = b"".join([own[begin:end] for begin, end in zip(begins, ends, strict=True)])
    return np.frombuffer(joined, values.dtype).reshape(total, *values.shape[1:])


def pad_runs(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, padded: np.ndarray, *, left: bool) -> None:
    """Fill a row of ``padded`` with each run, at its beginning, or with ``left`` at its end; other places are kept.

    Args:
        values: An array of rows.
        starts: int64 (k,), the first row of each run.
        lengths: int64 (k,), the number of rows of each run: at most ``padded.shape[1]``.
        padded: (k, longest, ...), what is filled.
        left: Whether the padding is on the left.
    """
    length, total = padded.shape[1], int(lengths.sum())
    if _has_short_runs(values, len(starts), total):
        places = np.arange(length)
        is_filled = places >= (length - lengths)[:, None] if left else places < lengths[:, None]
        padded[is_filled] = values[_rows_of(starts, lengths, total)]
        return
    first = np.arange(len(starts)) * length + ((length - lengths) if left else 0)
    own, made = _bytes_of(values), _bytes_of(padded)
    if own is None or made is None:
        own, made, row_bytes = values, padded.reshape(-1, *padded.shape[2:]), 1
    else:
        row_bytes = _row_bytes(values)
    bounds = (first, first + lengths, starts, starts + lengths)
    for to, to_end, begin, end in zip(*((rows * row_bytes).tolist() for rows in bounds), strict=True):
        made[to:to_end] = own[begin:end]


def _bytes_of(array: np.ndarray) -> Any:
    """Return the bytes of an array, whose slices cost less than those of arrays; None if they are not one after another."""
    if array.dtype.hasobject or not array.flags.c_contiguous:
        return None
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _row_bytes(values: np.ndarray) -> int:
    return values.dtype.itemsize * math.prod(values.shape[1:])


def _has_short_runs(values: np.ndarray, runs: int, total: int) -> bool:
    return total * _row_bytes(values) < _LONG_RUN * runs


def _rows_of(starts: np.ndarray, lengths: np.ndarray, total: int) -> np.ndarray:
    """Return the index of each row of each run, one run after another."""
    ends = np.cumsum(lengths)
    rows = np.arange(total)
    rows += np.repeat(starts - (ends - lengths), lengths)
    return rows
