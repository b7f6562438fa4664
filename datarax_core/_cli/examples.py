"""Examples of the configs of plugins, as their authors give them, and the types of config values in words."""

from typing import Any, Final

from pydantic import ValidationError

from datarax_core.config.base import FrozenConfig
from datarax_core.registry.schema import model_schema


def example_of(kind: str, name: str, config: type[FrozenConfig]) -> dict[str, Any] | None:
    """Return a piece of a pipeline's config with this plugin in it; None if its author gives no valid example.

    Authors give examples in the model's config: ``json_schema_extra={"examples": [{...}]}``. A config that needs no field is
    its own example.

    Args:
        kind: Noun for the plugin: "source", "stage" or "decoder".
        name: Its registered name.
        config: Its config class.
    """
    schema = model_schema(config, name)
    for given in schema.get("examples", [{}]):
        example = {"type": name, **given}
        if _is_valid(config, example):
            found = _in_pipeline(kind, example)
            return {"source": example} if getattr(config, "decides_batches", False) else found
    return None


def _is_valid(config: type[FrozenConfig], example: dict[str, Any]) -> bool:
    try:
        config.model_validate(example)
    except ValidationError:
        return False
    return True


def _in_pipeline(kind: str, example: dict[str, Any]) -> dict[str, Any]:
    if kind == "source":
        return {"batch_size": 128, "source": example}
    return {"stages": [example]} if kind == "stage" else {kind: example}


_TYPES: Final = {
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "integer",
    "number": "number",
    "object": "mapping",
}

_RANGE: Final = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def in_words(schema: Any) -> str:
    """Return the type that a schema gives a value: ``integer from 1``, ``list of text``, ``one of auto, device, host``."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name.rpartition(".")[2] if "." in name else f"a {name}"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(in_words, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        named = schema.get("enum", [schema.get("const")])
        return ("one of " if len(named) > 1 else "") + ", ".join(map(str, named))
    return _type_in_words(schema)


def _type_in_words(schema: dict[str, Any]) -> str:
    """Return the type of a schema that names one JSON type."""
    name = str(schema.get("type"))
    if name == "array":
        places, others = schema.get("prefixItems"), schema.get("items")
        if places and not isinstance(others, dict):  # else all are like the others, but for more rules on the first
            return f"list of ({', '.join(map(in_words, places))})"
        items = in_words(others)
        return f"list of ({items})" if " or " in items else f"list of {items}"
    if name == "object" and isinstance(inner := schema.get("additionalProperties"), dict):
        values = in_words(inner)
        return f"mapping of names to ({values})" if " or " in values else f"mapping of names to {values}"
    limits = (f" {word} {schema[key]}" for key, word in _RANGE.items() if key in schema)
    return _TYPES.get(name, "anything") + "".join(limits)
