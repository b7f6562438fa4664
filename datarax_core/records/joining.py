"""Columns and batches of records joined: arrays, and ragged columns in their place."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError

from .ragged import Ragged
from .spec import Batch, ElementSpec


def joined_columns(columns: Sequence[Any]) -> Any:
    """Return the records of several columns of one field, one column after another; a single column without a copy.

    Raises:
        SpecError: Ragged columns differ in dtype or in the axes that vary, or stand among arrays.
    """
    if len(columns) == 1:
        return columns[0]
    are_ragged = [isinstance(column, Ragged) for column in columns]
    if not any(are_ragged):
        return np.concatenate(columns)
    if not all(are_ragged):
        titles = [f"{column.dtype}{list(column.shape[1:])}" for column in columns]
        found = f"{titles[are_ragged.index(True)]} and of {titles[are_ragged.index(False)]}"
        raise SpecError(
            f"columns of {found} do not make one: make all of them ragged, Ragged.from_list(records), or none"
        )
    return Ragged.concatenate(columns)


def joined_batches(batches: Sequence[Batch]) -> Batch:
    """Return the records of several batches with the same fields, one batch after another."""
    joined: Batch = jax.tree.map(lambda *columns: joined_columns(columns), *batches)
    return joined


def empty_batch(spec: ElementSpec) -> Batch:
    """Return a batch of no records that an element spec describes."""
    batch: Batch = jax.tree.map(_empty_column, spec)
    return batch


def _empty_column(struct: jax.ShapeDtypeStruct) -> Any:
    if None in struct.shape:
        return Ragged.from_list([], struct.dtype, struct.shape)
    return np.empty((0, *struct.shape), struct.dtype)
