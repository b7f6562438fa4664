"""Conditions on fields, and functions that keep records, as words for reports."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import numpy as np

_LISTED: Final = 8
"""Values that a sentence lists."""


def conditions_in_words(where: Mapping[str, Any]) -> str:
    """Return conditions as text: ``label is 3 or 5, and tokens has a length from 20 to 4000``."""
    return ", and ".join(f"{field} {_in_words(condition)}" for field, condition in where.items())


def _in_words(condition: Any) -> str:
    if isinstance(condition, Mapping):
        told = [_rule_in_words(rule, value, condition) for rule, value in condition.items()]
        return " and ".join(filter(None, told))
    if isinstance(condition, range):
        steps = f" in steps of {abs(condition.step)}" if abs(condition.step) > 1 else ""
        return f"{_between(min(condition), max(condition))}{steps}"
    if isinstance(condition, tuple):
        return _between(*condition)
    if isinstance(condition, list | AbstractSet | np.ndarray):
        values = list(np.ravel(condition) if isinstance(condition, np.ndarray) else condition)
        listed = " or ".join(map(_shown, values))
        return f"is {listed}" if len(values) <= _LISTED else f"is one of {len(values):,} values"
    return f"is kept by {name_of_function(condition)}" if callable(condition) else f"is {_shown(condition)}"


def _rule_in_words(rule: str, value: Any, rules: Mapping[str, Any]) -> str:
    if rule in ("min", "max"):
        is_told = rule == "max" and rules.get("min") is not None
        return "" if is_told or value is None else _between(rules.get("min"), rules.get("max"))
    if rule == "missing":
        return "is missing" if value else "is not missing"
    inner = _in_words(value)
    if rule == "length":
        return f"has a length that {inner}"
    if rule == "not":
        return f"is not {inner[3:]}" if inner.startswith("is ") and " and " not in inner else f"is not as in ({inner})"
    return inner


def _between(low: Any, high: Any) -> str:
    if low is None or high is None:
        return f"is at least {_shown(low)}" if high is None else f"is at most {_shown(high)}"
    return f"is from {_shown(low)} to {_shown(high)}"


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def name_of_function(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of another callable."""
    return getattr(function, "__qualname__", type(function).__name__).rsplit("<locals>.", 1)[-1]
