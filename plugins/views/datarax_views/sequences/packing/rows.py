"""Batches of packed rows, from the columns of the documents that were read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datarax_core.records import Ragged, aligned_empty, gather_runs, pad_runs

from .plan import RowParts


def packed_columns(
    columns: Mapping[str, Ragged], which: np.ndarray, parts: RowParts, row_length: int, padding: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the rows of each field, (k, row_length, ...): parts of documents one after another, then padding.

    Args:
        columns: The documents that were read, by field.
        which: int64 (m,): the number in ``columns`` of the document of each part.
        parts: The parts of each row.
        row_length: The tokens of a row.
        padding: What stands behind the last part, by field.
    """
    offsets, bounds = _offsets(parts.lengths), _row_bounds(parts)
    rows = {}
    for name, column in columns.items():
        tokens = gather_runs(column.values, column.offsets[which] + parts.begins, parts.lengths, offsets)
        rows[name] = _padded(tokens, bounds, row_length, padding[name])
    return rows


def segment_ids(parts: RowParts, row_length: int) -> np.ndarray:
    """Return int32 (k, row_length): the number of the part that a token is of, 1 for the first of a row, 0 for padding."""
    numbers = np.arange(1, len(parts.lengths) + 1, dtype=np.int32)
    numbers -= np.repeat(parts.counts.cumsum() - parts.counts, parts.counts).astype(np.int32)
    return _padded(np.repeat(numbers, parts.lengths), _row_bounds(parts), row_length, 0)


def positions(parts: RowParts, row_length: int, *, of_documents: bool) -> np.ndarray:
    """Return int32 (k, row_length): the place of a token in its part, or in its document; 0 for padding."""
    offsets = _offsets(parts.lengths)
    firsts = offsets[:-1] - parts.begins if of_documents else offsets[:-1]
    places = np.arange(int(offsets[-1]), dtype=np.int32)
    places -= np.repeat(firsts.astype(np.int32), parts.lengths)
    return _padded(places, _row_bounds(parts), row_length, 0)


def _padded(tokens: np.ndarray, bounds: np.ndarray, row_length: int, value: Any) -> np.ndarray:
    rows = aligned_empty((len(bounds) - 1, row_length, *tokens.shape[1:]), tokens.dtype)
    pad_runs(tokens, bounds, rows, value, left=False)
    return rows


def _offsets(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    lengths.cumsum(out=offsets[1:])
    return offsets


def _row_bounds(parts: RowParts) -> np.ndarray:
    """Return int64 (k + 1,): the first token of each row among those of all."""
    bounds: np.ndarray = _offsets(parts.lengths)[_offsets(parts.counts)]
    return bounds
