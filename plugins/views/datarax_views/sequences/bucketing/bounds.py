"""Bounds of buckets: those with the least padding, found exactly, and the bucket of each record."""

from typing import Final, NamedTuple

import numpy as np

_DENSE: Final = 4
"""A histogram has at most so many entries for each record, and some more; else lengths are sorted."""


def best_bounds(lengths: np.ndarray, count: int, multiple_of: int = 1) -> tuple[int, ...]:
    """Return the bounds, at most ``count``, with which the fewest values are added when records are padded to them.

    Each bound is a multiple of ``multiple_of``; the last holds the longest record. The least sum is found by dynamic
    programming over the distinct bounds: one more bucket costs one pass over them, since the best place of its lower edge is
    the lowest of some lines, whose hull moves along with the bound (the convex hull trick). O(count * distinct bounds), in
    whole numbers.

    Args:
        lengths: int64 (k,), at least one.
        count: The most bounds, from 1.
        multiple_of: What bounds are multiples of, from 1.
    """
    bounds, records = _histogram(np.maximum(-(-lengths // multiple_of), 1))
    bounds = [bound * multiple_of for bound in bounds]
    below = [0]
    for number in records:
        below.append(below[-1] + number)
    values = [bound * number for bound, number in zip(bounds, below[1:], strict=True)]  # padded by one bucket
    edges: list[list[int]] = []
    for _ in range(min(count, len(bounds)) - 1):
        values, edge = _with_one_more(bounds, below, values)
        edges.append(edge)
    place, chosen = len(bounds) - 1, [bounds[-1]]
    for edge in reversed(edges):
        if (place := edge[place]) < 0:
            break
        chosen.append(bounds[place])
    return tuple(reversed(chosen))


def _with_one_more(bounds: list[int], below: list[int], values: list[int]) -> tuple[list[int], list[int]]:
    """Return (values of the records up to each bound with one bucket more, the place of the bound below it; -1 for none).

    The last bucket begins behind the bound at place i: it has ``below[j + 1] - below[i + 1]`` records of ``bounds[j]`` values,
    which is a line in ``bounds[j]`` for each i.
    """
    made, edge = [values[0]], [-1]
    lines: list[_Line] = []
    first = 0
    for place in range(1, len(bounds)):
        line = _Line(-below[place], values[place - 1], place - 1)
        while len(lines) - first > 1 and _is_above(lines[-2], lines[-1], line):
            lines.pop()
        lines.append(line)
        bound = bounds[place]
        while len(lines) - first > 1 and lines[first + 1].at(bound) <= lines[first].at(bound):
            first += 1
        made.append(lines[first].at(bound) + bound * below[place + 1])
        edge.append(lines[first].place)
    return made, edge


class _Line(NamedTuple):
    slope: int
    offset: int
    place: int

    def at(self, bound: int) -> int:
        return self.slope * bound + self.offset


def _is_above(one: _Line, two: _Line, three: _Line) -> bool:
    """Return whether the second of three lines, of ever smaller slopes, is nowhere the lowest."""
    return (three.offset - one.offset) * (one.slope - two.slope) <= (two.offset - one.offset) * (
        one.slope - three.slope
    )


def _histogram(values: np.ndarray) -> tuple[list[int], list[int]]:
    """Return (distinct values in ascending order, the number of each)."""
    if int(values.max()) <= _DENSE * len(values) + (1 << 20):
        counts = np.bincount(values)
        distinct = np.flatnonzero(counts)
        return distinct.tolist(), counts[distinct].tolist()
    distinct, counts = np.unique(values, return_counts=True)
    return distinct.tolist(), counts.tolist()


def bucket_of(lengths: np.ndarray, bounds: tuple[int, ...]) -> np.ndarray:
    """Return uint16 (k,): the number of the smallest of the ascending bounds that each length fits; their number if none."""
    return np.searchsorted(np.asarray(bounds, np.int64), lengths, side="left").astype(np.uint16)
