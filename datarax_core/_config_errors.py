"""Validation errors in words: what is unknown gets a suggestion, and every problem its place."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from .errors import PluginError
from .suggestions import did_you_mean


def plugin_error(message: str, cause: PluginError | None = None) -> PydanticCustomError:
    """What a validator raises when its value names nothing that can be used; `plugin_cause` finds the cause again."""
    return PydanticCustomError("plugin", "{message}", {"message": message, "plugin_error": cause})


def at_type(message: str, value: object, cause: PluginError | None = None) -> ValidationError:
    """A `plugin_error` that is placed at the ``type`` key."""
    details = InitErrorDetails(type=plugin_error(message, cause), loc=("type",), input=value)
    return ValidationError.from_exception_data("plugin", [details])


def plugin_cause(invalid: ValidationError) -> PluginError | None:
    """The first error of the registry among them: pydantic keeps what a validator raises, but not as a cause."""
    causes = (error.get("ctx", {}).get("plugin_error") for error in invalid.errors(include_url=False))
    return next(filter(None, causes), None)


def suggesting(invalid: ValidationError, fields: Iterable[str]) -> ValidationError:
    """The same errors, where an unknown field of this model says which known one may be meant."""
    known = list(fields)
    details = [
        _unknown_field(error, known) if error["type"] == "extra_forbidden" and len(error["loc"]) == 1 else _again(error)
        for error in invalid.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(invalid.title, details)


def problems(invalid: ValidationError, origin: str) -> Iterator[str]:
    """One line for each error: ``train.yaml: source.sources[1].paths: message``."""
    for error in invalid.errors(include_url=False):
        yield ": ".join(filter(None, [origin, _place(error["loc"]), _message(error)]))


def _unknown_field(error: ErrorDetails, known: list[str]) -> InitErrorDetails:
    name = error["loc"][-1]
    message = f"unknown field {name!r}" + (did_you_mean(str(name), known) or f" (fields: {', '.join(known)})")
    reworded = PydanticCustomError("unknown_field", "{message}", {"message": message})
    return InitErrorDetails(type=reworded, loc=error["loc"], input=error["input"])


def _again(error: ErrorDetails) -> InitErrorDetails:
    """The details that make an error which reads as this one."""
    context = error.get("ctx", {})
    if _is_pydantic_own(error):
        return InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"], ctx=context)
    code: Any = error["type"]  # pydantic asks for a literal, to discourage texts made of values; this one was one
    custom = PydanticCustomError(code, "{message}", {**context, "message": error["msg"]})
    return InitErrorDetails(type=custom, loc=error["loc"], input=error["input"])


def _is_pydantic_own(error: ErrorDetails) -> bool:
    """Whether it is one of pydantic's errors, not one that a validator made up."""
    code: Any = error["type"]
    try:
        PydanticKnownError(code, error.get("ctx"))
    except KeyError:
        return False
    return True


def _place(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _message(error: ErrorDetails) -> str:
    message = error["msg"]
    if error["type"] == "missing":
        return "this field is required"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if not _is_pydantic_own(error):
        return message
    return f"{message.removeprefix('Input ')}, not {error['input']!r:.80}"
