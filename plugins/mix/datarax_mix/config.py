"""The config of a mixture, and the checks of it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
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

from .shares import normalised
from .timeline import Stop
from .weight_stages import (
    SHARES_SCHEMA,
    Real,
    Weights,
    WeightStage,
    are_stages,
    checked_weights,
    in_order,
    names_in,
    shares_or_stages,
)

MIX_STREAM: Final = "mix"

_FOR_STAGES: Final[Mapping[str, Any]] = {"stop": "total", "at_end": "repeat"}

AtEnd = Literal["repeat", "drop"] | Count
"""The end of a child's epoch: begin the next one, or drop out; a number is the epochs after which the child drops out."""

_END: Final = {"anyOf": [{"enum": ["repeat", "drop"]}, {"type": "integer", "minimum": 1}]}
_SOURCES_SCHEMA: Final = {
    "anyOf": [
        {"type": "null"},
        plugin_schema("source"),
        {"type": "array", "minItems": 1, "items": plugin_schema("source")},
        {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"minLength": 1, "not": {"const": "type"}},
            "additionalProperties": plugin_schema("source"),
        },
    ]
}
_ONLY_TOTAL: Final = {"properties": {"stop": {"const": "total"}, "at_end": {"const": "repeat"}}}
_ARE_NAMED: Final = {
    "anyOf": [having(names=NOT_NULL), having(sources={"type": "object"}), having(weights={"type": "object"})]
}


_STAGE_SCHEMA: Final = WeightStage.model_json_schema(by_alias=True)
_STAGES_SCHEMA: Final = {
    "type": "array",
    "minItems": 1,
    "prefixItems": [{"allOf": [_STAGE_SCHEMA, having(**{"from": {"const": 0}, "weights": NOT_NULL})]}],
    "items": _STAGE_SCHEMA,
}


