"""Host arrays as devices keep them: 64-bit fields narrowed with a check, and memory that a CPU device takes over.

JAX keeps 32 bits unless x64 is on, and narrows without an error, whatever the values.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import jax
import numpy as np

from datarax_core.errors import NarrowingError, SpecError

from .dtypes import fits_device, limits
from .spec import Batch, named_fields

ALIGNMENT: Final = 64
"""Bytes. On a CPU, JAX takes over an array that starts at a multiple of this, and copies any other."""

_CHUNK_BYTES = 1 << 24

_WIDE_BYTES = 8


def narrow(batch: Batch, *, records: Sequence[int] | np.ndarray | None = None, origin: str = "") -> Batch:
    """Return a batch with each NumPy leaf in the dtype that a device keeps; leaves that need no change are not copied.

    Cost: one pass over the 64-bit fields, none over the others.

    Args:
        batch: NumPy or JAX arrays.
        records: The record index of each row, for messages; None if the rows are no records of a source.
        origin: The title of the source of the records, for messages.

    Raises:
        NarrowingError: A value does not fit; names field, origin, record (or row) and value.
        SpecError: A leaf has a dtype that no device has.
    """
    if all(
        leaf.dtype.itemsize < _WIDE_BYTES and leaf.dtype.isnative and fits_device(leaf.dtype)
        for leaf in jax.tree.leaves(batch)
    ):
        return batch
    names = iter(named_fields(batch))
    return jax.tree.map(lambda leaf: narrow_field(next(names), leaf, records=records, origin=origin), batch)


def narrow_field(name: str, array: Any, *, records: Sequence[int] | np.ndarray | None = None, origin: str = "") -> Any:
    """Return one field as `narrow` does; ``name`` is the name of the field in errors."""
    if not fits_device(array.dtype):
        raise SpecError(f"field {name!r} is {array.dtype}, which no device has; drop it, or iterate from Python")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype == dtype or isinstance(array, jax.Array):
        return array
    for start, chunk in _chunks(array):
        if (flat := _first_unfit(chunk, dtype)) is not None:
            index = np.unravel_index(flat, chunk.shape)
            row = start + (int(index[0]) if chunk.ndim else 0)
            which = f"row {row}" if records is None else f"record {int(records[row])}"
            raise NarrowingError(
                f"field {name!r}{origin and f' of {origin}'} is {array.dtype} and {chunk[index].item()} ({which}) does not "
                f"fit {dtype}, which is what a device keeps; convert the field, or run with JAX_ENABLE_X64=1"
            )
    with np.errstate(under="ignore"):  # floats too small for 32 bits are rounded to the nearest, as all floats are
        return array.astype(dtype)


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows): pieces of some megabytes, so that checking a memory-mapped field takes little memory."""
    if not array.ndim:
        yield 0, array
        return
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def _first_unfit(chunk: np.ndarray, dtype: np.dtype[Any]) -> int | None:
    """Return the flat index of the first value that ``dtype`` cannot hold, or None."""
    if not chunk.size:
        return None
    if np.issubdtype(dtype, np.integer):
        least, greatest = limits(dtype)
        if chunk.min() >= least and chunk.max() <= greatest:
            return None
        return int(np.argmax((chunk < least) | (chunk > greatest)))
    parts = [chunk.real, chunk.imag] if np.iscomplexobj(chunk) else [chunk]
    for part in parts:
        # The limit of float32 does not decide: doubles slightly above it round to it. Compare the result of the cast.
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            overflown = np.isfinite(part) & ~np.isfinite(part.astype(np.float32))
        if overflown.any():
            return int(np.argmax(overflown))
    return None


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new, unfilled array that `jax.device_put` takes over without a copy on a CPU; write to it only before that."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array: np.ndarray = memory[start : start + size].view(dtype).reshape(shape)
    return array
