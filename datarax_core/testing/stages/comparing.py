"""Comparison of batches of stages: exact, but for floats, which other programs round differently."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.records.dtypes import float_info, is_float
from datarax_core.records.joining import host_column
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, named_fields
from datarax_core.testing.checks import are_equal, not_claimed, require, shown


def first_difference(expected: Batch, found: Batch, tolerance: float = 0.0) -> str:
    """Return the first difference of two batches in words; "" if they are equal.

    Args:
        expected: The one batch.
        found: The other.
        tolerance: The relative difference that floats may have; of dtypes that are not as precise, four units of theirs.
    """
    wanted, given = named_fields(expected), named_fields(found)
    if wanted.keys() != given.keys():
        return f"its fields are {', '.join(sorted(given)) or 'none'} where {', '.join(sorted(wanted)) or 'none'} are expected"
    for name, column in wanted.items():
        one, other = host_column(column), host_column(given[name])
        if text := _of_field(name, one, other, tolerance):
            return text
    return ""


def _of_field(name: str, column: Any, other: Any, tolerance: float) -> str:
    if column.dtype != other.dtype or len(column) != len(other):
        expected_rows, found_rows = f"{column.dtype} of {len(column)} rows", f"{other.dtype} of {len(other)} rows"
        return f"field {name!r} is {found_rows} where {expected_rows} is expected"
    for row in range(len(column)):
        if not _are_close(column[row], other[row], tolerance):
            at, wanted, given = _most_different(column[row], other[row])
            return f"field {name!r} of row {row}{at} is {shown(given)} where {shown(wanted)} is expected"
    return ""


def _most_different(one: Any, other: Any) -> tuple[str, Any, Any]:
    """Return (place, value, other value) where two values differ most: in arrays of floats of one shape, a single number."""
    are_arrays = isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.shape == other.shape
    if not are_arrays or not one.ndim or not is_float(one.dtype):
        return "", one, other
    distance = np.abs(one.astype(np.float64) - other.astype(np.float64))
    distance = np.where(np.isnan(distance) & ~(np.isnan(one) & np.isnan(other)), np.inf, np.nan_to_num(distance))
    place = np.unravel_index(int(distance.argmax()), one.shape)
    return f" at {list(map(int, place))}", one[place].item(), other[place].item()


def _are_close(one: Any, other: Any, tolerance: float) -> bool:
    if are_equal(one, other):
        return True
    one, other = np.asarray(one), np.asarray(other)
    if not tolerance or one.shape != other.shape or not (is_float(one.dtype)):
        return False
    relative = max(tolerance, 4 * float(float_info(one.dtype).eps))
    one, other = one.astype(np.float64), other.astype(np.float64)
    scale = np.max(np.abs(one), initial=0.0, where=np.isfinite(one))
    return bool(np.allclose(other, one, rtol=relative, atol=relative * scale, equal_nan=True))


def rows_of_batch(batch: Batch, chosen: Sequence[int] | np.ndarray) -> Batch:
    """Return rows of a batch of columns on the host."""
    return jax.tree.map(lambda column: column[np.asarray(chosen)], batch)


def require_expected(subject: Any) -> None:
    """Fail the test unless the records after the stage are as the author expects; skip it if nothing is declared."""
    if (expected := subject.expected) is None:
        not_claimed("no expected batch is declared")
    made, wanted = named_fields(subject.served()), named_fields(expected)
    missing = sorted(wanted.keys() - made.keys())
    text = f"it has no field {missing[0]!r}, only {', '.join(made)}" if missing else ""
    if not text:
        found = {name: _with_objects(made[name]) for name in wanted}
        text = subject.difference(_in_dtypes({name: _with_objects(wanted[name]) for name in wanted}, found), found)
    require(not text, f"{subject.title} promises the expected batch, but {text}. Correct the stage, or `expected`")


def _with_objects(column: Any) -> Any:
    """Return a column of text or bytes of any width as one of objects, which is the same kind; others as they are."""
    return column.astype(object) if isinstance(column, np.ndarray) and column.dtype.kind in "UST" else column


def _in_dtypes(wanted: Batch, made: Batch) -> Batch:
    """Return expected numbers in the dtypes that were made: an author writes 64 bits, which devices narrow."""

    def converted(name: str, column: Any) -> Any:
        other = made[name]
        if type(column) is not type(other) or column.dtype.kind not in "iuf" or other.dtype.kind in "OSU":
            return column
        taken = column.astype(other.dtype)
        values, wide = (each.values if isinstance(each, Ragged) else each for each in (taken, column))
        return taken if column.dtype.kind == "f" or np.array_equal(values, wide) else column

    return {name: converted(name, column) for name, column in wanted.items()}
