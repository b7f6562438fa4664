"""What configs of sources that may shuffle have in common: random streams, and flags that need one."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationInfo

from ._config_base import NOT_NULL, having, never, only_if

SHUFFLE_STREAM: Final = "shuffle"
"""The random stream that shuffles are drawn from, unless a config names another."""


def shuffling_is_stochastic(values: Any, *flags: str) -> Any:
    """For a validator before all others: what a config is made of, made stochastic if one of its ``flags`` is set.

    The random stream is ``shuffle``, unless another one is named. See `require_stochastic` for the flags themselves.
    """
    is_set = isinstance(values, dict) and any(values.get(flag) is True for flag in flags)
    if not is_set or values.get("stochastic", True) is not True:
        return values
    return {"stochastic": True, **values, "stream_name": given_or(values, "stream_name", SHUFFLE_STREAM)}


def given_or(values: Mapping[str, Any], field: str, default: Any) -> Any:
    """What a config is made of as a field; ``default`` if that is null or left out."""
    value = values.get(field)
    return default if value is None else value


def require_stochastic(value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    """For the validator of a flag that shuffles: refuse it where the config says ``stochastic=False``."""
    if value and info.data.get("stochastic") is False:
        raise ValueError(
            f"{info.field_name}=True draws random numbers, which stochastic=False forbids; leave stochastic out"
        )
    return value


def stream_rules(*flags: str) -> list[dict[str, Any]]:
    """The `FrozenConfig.schema_rules` of ``stochastic``, ``stream_name``, and flags of `shuffling_is_stochastic`."""
    flagged = [having(**{flag: {"const": True}}) for flag in flags]
    stochastic = having(stochastic={"const": True})
    unflagged = [{"not": {"anyOf": flagged}}] if flagged else []
    return [
        only_if({"anyOf": [stochastic, *flagged]}, stream_name=NOT_NULL),
        {"if": {"allOf": [stochastic, *unflagged]}, "then": having(stream_name=NOT_NULL)},
        *(never(stochastic={"const": False}, **{flag: {"const": True}}) for flag in flags),
    ]
