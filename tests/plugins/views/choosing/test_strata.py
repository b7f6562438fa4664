"""Shares of classes in folds and in parts: complete, disjoint, and within one record of exact proportions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_views.choosing.strata import drawn_order, fold_tables, part_tables, shares_of_classes

CODES = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.asarray)


def test_records_are_drawn_as_a_split_draws_them() -> None:
    order = drawn_order(1000, 3)
    assert sorted(order) == list(range(1000))
    assert not np.array_equal(order, drawn_order(1000, 4))


@settings(max_examples=100, deadline=None)
@given(codes=CODES, count=st.integers(2, 7), seed=st.integers(0, 9))
def test_folds_have_every_class_and_their_sizes_within_one(codes: np.ndarray, count: int, seed: int) -> None:
    pairs = fold_tables(codes, count, seed)
    folds = [fold for _, fold in pairs]
    assert all(sorted([*others, *fold]) == list(range(len(codes))) for others, fold in pairs)
    assert sorted(np.concatenate(folds)) == list(range(len(codes)))
    assert np.ptp([len(fold) for fold in folds]) <= 1
    classes = np.array([np.bincount(codes[fold], minlength=codes.max() + 1) for fold in folds])
    assert np.ptp(classes, axis=0).max() <= 1


@settings(max_examples=200, deadline=None)
@given(data=st.data(), codes=CODES, seed=st.integers(0, 9))
def test_parts_have_their_sizes_and_every_class_within_one(data: st.DataObject, codes: np.ndarray, seed: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(codes)), min_size=1, max_size=4)))
    sizes = np.diff([0, *cuts]).tolist()
    parts = part_tables(codes, sizes, seed)
    assert [len(part) for part in parts] == sizes
    together = np.concatenate(parts)
    assert len(set(together)) == len(together)
    for part, size in zip(parts, sizes, strict=True):
        exact = np.bincount(codes) * size / len(codes)
        assert np.abs(np.bincount(codes[part], minlength=codes.max() + 1) - exact).max() <= 1


def test_records_come_in_the_order_of_the_seed() -> None:
    codes = np.arange(300) % 3
    place = np.argsort(drawn_order(300, 5))
    for table in [*sum(fold_tables(codes, 4, 5), ()), *part_tables(codes, [100, 50], 5)]:
        assert (np.diff(place[table]) > 0).all()


@pytest.mark.parametrize("classes", [[4, 3, 3], [1, 1, 1, 7], [10]])
def test_numbers_add_up_by_class_and_by_part(classes: list[int]) -> None:
    counts = shares_of_classes(np.asarray(classes), [5, 3, 2])
    assert counts.sum(axis=0).tolist() == [5, 3, 2]
    assert counts.sum(axis=1).tolist() == classes
