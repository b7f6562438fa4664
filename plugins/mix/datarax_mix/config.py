"""The config of a mixture, and the checks of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)

from datarax_core.config import (
    NOT_NULL,
    Count,
    Name,
    SourceConfig,
    given_or,
    having,
    listed_by_key,
    never,
    only_if,
    plugin_schema,
)
from datarax_core.registry import AnySource

from .shares import LARGEST, normalised
from .timeline import Stop

MIX_STREAM: Final = "mix"

AtEnd = Literal["repeat", "drop"] | Count
"""The end of a child's epoch: begin the next one, or drop out; a number is the epochs after which the child drops out."""

Real = Annotated[float, Field(strict=True)]

_SHARE: Final = {"type": "number", "minimum": 0}
_NOT_ALL_ZERO: Final = {
    "contains": {"exclusiveMinimum": 0},
    "if": {"type": "object"},
    "then": {"not": {"additionalProperties": {"const": 0}}},
}
_END: Final = {"anyOf": [{"enum": ["repeat", "drop"]}, {"type": "integer", "minimum": 1}]}
_ARE_NAMED: Final = {
    "anyOf": [having(names=NOT_NULL), having(sources={"type": "object"}), having(weights={"type": "object"})]
}


def _schema(item: Mapping[str, Any], alone: Mapping[str, Any], **rules: Any) -> WithJsonSchema:
    """Return the schema of one value for all children (``alone``), a list, or a mapping by the children's names."""
    listed = {"type": "array", "items": item}
    named = {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": item}
    return WithJsonSchema({"anyOf": [alone, listed, named], **rules})


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the field {twice[0]!r} is named twice; name it once")
    return names


def _have_distinct_names(fields: dict[str, str]) -> dict[str, str]:
    new = list(fields.values())
    if twice := [name for name in new if new.count(name) > 1]:
        raise ValueError(f"two fields are renamed to {twice[0]!r}; give each a name of its own")
    return fields


_Names = Annotated[
    tuple[Name, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_each_once)
]


class MixDataSourcesConfig(SourceConfig):
    """Config of a `MixDataSourcesNode`.

    ``sources``, ``weights`` and ``at_end`` may be mappings whose keys are the names of the children.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "mix",
                    "weights": {"digits": 0.7, "letters": 0.3},
                    "sources": {
                        "digits": {"type": "memory", "path": "digits.npz", "shuffle": True},
                        "letters": {"type": "memory", "path": "letters.npz", "shuffle": True},
                    },
                },
                {"type": "mix", "num_sources": 2, "weights": [0.7, 0.3]},
            ]
        }
    )

    type: Literal["mix"] = "mix"
    names: Annotated[tuple[Name, ...], Field(json_schema_extra={"uniqueItems": True})] | None = Field(
        default=None, description="Names of the children; 0, 1, ... if not given."
    )
    sources: Annotated[
        tuple[AnySource, ...] | None,
        Field(min_length=1),
        WrapValidator(listed_by_key),
        _schema(
            plugin_schema("source"),
            {"type": "null"},
            minItems=1,
            minProperties=1,
            propertyNames={"not": {"const": "type"}},
        ),
    ] = Field(default=None, description="The children, in a config that is built as a whole.")
    num_sources: Count | None = Field(
        default=None, validate_default=True, description="Number of children; counted where sources are given."
    )
    temperature: Real | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Weights from the children's numbers of records, raised to 1 / temperature.",
    )
    weights: Annotated[tuple[Real, ...] | None, _schema(_SHARE, {"type": "null"}, **_NOT_ALL_ZERO)] = Field(
        default=None,
        validate_default=True,
        description="A share for each child; kept normalised. 0 means never; null gives all children equal shares.",
    )
    sampling: Literal["proportional", "categorical"] = Field(
        default="proportional", description="Exact proportions, or independent draws with replacement."
    )
    stop: Stop = Field(
        default="total",
        description="What ends an epoch: as many records as the children have, the first child that is exhausted, or that "
        "all children were served in full.",
    )
    at_end: Annotated[AtEnd | tuple[AtEnd, ...], _schema(_END, _END)] = Field(
        default="repeat",
        description="At the end of a child, one value for all or one for each: repeat, drop, or the epochs to serve.",
    )
    fill: dict[Name, Any] = Field(default={}, description="Values for fields that some children do not have.")
    source_field: Name | None = Field(
        default=None, description="Add an int32 field of this name to each record: the number of its child."
    )

    select: dict[Name, _Names] = Field(
        default={},
        description="By child, the fields that are taken of its records, in its own names; all if not given.",
    )
    rename: dict[Name, Annotated[dict[Name, Name], AfterValidator(_have_distinct_names)]] = Field(
        default={}, description="By child, new names of its fields: {old: new}."
    )

    schema_rules: ClassVar = (
        {"anyOf": [having(sources=NOT_NULL), having(num_sources=NOT_NULL)]},
        never(weights=NOT_NULL, temperature=NOT_NULL),
        never(names=NOT_NULL, sources={"type": "object"}),
        only_if(_ARE_NAMED, weights={"type": "object"}),
        only_if(_ARE_NAMED, at_end={"type": "object"}),
        {
            "if": having(sampling={"const": "categorical"}),
            "then": {"properties": {"stop": {"const": "total"}, "at_end": {"const": "repeat"}}},
        },
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_values(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        if isinstance(sources := values.get("sources"), Mapping) and "type" not in sources:
            if values.get("names") is not None:
                raise ValueError("sources is a mapping, whose keys are the names of the children; leave `names` out")
            values["names"] = tuple(sources)
        if values.get("names") is None and isinstance(values.get("weights"), Mapping):
            values["names"] = tuple(values["weights"])
        for field in ("weights", "at_end"):
            if isinstance(given := values.get(field), Mapping):
                values[field] = _values_by_name(field, given, values.get("names"))
        if isinstance(values.get("stochastic", True), bool):  # False, the default of other configs, may be spelled out
            values = {**values, "stochastic": True, "stream_name": given_or(values, "stream_name", MIX_STREAM)}
        return values

    @field_validator("names")
    @classmethod
    def _require_distinct_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (twice := [name for name in value if value.count(name) > 1]):
            raise ValueError(f"two children are called {twice[0]!r}; give each a name of its own")
        return value

    @field_validator("num_sources")
    @classmethod
    def _check_count(cls, value: int | None, info: ValidationInfo) -> int | None:
        sources, names = info.data.get("sources"), info.data.get("names")
        known = len(sources) if sources is not None else value
        if known is None and "sources" in info.data:
            raise ValueError(
                "num_sources is required: say how many children there are, or give their configs as sources"
            )
        if sources is not None and value not in (None, known):
            raise ValueError(f"num_sources={value} differs from the {known} sources; leave num_sources out")
        if names is not None and known is not None and len(names) != known:
            raise ValueError(f"names has {len(names)} entries for {known} children; give each child one")
        return known

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        temperature, count = info.data.get("temperature"), info.data.get("num_sources")
        if value is None:
            is_given = temperature is not None or "temperature" not in info.data
            return None if is_given or count is None else normalised((1.0,) * count)
        if temperature is not None:
            raise ValueError("weights and temperature exclude each other: a temperature makes the weights")
        if count is not None and len(value) != count:
            raise ValueError(f"weights has {len(value)} entries for {count} children; give each child one")
        _require_weights(value)
        return normalised(value)

    @field_validator("stop", "at_end")
    @classmethod
    def _check_end(cls, value: Any, info: ValidationInfo) -> Any:
        field, count = info.field_name, info.data.get("num_sources")
        if info.data.get("sampling") == "categorical" and value not in ("total", "repeat"):
            raise ValueError(
                f"{field}={value!r} has no use with sampling='categorical', which draws with replacement and never comes to "
                "the end of a child; leave it out"
            )
        if isinstance(value, tuple) and count is not None and len(value) != count:
            raise ValueError(
                f"at_end has {len(value)} entries for {count} children; give each child one, or one for all"
            )
        return value

    @field_validator("source_field")
    @classmethod
    def _require_free_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value in info.data.get("fill", {}):
            raise ValueError(f"source_field={value!r} is a field that fill gives a value to; choose another name")
        return value

    @field_validator("select", "rename")
    @classmethod
    def _require_children(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        names = info.data.get("names")
        if names is not None and (unknown := [name for name in value if name not in names]):
            raise ValueError(
                f"{info.field_name} names the child {unknown[0]!r}, and the children are {', '.join(map(repr, names))}"
            )
        return value

    @property
    def count(self) -> int:
        """Number of children."""
        return self.num_sources or 0

    @property
    def child_names(self) -> tuple[str, ...]:
        """Names of the children; their numbers if they have no names."""
        return self.names or tuple(map(str, range(self.count)))

    @property
    def rounds(self) -> tuple[int | None, ...]:
        """For each child, the epochs after which it drops out; None if it never drops out."""
        at_end = self.at_end if isinstance(self.at_end, tuple) else (self.at_end,) * self.count
        return tuple({"repeat": None, "drop": 1}[end] if isinstance(end, str) else end for end in at_end)

    def with_names(self, names: Sequence[str]) -> Self:
        """Return the config with the names of children that were given by name.

        Raises:
            ValueError: The config has other names.
        """
        if self.names is None:
            return self.model_copy(update={"names": tuple(names)})
        if self.names != tuple(names):
            raise ValueError(
                f"the children are called {', '.join(map(repr, self.names))} in the config, and {', '.join(map(repr, names))} "
                "where they are given; name the same ones in the same order"
            )
        return self


def _values_by_name(field: str, given: Mapping[str, Any], names: Any) -> tuple[Any, ...]:
    """Return the values of a mapping by name in the order of the children."""
    if names is None:
        raise ValueError(
            f"{field} is a mapping by name, but the children have no names; give names, or sources by name"
        )
    names = tuple(names) if isinstance(names, Sequence) else ()
    if wrong := sorted(map(str, set(given) ^ set(names))):
        raise ValueError(
            f"{field} and the names of the children differ in {', '.join(map(repr, wrong))}; the children are "
            f"{', '.join(map(repr, names))}"
        )
    return tuple(given[name] for name in names)


def _require_weights(weights: tuple[float, ...]) -> None:
    for number, weight in enumerate(weights):
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"weight {number} is {weight!r}; weights are finite numbers from 0")
    if math.isinf(sum(weights)):
        raise ValueError(
            f"weights add up to more than a number of 64 bits holds, {weights!r:.200}; only their ratios count: divide them "
            "by the largest"
        )
    if not any(weights):
        raise ValueError(
            f"weights are all zero, {weights!r}: nothing would be served; give one child a weight at least"
        )
    if sum(weight > 0 for weight in weights) > LARGEST:
        raise ValueError(f"{len(weights)} weights are more than the {LARGEST} that one schedule has room for")
