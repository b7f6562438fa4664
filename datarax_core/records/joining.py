"""Columns and batches of records joined: one after another, or each record at its own row."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError

from .dtypes import common_text, is_text
from .gathers import aligned_empty
from .ragged import Ragged
from .spec import Batch, ElementSpec


def host_column(column: Any) -> Any:
    """Return a column on the host: a NumPy array, or the ragged column that it is."""
    return column if isinstance(column, Ragged) else np.asarray(column)


def joined_columns(columns: Sequence[Any]) -> Any:
    """Return the records of several columns of one field, one column after another; a single column without a copy.

    Raises:
        SpecError: Ragged columns differ in dtype or in the axes that vary, or stand among arrays.
    """
    if len(columns) == 1:
        return columns[0]
    are_ragged = [isinstance(column, Ragged) for column in columns]
    if not any(are_ragged):
        dtypes = {np.dtype(column.dtype) for column in columns}
        return np.concatenate(columns, dtype=dtypes.pop() if len(dtypes) == 1 else None)  # keeps the order of bytes
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


def placed_batch(parts: Iterable[tuple[np.ndarray, Batch]], size: int, spec: ElementSpec) -> Batch:
    """Return one batch of ``size`` records from several, each with the rows that its records get.

    The columns of a batch that has all rows are returned without a copy, in the dtypes of ``spec``.

    Args:
        parts: For each batch, its rows, int (k,), and its records; together they have each row once.
        size: Number of all records.
        spec: Element spec of all of them; texts may be wider than it says.
    """
    structs, form = jax.tree.flatten(spec)
    columns: list[_PlacedArray | _PlacedRagged] | None = None
    for rows, batch in parts:
        leaves = jax.tree.leaves(batch)
        if len(rows) == size:
            return jax.tree.unflatten(form, [_in_dtype(*pair) for pair in zip(leaves, structs, strict=True)])
        columns = _placed_columns(structs, size) if columns is None else columns
        for column, leaf in zip(columns, leaves, strict=True):
            column.put(rows, leaf)
    columns = _placed_columns(structs, size) if columns is None else columns
    placed: Batch = jax.tree.unflatten(form, [column.whole() for column in columns])
    return placed


class _PlacedArray:
    """A column of an array, which grows wider if its texts are."""

    def __init__(self, struct: jax.ShapeDtypeStruct, size: int) -> None:
        shape, dtype = (size, *struct.shape), struct.dtype
        self.holds_text = is_text(dtype)
        on_host = self.holds_text or dtype.hasobject
        self.column = np.zeros(shape, dtype) if on_host else aligned_empty(shape, dtype)

    def put(self, rows: np.ndarray, column: Any) -> None:
        if self.holds_text:
            self.column = self.column.astype(common_text([self.column.dtype, column.dtype]), copy=False)
        self.column[rows] = column

    def whole(self) -> np.ndarray:
        return self.column


class _PlacedRagged:
    """A ragged column, which is put together when all of its parts are known."""

    def __init__(self, struct: jax.ShapeDtypeStruct, size: int) -> None:
        self.struct, self.size = struct, size
        self.rows: list[np.ndarray] = []
        self.columns: list[Ragged] = []

    def put(self, rows: np.ndarray, column: Ragged) -> None:
        self.rows.append(rows)
        self.columns.append(column)

    def whole(self) -> Ragged:
        if not self.columns:
            return Ragged.from_list([], self.struct.dtype, self.struct.shape)
        place_of = np.empty(self.size, np.int64)
        place_of[np.concatenate(self.rows)] = np.arange(self.size)
        return Ragged.concatenate(self.columns).take(place_of)


def _placed_columns(structs: Sequence[jax.ShapeDtypeStruct], size: int) -> list[_PlacedArray | _PlacedRagged]:
    return [(_PlacedRagged if None in struct.shape else _PlacedArray)(struct, size) for struct in structs]


def _in_dtype(column: Any, struct: jax.ShapeDtypeStruct) -> Any:
    if isinstance(column, Ragged):
        return column.astype(struct.dtype)
    dtype = common_text([struct.dtype, column.dtype]) if is_text(struct.dtype) else struct.dtype
    return np.ascontiguousarray(column, dtype)


def _empty_column(struct: jax.ShapeDtypeStruct) -> Any:
    if None in struct.shape:
        return Ragged.from_list([], struct.dtype, struct.shape)
    return np.empty((0, *struct.shape), struct.dtype)
