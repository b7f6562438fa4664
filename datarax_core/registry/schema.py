"""One JSON Schema (draft 2020-12) of everything that is installed, which agrees with what validation accepts.

Where it can be said, it is: types, ranges, unknown fields, and which fields exclude or need each other (`schema_rules`). What
JSON Schema cannot say, and only validation refuses:

- 4.0 where a whole number is asked for, which is the same number as 4 to JSON Schema;
- how two values compare: a shard_id below num_workers, as many weights as sources, new names that differ;
- what depends on the machine or the data: 64-bit dtypes, files, fields that records do not have;
- what a third party checks in a validator of its own, and does not give as ``schema_rules``. Fields that are not strict, such
  as ``count: int``, take "4" for 4, which the schema refuses.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from datarax_core.config.base import PLUGIN_KEYWORD, FrozenConfig
from datarax_core.errors import PluginDisabledError, PluginError
from datarax_core.extensions.plugin_registry import PluginRegistry

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_NOTHING: Final[Mapping[str, Any]] = {"not": {}}

_STRAY: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}

_MAPS: Final = ("properties", "patternProperties", "$defs", "dependentSchemas")

_SCHEMAS: Final = ("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else")

_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")


class SchemaSection(NamedTuple):
    """One group of plugins in the schema: their registry, and the function that returns a plugin's config class by name."""

    registry: PluginRegistry[Any]
    config_of: Callable[[str], type[FrozenConfig]]


def schema_of(config: type[FrozenConfig], sections: Mapping[str, SchemaSection]) -> tuple[dict[str, Any], list[str]]:
    """Return (schema of ``config``, reasons why plugins are left out of it).

    Args:
        config: The model of the whole config.
        sections: By the noun for their plugins, such as "source": the groups of plugins that may be nested anywhere in it.
    """
    notes: list[str] = []
    defs: dict[str, Any] = {}
    for word, (registry, config_of) in sections.items():
        members = {}
        for name in registry.names():
            try:
                own = registry.canonical_name(name)
                schema = model_schema(config_of(own), f"{word}.{name}")
                members[name] = schema if own == name else _alias(schema, own, name)
            except PluginDisabledError:  # somebody wanted that
                continue
            except PluginError as broken:
                notes.append(f"left out: {broken}")
            # The boundary to code of others, whose fields may be of any kind.
            except Exception as broken:  # noqa: BLE001
                notes.append(f"left out: {word} {name!r}, whose fields make no JSON Schema: {broken}")
        for schema in members.values():
            defs |= schema.pop("$defs", {})
        defs |= {f"{word}.{name}": schema for name, schema in members.items()}
        defs[word] = _choice(word, members)
    top = model_schema(config, "pipeline")
    defs |= top.pop("$defs", {})
    top["properties"] = {"$schema": {"type": "string", "description": "For editors, in JSON."}, **top["properties"]}
    return {"$schema": DRAFT, "title": "datarax pipeline config", **top, "$defs": dict(sorted(defs.items()))}, notes


def model_schema(model: type[FrozenConfig], name: str) -> dict[str, Any]:
    """The schema of one config, in which others are references to ``name`` and theirs."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}", schema_generator=_Generator)
    inner = schema.pop("$defs", {})
    tidy: dict[str, Any] = _tidy(schema)
    return {**tidy, "$defs": {f"{name}.{key}": _tidy(value) for key, value in inner.items()}} if inner else tidy


def _alias(schema: dict[str, Any], own: str, name: str) -> dict[str, Any]:
    """The schema of a config that is called ``own``, under a name of old."""
    old = {"const": name, "deprecated": True, "description": f"Now called {own!r}."}
    return {**schema, "description": f"Now called {own!r}.", "properties": {**schema["properties"], "type": old}}


class _Generator(GenerateJsonSchema):
    """pydantic's, for what a file can hold."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Never: editors show the name."""
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        """As authors wrote it."""
        return value

    def callable_schema(self, schema: core_schema.CallableSchema) -> JsonSchemaValue:  # noqa: ARG002
        """No file holds a function."""
        return dict(_NOTHING)

    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:  # noqa: ARG002
        """Nor an object of Python."""
        return dict(_NOTHING)

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:  # noqa: ARG002
        """What a function takes, only it can tell."""
        return {}

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        """A list, in which an item may come twice."""
        return _without_unique(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        """Likewise."""
        return _without_unique(super().frozenset_schema(schema))


def _without_unique(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {key: value for key, value in schema.items() if key != "uniqueItems"}


def _tidy(schema: Any) -> Any:
    """The schema with plugins referred to, limits in JSON Schema's words, and choices that no file can make left out."""
    if not isinstance(schema, dict):
        return schema
    tidy = dict(_tidied(schema))
    if (kind := tidy.pop(PLUGIN_KEYWORD, None)) is not None:
        return {"$ref": f"#/$defs/{kind}", **{k: v for k, v in tidy.items() if k in ("description", "default")}}
    if choices := [choice for choice in tidy.get("anyOf", ()) if choice != _NOTHING]:
        del tidy["anyOf"]
        return {**tidy, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}
    return tidy


def _tidied(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key in _MAPS:
            yield key, {name: _tidy(inner) for name, inner in value.items()}
        elif key in _SCHEMAS:
            yield key, _tidy(value)
        elif key in _LISTS:
            yield key, [_tidy(inner) for inner in value]
        elif key != "title":
            yield _STRAY.get(key, key), value


def _choice(word: str, members: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Any one of the plugins, told apart by ``type``; where a name alone stands for one, that too."""
    if not members:
        return {"description": f"No {word} is installed.", **_NOTHING}
    described = [{"const": n, "description": _short(schema)} for n, schema in members.items()]
    chosen = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"description": f"The registered name of the {word}.", "anyOf": described}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{word}.{name}"},
            }
            for name in members
        ],
    }
    bare = [entry for entry in described if not members[entry["const"]].get("required")]
    return {"anyOf": [{"anyOf": bare}, chosen]} if word == "decoder" and bare else chosen


def _short(schema: Mapping[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).partition("\n\n")[0].split())
