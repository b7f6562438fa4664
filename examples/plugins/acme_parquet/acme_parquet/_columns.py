"""Columns of Arrow as NumPy arrays; values that NumPy would silently convert are replaced before NumPy sees them."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from datarax_core.records import Ragged, joined_columns

OBJECT_BYTES = 56
"""Approximate memory of a Python string or bytes object beyond its content, with the reference to it."""


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """The values of one column of a row group."""

    values: np.ndarray | Ragged
    """Shape (rows, ...); ragged for lists of any length, which share the memory of Arrow's values."""

    nulls: np.ndarray | None
    """bool (rows,): True for a row that is null in the file, whose value must not be served; None if no row is null."""

    nbytes: int
    """Approximate memory of the column."""

    @classmethod
    def of(cls, chunks: pa.ChunkedArray, spec: jax.ShapeDtypeStruct, fill: Any) -> "Column":
        """Convert ``chunks`` to the dtype and shape of ``spec``; unless ``fill`` is None, it replaces nulls.

        A list of any length that is null as a whole is replaced by an empty one.
        """
        if None in spec.shape:
            return cls._of_lists(chunks, spec, fill)
        parts = [_items(chunk) for chunk in chunks.chunks]
        values = _concatenated([items for items, _ in parts]).reshape(len(chunks), *spec.shape)
        nulls: np.ndarray | None = None
        if any(missing.any() for _, missing in parts):
            missing = _concatenated([missing for _, missing in parts]).reshape(values.shape)
            if fill is None:
                nulls = np.any(missing.reshape(len(chunks), -1), axis=1)
            else:
                values = np.where(missing, np.asarray(fill, spec.dtype), values)
        nbytes = OBJECT_BYTES * values.size + chunks.nbytes if spec.dtype.kind == "O" else values.nbytes
        return cls(values, nulls, nbytes)

    @classmethod
    def _of_lists(cls, chunks: pa.ChunkedArray, spec: jax.ShapeDtypeStruct, fill: Any) -> "Column":
        parts = [_lists(chunk, spec, fill) for chunk in chunks.chunks]
        values = joined_columns([values for values, _ in parts])
        missing = _concatenated([missing for _, missing in parts])
        nbytes = OBJECT_BYTES * values.values.size + chunks.nbytes if spec.dtype.kind == "O" else values.nbytes
        return cls(values, missing if fill is None and missing.any() else None, nbytes)


def _lists(array: pa.Array, spec: jax.ShapeDtypeStruct, fill: Any) -> tuple[Ragged, np.ndarray]:
    """Return lists as a ragged column, and for each whether it or an item of it is null."""
    if isinstance(array, pa.ExtensionArray):
        return _lists(array.storage, spec, fill)
    missing, offsets = np.array(_is_null(array)), array.offsets.to_numpy()
    items, missing_items = _items(array.values)
    items, missing_items = (part.reshape(-1, *spec.shape[1:]) for part in (items, missing_items))
    if missing_items.any() and fill is None:
        in_row = np.concatenate([[0], np.cumsum(np.any(missing_items.reshape(len(items), -1), axis=1))])
        missing |= in_row[offsets[1:]] > in_row[offsets[:-1]]
    elif missing_items.any():
        items = np.where(missing_items, np.asarray(fill, spec.dtype), items)
    return Ragged(items, offsets), missing


def _items(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the innermost values of an array, flat, and for each whether it is null."""
    if isinstance(array, pa.ExtensionArray):
        return _items(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return _items(array.dictionary_decode())
    if isinstance(array, pa.FixedSizeListArray):
        size = array.type.list_size
        values, missing = _items(array.values.slice(array.offset * size, len(array) * size))  # flatten() skips nulls
        whole_lists = np.repeat(_is_null(array), len(values) // max(len(array), 1))
        return values, missing | whole_lists
    missing = _is_null(array)
    if array.null_count and not _is_host_type(array.type):  # NumPy would get floats for integers, objects for bools
        array = array.fill_null(pa.scalar(0, pa.int8()).cast(array.type))
    return array.to_numpy(zero_copy_only=False), missing


def _is_host_type(arrow_type: pa.DataType) -> bool:
    """Return whether the values have no device dtype."""
    return not (pa.types.is_boolean(arrow_type) or pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type))


def _is_null(array: pa.Array) -> np.ndarray:
    if not array.null_count:
        return np.broadcast_to(np.False_, len(array))
    return np.asarray(array.is_null())


def _concatenated(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
