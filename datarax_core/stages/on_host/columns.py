"""Columns that stages on the host are called with: dense arrays, ragged columns, and text or bytes as objects."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from datarax_core.records.dtypes import dtype_title
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch
from datarax_core.stages.field_paths import change_field, has_plain, with_new_field


def with_values(column: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return a column of which ``change``, which keeps the shape, was applied to the array of all values.

    Of a ragged column, these are the values of its records alone, not those of the column that it is a part of.
    """
    if not isinstance(column, Ragged):
        return change(np.asarray(column))
    column = column.compact()
    return column.with_values(change(column.values))


def put(batch: Batch, field: str, to: str | None, value: Any) -> Batch:
    """Return a batch, or a spec, with ``value`` in place of the field, or as a new field called ``to`` if that is given."""
    if to is not None:
        return with_new_field(batch, to, value, ("to",))
    if has_plain(batch, field):
        return {**batch, field: value}
    return change_field(batch, field, lambda _: value)


def described(struct: jax.ShapeDtypeStruct) -> str:
    """Return the dtype and shape of a field for messages, such as ``int32[None]``."""
    return f"{dtype_title(struct.dtype)}{list(struct.shape)}"


def objects(values: list[Any]) -> np.ndarray:
    """Return a column (k,) of objects, whatever they are."""
    column = np.empty(len(values), object)
    column[:] = values
    return column
