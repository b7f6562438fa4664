"""Whether two batches, or two lists of records, are the same; and in words, where they are not."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from datarax_core.records.dtypes import fits_device
from datarax_core.records.spec import Batch, named_fields


def rows_of(batch: Batch) -> int:
    """How many records a batch has."""
    return len(jax.tree.leaves(batch)[0])


def joined(batches: Iterable[Batch]) -> Batch:
    """Batches as one, on the host."""
    return jax.tree.map(lambda *columns: np.concatenate([np.asarray(column) for column in columns]), *batches)


def stacked(records: Iterable[Any]) -> Batch:
    """Single records as one batch, on the host."""
    return jax.tree.map(lambda *values: np.stack([np.asarray(value) for value in values]), *records)


def part(batch: Batch, rows: Any) -> Batch:
    """Some rows of a batch, on the host."""
    return jax.tree.map(lambda column: np.asarray(column)[rows], batch)


def difference(expected: Batch, found: Batch) -> str:
    """Where two batches differ first, as ``field 'x' of row 3 is 1 where 2 is expected``; empty if nowhere.

    A batch on its way to the device is narrowed: values are compared in the dtype that was found.
    """
    wanted, given = named_fields(expected), named_fields(found)
    if wanted.keys() != given.keys():
        return f"its fields are {', '.join(sorted(given))} where {', '.join(sorted(wanted))} are expected"
    return next((text for name in wanted if (text := _in_field(name, wanted[name], given[name]))), "")


def _in_field(name: str, expected: Any, found: Any) -> str:
    wanted, given = np.asarray(expected), np.asarray(found)
    if wanted.shape != given.shape:
        return f"field {name!r} has shape {list(given.shape)} where {list(wanted.shape)} is expected"
    if wanted.dtype != given.dtype and fits_device(wanted.dtype) and fits_device(given.dtype):
        wanted = wanted.astype(given.dtype)
    for row in np.ndindex(wanted.shape[:1]):
        if not _same(wanted[row], given[row]):
            return f"field {name!r} of row {row[0]} is {given[row]!r:.60} where {wanted[row]!r:.60} is expected"
    return (
        "" if wanted.shape or _same(wanted[()], given[()]) else f"field {name!r} is {given!r:.60}, not {wanted!r:.60}"
    )


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if object in (one.dtype, other.dtype):
        return all(_same_objects(*pair) for pair in zip(one.flat, other.flat, strict=True))
    return one.tobytes() == other.tobytes() or bool(np.all((one == other) | ((one != one) & (other != other))))  # noqa: PLR0124 - NaN


def _same_objects(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same(one, other)
    return bool(one == other)
