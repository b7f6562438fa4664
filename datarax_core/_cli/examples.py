"""What can be written for a plugin: an example of its config, and the kinds of its values in words."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import ValidationError

from datarax_core.config.base import FrozenConfig
from datarax_core.errors import PluginError
from datarax_core.registry.decoders import default_decoders
from datarax_core.registry.schema import model_schema
from datarax_core.registry.sources import default_registry
from datarax_core.registry.stages import default_stages


def example_of(kind: str, name: str, config: type[FrozenConfig]) -> dict[str, Any] | None:
    """A piece of a pipeline's config with this plugin in it; None if the author gives none, and none can be made up.

    Authors give theirs as ``json_schema_extra={"examples": [{...}]}`` of the model's config, or ``Field(examples=[...])``.
    """
    schema = model_schema(config, name)
    for given in (*schema.get("examples", ()), _made_up(schema, schema.get("$defs", {}))):
        example = {"type": name, **given}
        if _is_valid(config, example):
            return (
                {"batch_size": 128, "source": example}
                if kind == "source"
                else {"stages": [example]}
                if kind == "stage"
                else {kind: example}
            )
    return None


def _is_valid(config: type[FrozenConfig], example: dict[str, Any]) -> bool:
    try:
        config.model_validate(example)
    except ValidationError:
        return False
    return True


def _made_up(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The required fields, with values of their kind."""
    required = (name for name in schema.get("required", ()) if name != "type")
    return {name: _value(schema["properties"][name], defs) for name in required}


def _value(schema: dict[str, Any], defs: dict[str, Any]) -> Any:
    if given := [
        *schema.get("examples", ()),
        *schema.get("enum", ()),
        *([schema["const"]] if "const" in schema else []),
    ]:
        return given[0]
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _made_up(defs[name], defs) if name in defs else next(_of_others(name), None)
    if "anyOf" in schema:
        return _value(schema["anyOf"][0], defs)
    kind, number = schema.get("type"), max(1, schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    made: dict[str, Callable[[], Any]] = {
        "array": lambda: [_value(inner or {}, defs)] * max(1, schema.get("minItems", 1)),
        "object": lambda: {"name": _value(inner, defs)} if isinstance(inner, dict) else {},
        "integer": lambda: number,
        "number": lambda: float(number),
        "boolean": lambda: True,
        "null": lambda: None,
    }
    return made.get(str(kind), lambda: "name")()


def _of_others(kind: str) -> Iterator[dict[str, Any]]:
    """What the authors of other plugins of a kind give as examples."""
    sources, stages, decoders = default_registry(), default_stages(), default_decoders()
    names, config_of = {
        "source": (sources.names(), sources.config_type),
        "stage": (stages.names(), stages.get),
        "decoder": (decoders.names(), decoders.get),
    }[kind]
    for name in names:
        try:
            config: type[FrozenConfig] = config_of(name)
        except PluginError:
            continue
        yield from (given for given in model_schema(config, name).get("examples", ()) if _is_valid(config, given))


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
