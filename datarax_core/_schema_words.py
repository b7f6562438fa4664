"""A JSON Schema of one value in words: what people can write there."""

from typing import Any, Final

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
    """What a value may be: ``integer from 1``, ``list of text``, ``one of auto, device, host``."""
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
    return _kind_in_words(schema)


def _kind_in_words(schema: dict[str, Any]) -> str:
    kind = str(schema.get("type"))
    if kind == "array":
        items = in_words(schema.get("items"))
        return f"list of ({items})" if " or " in items else f"list of {items}"
    if kind == "object" and isinstance(inner := schema.get("additionalProperties"), dict):
        values = in_words(inner)
        return f"mapping of names to ({values})" if " or " in values else f"mapping of names to {values}"
    limits = (f" {word} {schema[key]}" for key, word in _RANGE.items() if key in schema)
    return _TYPES.get(kind, "anything") + "".join(limits)
