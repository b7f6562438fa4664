"""Rows of whole documents by best fit in order of decreasing length, counted by length.

The algorithm is best-fit decreasing (Johnson, "Near-optimal bin packing algorithms", 1973): each document, the longest first,
goes into the row with the least space that is enough. Documents of one length are alike, and so are rows with the same space
left, so that both are handled by number: groups of rows with one space, and as many documents of a length as fill them. The
least space that is enough is found by bisection of the spaces that rows have.
"""

from bisect import bisect_left, insort
from typing import Final, TypeAlias

import numpy as np

_Group: TypeAlias = tuple[int, int, int]
"""First row, number of rows, documents that each of them may still take."""

_FEW_ROWS: Final = 1 << 16  # NumPy sorts 16-bit numbers by radix, several times as fast as wider ones


def best_fit(lengths: np.ndarray, row_length: int, max_segments: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of whole documents that leave little space, each document in one row.

    Rows are numbered by their first document, and begin with their longest. The result depends on the arguments alone.

    Args:
        lengths: Integers (n,), 1 to ``row_length``: the tokens of each document.
        row_length: The tokens of a row.
        max_segments: The most documents of a row; None for any number.

    Returns:
        int64 (n,), the documents row by row, and int64 (rows + 1,), where each row begins among them. O(n log n) at worst; 10^6
        documents take about half a second.
    """
    if not len(lengths):
        return np.empty(0, np.int64), np.zeros(1, np.int64)
    longest_first = np.argsort((row_length - lengths).astype(np.min_scalar_type(row_length)), kind="stable")
    firsts, nums, each = _counted_rows(lengths[longest_first], row_length, max_segments or row_length)
    rows = _row_of_each(firsts, nums, each)
    num_rows = int(rows.max()) + 1
    narrow = rows.astype(np.uint16) if num_rows <= _FEW_ROWS else rows
    documents = longest_first[np.argsort(narrow, kind="stable")]
    starts = np.zeros(num_rows + 1, np.int64)
    np.bincount(rows, minlength=num_rows).cumsum(out=starts[1:])
    return _by_first_document(documents, starts)


def _counted_rows(lengths: np.ndarray, row_length: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return int64 (steps,) thrice: the first row, the number of rows, and the documents a row; the longest documents first.

    Args:
        lengths: Integers (n,): the tokens of each document, the longest first.
        row_length: The tokens of a row.
        most: The most documents of a row.
    """
    steps: list[tuple[int, int, int]] = []
    groups: dict[int, list[_Group]] = {}  # by space left
    spaces: list[int] = []  # the keys of groups, sorted
    num_rows = 0
    begins = np.flatnonzero(np.diff(lengths, prepend=-1))
    totals = np.diff(begins, append=len(lengths))
    for length, total in zip(lengths[begins].tolist(), totals.tolist(), strict=True):
        left = total
        while left:
            enough = bisect_left(spaces, length)
            if enough < len(spaces):
                space = spaces[enough]
                alike = groups[space]
                first, rows, may_take = alike.pop()
                if not alike:
                    del groups[space], spaces[enough]
            else:
                space, first, may_take = row_length, num_rows, most
                rows = -(-left // min(space // length, may_take))
                num_rows += rows
            fit = min(space // length, may_take)
            full = min(rows, left // fit)
            over = left - full * fit if full < rows else 0  # documents of one more row, which they do not fill
            for begin, num, taken in ((first, full, fit), (first + full, 1, over)):
                if not num * taken:
                    continue
                steps.append((begin, num, taken))
                left -= num * taken
                rest = space - taken * length
                if rest and may_take > taken:
                    _add(groups, spaces, rest, (begin, num, may_take - taken))
            used = full + (over > 0)
            if used < rows:
                _add(groups, spaces, space, (first + used, rows - used, may_take))
    table = np.array(steps, np.int64)
    return table[:, 0], table[:, 1], table[:, 2]


def _add(groups: dict[int, list[_Group]], spaces: list[int], space: int, group: _Group) -> None:
    """Add a group of rows that have this space left."""
    if space in groups:
        groups[space].append(group)
    else:
        groups[space] = [group]
        insort(spaces, space)


def _row_of_each(firsts: np.ndarray, nums: np.ndarray, each: np.ndarray) -> np.ndarray:
    """Return the row of each document, the longest first: ``each`` documents in each of ``nums`` rows from ``firsts`` on."""
    sizes = nums * each
    begins = np.cumsum(sizes) - sizes
    within = np.arange(int(sizes.sum())) - np.repeat(begins, sizes)
    within //= np.repeat(each, sizes)
    rows: np.ndarray = within + np.repeat(firsts, sizes)
    return rows


def _by_first_document(documents: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in the order of their least documents."""
    order = np.argsort(np.minimum.reduceat(documents, starts[:-1]))
    lengths = np.diff(starts)[order]
    ends = np.zeros(len(starts), np.int64)
    lengths.cumsum(out=ends[1:])
    places = np.arange(len(documents)) + np.repeat(starts[:-1][order] - ends[:-1], lengths)
    by_row: np.ndarray = documents[places]
    return by_row, ends
