"""Pieces of ranges: ranges that continue one another joined, and cut where a segment of a cache ends."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np

_MOST_BETWEEN: Final = 64
"""Bytes between two ranges that are read with them, such as the frames of TFRecords."""

_LARGE: Final = 1 << 15
"""Mean bytes of ranges from which on reading them together would cost more, by another copy, than it saves."""

_MOST: Final = 1 << 20
"""Bytes of what is read together, more or less."""

_WORTH_IT: Final = 0.75
"""Ranges are joined if so few remain of them."""


@dataclass(slots=True, eq=False)
class Pieces:
    """Pieces of ranges, each within one segment.

    Args:
        listed: Object, number of the segment, first byte in the segment, and bytes of each piece.
        runs: First piece of each run of joined ranges, and the end; None if a piece is a run.
        rows: Run, first byte in the run and the byte after the last one, of each range; None if a run is a range.
    """

    listed: list[tuple[int, int, int, int]]
    runs: list[int] | None
    rows: list[tuple[int, int, int]] | None

    @classmethod
    def of_ranges(cls, of: np.ndarray, starts: np.ndarray, ends: np.ndarray, segment_bytes: int) -> Self:
        """Return the pieces of ranges, int64 (k,) each: their object, first byte and end."""
        of, starts, ends, rows = _joined(of, starts, ends)
        first, last = starts // segment_bytes, np.maximum(ends - 1, starts) // segment_bytes
        counts = last - first + 1
        runs = None
        if len(counts) and counts.max() > 1:
            edges = np.concatenate([[0], np.cumsum(counts)])
            run = np.repeat(np.arange(len(counts)), counts)
            number = first[run] + np.arange(len(run)) - edges[run]
            of = of[run]
            starts = np.maximum(starts[run], number * segment_bytes)
            ends = np.minimum(ends[run], (number + 1) * segment_bytes)
            runs = edges.tolist()
        else:
            number = first
        begins, sizes = starts - number * segment_bytes, ends - starts
        listed = list(zip(of.tolist(), number.tolist(), begins.tolist(), sizes.tolist(), strict=True))
        return cls(listed, runs, rows)

    def of_all(self, found: list[bytes]) -> list[bytes]:
        """Return the bytes of the ranges for those of the pieces."""
        if self.runs is not None:
            found = [found[a] if b == a + 1 else b"".join(found[a:b]) for a, b in pairwise(self.runs)]
        return found if self.rows is None else [found[run][begin:end] for run, begin, end in self.rows]


def _joined(
    of: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int, int]] | None]:
    """Return runs of ranges that continue one another, and where each range is in them; the ranges and None if few do."""
    if len(of) < 2 or (ends - starts).mean() > _LARGE:
        return of, starts, ends, None
    between = starts[1:] - ends[:-1]
    is_apart = (
        (of[1:] != of[:-1]) | (between < 0) | (between > _MOST_BETWEEN) | (starts[1:] // _MOST != starts[:-1] // _MOST)
    )
    begins = np.concatenate([[True], is_apart])
    if np.count_nonzero(begins) > _WORTH_IT * len(of):
        return of, starts, ends, None
    heads = np.flatnonzero(begins)
    tails = np.append(heads[1:], len(of)) - 1
    run = np.cumsum(begins) - 1
    base = starts[heads][run]
    rows = list(zip(run.tolist(), (starts - base).tolist(), (ends - base).tolist(), strict=True))
    return of[heads], starts[heads], ends[tails], rows
