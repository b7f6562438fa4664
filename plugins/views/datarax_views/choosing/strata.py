"""Parts of which each holds its share of every class: of folds, and of named shares."""

from collections.abc import Sequence

import numpy as np

from datarax_core.order import Selection


def drawn_order(length: int, seed: int) -> np.ndarray:
    """Return int64 (length,): all record indices, in the order in which ``source.split(seed=...)`` deals them out."""
    return np.asarray(Selection(length, range(length), seed).parent_indices(np.arange(length)))


def by_class(codes: np.ndarray) -> np.ndarray:
    """Return int64 (n,): the places of class numbers, int (n,) from 0, class after class, in their sequence in each."""
    few = not codes.size or codes.max() < 1 << 16
    return np.argsort(codes.astype(np.uint16) if few else codes, kind="stable")  # 16 bits are sorted in linear time


def fold_tables(codes: np.ndarray, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the record indices outside of each fold, and those in it; folds have as many of each class, within one.

    The records of one class after another, each class in the order of the seed, are dealt to the folds in turn. So a class
    is a run of that deal, and gives each fold as many records as any other, or one more; all classes together likewise.

    Args:
        codes: int (n,), the class of each record, from 0.
        count: Number of folds.
        seed: Selects the order in which records are dealt.

    Returns:
        For each fold two int64 arrays of record indices, in the order of the seed, as the parts of a split are.
    """
    order = drawn_order(len(codes), seed)
    of_class = codes[order]
    fold = np.empty(len(codes), np.int64)
    fold[by_class(of_class)] = np.arange(len(codes)) % count
    return [(order[fold != number], order[fold == number]) for number in range(count)]


def part_tables(codes: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Return the record indices of parts of given sizes: disjoint, with each class within one of its share in each part.

    Args:
        codes: int (n,), the class of each record, from 0.
        sizes: Number of records of each part; together at most n.
        seed: Selects the order in which records are dealt.

    Returns:
        For each part int64 record indices, in the order of the seed, as the parts of a split are.
    """
    length = len(codes)
    order = drawn_order(length, seed)
    of_class = codes[order]
    all_sizes = [*sizes, length - sum(sizes)]
    counts = shares_of_classes(np.bincount(codes), all_sizes)
    part = np.empty(length, np.int64)
    part[by_class(of_class)] = np.repeat(np.tile(np.arange(len(all_sizes)), len(counts)), counts.ravel())
    return [order[part == number] for number in range(len(sizes))]


def shares_of_classes(classes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return int64 (classes, parts): how many records of each class each part gets.

    Each number is within one of exact proportions, ``classes[c] * sizes[p] / n``, so that the numbers of a class
    add up to its size, and those of a part to the size of the part. Such a table always exists (D. Gale, A theorem on flows
    in networks, 1957); one part after another takes a record more from the classes that have the most left to give.

    Args:
        classes: int (classes,), the number of records of each class.
        sizes: The number of records of each part; together as many as the classes have.
    """
    total = int(classes.sum())
    exact = [[int(size) * int(number) for size in sizes] for number in classes]  # Python's: 64 bits may be too few
    counts = np.array([[product // total for product in row] for row in exact], np.int64).reshape(-1, len(sizes))
    rests = np.array([[product % total for product in row] for row in exact], np.float64).reshape(counts.shape)
    left = classes - counts.sum(axis=1)
    for part in range(len(sizes)):
        more = int(sizes[part] - counts[:, part].sum())
        # among classes that have equally many to give, those whose share was cut most
        chosen = np.lexsort((-rests[:, part], -left))[:more]
        counts[chosen, part] += 1
        left[chosen] -= 1
    return counts
