"""Columns of records as an author writes them, as NumPy arrays, objects and ragged columns."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, named_fields

from .checks import require


def columns_of(records: Any, title: str, attribute: str = "records") -> Batch:
    """Return the columns of records; ``title`` is the name of their class in messages, ``attribute`` that of the declaration.

    A list of text or bytes is a column of objects, a list of arrays that differ in shape is a ragged column.
    """
    require(
        isinstance(records, Mapping) and records,
        f"{title} declares {attribute} as a {type(records).__name__}; write a dict of columns, such as "
        '{"x": np.arange(12.0)}, each with a row for each record',
    )
    columns = {name: _column(value, f"{title}.{attribute}") for name, value in records.items()}
    rows = {name: len(column) for name, column in named_fields(columns).items()}
    require(
        len(set(rows.values())) == 1,
        f"{title} declares {attribute} whose columns differ in length: "
        f"{', '.join(f'{name} has {n}' for name, n in rows.items())}; give each a row for each record",
    )
    require(
        next(iter(rows.values()), 0) > 1,
        f"{title} declares less than two {attribute}; stages are called with batches of different sizes, so give 8 or more",
    )
    return columns


def _column(value: Any, title: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _column(inner, title) for name, inner in value.items()}
    if isinstance(value, Ragged):
        return value
    if isinstance(value, list | tuple):
        return _column_of_values(list(value))
    column = np.asarray(value) if isinstance(value, jax.Array) else value
    require(
        isinstance(column, np.ndarray) and column.ndim,
        f"{title} has a column that is a {type(value).__name__}; write an array, a list or a Ragged, with a "
        "row for each record",
    )
    return column


def _column_of_values(values: list[Any]) -> Any:
    if any(isinstance(value, str | bytes) for value in values):
        column = np.empty(len(values), object)
        column[:] = values
        return column
    arrays = [np.asarray(value) for value in values]
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else Ragged.from_list(arrays)
