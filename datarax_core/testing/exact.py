"""Exact comparison of decoded batches: dtype, shape, and every bit of a value, that of a negative zero too."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.records.dtypes import are_one_kind, dtype_title
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, named_fields
from datarax_core.testing.checks import shown


def exact_difference(expected: Batch, found: Batch, *, some: bool = False) -> str:
    """Return the first difference of two batches, as ``field 'x' of row 3 is 1 where 2 is expected``; "" if they are equal.

    Text and bytes of any width are one dtype, as are those that are objects. A ragged column equals an array of the same
    rows. All kinds of NaN are equal. With ``some``, ``found`` may have further fields.
    """
    wanted, given = named_fields(expected), named_fields(found)
    if wanted.keys() - given.keys() if some else wanted.keys() != given.keys():
        return f"its fields are {', '.join(sorted(given))} where {', '.join(sorted(wanted))} are expected"
    return next((text for name in wanted if (text := _field_difference(name, wanted[name], given[name]))), "")


def _field_difference(name: str, wanted: Any, given: Any) -> str:
    if not isinstance(given, np.ndarray | Ragged):
        return f"field {name!r} is a {type(given).__name__}, not an array of NumPy or a ragged column"
    if not _are_one_dtype(wanted.dtype, given.dtype):
        return f"field {name!r} is {dtype_title(given.dtype)} where {dtype_title(wanted.dtype)} is expected"
    if len(wanted) != len(given):
        return f"field {name!r} has {len(given)} rows where {len(wanted)} are expected"
    for row in range(len(wanted)):
        one, other = np.asarray(wanted[row]), np.asarray(given[row])
        if one.shape != other.shape:
            return f"field {name!r} of row {row} has the shape {list(other.shape)} where {list(one.shape)} is expected"
        if not are_same_bits(one, other):
            return f"field {name!r} of row {row} is {shown_array(other)} where {shown_array(one)} is expected"
    return ""


def _are_one_dtype(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    return are_one_kind(one, other) or (
        one.kind == other.kind and one.kind not in "OSUV" and one.newbyteorder("=") == other.newbyteorder("=")
    )


def are_same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays of one shape hold the same values, to the bit; NaN equals NaN, objects compare by value."""
    if object in (one.dtype, other.dtype) or one.dtype.kind in "SU":
        return all(map(_are_same_objects, one.reshape(-1).tolist(), other.reshape(-1).tolist()))
    if one.dtype.kind == "c":
        return are_same_bits(one.real, other.real) and are_same_bits(one.imag, other.imag)
    if one.dtype != other.dtype:  # in another order of bytes
        other = other.astype(one.dtype)
    if one.tobytes() == other.tobytes():
        return True
    size = one.size
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(size, -1) for array in (one, other)]
    equal = (bits[0] == bits[1]).all(axis=1)
    is_nan = ((one != one) & (other != other)).reshape(-1)  # noqa: PLR0124 - NaN
    return bool(np.all(equal | is_nan))


def _are_same_objects(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return _are_one_dtype(one.dtype, other.dtype) and one.shape == other.shape and are_same_bits(one, other)
    for type_ in (str, bytes):
        if isinstance(one, type_) != isinstance(other, type_):
            return False
    return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124 - NaN


def shown_array(array: Any) -> str:
    """Return the value of an array for a message: of one without axes its value, which tells -0.0 from 0.0."""
    return shown(array.tolist() if isinstance(array, np.ndarray) else array)


def taken(batch: Batch, rows: Sequence[int]) -> Batch:
    """Return rows of a batch in this order, copied."""
    return jax.tree.map(lambda column: column[np.asarray(rows, np.int64)], batch)
