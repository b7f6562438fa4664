"""Weights as exact fractions over one common denominator, which a schedule of one period can hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

LARGEST: Final = 2**20
"""The largest common denominator: a weight of 10^-6 has room, and a table of one period takes 9 MiB."""

_FLOAT: Final = 2.0**-52  # what a float may be away from the fraction that it was made of, relative to 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Exact shares: child i has ``numerators[i] / denominator``, and ``off`` is the most that any is away from its weight."""

    numerators: tuple[int, ...]
    denominator: int
    off: float

    def __str__(self) -> str:
        return ", ".join(map(str, self.fractions))

    @property
    def fractions(self) -> tuple[Fraction, ...]:
        """The shares in lowest terms; they add up to 1."""
        return tuple(Fraction(numerator, self.denominator) for numerator in self.numerators)

    def without(self, gone: frozenset[int]) -> "Shares":
        """The shares of those that are left, in the same proportions."""
        left = [0 if i in gone else numerator for i, numerator in enumerate(self.numerators)]
        common = math.gcd(*left)
        return Shares(tuple(n // common for n in left), sum(left) // common, self.off)


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights, scaled so that they add up to 1; as they are if they do so already."""
    if abs(math.fsum(weights) - 1) <= len(weights) * _FLOAT:
        return tuple(weights)
    exact = list(map(Fraction, weights))
    total = sum(exact)
    return tuple(float(weight / total) for weight in exact)


def shares_of(weights: Sequence[float]) -> Shares:
    """The exact shares that ``weights``, which add up to 1, stand for.

    A float is read as the fraction that it was made of, 0.7 as 7/10 and 0.3333333333333333 as 1/3, where one common
    denominator up to `LARGEST` holds them all. Weights that need a larger one are rounded to the nearest that fit; a
    weight that is not zero never becomes zero.
    """
    return _read_back(weights) or _nearest(np.asarray(weights, np.float64))


def _read_back(weights: Sequence[float]) -> Shares | None:
    fractions = [Fraction(weight).limit_denominator(LARGEST) for weight in weights]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    is_meant = all(
        abs(float(fraction) - weight) <= 4 * _FLOAT * max(weight, 2.0**-20) and bool(fraction) == bool(weight)
        for fraction, weight in zip(fractions, weights, strict=True)
    )
    if denominator > LARGEST or sum(fractions) != 1 or not is_meant:
        return None
    return Shares(tuple(int(fraction * denominator) for fraction in fractions), denominator, 0.0)


def _nearest(weights: np.ndarray) -> Shares:
    """The shares whose largest distance from a weight is the smallest, of all denominators.

    Denominators are thrown out child by child as soon as they are no better than `LARGEST`, which leaves few. (Not looked at
    are those for which rounding each weight by itself does not add up.)
    """
    served = np.flatnonzero(weights)
    best = _apportioned(weights, LARGEST)
    bound = np.abs(best / LARGEST - weights).max()
    denominators = np.arange(1, LARGEST + 1)
    worst = np.full(LARGEST, _FLOAT)  # nearer than a float can say is near enough: the smallest such denominator wins
    for weight in weights[served]:
        numerators = np.rint(weight * denominators)
        worst = np.maximum(worst, np.abs(numerators / denominators - weight))
        keep = (worst < bound) & (numerators > 0)
        denominators, worst = denominators[keep], worst[keep]
    for at in np.argsort(worst, kind="stable"):
        numerators = np.rint(weights * denominators[at]).astype(np.int64)
        if numerators.sum() == denominators[at]:
            return _shares(numerators, weights)
    return _shares(best, weights)


def _apportioned(weights: np.ndarray, denominator: int) -> np.ndarray:
    """int64 (k,): numerators that add up to ``denominator`` by largest remainders, none of a positive weight being 0."""
    exact = weights * denominator
    numerators = np.where(weights > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    while (missing := denominator - int(numerators.sum())) != 0:
        order = np.argsort(numerators - exact, kind="stable")  # those first that were rounded down the most
        some = order[weights[order] > 0][:missing] if missing > 0 else order[numerators[order] > 1][missing:]
        numerators[some] += 1 if missing > 0 else -1
    return numerators


def _shares(numerators: np.ndarray, weights: np.ndarray) -> Shares:
    common = int(np.gcd.reduce(numerators))
    denominator = int(numerators.sum()) // common
    return Shares(
        tuple((numerators // common).tolist()),
        denominator,
        float(np.abs(numerators // common / denominator - weights).max()),
    )
