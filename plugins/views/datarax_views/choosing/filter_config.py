"""The config of a filter: conditions on fields, and their JSON Schema."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, field_validator

from datarax_core.config import NOT_NULL, Name, having
from datarax_core.registry import ViewConfig
from datarax_core.sources import condition_of

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
