"""Checks of integers that callers pass: counts, seeds and record indices."""

import operator
from typing import Any

import numpy as np


def seed_number(seed: Any) -> int:
    """The seed; JAX would take larger ones modulo 2**32, and with them the same stream for two seeds."""
    number = whole_number("seed", seed, at_least=0)
    if number >= 2**32:
        raise ValueError(f"seed is less than 2**32, not {seed!r}; larger ones would give the stream of another seed")
    return number


def whole_number(field: str, value: Any, *, at_least: int, hint: str = "") -> int:
    """The number; refused are smaller ones (``ValueError``), and what is no integer, also 4.0 and True (``TypeError``)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{field} is an integer, not {value!r}{hint}")
    if value < at_least:
        raise ValueError(f"{field} is at least {at_least}, not {value!r}{hint}")
    return int(value)


def record_numbers(indices: Any, length: int, title: str) -> np.ndarray:
    """Concrete record indices as an int array (k,); none at all are an empty one.

    Raises:
        TypeError: They are no integers, or no array of one axis.
        IndexError: One of them is no record of the ``length`` that ``title`` has.
    """
    numbers = np.asarray(indices)
    if numbers.shape == (0,):
        return numbers.astype(np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise TypeError(f"records of {title} are named by integers, such as np.array([0, 5]), not {indices!r:.80}")
    if numbers.min() < 0 or numbers.max() >= length:
        wrong = numbers[(numbers < 0) | (numbers >= length)][0]
        raise IndexError(f"record {wrong} is out of range: {title} has {length} records")
    return numbers


def as_integer(field: str, value: Any) -> int:
    """The integer that ``value`` is, of Python, NumPy or JAX.

    Raises:
        TypeError: It is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{field} is an integer, not {value!r:.80}") from None
