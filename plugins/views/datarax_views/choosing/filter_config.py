"""The config of a filter: conditions on fields, checked and put in words."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import ConfigDict, Field, WithJsonSchema, field_validator

from datarax_core.config import NOT_NULL, Name, having
from datarax_core.registry import ViewConfig
from datarax_core.sources import condition_of

_LISTED: Final = 8  # values that a sentence lists

_VALUES: Final = ({"type": "number"}, {"type": "string"}, {"type": "boolean"})


def _condition_schema(depth: int) -> dict[str, Any]:
    """Return the JSON Schema of a condition, for so many conditions inside one another; further ones may be anything."""
    if not depth:
        return {}
    inner = _condition_schema(depth - 1)
    bound = {"anyOf": [*_VALUES, {"type": "null"}]}
    rules = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "min": bound,
            "max": bound,
            "in": inner,
            "not": inner,
            "length": inner,
            "missing": {"type": "boolean"},
        },
        "if": {"anyOf": [{"required": ["min"]}, {"required": ["max"]}]},
        "then": {"anyOf": [having(min=NOT_NULL), having(max=NOT_NULL)]},
    }
    return {"anyOf": [*_VALUES, {"type": "array", "items": {"anyOf": [*_VALUES]}, "minItems": 1}, rules]}


_WHERE: Final = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"minLength": 1},
    "additionalProperties": _condition_schema(3),
}


class FilterViewConfig(ViewConfig):
    """Config of a `FilterView`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "filter",
                    "where": {"label": [3, 5], "score": {"min": 0.5}, "tokens": {"length": {"min": 20, "max": 4000}}},
                    "source": {"type": "memory", "path": "documents.npz"},
                }
            ]
        }
    )

    type: Literal["filter"] = "filter"
    where: Annotated[dict[Name, Any], Field(min_length=1), WithJsonSchema(_WHERE)] | None = Field(
        default=None,
        description="Conditions by field, all of which hold: a value, a list of values, or rules: min, max, in, not, length, "
        "missing. None in Python, where a predicate is an argument.",
    )

    @field_validator("where")
    @classmethod
    def _are_conditions(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for field, condition in (value or {}).items():
            try:
                condition_of(condition, field)
            except TypeError as error:
                raise ValueError(str(error)) from error
        return value


def in_words(where: Mapping[str, Any]) -> str:
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
        values = list(condition)
        listed = " or ".join(map(_shown, values))
        return f"is {listed}" if len(values) <= _LISTED else f"is one of {len(values):,} values"
    return f"is kept by {name_of(condition)}" if callable(condition) else f"is {_shown(condition)}"


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


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of another callable."""
    return getattr(function, "__qualname__", type(function).__name__).rsplit("<locals>.", 1)[-1]
