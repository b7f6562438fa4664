"""A batch on the host: each child reads its own rows in one call, and they are put in place."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from datarax_core.records import Batch, ElementSpec, aligned_empty


def in_place(parts: Iterable[tuple[np.ndarray, Batch]], size: int, spec: ElementSpec) -> Batch:
    """The batch of ``size`` records whose ``rows`` are those of a child's batch, for each (rows, batch) of ``parts``.

    A child that has all the rows is handed through as it is.
    """
    structs, form = jax.tree.flatten(spec)
    columns: list[np.ndarray] | None = None
    for rows, batch in parts:
        leaves = jax.tree.leaves(batch)
        if len(rows) == size:
            return jax.tree.unflatten(form, [_as_host(leaf, s) for leaf, s in zip(leaves, structs, strict=True)])
        if columns is None:
            columns = [_empty((size, *struct.shape), struct.dtype) for struct in structs]
        for column, leaf in zip(columns, leaves, strict=True):
            column[rows] = leaf
    if columns is None:
        columns = [_empty((size, *struct.shape), struct.dtype) for struct in structs]
    return jax.tree.unflatten(form, columns)


def _as_host(leaf: Any, struct: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.ascontiguousarray(leaf, struct.dtype)


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.empty(shape, dtype) if dtype.hasobject else aligned_empty(shape, dtype)
