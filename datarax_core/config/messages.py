"""Validation errors in words: what is unknown gets a suggestion, and every problem its place."""

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from datarax_core.errors import PluginError, Problem, did_you_mean

from .lines import Location, Origin


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


def problems(invalid: ValidationError, given: Any, origin: Origin) -> list[Problem]:
    """What is wrong with the config ``given``, by the lines of its file; a value that fits nothing of several is told once."""
    found: dict[Location, list[ErrorDetails]] = {}
    for error in invalid.errors(include_url=False):
        found.setdefault(_location(error, given), []).append(error)
    for location, errors in list(found.items()):  # one of several things that the value was held to be says more
        if any(other[: len(location)] == location != other for other in found) and all(map(_is_about_kind, errors)):
            del found[location]
    listed = [origin.problem(location, _message(errors)) for location, errors in found.items()]
    return sorted(listed, key=lambda problem: problem.line or 0)


def _unknown_field(error: ErrorDetails, known: list[str]) -> InitErrorDetails:
    name = error["loc"][-1]
    message = f"unknown field {name!r}"
    message += did_you_mean(str(name), known) or f" (fields: {', '.join(known)})"
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


def _location(error: ErrorDetails, given: Any) -> Location:
    """Where the value is in what was given: pydantic adds which of several things it was held to be."""
    kept: list[int | str] = []
    for number, part in enumerate(error["loc"], 1):
        if isinstance(given, BaseModel):
            given = getattr(given, str(part), None)
        elif _holds(given, part):
            given = given[part]
        elif number < len(error["loc"]) or not isinstance(given, Mapping) or not _is_lacking(error, given):
            continue
        kept.append(part)
    return tuple(kept)


def _holds(given: Any, part: int | str) -> bool:
    if isinstance(given, Mapping):
        return part in given
    return isinstance(given, list | tuple) and isinstance(part, int) and part < len(given)


def _is_lacking(error: ErrorDetails, given: Mapping[Any, Any]) -> bool:
    """Whether an error in a mapping is about a key that it has not, rather than about the mapping."""
    return error["type"] == "missing" or error["input"] is not given


def _message(errors: Sequence[ErrorDetails]) -> str:
    """What is wrong with one value, which may have been held to be several things."""
    own = [error for error in errors if _is_about_kind(error)]
    if len(own) < len(errors):
        return next(_told(error) for error in errors if error not in own)
    expected = list(dict.fromkeys(_in_words(error["msg"]) for error in own))
    others = (message.removeprefix("should be ") for message in expected[1:])
    return f"{', or '.join([expected[0], *others])}, not {shown(own[0]['input'])}"


def _is_about_kind(error: ErrorDetails) -> bool:
    return _is_pydantic_own(error) and error["type"] not in ("missing", "value_error")


def _told(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "this field is required"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return error["msg"]


def _in_words(message: str) -> str:
    message = re.sub(r" after validation, not \d+$", "", _SUBJECT.sub("", message))
    return message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")


def shown(value: Any) -> str:
    """A value as a message shows it: cut short, however large it is."""
    return f"{_SHORT.repr(value):.80}"


_SUBJECT: Final = re.compile(r"^(Input|String|Tuple|List|Dictionary|Set|Frozenset) (?=should)")

_SHORT: Final = reprlib.Repr()

_SHORT.maxlevel = 3

_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 20

_SHORT.maxstring = _SHORT.maxother = 80
