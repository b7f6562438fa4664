"""Options that configs of windows, packs and buckets share: the fields that are read, and what pads them."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field

from datarax_core.config import Flag, Integer, Name, Real
from datarax_core.errors import SpecError

Padding: TypeAlias = Integer | Real | Flag
"""Type of a value that pads a field."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the field {twice[0]!r} is named twice; name it once")
    return names


FieldNames: TypeAlias = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_each_once)]
"""Type of a field for the names of several fields of records, each named once."""


def pad_value_of(given: Any, field: str) -> Any:
    """Return what pads a field: the value given for all or for this field, else 0."""
    value = given.get(field) if isinstance(given, Mapping) else given
    return 0 if value is None else value


def require_padded(given: Any, fields: tuple[str, ...], title: str, done: str) -> None:
    """Raise `SpecError` if values are given for a field that is not padded; ``done`` says what is done to fields."""
    if isinstance(given, Mapping) and (unknown := [name for name in given if name not in fields]):
        raise SpecError(
            f"pad_value of {title} names the field {unknown[0]!r}, which is not {done}: {', '.join(fields)}"
        )
