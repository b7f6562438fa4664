"""Sizes of batches by position: closed forms against a walk from batch to batch."""

import copy
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from datarax_core.order.batch_sizes import BatchSizes, OneBatchSize, ScheduledBatchSizes, batch_sizes_of


def walk(sizes: BatchSizes, start: int, steps: int) -> list[int]:
    """Return the positions at which the first batches from ``start`` on begin, and where the last ends."""
    positions = [start]
    for _ in range(steps):
        positions.append(positions[-1] + sizes.at(positions[-1]))
    return positions


def drawn(rng: random.Random) -> BatchSizes:
    borders = [0, *sorted(rng.sample(range(1, 60), rng.randint(0, 4)))]
    sizes = batch_sizes_of([[border, rng.randint(1, 12)] for border in borders])
    return OneBatchSize(sizes) if isinstance(sizes, int) else sizes


@pytest.mark.parametrize("seed", range(200))
def test_closed_forms_are_what_a_walk_finds(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - of a test
    sizes = drawn(rng)
    assert [sizes.position_of(step) for step in range(25)] == walk(sizes, 0, 24)
    start = rng.choice([0, rng.randint(0, 70)])
    positions = walk(sizes, start, 24)
    assert [sizes.position_after(start, step) for step in range(25)] == positions
    for begins, ends in pairwise(positions):
        stop = rng.randint(begins + 1, ends)
        step = positions.index(begins)
        assert sizes.batches_between(start, stop) == step + 1
        assert sizes.last_size(start, stop) == (0 if stop == ends else stop - begins)
        change = sizes.next_change(begins)
        assert change is not None or len({sizes.at(at) for at in positions[step:]}) == 1
        assert change is None or all(sizes.at(at) == sizes.at(begins) for at in positions[step:] if at < change)
    assert sizes.batches_before(positions[3]) == sizes.batches_between(0, positions[3])
    assert {sizes.at(at) for at in positions} <= set(sizes.distinct)
    assert max(sizes.distinct) == sizes.largest


def test_a_batch_that_begins_before_a_border_keeps_its_size() -> None:
    sizes = ScheduledBatchSizes([[0, 64], [100, 32], [1_000_000, 128]])
    assert walk(sizes, 0, 4) == [0, 64, 128, 160, 192]
    assert [sizes.position_of(step) for step in (31_248, 31_254)] == [1_000_000, 1_000_768]
    assert (sizes.at(999_999), sizes.at(10**18)) == (32, 128)
    assert sizes.describe() == "64, 32 from record 100 on, 128 from record 1,000,000 on"
    assert ScheduledBatchSizes([[0, 7], [30, 4], [34, 7]]).position_of(6) == 42  # one batch reaches over a whole stage


def test_sizes_are_values() -> None:
    sizes = ScheduledBatchSizes([(0, 4), (8, 6)])
    assert sizes == copy.deepcopy(sizes) == batch_sizes_of(np.array([[0, 4], [8, 6]]))
    assert hash(sizes) == hash(ScheduledBatchSizes(((0, 4), (8, 6))))
    assert sizes != ScheduledBatchSizes([[0, 4], [9, 6]])
    assert sizes.fingerprint() == [[0, 4], [8, 6]]
    assert repr(sizes) == "ScheduledBatchSizes([[0, 4], [8, 6]])"
    assert batch_sizes_of([[0, 4], [8, 4]]) == batch_sizes_of(np.int64(4)) == 4


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "nothing": ([], ValueError, r"^batch_size=\[\] has no stage; a schedule .* such as \[\[0, 256\], \[1_000_000, 512\]\]$"),
    "no pair": ([[0, 4, 5]], TypeError, r"^batch_size\[0\] is a pair of \[position, batch size\], not \[0, 4, 5\]; a schedule"),
    "numbers": ([4, 5], TypeError, r"^batch_size\[0\] is a pair of \[position, batch size\], not 4; a schedule"),
    "begins late": ([[5, 4]], ValueError, r"^batch_size\[0\] begins at position 5, so that .*; begin a schedule at 0$"),
    "goes back": ([[0, 4], [9, 5], [3, 2]], ValueError, r"^batch_size\[2\] begins at position 3, but .*\[1\] begins at 9,"),
    "equal": ([[0, 4], [9, 5], [9, 2]], ValueError, r"^batch_size\[2\] begins at position 9, but .*\[1\] begins there too;"),
    "no size": ([[0, 4], [9, 0]], ValueError, r"^batch_size\[1\]\[1\] is at least 1, not 0$"),
    "large": ([[0, 2**31]], ValueError, r"^batch_size\[0\]\[1\] is at most 2147483647, not 2147483648: rows are counted in"),
    "float": ([[0.0, 4]], TypeError, r"^batch_size\[0\]\[0\], a position in records, is an integer, not 0\.0$"),
    "negative": ([[-1, 4]], ValueError, r"^batch_size\[0\]\[0\], a position in records, is at least 0, not -1$"),
    "far": ([[0, 4], [2**63, 5]], ValueError, r"^batch_size\[1\] begins at position 9223372036854775808, beyond the last, "),
    "text": ("4", TypeError, r"^batch_size is an integer, not '4'$"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_schedules_that_are_none_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        batch_sizes_of(given)
