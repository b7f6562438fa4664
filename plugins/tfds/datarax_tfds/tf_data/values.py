"""Batches of ``tf.data`` as NumPy arrays: one operation a field, and no copy of fields that have one shape."""

from collections.abc import Mapping
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records import Batch, ElementSpec, dotted_name

VALUES: Final = "values"
SHAPE: Final = "shape"
"""Keys of a value of varying shape as the graph batches it: its values, flat (ragged), and its shape."""

_OBJECT: Final = np.dtype(object)


def spec_of_features(features: Any, full_name: str) -> ElementSpec:
    """Return the element spec of a FeaturesDict, equal to `FeatureDecoder.spec` for features that `FeatureDecoder` decodes.

    Raises:
        ValueError: A field is itself a data set, which a batch cannot hold.
    """
    return _spec(features.get_tensor_info(), (), full_name)


def _spec(info: Any, path: tuple[str, ...], full_name: str) -> Any:
    if isinstance(info, Mapping):
        return {name: _spec(inner, (*path, name), full_name) for name, inner in info.items()}
    if not hasattr(info, "np_dtype"):
        raise ValueError(
            f"field {dotted_name(path)!r} of {full_name} is a {type(info).__name__}, which tf.data cannot batch; leave it "
            "out with exclude_keys, or leave backend out: ArrayRecord and TFRecord files are read by index, which serves it"
        )
    dtype = np.dtype(info.np_dtype)
    if None in info.shape:
        return jax.ShapeDtypeStruct((), _OBJECT)
    return jax.ShapeDtypeStruct(tuple(info.shape), _OBJECT if dtype.kind in "SUO" else dtype)


def as_numpy(batch: Any, spec: ElementSpec) -> Batch:
    """Return a batch of a `Graph` as arrays of the element spec; numbers are views of TensorFlow's memory, aligned to 64 bytes.

    Text and other bytes are objects, ``bytes``; values of fields of varying shape are objects that are arrays.
    """
    if isinstance(spec, Mapping):
        return {name: as_numpy(batch[name], inner) for name, inner in spec.items()}
    if isinstance(batch, Mapping):
        return _varying(batch[VALUES], np.asarray(batch[SHAPE]))
    if hasattr(batch, "row_splits"):
        return _objects([_nested(row) for row in batch])
    return np.asarray(batch)


def _varying(values: Any, shapes: np.ndarray) -> np.ndarray:
    flat, ends = np.asarray(values.values), np.asarray(values.row_splits)
    rows = zip(ends[:-1], ends[1:], shapes, strict=True)
    return _objects([flat[start:end].reshape(shape) for start, end, shape in rows])


def _nested(row: Any) -> Any:
    return [_nested(inner) for inner in row] if hasattr(row, "row_splits") else as_numpy(row, None)


def _objects(values: list[Any]) -> np.ndarray:
    objects = np.empty(len(values), object)
    for row, value in enumerate(values):  # NumPy would make one array of a list of arrays of one shape
        objects[row] = value
    return objects
