"""JSON Schema (draft 2020-12) of a config with all installed plugins; it agrees with validation.

The schema holds types, ranges, unknown fields, and which fields exclude or need each other (`schema_rules`). Some configs that
validation refuses are valid by the schema, because JSON Schema cannot express the check:

- 4.0 in place of an integer: to JSON Schema it is the same number as 4;
- comparisons of two values: shard_id below num_workers, as many weights as sources, new names that differ;
- conditions on the machine or the data: 64-bit dtypes, files, fields that records do not have;
- checks in a validator of a third party, unless they are given as ``schema_rules``.

The reverse holds for fields of third parties that are not strict: ``count: int`` takes "4" for 4, which the schema refuses.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import core_schema

from datarax_core.config.base import PLUGIN_KEYWORD, FrozenConfig
from datarax_core.errors import PluginDisabledError, PluginError
from datarax_core.extensions.plugin_registry import PluginRegistry

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_NOTHING: Final[Mapping[str, Any]] = {"not": {}}
"""Schema that no value matches."""

_LIMITS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""JSON Schema's keywords for limits that pydantic leaves as it calls them itself."""

_MAPS: Final = ("properties", "patternProperties", "$defs", "dependentSchemas")
"""Keywords whose values are schemas by name."""

_SCHEMAS: Final = ("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else")
"""Keywords whose values are schemas."""

_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
"""Keywords whose values are lists of schemas."""


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
    for noun, (registry, config_of) in sections.items():
        members = {}
        for name in registry.names():
            try:
                own = registry.canonical_name(name)
                schema = model_schema(config_of(own), f"{noun}.{name}")
                members[name] = schema if own == name else _alias(schema, own, name)
            except PluginDisabledError:  # left out on purpose
                continue
            except PluginError as broken:
                notes.append(f"left out: {broken}")
            # The boundary to third-party code, whose fields may have any type.
            except Exception as broken:  # noqa: BLE001
                notes.append(f"left out: {noun} {name!r}, whose fields make no JSON Schema: {broken}")
        for schema in members.values():
            defs |= schema.pop("$defs", {})
        defs |= {f"{noun}.{name}": schema for name, schema in members.items()}
        defs[noun] = _choice(noun, members)
    top = model_schema(config, "pipeline")
    defs |= top.pop("$defs", {})
    top["properties"] = {"$schema": {"type": "string", "description": "For editors, in JSON."}, **top["properties"]}
    return {"$schema": _DRAFT, "title": "datarax pipeline config", **top, "$defs": dict(sorted(defs.items()))}, notes


def model_schema(model: type[FrozenConfig], name: str) -> dict[str, Any]:
    """Return the schema of one config; configs nested in it are references, named ``name`` and their own name."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}", schema_generator=_Generator)
    inner = schema.pop("$defs", {})
    tidy: dict[str, Any] = _tidy(schema)
    return {**tidy, "$defs": {f"{name}.{key}": _tidy(value) for key, value in inner.items()}} if inner else tidy


def _alias(schema: dict[str, Any], own: str, name: str) -> dict[str, Any]:
    """Return the schema of a config that is called ``own``, under its alias ``name``."""
    old = {"const": name, "deprecated": True, "description": f"Now called {own!r}."}
    return {**schema, "description": f"Now called {own!r}.", "properties": {**schema["properties"], "type": old}}


class _Generator(GenerateJsonSchema):
    """Generator of pydantic, adapted to the values that a file can hold."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Return False: editors show the field's name."""
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        """Return the schema in the order in which the author wrote the fields."""
        return value

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """Return the default of a field, also one that a factory makes of nothing; ``NoDefault`` if it fails."""
        if "default_factory" not in schema or schema.get("default_factory_takes_data"):
            return super().get_default_value(schema)
        try:
            return schema["default_factory"]()  # type: ignore[call-arg]  # it takes no data
        except Exception:  # noqa: BLE001 - a third party's code, which may need more than this process has
            return NoDefault

    def callable_schema(self, schema: core_schema.CallableSchema) -> JsonSchemaValue:  # noqa: ARG002
        """Return a schema that nothing matches: no file holds a function."""
        return dict(_NOTHING)

    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:  # noqa: ARG002
        """Return a schema that nothing matches: no file holds a Python object."""
        return dict(_NOTHING)

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:  # noqa: ARG002
        """Return a schema that everything matches: the values that a function takes are not known."""
        return {}

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        """Return the schema of a list in which an item may appear twice."""
        return _without_unique(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        """Return the schema of a list in which an item may appear twice."""
        return _without_unique(super().frozenset_schema(schema))


def _without_unique(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {key: value for key, value in schema.items() if key != "uniqueItems"}


def _tidy(schema: Any) -> Any:
    """Return the schema with references to plugins, keywords of JSON Schema, and without choices that no file can make."""
    if not isinstance(schema, dict):
        return schema
    tidy = dict(_tidied(schema))
    if (noun := tidy.pop(PLUGIN_KEYWORD, None)) is not None:
        return {"$ref": f"#/$defs/{noun}", **{k: v for k, v in tidy.items() if k in ("description", "default")}}
    if choices := [choice for choice in tidy.get("anyOf", ()) if choice != _NOTHING]:
        del tidy["anyOf"]
        return {**tidy, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}
    return tidy


def _tidied(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a schema, the schemas in them tidied; titles are left out."""
    for key, value in schema.items():
        if key in _MAPS:
            yield key, {name: _tidy(inner) for name, inner in value.items()}
        elif key in _SCHEMAS:
            yield key, _tidy(value)
        elif key in _LISTS:
            yield key, [_tidy(inner) for inner in value]
        elif key != "title":
            yield _LIMITS.get(key, key), value


def _choice(noun: str, members: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of any one plugin, chosen by ``type``; for a decoder without required fields, its name suffices."""
    if not members:
        return {"description": f"No {noun} is installed.", **_NOTHING}
    described = [{"const": n, "description": _short(schema)} for n, schema in members.items()]
    chosen = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"description": f"The registered name of the {noun}.", "anyOf": described}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{noun}.{name}"},
            }
            for name in members
        ],
    }
    bare = [entry for entry in described if not members[entry["const"]].get("required")]
    return {"anyOf": [{"anyOf": bare}, chosen]} if noun == "decoder" and bare else chosen


def _short(schema: Mapping[str, Any]) -> str:
    """Return the first paragraph of a schema's description, on one line."""
    return " ".join(str(schema.get("description", "")).partition("\n\n")[0].split())
