"""Which pieces of documents each row holds, from lengths alone: any row is found in O(log n)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from .best_fit import best_fit
from .equals import Equals
from .pieces import Pieces, shuffle_of

PLAN_RULE: Final = 1
"""Version of the arithmetic, a part of every saved state: rows of another version hold other documents."""

_THREADS: Final = 2
"""Threads that plan blocks: one sorts, which needs no interpreter lock, while the other one counts."""


@dataclass(frozen=True, slots=True)
class RowParts:
    """What some rows hold: parts of documents, row by row.

    Attributes:
        documents: int64 (m,): the document of each part.
        begins: int64 (m,): its first token there.
        lengths: int64 (m,): its tokens.
        counts: int64 (k,): the parts of each row.
        restarts: int64 (m,): the positions of the first tokens, if positions begin anew in each piece.
    """

    documents: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray


class Plan(Protocol):
    """Rows, and the pieces that each of them holds."""

    pieces: Pieces

    @property
    def num_rows(self) -> int:
        """Number of rows."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens in all rows, without padding."""

    @property
    def most_segments(self) -> int:
        """Number of parts of the row that has most."""

    def parts(self, rows: np.ndarray, epochs: np.ndarray | None = None) -> RowParts:
        """Return what int64 (k,) ``rows`` hold, with ``epochs``, int64 (k,), in these epochs."""


class FitPlan:
    """Rows of whole pieces by best fit, in blocks of pieces. 4 bytes a piece and 8 a row, besides the pieces.

    Args:
        pieces: What is packed, none longer than a row.
        row_length: The tokens of a row.
        block: Number of pieces among which rows are filled: more leave less space, and take more memory to plan.
        max_segments: The most pieces of a row; None for any number.
        shuffle_seed: Selects a shuffle of the pieces, which is cut into blocks, and in which those of equal length are taken;
            None for pieces in sequence.
        equals: By which pieces of equal length change places from epoch to epoch; None to leave them.
    """

    def __init__(
        self,
        pieces: Pieces,
        row_length: int,
        *,
        block: int,
        max_segments: int | None = None,
        shuffle_seed: int | None = None,
        equals: Equals | None = None,
    ) -> None:
        self.pieces, self._equals = pieces, equals
        count = len(pieces)
        num_blocks = max(-(-count // block), 1)
        cuts = [count * number // num_blocks for number in range(num_blocks + 1)]
        order = None if shuffle_seed is None else shuffle_of(count, shuffle_seed)
        self._slots = np.empty(count, np.int32 if count < 2**31 else np.int64)

        def planned(start: int, stop: int) -> np.ndarray:
            own = np.arange(start, stop) if order is None else order[start:stop]
            slots, starts = best_fit(pieces.lengths[own], row_length, max_segments)
            self._slots[start:stop] = own[slots]
            return starts[:-1] + start

        with ThreadPoolExecutor(_THREADS, "datarax-pack") as pool:
            starts_of_blocks = list(pool.map(planned, cuts[:-1], cuts[1:]))
        self._starts = np.concatenate([*starts_of_blocks, np.array([count])])

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self._starts) - 1

    @property
    def num_tokens(self) -> int:
        """Number of tokens in all rows."""
        return int(self.pieces.lengths.sum(dtype=np.int64))

    @property
    def most_segments(self) -> int:
        """Number of pieces of the row that has most."""
        return int(np.diff(self._starts).max(initial=0))

    def parts(self, rows: np.ndarray, epochs: np.ndarray | None = None) -> RowParts:
        """Return what ``rows`` hold."""
        starts = self._starts[rows]
        counts = self._starts[rows + 1] - starts
        held = self._slots[ranges(starts, counts)]
        if self._equals is not None and epochs is not None:
            held = self._equals.exchanged(held, np.repeat(epochs, counts))
        lengths = self.pieces.lengths[held].astype(np.int64)
        return RowParts(self.pieces.documents_of(held), self.pieces.begins_of(held), lengths, counts)


class ConcatPlan:
    """Rows cut from all pieces one after another, wherever a row ends. 8 bytes a piece, besides the pieces.

    Args:
        pieces: What is packed, in its sequence.
        row_length: The tokens of a row.
        keeps_last: Whether there is a last row that is not full.
        equals: By which pieces of equal length change places from epoch to epoch; None to leave them.
    """

    def __init__(self, pieces: Pieces, row_length: int, *, keeps_last: bool, equals: Equals | None = None) -> None:
        self.pieces, self._equals, self._row_length = pieces, equals, row_length
        self._bounds = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum(pieces.lengths, dtype=np.int64, out=self._bounds[1:])
        total = int(self._bounds[-1])
        self._end = total if keeps_last else total // row_length * row_length

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return -(-self._end // self._row_length)

    @property
    def num_tokens(self) -> int:
        """Number of tokens in all rows."""
        return self._end

    @property
    def most_segments(self) -> int:
        """Number of parts of the row that has most."""
        first, last = self._span(np.arange(self.num_rows))
        return int((last - first).max(initial=0))

    def parts(self, rows: np.ndarray, epochs: np.ndarray | None = None) -> RowParts:
        """Return what ``rows`` hold."""
        first, last = self._span(rows)
        counts = last - first
        held = ranges(first, counts)
        row_starts = np.repeat(rows * self._row_length, counts)
        starts = np.maximum(self._bounds[held], row_starts)
        ends = np.minimum(self._bounds[held + 1], np.minimum(row_starts + self._row_length, self._end))
        begins = starts - self._bounds[held]
        if self._equals is not None and epochs is not None:
            held = self._equals.exchanged(held, np.repeat(epochs, counts))
        return RowParts(self.pieces.documents_of(held), begins + self.pieces.begins_of(held), ends - starts, counts)

    def _span(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first piece of each row, and the one after its last."""
        starts = rows * self._row_length
        first = np.searchsorted(self._bounds, starts, side="right") - 1
        return first, np.searchsorted(self._bounds, np.minimum(starts + self._row_length, self._end), side="left")


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return int64: the numbers ``start .. start + count`` of each range, one range after another."""
    ends = counts.cumsum()
    numbers = np.arange(int(ends[-1]) if len(ends) else 0)
    numbers += np.repeat(starts - ends + counts, counts)
    return numbers
