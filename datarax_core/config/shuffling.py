"""The field type of a config that shuffles, which makes its source stochastic, with a random stream to draw from."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, ValidationInfo

from .base import NOT_NULL, Flag, having, only_if

SHUFFLE_STREAM: Final = "shuffle"
"""Random stream from which the keys of shuffles are drawn, unless a config names another."""

DESCRIPTION: Final = "Serve the records of each epoch in a shuffled order."


class _Shuffles:
    """Mark in the annotation of a field: the order is shuffled if the field is True."""


Shuffling = Annotated[Flag, _Shuffles()]
"""True or False: whether the records of each epoch are served in a shuffled order.

The one line that shuffling takes, ``shuffle: Shuffling = False`` in the config of a source: if the field is True, the config is
``stochastic`` and has the random stream ``shuffle``, unless it names another; the source is shuffled from the start; and the
JSON Schema says so. A config may have several such fields, also with True as default, and ``Shuffling | None``, of which null
leaves the order to the class.
"""


def shuffling_fields(config: type[BaseModel]) -> dict[str, Any]:
    """Return the default of each `Shuffling` field of a config class, by the name that its input has."""
    return {field.alias or name: field.default for name, field in _marked(config)}


def shuffled_by(config: BaseModel) -> bool | None:
    """Return whether a `Shuffling` field of a config is True; None if it has no such field, or each is None."""
    values = [getattr(config, name) for name, _ in _marked(type(config))]
    return None if all(value is None for value in values) else any(values)


def _marked(config: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in config.model_fields.items():
        if _is_marked(field.metadata) or any(_is_marked(vars(part).get("__metadata__", ())) for part in _parts(field)):
            yield name, field


def _parts(field: Any) -> list[Any]:
    """Return the alternatives of a field's type that have marks of their own, as in ``Shuffling | None``."""
    return [part for part in get_args(field.annotation) if hasattr(part, "__metadata__")]


def _is_marked(metadata: Any) -> bool:
    return any(isinstance(mark, _Shuffles) for mark in metadata)


def stochastic_if_shuffled(values: Any, fields: Mapping[str, Any]) -> Any:
    """Return the input of a config as `shuffling_is_stochastic` does, where ``fields`` have the defaults of its flags."""
    if not isinstance(values, dict):
        return values
    shuffled = any(values.get(name, default) is True for name, default in fields.items())
    if not shuffled or not isinstance(values.get("stochastic", True), bool):
        return values
    return {**values, "stochastic": True, "stream_name": given_or(values, "stream_name", SHUFFLE_STREAM)}


def shuffling_is_stochastic(values: Any, *flags: str) -> Any:
    """Return the input of a config, with ``stochastic`` set if one of its ``flags`` is True; for a "before" validator.

    For flags that are no `Shuffling` fields, which need no validator. ``stochastic=False``, the default, may be spelled out.
    The random stream is ``shuffle``, unless the input names another.
    """
    return stochastic_if_shuffled(values, dict.fromkeys(flags, False))


def given_or(values: Mapping[str, Any], field: str, default: Any) -> Any:
    """Return a field of a config's input; ``default`` if it is null or left out."""
    value = values.get(field)
    return default if value is None else value


def require_stochastic(value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    """Raise ValueError if a flag that shuffles is True and ``stochastic`` is False; for a field validator.

    For a config without `shuffling_is_stochastic`.
    """
    if value and info.data.get("stochastic") is False:
        raise ValueError(
            f"{info.field_name}=True draws random numbers, which stochastic=False forbids; leave stochastic out"
        )
    return value


def stream_rules(*flags: str) -> list[dict[str, Any]]:
    """Return the `FrozenConfig.schema_rules` of ``stochastic``, ``stream_name``, and flags of `shuffling_is_stochastic`.

    A config with `Shuffling` fields has these rules from its base class, `StructuralConfig.schema_rules`.
    """
    return rules_of(dict.fromkeys(flags, False))


def rules_of(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of `stream_rules` for flags with these defaults."""
    flagged = [
        {"not": having(**{name: {"const": False}})} if default is True else having(**{name: {"const": True}})
        for name, default in fields.items()
    ]
    stochastic = having(stochastic={"const": True})
    unflagged = [{"not": {"anyOf": flagged}}] if flagged else []
    return [
        only_if({"anyOf": [stochastic, *flagged]}, stream_name=NOT_NULL),
        {"if": {"allOf": [stochastic, *unflagged]}, "then": having(stream_name=NOT_NULL)},
    ]
