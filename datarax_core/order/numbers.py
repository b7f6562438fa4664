"""Checks of integers that callers pass: counts, positions, seeds and record indices."""

import operator
from typing import Any, Literal, TypeAlias

import numpy as np

Auto: TypeAlias = Literal["auto"]
"""A number that is found out by measuring."""


def whole_number(field: str, value: Any, *, at_least: int, hint: str = "") -> int:
    """Return ``value`` as a Python integer.

    Args:
        field: Name of the value in errors.
        value: An integer of Python or NumPy.
        at_least: The least value that is accepted.
        hint: End of the error messages.

    Raises:
        TypeError: ``value`` is no integer; True and 4.0 are none.
        ValueError: ``value`` is less than ``at_least``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{field} is an integer, not {value!r}{hint}")
    if value < at_least:
        raise ValueError(f"{field} is at least {at_least}, not {value!r}{hint}")
    return int(value)


def number_or_auto(field: str, value: Any, *, at_least: int, hint: str) -> "int | Auto":
    """Return ``value`` as a Python integer from ``at_least`` on, or ``"auto"`` as it is.

    Args:
        field: Name of the value in errors.
        value: An integer of Python or NumPy, or ``"auto"``.
        at_least: The least number that is accepted.
        hint: Meaning of ``"auto"``, for the end of the error messages.

    Raises:
        TypeError: ``value`` is neither.
        ValueError: ``value`` is less than ``at_least``.
    """
    if isinstance(value, str) and value == "auto":
        return "auto"
    return whole_number(field, value, at_least=at_least, hint=f"; or 'auto', {hint}")


def seed_number(seed: Any) -> int:
    """Return a seed as a Python integer from 0 to 2**32 - 1.

    Raises:
        TypeError: ``seed`` is no integer.
        ValueError: ``seed`` is out of range. JAX would take it modulo 2**32, so that two seeds would give the same stream.
    """
    number = whole_number("seed", seed, at_least=0)
    if number >= 2**32:
        raise ValueError(f"seed is less than 2**32, not {seed!r}; larger ones would give the stream of another seed")
    return number


def as_integer(field: str, value: Any) -> int:
    """Return an integer of Python, NumPy or JAX, of any sign, as a Python integer; ``field`` is its name in errors.

    Raises:
        TypeError: ``value`` is no integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{field} is an integer, not {value!r:.80}") from None


def record_numbers(indices: Any, length: int, title: str) -> np.ndarray:
    """Return concrete record indices as an integer array (k,), of int64 if there are none.

    Args:
        indices: Array or sequence of integers.
        length: Number of records of the source.
        title: Name of the source in errors.

    Raises:
        TypeError: ``indices`` are no integers, or have more or fewer axes than one.
        IndexError: An index is out of range.
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
