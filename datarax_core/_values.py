"""Equality and hash for the values of configs, some of which hold arrays; neither raises on one.

Configs are static attributes of modules, so JAX compares and hashes them at each call of a compiled step.
"""

import math
from collections.abc import Mapping
from typing import Any


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal: arrays by dtype, shape and elements, those without axes by value, NaN as NaN."""
    left, right = _plain(left), _plain(right)
    if _is_array(left) or _is_array(right):
        return _is_array(left) and _is_array(right) and _same_array(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(same, left, right))
    return left is right or (_is_nan(left) and _is_nan(right)) or _is_equal(left, right)


def stable_hash(value: Any) -> int:
    """A hash that agrees with `same`; arrays count by dtype and shape, so that it stays cheap."""
    value = _plain(value)
    if _is_array(value):
        return hash((str(value.dtype), tuple(value.shape)))
    if isinstance(value, Mapping):
        return hash(frozenset((key, stable_hash(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return hash(tuple(map(stable_hash, value)))
    if _is_nan(value):  # Python hashes each NaN by its identity
        return 0
    try:
        return hash(value)
    except TypeError:  # something mutable; equal ones have the same type at least
        return hash(type(value))


def _plain(value: Any) -> Any:
    return value.item() if _is_array(value) and value.shape == () else value


def _is_array(value: Any) -> bool:
    """NumPy's and JAX's arrays and scalars, told by what they have, so that neither library is imported."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "__array__")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_equal(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except (TypeError, ValueError):  # a table or the like, whose == is no single answer
        return False


def _same_array(left: Any, right: Any) -> bool:
    import numpy as np  # noqa: PLC0415 - configs without arrays do not pay for it

    if left is right:
        return True
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    numbers = np.issubdtype(left.dtype, np.inexact)
    return np.array_equal(np.asarray(left), np.asarray(right), equal_nan=numbers)
