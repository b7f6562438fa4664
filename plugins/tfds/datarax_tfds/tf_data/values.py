"""Batches of ``tf.data`` as NumPy arrays: one operation a field, and no copy of fields that have one shape."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import numpy as np

from datarax_core.records import Batch, ElementSpec, Ragged, dotted_name
from datarax_tfds.features.decoder import is_dict, is_one_array, is_sequence

VALUES: Final = "values"
SHAPE: Final = "shape"
"""Keys of a value of varying shape as the graph batches it: its values, flat (ragged), and its shape."""

_OBJECT: Final = np.dtype(object)

Lengths: TypeAlias = tuple[int | None, ...]


def spec_of_features(features: Any, full_name: str, *, as_objects: bool = False) -> ElementSpec:
    """Return the element spec of a FeaturesDict, equal to `FeatureDecoder.spec` for features that `FeatureDecoder` decodes.

    Raises:
        ValueError: A field is itself a data set, which a batch cannot hold.
    """
    return _SpecMaker(full_name, as_objects).of(features, (), ())


class _SpecMaker(NamedTuple):
    full_name: str
    as_objects: bool

    def of(self, feature: Any, path: tuple[str, ...], lengths: Lengths) -> Any:
        """Return the spec of a feature.

        Args:
            feature: The feature.
            path: Its names from the outside in.
            lengths: Lengths of the sequences that it is in, None for each that varies.
        """
        if is_dict(feature):
            return {name: self.of(inner, (*path, name), lengths) for name, inner in feature.items()}
        if is_sequence(feature):
            return self.of(feature.feature, path, (*lengths, feature._length))  # noqa: SLF001 - no public name
        return self._of_info(feature, feature.get_tensor_info(), path, lengths)

    def _of_info(self, feature: Any, info: Any, path: tuple[str, ...], lengths: Lengths) -> Any:
        if isinstance(info, Mapping):
            return {name: self._of_info(feature, inner, (*path, name), lengths) for name, inner in info.items()}
        if not hasattr(info, "np_dtype"):
            raise ValueError(
                f"field {dotted_name(path)!r} of {self.full_name} is a {type(info).__name__}, which tf.data cannot batch; "
                "leave it out with exclude_keys, or leave backend out: ArrayRecord and TFRecord files are read by index, which "
                "serves it"
            )
        shape, dtype = (*lengths, *info.shape), np.dtype(info.np_dtype)
        if None in shape and (self.as_objects or not is_one_array(feature, lengths, shape)):
            return jax.ShapeDtypeStruct((), _OBJECT)
        return jax.ShapeDtypeStruct(shape, _OBJECT if dtype.kind in "SUO" else dtype)


def as_numpy(batch: Any, spec: ElementSpec) -> Batch:
    """Return a batch of a `Graph` as columns of the element spec; numbers are views of TensorFlow's memory.

    That memory is aligned to 64 bytes. Text and other bytes are objects, ``bytes``; values of fields of varying shape are
    ragged columns, or objects that are arrays, as the spec says.
    """
    if isinstance(spec, Mapping):
        return {name: as_numpy(batch[name], inner) for name, inner in spec.items()}
    is_ragged = spec is not None and None in spec.shape
    if isinstance(batch, Mapping):
        values, shapes = batch[VALUES], np.asarray(batch[SHAPE])
        return _ragged(values, shapes, spec) if is_ragged else _varying(values, shapes)
    if hasattr(batch, "row_splits"):
        rows = [_nested(row) for row in batch]
        if not is_ragged:
            return _objects(rows)
        sizes = [-1 if size is None else size for size in spec.shape]
        return Ragged.from_list([np.asarray(row, spec.dtype).reshape(sizes) for row in rows], spec.dtype, spec.shape)
    return np.asarray(batch)


def _ragged(values: Any, shapes: np.ndarray, spec: jax.ShapeDtypeStruct) -> Ragged:
    """Return values as a ragged column, without a copy."""
    varying = 1 + max(axis for axis, size in enumerate(spec.shape) if size is None)
    sizes = shapes[:, :varying].astype(np.int64)
    rows = np.asarray(values.values).reshape(-1, *spec.shape[varying:])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes.prod(axis=1))])
    return Ragged(rows, offsets, None if varying == 1 else sizes, record_shape=spec.shape)


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
