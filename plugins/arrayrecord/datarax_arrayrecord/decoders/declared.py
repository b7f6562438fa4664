"""The fields that the config of a decoder declares: nested as the records are, with any text as a name."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import field_serializer, field_validator

from datarax_core.records import dotted_name, nested_fields, plain_name
from datarax_core.registry import Decoder

from .fields import ArrayField

DOTTED: Final = "dotted names"
"""The context of ``model_dump`` in which fields have dotted names instead of being nested, as in states."""

_LEVELS: Final = 4
"""Levels of nested fields in the JSON Schema."""


class DeclaredFields(Decoder):
    """Base of decoders with a config of ``fields``, where a dot is part of a name, and a dict of fields is a nested mapping.

    The decoder itself has the fields by dotted name, in which a dot inside a name is escaped.
    """

    @field_validator("fields", mode="before", check_fields=False)
    @classmethod
    def _by_dotted_name(cls, fields: Any) -> Any:
        return _dotted(fields)

    @field_serializer("fields", mode="wrap", check_fields=False)
    def _nested(self, fields: Any, write: Any, info: Any) -> Any:
        written = write(fields)
        return written if fields is None or info.context == DOTTED else nested_fields(written)


def _dotted(given: Any) -> Any:
    """Return fields by dotted name; anything that is no mapping of names as it is."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        return given
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if not name:
            raise ValueError("a field has no name: '' is empty; give it one")
        at = dotted_name([name])
        if _is_nested(value):
            fields |= {f"{at}.{inner}": field for inner, field in _dotted(value).items()}
        else:
            fields[at] = value
    return fields


def _is_nested(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(field, Mapping | ArrayField) for field in value.values())


def declared_schema(schema: dict[str, Any]) -> None:
    """Complete the JSON Schema of declared fields: one at least, each with a name, nested or not."""
    for part in (schema, *schema.get("anyOf", ())):
        if part.get("type") != "object":
            continue
        field = part["additionalProperties"]
        named = {"type": "object", "minProperties": 1, "propertyNames": {"minLength": 1}}
        value = field
        for _ in range(_LEVELS):
            value = {"anyOf": [field, {**named, "additionalProperties": value}]}
        part.update({**named, "additionalProperties": value})


def stored_names(names: Iterable[str]) -> dict[str, str]:
    """Return the name of each field where records know no nesting: the names on the way to it, joined by dots.

    Raises:
        ValueError: Two fields would have one name; gives it.
    """
    stored: dict[str, str] = {}
    for name in names:
        plain = plain_name(name)
        if plain in stored.values():
            raise ValueError(f"two fields would be stored as {plain!r}, one of them in a dict; rename one of them")
        stored[name] = plain
    return stored
