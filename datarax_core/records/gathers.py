"""Copies of runs of rows of an array: gathered one after another, or padded to one length."""

import functools
import math
from typing import Any, Final

import numpy as np

ALIGNMENT: Final = 64
"""Bytes to which JAX wants the memory of an array aligned that it takes over on a CPU."""

_LARGE: Final = 1 << 16
"""Bytes of an array above which the system may be asked for its memory."""

_FREED: Final = 16 << 20
"""Bytes of the block that is freed once, half of those that may be kept."""

_LONG_RUN: Final = 256
"""Bytes of a run above which it is quicker copied by itself than as rows of one gather."""


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new, unfilled array that `jax.device_put` takes over without a copy on a CPU; write to it only before that."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size > _LARGE:
        keep_freed_memory()
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT  # a quarter of the time of memory.ctypes.data
    return np.ndarray(shape, dtype, memory, start)


@functools.cache
def keep_freed_memory() -> None:
    """Have the allocator of C keep the memory of batches that are gone for the next ones.

    That of glibc gives memory back to the system as soon as some bytes are free at the end of it (``M_TRIM_THRESHOLD`` in
    mallopt(3)): 128 KiB at first, later twice the size of the largest block that was freed, up to 64 MiB. As long as it does,
    each batch is new memory, which the system clears page by page: that takes as long as to copy the batch twice.
    """
    np.empty(_FREED, np.uint8)


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
    own = _bytes_of(values)
    if own is None:
        ends = (starts + lengths).tolist()
        parts = [values[start:end] for start, end in zip(starts.tolist(), ends, strict=True)]
        return np.concatenate(parts, dtype=values.dtype)
    row_bytes = _row_bytes(values)
    begins, ends = (starts * row_bytes).tolist(), ((starts + lengths) * row_bytes).tolist()
    joined = b"".join([own[begin:end] for begin, end in zip(begins, ends, strict=True)])
    return np.frombuffer(joined, values.dtype).reshape(total, *values.shape[1:])


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
    padded[...] = value
    if _has_short_runs(values, runs, last - first):
        places, lengths = np.arange(length), np.diff(offsets)[:, None]
        padded[places >= length - lengths if left else places < lengths] = values[first:last]
        return
    own, made = _bytes_of(values), _bytes_of(padded)
    row_bytes = _row_bytes(values)
    if own is None or made is None:
        own, made, row_bytes = values, padded.reshape(-1, *padded.shape[2:]), 1
    lengths = offsets[1:] - offsets[:-1]
    begins = np.arange(runs) * length + ((length - lengths) if left else 0)
    bounds = (begins, begins + lengths, offsets[:-1], offsets[1:])
    for begin, end, start, stop in zip(*((rows * row_bytes).tolist() for rows in bounds), strict=True):
        made[begin:end] = own[start:stop]


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
