"""Columns of pictures: the pictures of a batch, decoded or not, and columns made of new ones."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from datarax_core.errors import StageError
from datarax_core.records import ElementSpec, Ragged, aligned_empty
from datarax_core.stages import path_of, with_value_at

from .codec import EncodedImage
from .pixels import Array

Struct: TypeAlias = jax.ShapeDtypeStruct


class OpenedImages(list[EncodedImage]):
    """A column of images whose headers were read; ``shape`` and ``dtype`` are those of the column of their pixels."""

    def __init__(self, images: Iterable[EncodedImage], channels: int, dtype: np.dtype[Any]) -> None:
        super().__init__(images)
        self.shape, self.dtype = (len(self), None, None, channels), dtype


Pictures: TypeAlias = OpenedImages | Ragged | Array
"""The pictures of the records of a batch."""


def with_struct(spec: ElementSpec, name: str, shape: Sequence[int | None], dtype: np.dtype[Any]) -> ElementSpec:
    """Return the spec with another shape, None for each axis that varies, and dtype of the field ``name``."""
    struct = jax.ShapeDtypeStruct(tuple(shape), dtype)  # None for what varies
    return with_value_at(spec, path_of(spec, name, ("field",)), struct)


def require_picture(struct: Struct, name: str, option: str = "field") -> None:
    """Raise ``StageError`` unless a field holds pictures: numbers (height, width) or (height, width, channels)."""
    if struct.dtype.hasobject or struct.dtype.kind in "SU":
        raise StageError(
            f"field {name!r} is {_kind(struct.dtype)}, not a picture; put a stage decode_image before, which decodes it",
            (option,),
        )
    if len(struct.shape) not in (2, 3) or None in struct.shape[2:]:
        raise StageError(
            f"field {name!r} is {struct.dtype}{list(struct.shape)}, not a picture: (height, width) or (height, width, "
            "channels)",
            (option,),
        )


def _kind(dtype: np.dtype[Any]) -> str:
    return {"S": "bytes", "U": "text"}.get(dtype.kind, "objects or bytes")


def dense_column(rows: Iterable[Array], count: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return an array (count, *shape) of as many arrays of that shape."""
    column: Array = aligned_empty((count, *shape), dtype)
    for number, row in enumerate(rows):
        column[number] = row
    return column


def ragged_column(rows: Iterable[Array], sizes: Sequence[tuple[int, int]], inner: Sequence[int], dtype: Any) -> Ragged:
    """Return a ragged column of arrays of these sizes (height, width) and further axes ``inner``, each copied once."""
    shapes = np.array(sizes, np.int64).reshape(-1, 2)
    offsets = np.zeros(len(shapes) + 1, np.int64)
    np.cumsum(shapes[:, 0] * shapes[:, 1], out=offsets[1:])
    values: Array = np.empty((int(offsets[-1]), *inner), dtype)
    for row, start, stop in zip(rows, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        values[start:stop].reshape(row.shape)[...] = row
    return Ragged(values, offsets, shapes)


def pictures_column(
    rows: Iterable[Array], sizes: Sequence[tuple[int, int]], shape: Sequence[int | None], dtype: np.dtype[Any]
) -> Array | Ragged:
    """Return pictures of a ``shape`` as one array if no axis varies, else as a ragged column."""
    dense = [size for size in shape if size is not None]
    if len(dense) < len(shape):
        return ragged_column(rows, sizes, dense[-1:] if len(shape) > 2 else (), dtype)
    return dense_column(rows, len(sizes), dense, dtype)
