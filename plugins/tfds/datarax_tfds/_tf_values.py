"""Batches of ``tf.data`` as NumPy has them: one operation a field, nothing copied that has one shape."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datarax_core.spec import Batch, ElementSpec

from ._tf_graph import SHAPE, VALUES


def as_numpy(batch: Any, spec: ElementSpec) -> Batch:
    """A batch of a `Graph` as arrays that ``spec`` describes; numbers are views of TensorFlow's memory, aligned to 64 bytes.

    Text and other strings are objects; fields of varying shape are objects that are arrays.
    """
    if isinstance(spec, Mapping):
        return {name: as_numpy(batch[name], inner) for name, inner in spec.items()}
    if isinstance(batch, Mapping):
        return _varying(batch[VALUES], np.asarray(batch[SHAPE]))
    if hasattr(batch, "row_splits"):
        return _objects([_nested(row) for row in batch])
    return _texts(batch.numpy()) if batch.dtype.name == "string" else np.asarray(batch)


def _varying(values: Any, shapes: np.ndarray) -> np.ndarray:
    flat, ends = values.values, np.asarray(values.row_splits)
    flat = _texts(flat.numpy()) if flat.dtype.name == "string" else np.asarray(flat)
    rows = zip(ends[:-1], ends[1:], shapes, strict=True)
    return _objects([flat[start:end].reshape(shape) for start, end, shape in rows])


def _nested(row: Any) -> Any:
    return [_nested(inner) for inner in row] if hasattr(row, "row_splits") else as_numpy(row, None)


def _objects(values: list[Any]) -> np.ndarray:
    objects = np.empty(len(values), object)
    for row, value in enumerate(values):  # a list of arrays of one shape would make an array of them
        objects[row] = value
    return objects


def _texts(stored: np.ndarray) -> np.ndarray:
    texts = np.empty(stored.shape, object)
    texts.ravel()[:] = [value.decode() for value in stored.ravel()]
    return texts
