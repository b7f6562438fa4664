"""Parts of a batch that are read by themselves, and the batch that they are put together to."""

from typing import Any

import jax
import numpy as np

from datarax_core.records.gathers import aligned_empty
from datarax_core.records.joining import host_column, joined_columns
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch


def parts_of(indices: np.ndarray, count: int, *, by_index: bool) -> list[Any]:
    """Return the rows of each of ``count`` parts of nearly equal size: slices, or with ``by_index`` maybe int arrays.

    Args:
        indices: int (k,): the indices by which the records are read.
        count: Number of parts, at most k.
        by_index: Whether the indices of each part are near one another, ascending from part to part.
    """
    size = len(indices)
    edges = [number * size // count for number in range(count + 1)]
    slices = [slice(edges[number], edges[number + 1]) for number in range(count)]
    if count == 1 or not by_index or bool((indices[1:] >= indices[:-1]).all()):
        return slices
    order = np.argsort(indices, kind="stable")
    return [order[part] for part in slices]


def joined_parts(batches: list[Batch], rows: list[Any]) -> Batch:
    """Return the batch whose ``rows[i]`` are ``batches[i]``, in memory that a device can take over."""
    if len(batches) == 1:
        return batches[0]
    is_cut = isinstance(rows[0], slice)
    places = None if is_cut else np.argsort(np.concatenate(rows))
    return jax.tree.map(lambda *leaves: _joined(leaves, rows, places), *batches)


def _joined(leaves: tuple[Any, ...], rows: list[Any], places: np.ndarray | None) -> Any:
    first = leaves[0]
    arrays = [host_column(leaf) for leaf in leaves]
    if (
        isinstance(first, Ragged) or len({array.dtype for array in arrays}) > 1 or first.dtype.hasobject
    ):  # text may be wider in one part
        whole = joined_columns(arrays)
        return whole if places is None else whole[places]
    column = aligned_empty((sum(map(len, arrays)), *first.shape[1:]), first.dtype)
    for array, part in zip(arrays, rows, strict=True):
        column[part] = array
    return column
