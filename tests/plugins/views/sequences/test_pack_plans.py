"""Plans of packed rows: best fit against a plain one, every piece once, concatenation, exchanges of equals."""

import itertools
from bisect import bisect_left, insort
from collections import Counter

import numpy as np
import pytest

from datarax_views.sequences.packing.best_fit import best_fit
from datarax_views.sequences.packing.equals import Equals, permuted
from datarax_views.sequences.packing.pieces import Pieces
from datarax_views.sequences.packing.plan import ConcatPlan, FitPlan


def plain_best_fit(lengths: list[int], row_length: int) -> list[list[int]]:
    """Return each row as the lengths in it: best fit decreasing, one document after another."""
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # space, row
    for length in sorted(lengths, reverse=True):
        at = bisect_left(open_rows, (length, -1))
        space, row = open_rows.pop(at) if at < len(open_rows) else (row_length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(length)
        insort(open_rows, (space - length, row))
    return rows


def row_lists(documents: np.ndarray, starts: np.ndarray) -> list[list[int]]:
    """Return the documents of each row."""
    return [documents[a:b].tolist() for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize(
    ("seed", "row_length", "longest"), [(0, 64, 64), (1, 64, 20), (2, 50, 30), (3, 900, 899), (4, 7, 3)]
)
def test_rows_are_as_full_as_those_of_a_plain_best_fit(seed: int, row_length: int, longest: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, longest + 1, 400)
    documents, starts = best_fit(lengths, row_length)
    assert sorted(documents.tolist()) == list(range(400))
    own = Counter(
        int(lengths[row].sum()) for row in row_lists(documents, starts)
    )  # rows alike in space are taken in any order
    assert own == Counter(map(sum, plain_best_fit(lengths.tolist(), row_length)))


@pytest.mark.parametrize("most", [1, 2, 5])
def test_rows_hold_at_most_so_many_documents(most: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 33, 400)
    documents, starts = best_fit(lengths, 64, most)
    assert sorted(documents.tolist()) == list(range(400))
    assert np.diff(starts).max() == most
    assert np.add.reduceat(lengths[documents], starts[:-1]).max() <= 64
    assert len(starts) - 1 >= 400 / most


def test_rows_are_numbered_by_their_first_document() -> None:
    documents, starts = best_fit(np.random.default_rng(5).integers(1, 60, 300), 64)
    firsts = [min(row) for row in row_lists(documents, starts)]
    assert firsts == sorted(firsts)


def test_a_plan_in_blocks_is_full() -> None:
    lengths = np.random.default_rng(0).integers(20, 4001, 200_000)
    plan = FitPlan(Pieces.of(lengths, 2048, "split"), 2048, block=65_536)
    assert plan.num_tokens == lengths.sum()
    assert plan.num_tokens / (plan.num_rows * 2048) >= 0.998


@pytest.mark.parametrize("shuffle_seed", [None, 7])
@pytest.mark.parametrize("block", [1, 10, 64, 10_000])
def test_every_piece_is_in_one_row_whatever_the_blocks(block: int, shuffle_seed: int | None) -> None:
    lengths = np.random.default_rng(1).integers(0, 90, 333)
    plan = FitPlan(Pieces.of(lengths, 32, "split"), 32, block=block, shuffle_seed=shuffle_seed)
    parts = plan.parts(np.arange(plan.num_rows))
    tokens = [
        (d, b + t) for d, b, n in zip(parts.documents, parts.begins, parts.lengths, strict=True) for t in range(n)
    ]
    assert sorted(tokens) == [(d, t) for d, n in enumerate(lengths) for t in range(n)]
    ends = parts.counts.cumsum()
    assert all(parts.lengths[end - count : end].sum() <= 32 for end, count in zip(ends, parts.counts, strict=True))
    assert plan.most_segments == parts.counts.max()


def test_a_shuffle_of_the_documents_mixes_sorted_inputs() -> None:
    lengths = np.full(1000, 10)
    apart: dict[int | None, float] = {}
    for seed in (None, 0):
        plan = FitPlan(Pieces.of(lengths, 20), 20, block=100, shuffle_seed=seed)
        pairs = plan.parts(np.arange(plan.num_rows)).documents.reshape(-1, 2)
        apart[seed] = np.abs(pairs[:, 0] - pairs[:, 1]).mean()
    assert apart[None] < 2
    assert apart[0] > 5


@pytest.mark.parametrize("row_length", [1, 7, 32, 1000])
@pytest.mark.parametrize("keeps_last", [True, False])
def test_concatenated_rows_are_slices_of_all_tokens(row_length: int, *, keeps_last: bool) -> None:
    lengths = np.random.default_rng(2).integers(0, 40, 50)
    stream = [(d, t) for d, n in enumerate(lengths) for t in range(n)]
    plan = ConcatPlan(Pieces.of(lengths), row_length, keeps_last=keeps_last)
    full = len(stream) // row_length
    assert plan.num_rows == (-(-len(stream) // row_length) if keeps_last else full)
    rows = np.random.default_rng(3).permutation(plan.num_rows)
    parts = plan.parts(rows)
    ends = parts.counts.cumsum()
    for row, end, count in zip(rows, ends, parts.counts, strict=True):
        own = [
            (parts.documents[i], parts.begins[i] + t) for i in range(end - count, end) for t in range(parts.lengths[i])
        ]
        assert own == stream[row * row_length : (row + 1) * row_length]
    assert plan.most_segments == parts.counts.max(initial=0)


@pytest.mark.parametrize("kind", ["fit", "concat"])
def test_equals_change_places_by_epoch_and_every_piece_stays_in_one_row(kind: str) -> None:
    lengths = np.random.default_rng(4).integers(1, 12, 500)
    pieces = Pieces.of(lengths)
    equals = Equals(pieces.lengths, seed=3)
    plan = (
        FitPlan(pieces, 32, block=100, equals=equals)
        if kind == "fit"
        else ConcatPlan(pieces, 32, keeps_last=True, equals=equals)
    )
    rows = np.arange(plan.num_rows)
    seen = []
    for epoch in (0, 1, 2**40):
        parts = plan.parts(rows, np.full(len(rows), epoch))
        tokens = Counter(
            (d, b + t) for d, b, n in zip(parts.documents, parts.begins, parts.lengths, strict=True) for t in range(n)
        )
        assert tokens == Counter((d, t) for d, n in enumerate(lengths.tolist()) for t in range(n))
        seen.append(parts.documents.tolist())
    assert seen[0] != seen[1] != seen[2] != seen[0]
    one = plan.parts(rows[5:6], np.array([1]))
    both = plan.parts(rows[5:7], np.array([1, 0]))
    np.testing.assert_array_equal(both.documents[: len(one.documents)], one.documents)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 257])
def test_permutations_of_any_number_are_complete_and_differ_by_key(size: int) -> None:
    numbers, sizes = np.arange(size), np.full(size, size)
    made = [permuted(numbers, sizes, np.full(size, key, np.uint64)) for key in range(200)]
    assert all(np.array_equal(np.sort(one), numbers) for one in made)
    places = np.stack(made)
    for number in range(min(size, 10)):
        counts = np.bincount(places[:, number], minlength=size)
        assert ((counts - 200 / size) ** 2).sum() / (200 / size) < size + 6 * np.sqrt(2 * size)  # chi-squared


def test_documents_that_are_too_long_are_split_cut_or_left_out() -> None:
    lengths = np.array([0, 5, 12, 4, 8])
    split = Pieces.of(lengths, 5, "split")
    assert list(zip(split.documents, split.begins, split.lengths, strict=True)) == [
        (1, 0, 5), (2, 0, 5), (2, 5, 5), (2, 10, 2), (3, 0, 4), (4, 0, 5), (4, 5, 3),
    ]  # fmt: skip
    cut = Pieces.of(lengths, 5, "truncate")
    assert list(zip(cut.documents, cut.lengths, strict=True)) == [(1, 5), (2, 5), (3, 4), (4, 5)]
    left = Pieces.of(lengths, 5, "drop")
    assert list(zip(left.documents, left.lengths, strict=True)) == [(1, 5), (3, 4)]


def test_no_documents_make_no_rows() -> None:
    assert FitPlan(Pieces.of(np.zeros(3, np.int64), 5), 5, block=10).num_rows == 0
    assert ConcatPlan(Pieces.of(np.zeros(3, np.int64)), 5, keeps_last=True).num_rows == 0