def _schema(item: Mapping[str, Any], alone: Mapping[str, Any], **rules: Any) -> WithJsonSchema:
    """Return the schema of one value for all children (``alone``), a list, or a mapping by the children's names."""
    listed = {"type": "array", "items": item}
    named = {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": item}
    return WithJsonSchema({"anyOf": [alone, listed, named], **rules})


def _one_or_by_name(value: Any, _handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Validate one config of a source as it is, and several as a tuple, an error in a mapping of them at its key."""
    if _is_one(value):
        return _ONE_SOURCE.validate_python(value, context=info.context)
    if not isinstance(value, Mapping):  # without the two calls below, of which a deep nest would have too many
        return _SOURCES.validate_python(value, context=info.context)
    return listed_by_key(value, lambda sources: _SOURCES.validate_python(sources, context=info.context))


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the field {twice[0]!r} is named twice; name it once")
    return names


def _have_distinct_names(fields: dict[str, str]) -> dict[str, str]:
    new = list(fields.values())
    if twice := [name for name in new if new.count(name) > 1]:
        raise ValueError(f"two fields are renamed to {twice[0]!r}; give each a name of its own")
    return fields


_ONE_SOURCE: Final[TypeAdapter[SourceConfig]] = TypeAdapter(AnySource)
_SOURCES: Final[TypeAdapter[tuple[SourceConfig, ...] | None]] = TypeAdapter(
    Annotated[tuple[AnySource, ...] | None, Field(min_length=1)]
)

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
        tuple[AnySource, ...] | AnySource | None,
        WrapValidator(_one_or_by_name),
        WithJsonSchema(_SOURCES_SCHEMA),
    ] = Field(
        default=None,
        description="The children, in a config that is built as a whole: a list, a mapping by name, or one source that has "
        "parts, such as groups.",
    )
    num_sources: Count | None = Field(
        default=None, validate_default=True, description="Number of children; counted where sources are given."
    )
    temperature: Real | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Weights from the children's numbers of records, raised to 1 / temperature.",
    )
    weights: Annotated[
        Weights | None,
        WrapValidator(shares_or_stages),
        WithJsonSchema({"anyOf": [{"type": "null"}, SHARES_SCHEMA, _STAGES_SCHEMA]}),
    ] = Field(
        default=None,
        validate_default=True,
        description="A share for each child; kept normalised. 0 means never; null gives all children equal shares. Stages "
        "change them at positions: [{from: 0, weights: [1, 0]}, {from: 1000, to: 2000, ramp: [0.5, 0.5]}].",
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
        never(names=NOT_NULL, sources={"type": "object", "not": {"required": ["type"]}}),
        only_if(_ARE_NAMED, weights={"type": "object"}),
        only_if(_ARE_NAMED, at_end={"type": "object"}),
        {
            "if": having(sampling={"const": "categorical"}),
            "then": _ONLY_TOTAL,
        },
        {"if": having(weights={"type": "array", "contains": {"type": "object"}}), "then": _ONLY_TOTAL},
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_values(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = _with_text_keys(values) if _is_one(values.get("sources")) else dict(values)
        if isinstance(sources := values.get("sources"), Mapping) and "type" not in sources:
            if values.get("names") is not None:
                raise ValueError("sources is a mapping, whose keys are the names of the children; leave `names` out")
            values["names"] = tuple(sources)
        if values.get("names") is None and (names := names_in(values.get("weights"))) is not None:
            values["names"] = names
        if isinstance(at_end := values.get("at_end"), Mapping):
            values["at_end"] = _values_by_name("at_end", at_end, values.get("names"))
        values["weights"] = in_order(
            values.get("weights"), lambda field, given: _values_by_name(field, given, values.get("names"))
        )
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
        if isinstance(sources, SourceConfig):  # its parts are counted when it is built
            return value
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
    def _check_weights(cls, value: Weights | None, info: ValidationInfo) -> Weights | None:
        temperature, count = info.data.get("temperature"), info.data.get("num_sources")
        if value is None:
            is_given = temperature is not None or "temperature" not in info.data
            return None if is_given or count is None else normalised((1.0,) * count)
        if temperature is not None:
            raise ValueError("weights and temperature exclude each other: a temperature makes the weights")
        return checked_weights(value, count)

    @field_validator("stop", "at_end")
    @classmethod
    def _check_end(cls, value: Any, info: ValidationInfo) -> Any:
        field, count = info.field_name, info.data.get("num_sources")
        if info.data.get("sampling") == "categorical" and value not in ("total", "repeat"):
            raise ValueError(
                f"{field}={value!r} has no use with sampling='categorical', which draws with replacement and never comes to "
                "the end of a child; leave it out"
            )
        if are_stages(info.data.get("weights")) and value != _FOR_STAGES[str(field)]:
            raise ValueError(
                f"{field}={value!r} has no use with weights in stages, whose positions go on from epoch to epoch: all children "
                "repeat, and an epoch has as many records as they have; leave it out"
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

    def _with_count(self, names: tuple[str, ...]) -> Self:
        """Return the config for children of these names, whose number it may not have known yet."""
        if isinstance(self.at_end, tuple) and len(self.at_end) != len(names):
            raise ValueError(
                f"at_end has {len(self.at_end)} entries for {len(names)} children; give each child one, or one for all"
            )
        if self.num_sources not in (None, len(names)):
            raise ValueError(f"num_sources={self.num_sources} differs from the {len(names)} sources {', '.join(names)}")
        weights = self.weights
        if weights is None and self.temperature is None:
            weights = (1.0,) * len(names)
        checked = None if weights is None else checked_weights(weights, len(names))
        return self.model_copy(update={"names": names, "num_sources": len(names), "weights": checked})

    def with_names(self, names: Sequence[str]) -> Self:
        """Return the config with the names of children that were given by name.

        Raises:
            ValueError: The config has other names.
        """
        if self.names is None or self.num_sources is None:
            return self._with_count(tuple(names))
        if self.names != tuple(names):
            raise ValueError(
                f"the children are called {', '.join(map(repr, self.names))} in the config, and {', '.join(map(repr, names))} "
                "where they are given; name the same ones in the same order"
            )
        return self


def _is_one(sources: Any) -> bool:
    """Return whether the sources are one config, of a source that has parts."""
    return isinstance(sources, SourceConfig) or (isinstance(sources, Mapping) and "type" in sources)


def _with_text_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values whose mappings by name have text for keys, since parts are named by values such as 3 and true."""

    def named(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key).lower() if isinstance(key, int) else key: entry for key, entry in value.items()}
        if are_stages(value):
            return [
                {field: named(entry) for field, entry in stage.items()} if isinstance(stage, Mapping) else stage
                for stage in value
            ]
        return value

    by_name = {field: named(values[field]) for field in ("weights", "at_end", "select", "rename") if field in values}
    return {**values, **by_name}


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
