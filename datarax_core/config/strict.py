"""Strict scalars in configs: an annotation ``int``, ``float`` or ``bool`` takes no text, and no other kind of number."""

import operator
from collections.abc import Mapping
from typing import Any, Final

SCALARS: Final = frozenset({"int", "float", "bool"})
"""Types of pydantic's core schemas that are made strict. A strict float takes integers, but neither text nor True."""

_NO_SCHEMAS: Final = frozenset(
    {"default", "expected", "metadata", "serialization", "config", "cls", "function", "members"}
)
"""Keys of core schemas whose values hold no schema of the input."""

_KEYS_OF_DICTS: Final = "keys_schema"
"""Stays as it is: the keys of tables in TOML and JSON are always text."""


def as_integer(value: Any) -> Any:
    """Return an integer of any library as a Python int; other values, such as True and 4.0, as they are."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def with_strict_scalars(schema: Any) -> Any:
    """Return a core schema of pydantic in which numbers and flags are strict at every depth, unless a field says otherwise.

    A field says otherwise with ``Field(strict=False)``. ``schema`` itself is not changed.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(map(with_strict_scalars, schema))
    if not isinstance(schema, Mapping):
        return schema
    if not isinstance(schema.get("type"), str):  # schemas by the names of fields, one of which may be "type"
        return {name: with_strict_scalars(field) for name, field in schema.items()}
    kept = {*_NO_SCHEMAS, _KEYS_OF_DICTS}
    made = {key: value if key in kept else with_strict_scalars(value) for key, value in schema.items()}
    if made["type"] not in SCALARS or "strict" in made:
        return made
    made["strict"] = True
    if made["type"] != "int":
        return made
    ref = {"ref": made.pop("ref")} if "ref" in made else {}
    return {"type": "function-before", "function": {"type": "no-info", "function": as_integer}, "schema": made, **ref}
