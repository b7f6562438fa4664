"""Batches of packed rows, from the columns of the documents that were read."""

from typing import Any

import numpy as np

from datarax_core.records import Ragged, aligned_empty, gather_runs

from .plan import RowParts, ranges


class RowSpans:
    """The places of parts, and of the padding behind them, in rows of one length.

    All rows are one run of tokens, in which the padding of each row, if only of no tokens, follows its parts.

    Args:
        parts: The parts of each row.
        row_length: The tokens of a row.
    """

    def __init__(self, parts: RowParts, row_length: int) -> None:
        self._parts = parts
        counts, lengths = parts.counts, parts.lengths
        self._shape = (len(counts), row_length)
        ends = counts.cumsum()
        tokens = np.diff(np.append(0, lengths.cumsum())[ends], prepend=0)
        self._of_parts = np.arange(len(lengths)) + np.repeat(np.arange(len(counts)), counts)
        of_padding = ends + np.arange(len(counts))
        self._lengths = np.empty(len(lengths) + len(counts), np.int64)
        self._lengths[self._of_parts] = lengths
        self._lengths[of_padding] = row_length - tokens
        self._offsets = np.append(0, self._lengths.cumsum())
        self._padding = ranges(self._offsets[of_padding], self._lengths[of_padding])

    def packed(self, column: Ragged, which: np.ndarray, value: Any) -> np.ndarray:
        """Return the rows of a field, (k, row_length, ...).

        Args:
            column: The documents that were read.
            which: int64 (m,): the number in ``column`` of the document of each part.
            value: What stands behind the last part of a row.
        """
        values = column.values
        longest = int(self._lengths.max(initial=0))
        if len(values) < longest:  # padding is gathered too, as any tokens
            more = np.zeros((longest - len(values), *values.shape[1:]), values.dtype)
            values = np.concatenate([values, more])
        starts = np.zeros(len(self._lengths), np.int64)
        starts[self._of_parts] = column.offsets[which] + self._parts.begins
        tokens = gather_runs(values, starts, self._lengths, self._offsets)
        return self._padded(tokens, value)

    def segment_ids(self) -> np.ndarray:
        """Return int32 (k, row_length): the number of each token's part, 1 for the first of a row, 0 for padding."""
        counts = self._parts.counts
        numbers = np.zeros(len(self._lengths), np.int32)
        numbers[self._of_parts] = np.arange(1, len(self._of_parts) + 1) - np.repeat(counts.cumsum() - counts, counts)
        rows = aligned_empty(self._shape, np.int32)
        rows.reshape(-1)[...] = np.repeat(numbers, self._lengths)
        return rows

    def positions(self, *, of_documents: bool) -> np.ndarray:
        """Return int32 (k, row_length): the place of each token in its part, or in its document; 0 for padding."""
        firsts = self._offsets[:-1].copy()
        if of_documents:
            firsts[self._of_parts] -= self._parts.begins
        places = np.arange(int(self._offsets[-1]), dtype=np.int32)
        places -= np.repeat(firsts.astype(np.int32), self._lengths)
        return self._padded(places, 0)

    def _padded(self, tokens: np.ndarray, value: Any) -> np.ndarray:
        rows = aligned_empty((*self._shape, *tokens.shape[1:]), tokens.dtype)
        flat = rows.reshape(-1, *tokens.shape[1:])
        flat[...] = tokens
        flat[self._padding] = value
        return rows
