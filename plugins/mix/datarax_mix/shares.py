"""Weights as exact fractions over one common denominator, small enough for a schedule that holds one period as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

LARGEST: Final = 2**20
"""The largest common denominator: a weight of 10^-6 has room, and a table of one period takes 9 MiB."""

_FLOAT: Final = 2.0**-52  # the largest distance between a float and the fraction that it was made of, relative to 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Exact shares of the children: child i has ``numerators[i] / denominator``."""

    numerators: tuple[int, ...]
    denominator: int
    max_error: float
    """The largest distance between a share and the weight that it stands for."""

    def __str__(self) -> str:
        return ", ".join(map(str, self.fractions))

    @property
    def fractions(self) -> tuple[Fraction, ...]:
        """The shares in lowest terms; they add up to 1."""
        return tuple(Fraction(numerator, self.denominator) for numerator in self.numerators)

    def without(self, dropped: frozenset[int]) -> "Shares":
        """Return the shares of the children that are not ``dropped``, in the same proportions."""
        left = [0 if i in dropped else numerator for i, numerator in enumerate(self.numerators)]
        common = math.gcd(*left)
        return Shares(tuple(n // common for n in left), sum(left) // common, self.max_error)


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """Return the weights scaled to the sum 1; unchanged if their sum is 1 already."""
    if abs(math.fsum(weights) - 1) <= len(weights) * _FLOAT:
        return tuple(weights)
    exact = list(map(Fraction, weights))
    total = sum(exact)
    return tuple(float(weight / total) for weight in exact)


def shares_of(weights: Sequence[float]) -> Shares:
    """Return the exact shares that ``weights``, whose sum is 1, stand for.

    A float is read as the fraction that it was made of, 0.7 as 7/10 and 0.3333333333333333 as 1/3, if one common denominator
    up to `LARGEST` holds all of them. Otherwise the weights are rounded to the nearest shares that fit; a weight above zero
    never becomes zero.
    """
    return _intended(weights) or _nearest(np.asarray(weights, np.float64))


def _intended(weights: Sequence[float]) -> Shares | None:
    """Return the fractions that the weights were made of; None if no common denominator up to `LARGEST` holds them."""
    fractions = [Fraction(weight).limit_denominator(LARGEST) for weight in weights]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    are_close = all(
        abs(float(fraction) - weight) <= 4 * _FLOAT * max(weight, 2.0**-20) and bool(fraction) == bool(weight)
        for fraction, weight in zip(fractions, weights, strict=True)
    )
    if denominator > LARGEST or sum(fractions) != 1 or not are_close:
        return None
    return Shares(tuple(int(fraction * denominator) for fraction in fractions), denominator, 0.0)


def _nearest(weights: np.ndarray) -> Shares:
    """Return the shares whose largest distance from a weight is the smallest, over all denominators up to `LARGEST`.

    Child by child, denominators that are no better than `LARGEST` are dropped, so that few are left. Denominators for which
    the weights, each rounded by itself, do not add up are not considered.
    """
    served = np.flatnonzero(weights)
    best = _apportioned(weights, LARGEST)
    bound = np.abs(best / LARGEST - weights).max()
    denominators = np.arange(1, LARGEST + 1)
    worst = np.full(LARGEST, _FLOAT)  # smaller distances count as equal, so that the smallest such denominator wins
    for weight in weights[served]:
        numerators = np.rint(weight * denominators)
        worst = np.maximum(worst, np.abs(numerators / denominators - weight))
        keep = (worst < bound) & (numerators > 0)
        denominators, worst = denominators[keep], worst[keep]
    for at in np.argsort(worst, kind="stable"):
        numerators = np.rint(weights * denominators[at]).astype(np.int64)
        if numerators.sum() == denominators[at]:
            return _reduced(numerators, weights)
    return _reduced(best, weights)


def _apportioned(weights: np.ndarray, denominator: int) -> np.ndarray:
    """Return int64 (k,) numerators with the sum ``denominator``, by largest remainders; at least 1 for a weight above 0."""
    exact = weights * denominator
    numerators = np.where(weights > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    while (missing := denominator - int(numerators.sum())) != 0:
        order = np.argsort(
            numerators - exact, kind="stable"
        )  # the numerators that were rounded down the most come first
        some = order[weights[order] > 0][:missing] if missing > 0 else order[numerators[order] > 1][missing:]
        numerators[some] += 1 if missing > 0 else -1
    return numerators


def _reduced(numerators: np.ndarray, weights: np.ndarray) -> Shares:
    common = int(np.gcd.reduce(numerators))
    denominator = int(numerators.sum()) // common
    return Shares(
        tuple((numerators // common).tolist()),
        denominator,
        float(np.abs(numerators // common / denominator - weights).max()),
    )
