"""Configs of views that join several sources, or repeat one."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)

from datarax_core.config import (
    NOT_NULL,
    Name,
    Shuffling,
    SourceConfig,
    having,
    listed_by_key,
    never,
    plugin_schema,
)
from datarax_core.registry import AnySource, given_in_a_file


def _all_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two sources are called {twice[0]!r}; give each a name of its own")
    return names


Names = Annotated[
    tuple[Name, ...],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_all_distinct),
]

_BY_NAME: Final = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"minLength": 1, "not": {"const": "type"}},
    "additionalProperties": plugin_schema("source"),
}
_LISTED: Final = {"type": "array", "minItems": 1, "items": plugin_schema("source")}


class JoinedConfig(SourceConfig):
    """Config of a view of several sources: a list of them, or a mapping of them by name."""

    may_differ: ClassVar = ("names", "sources")  # the fingerprints of the sources that were built say what must match

    names: Names | None = Field(default=None, description="Names of the sources; 0, 1, ... if not given.")
    sources: Annotated[
        tuple[AnySource, ...] | None,
        Field(min_length=1),
        WrapValidator(listed_by_key),
        WrapValidator(given_in_a_file),
        WithJsonSchema({"anyOf": [_LISTED, _BY_NAME, {"type": "null"}]}),
    ] = Field(
        default=None, validate_default=True, description="The sources; null in Python, where they are an argument."
    )
    shuffle: Shuffling | None = Field(default=None, description="Whether all records are shuffled together.")

    schema_rules: ClassVar = (
        *SourceConfig.schema_rules,
        having(sources=NOT_NULL),
        never(names=NOT_NULL, sources={"type": "object"}),
    )

    @model_validator(mode="before")
    @classmethod
    def _names_of_mapping(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        sources = values.get("sources")
        if not isinstance(sources, Mapping) or "type" in sources:
            return values
        if values.get("names") is not None:
            raise ValueError("sources is a mapping, whose keys are the names of the sources; leave `names` out")
        return {**values, "names": tuple(sources)}

    @field_validator("sources")
    @classmethod
    def _one_name_each(cls, value: tuple[Any, ...] | None, info: ValidationInfo) -> tuple[Any, ...] | None:
        names = info.data.get("names")
        if value is not None and names is not None and len(names) != len(value):
            raise ValueError(f"there are {len(names)} names for {len(value)} sources; give each source one")
        return value
