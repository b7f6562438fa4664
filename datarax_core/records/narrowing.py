"""Host arrays as devices keep them: 64-bit fields narrowed with a check, and memory that a CPU device takes over.

JAX keeps 32 bits unless x64 is on, and narrows without an error, whatever the values. Here, a value is refused if it would not
be the same to its user:

- an integer out of the range of 32 bits;
- a whole number in float64 that would become another: ids and time stamps, from 2**24 to 2**53. Beside several times as many
  numbers of that size with fractions, it is a measurement that is whole by chance;
- a finite float that would become infinite;
- a float that would become 0 in a record in which nothing but 0 would be left. Beside larger ones in its record, a float
  below 1.2e-38 becomes 0, in every route: devices take it as 0.

All other floats are measurements, and become the nearest float32. Of complex numbers, both parts are held to this.
"""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.errors import NarrowingError, SpecError

from .dtypes import goes_to_device, limits
from .gathers import aligned_empty
from .spec import Batch, named_fields

_CHUNK_BYTES = 1 << 20

_WIDE_BYTES = 8

_EXACT = 2.0**24
"""float32 holds every whole number up to this one, and not all above."""

_COUNTED = 2.0**53
"""float64 holds every whole number up to this one. Above, it holds no fractions: a number is taken for a measurement."""

_BY_CHANCE = 0.25
"""The share of whole numbers among those above 2**24 up to which all of them are measurements: of those at 2**50, a quarter
is whole by chance, and of those at 2**40 one in 4,096."""

SMALLEST = 2.0**-126
"""The least positive float32 with all its digits, about 1.2e-38. Devices take smaller ones as 0."""

_SPECIAL = re.compile(r"[^\w.-]")
"""A character for which a name stands in quotes in the configs of a message."""


def is_as_on_device(batch: Batch) -> bool:
    """Return whether all leaves are narrow columns that a device keeps as they are: no host field, and nothing to narrow."""
    for leaf in jax.tree.leaves(batch):
        dtype = leaf.dtype
        if dtype.itemsize >= _WIDE_BYTES or not dtype.isnative or not goes_to_device(leaf):
            return False
    return True


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
    if is_as_on_device(batch):
        return batch
    names = iter(named_fields(batch))
    return jax.tree.map(lambda leaf: narrow_field(next(names), leaf, records=records, origin=origin), batch)


def narrow_field(name: str, array: Any, *, records: Sequence[int] | np.ndarray | None = None, origin: str = "") -> Any:
    """Return one field as `narrow` does; ``name`` is the name of the field in errors."""
    if not goes_to_device(array):
        varies = f"{list(array.shape[1:])}" if None in array.shape else ""
        raise SpecError(
            f"field {name!r} is {array.dtype}{varies}, which no device has; drop it, or iterate from Python"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype == dtype or isinstance(array, jax.Array):
        return array
    narrowed = aligned_empty(array.shape, dtype)
    rows, narrowed_rows = (array, narrowed) if array.ndim else (array[None], narrowed[None])
    for start, stop in _chunks(rows):
        chunk, target = rows[start:stop], narrowed_rows[start:stop]
        if (flat := _narrow_into(target, chunk)) is not None:
            index = np.unravel_index(flat, chunk.shape)
            row = start + int(index[0])
            which = f"row {row}" if records is None else f"record {int(records[row])}"
            given, made = chunk[index].item(), target[index].item()
            becomes = "" if dtype.kind in "iu" else f", and would become {made}"
            raise NarrowingError(
                f"field {name!r}{origin and f' of {origin}'} is {array.dtype} and {given} ({which}) does not fit {dtype}, "
                f"which is what a device keeps{becomes}; {_remedy(name, dtype)}, or run with JAX_ENABLE_X64=1"
            )
    return narrowed


def _remedy(name: str, dtype: np.dtype[Any]) -> str:
    leave_out = "let the pipeline begin with a stage that leaves the field out, {type: select, fields: [...]}"
    if dtype.kind == "c":
        return leave_out
    field = json.dumps(name) if _SPECIAL.search(name) else name
    return f"{leave_out}, or takes the nearest values, {{type: cast, field: {field}, dtype: float32, lossy: true}}"


def _chunks(array: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (first row, end): pieces of a megabyte, so that a check takes little memory and stays in the processor's cache."""
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield start, start + rows


def _narrow_into(target: np.ndarray, chunk: np.ndarray) -> int | None:
    """Fill ``target``, in 32 bits, with the values of ``chunk``; return the flat index of the first that does not fit."""
    if not chunk.size:
        return None
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        np.copyto(target, chunk, casting="unsafe")
        if target.dtype.kind in "iu":
            return _first_outside(chunk, target.dtype)
        pairs = [(target.real, chunk.real), (target.imag, chunk.imag)] if chunk.dtype.kind == "c" else [(target, chunk)]
        checked = [_checked_floats(*pair) for pair in pairs]
    changed, lost = (_either([one for one in found if one is not None]) for found in zip(*checked, strict=True))
    if changed is None and lost is not None:
        changed = _of_empty_records(lost, target)
    return None if changed is None else int(np.argmax(changed))


def _first_outside(chunk: np.ndarray, dtype: np.dtype[Any]) -> int | None:
    least, greatest = limits(dtype)
    if chunk.min() >= least and chunk.max() <= greatest:
        return None
    return int(np.argmax((chunk < least) | (chunk > greatest)))


def _checked_floats(target: np.ndarray, chunk: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Set numbers that are too small for the digits of float32 to 0, as devices do.

    Returns:
        (where whole numbers became others, or finite ones infinite; where numbers became 0), each None if nowhere.
    """
    size = np.abs(target)
    least, greatest = np.fmin.reduce(size, axis=None), np.fmax.reduce(size, axis=None)  # NaN only if all are
    changed = _changed(target, chunk) if greatest >= _EXACT else None
    # XLA's threads, on which callbacks run, take small numbers as 0 even where float64 has them: zeros are told by their bits.
    if not least <= SMALLEST:
        return changed, None
    bits, zeros = chunk.view(np.int64), np.count_nonzero(size <= SMALLEST)
    if np.count_nonzero(bits) == chunk.size - zeros:
        return changed, None
    lost = (np.abs(chunk) < SMALLEST) & (bits << 1 != 0)  # without the sign
    kept_bits = (lost.astype(np.uint32) - np.uint32(1)) | np.uint32(1 << 31)
    target_bits = target.view(np.uint32)
    target_bits &= kept_bits
    return changed, lost if lost.any() else None


def _changed(target: np.ndarray, chunk: np.ndarray) -> np.ndarray | None:
    size = np.abs(chunk)
    changed: np.ndarray = np.isinf(target) & np.isfinite(chunk)
    is_large = (size > _EXACT) & (size <= _COUNTED)
    is_whole = is_large & (np.rint(chunk) == chunk)
    if np.count_nonzero(is_whole) > _BY_CHANCE * np.count_nonzero(is_large):
        changed |= is_whole & (target != chunk)
    return changed if changed.any() else None


def _either(places: Sequence[np.ndarray]) -> np.ndarray | None:
    return functools.reduce(np.logical_or, places) if places else None


def _of_empty_records(lost: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return which of the numbers that became 0 belong to records of which nothing but 0 is left; None if none do."""
    columns = tuple(range(1, lost.ndim))
    is_empty = lost.any(columns) & ~(target != 0).any(columns)
    return lost & is_empty.reshape(-1, *[1] * len(columns)) if is_empty.any() else None
