"""Integers that callers give: record indices as arrays, positions by themselves."""

import operator
from typing import Any

import numpy as np


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
