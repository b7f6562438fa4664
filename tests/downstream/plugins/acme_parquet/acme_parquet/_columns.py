"""Arrow's columns as NumPy arrays. What NumPy would change on the way without a word, it does not get to see."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pyarrow as pa

OBJECT_BYTES = 56
"""About what Python adds to a text or bytes, and to the array that refers to it."""


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """The values of one column of a row group."""

    values: np.ndarray
    """(rows, ...)"""

    nulls: np.ndarray | None
    """bool (rows,): where the file has a null, and ``values`` something that must not be served; None if nowhere."""

    nbytes: int
    """About the memory that it takes."""

    @classmethod
    def of(cls, chunks: pa.ChunkedArray, spec: jax.ShapeDtypeStruct, fill: Any) -> "Column":
        """What Arrow read, as ``spec`` describes it, with ``fill`` in place of nulls unless it is None."""
        parts = [_items(chunk) for chunk in chunks.chunks]
        values = _joined([items for items, _ in parts]).reshape(len(chunks), *spec.shape)
        nulls: np.ndarray | None = None
        if any(missing.any() for _, missing in parts):
            missing = _joined([missing for _, missing in parts]).reshape(values.shape)
            if fill is None:
                nulls = np.any(missing.reshape(len(chunks), -1), axis=1)
            else:
                values = np.where(missing, np.asarray(fill, spec.dtype), values)
        nbytes = OBJECT_BYTES * values.size + chunks.nbytes if spec.dtype.kind == "O" else values.nbytes
        return cls(values, nulls, nbytes)


def _items(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The innermost values of an array, all in a row, and for each whether it is null."""
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
    if array.null_count and not _rides_beside(array.type):  # NumPy would get floats for integers, objects for bools
        array = array.fill_null(pa.scalar(0, pa.int8()).cast(array.type))
    return array.to_numpy(zero_copy_only=False), missing


def _rides_beside(kind: pa.DataType) -> bool:
    return not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_null(array: pa.Array) -> np.ndarray:
    if not array.null_count:
        return np.broadcast_to(np.False_, len(array))
    return np.asarray(array.is_null())


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
