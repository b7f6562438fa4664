"""Columns of Arrow as NumPy arrays; values that NumPy would silently convert are replaced before NumPy sees them."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pyarrow as pa

OBJECT_BYTES = 56
"""Approximate memory of a Python string or bytes object beyond its content, with the reference to it."""


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """The values of one column of a row group."""

    values: np.ndarray
    """Shape (rows, ...)."""

    nulls: np.ndarray | None
    """bool (rows,): True for a row that is null in the file, whose value must not be served; None if no row is null."""

    nbytes: int
    """Approximate memory of the column."""

    @classmethod
    def of(cls, chunks: pa.ChunkedArray, spec: jax.ShapeDtypeStruct, fill: Any) -> "Column":
        """Convert ``chunks`` to the dtype and shape of ``spec``; unless ``fill`` is None, it replaces nulls."""
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
