"""Messages of validation errors: unknown fields get a suggestion, and every problem its place in the file."""

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from datarax_core.errors import PluginError, Problem, did_you_mean

from .lines import Location, Origin
from .redaction import hidden

_SUBJECT: Final = re.compile(r"^(Input|String|Tuple|List|Dictionary|Set|Frozenset) (?=should)")
"""The subject of a message of pydantic."""

_CODE: Final = ("plugin", "plugins")
"""Names of fields that would name code."""

_NO_CODE: Final = (
    "; a config never names code, only plugins by their names; name their file or module by `drx --plugin PLACE`, in the "
    "environment by DATARAX_PLUGINS=PLACE, or in pyproject.toml, under [tool.datarax], by `plugins = [...]`"
)

_SHORT: Final = reprlib.Repr()
"""Representation of values in messages."""

_SHORT.maxlevel = 3
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 20
_SHORT.maxstring = _SHORT.maxother = 80


def plugin_error(message: str, cause: PluginError | None = None) -> PydanticCustomError:
    """Return the error that a validator raises if its value names no usable plugin; `plugin_cause` finds ``cause`` again."""
    return PydanticCustomError("plugin", "{message}", {"message": message, "plugin_error": cause})


def error_at_type(message: str, value: object, cause: PluginError | None = None) -> ValidationError:
    """Return a `plugin_error` that is placed at the ``type`` key."""
    return error_at(("type",), message, value, cause)


def error_at(place: Location, message: str, value: object, cause: PluginError | None = None) -> ValidationError:
    """Return a `plugin_error` that is placed inside of the value that a validator is called with."""
    details = InitErrorDetails(type=plugin_error(message, cause), loc=place, input=value)
    return ValidationError.from_exception_data("plugin", [details])


def plugin_cause(invalid: ValidationError) -> PluginError | None:
    """Return the first `PluginError` among the errors: pydantic keeps the errors of validators, but not as causes."""
    causes = (error.get("ctx", {}).get("plugin_error") for error in invalid.errors(include_url=False))
    return next(filter(None, causes), None)


def with_suggestions(invalid: ValidationError, fields: Iterable[str]) -> ValidationError:
    """Return the same errors, with a suggestion from ``fields`` for each unknown field of the model."""
    known = list(fields)
    details = [
        _unknown_field(error, known)
        if error["type"] == "extra_forbidden" and len(error["loc"]) == 1
        else _copied(error)
        for error in invalid.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(invalid.title, details)


def problems(invalid: ValidationError, given: Any, origin: Origin) -> list[Problem]:
    """Return the problems of the config ``given``, sorted by line.

    A value that failed every member of a union is one problem, at the most specific place.
    """
    found: dict[Location, list[ErrorDetails]] = {}
    for error in invalid.errors(include_url=False):
        found.setdefault(_location(error, given), []).append(error)
    for location, errors in list(found.items()):  # another member of the union has a problem further inside
        if any(other[: len(location)] == location != other for other in found) and all(map(_is_about_type, errors)):
            del found[location]
    listed = [origin.problem(location, _message(errors)) for location, errors in found.items()]
    return sorted(listed, key=lambda problem: problem.line or 0)


def _unknown_field(error: ErrorDetails, known: list[str]) -> InitErrorDetails:
    name = error["loc"][-1]
    message = f"unknown field {name!r}"
    message += _NO_CODE if name in _CODE else did_you_mean(str(name), known) or f" (fields: {', '.join(known)})"
    reworded = PydanticCustomError("unknown_field", "{message}", {"message": message})
    return InitErrorDetails(type=reworded, loc=error["loc"], input=hidden(error["input"]))


def _copied(error: ErrorDetails) -> InitErrorDetails:
    """Return details that make an error with the same message."""
    context = error.get("ctx", {})
    if _is_pydantic_own(error):
        return InitErrorDetails(type=error["type"], loc=error["loc"], input=hidden(error["input"]), ctx=context)
    code: Any = error["type"]  # typed Any, since pydantic asks for a literal, to discourage computed codes
    custom = PydanticCustomError(code, "{message}", {**context, "message": error["msg"]})
    return InitErrorDetails(type=custom, loc=error["loc"], input=hidden(error["input"]))


def _is_pydantic_own(error: ErrorDetails) -> bool:
    """Return True for an error of pydantic itself, False for one that a validator defined."""
    code: Any = error["type"]
    try:
        PydanticKnownError(code, error.get("ctx"))
    except KeyError:
        return False
    return True


def _location(error: ErrorDetails, given: Any) -> Location:
    """Return the location of the value in ``given``: pydantic's without the parts that name a member of a union."""
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
    """Return True if an error in a mapping is about a key that is missing, rather than about the mapping."""
    return error["type"] == "missing" or error["input"] is not given


def _message(errors: Sequence[ErrorDetails]) -> str:
    """Return the message for one value, which may have failed several members of a union."""
    own = [error for error in errors if _is_about_type(error)]
    if len(own) < len(errors):
        return next(_own_message(error) for error in errors if error not in own)
    expected = list(dict.fromkeys(_in_words(error["msg"]) for error in own))
    others = (message.removeprefix("should be ") for message in expected[1:])
    given = own[0]["input"]
    is_grouped = isinstance(given, str) and re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)+", given)  # a text in YAML 1.2
    remedy = f"; a number has no underscores: {given.replace('_', '')}" if is_grouped else ""
    return f"{', or '.join([expected[0], *others])}, not {shown(given)}{remedy}"


def _is_about_type(error: ErrorDetails) -> bool:
    """Return True for an error of pydantic about the type or range of a value."""
    return _is_pydantic_own(error) and error["type"] not in ("missing", "value_error")


def _own_message(error: ErrorDetails) -> str:
    """Return the message of an error of a validator, or of a missing field."""
    if error["type"] == "missing":
        return "this field is required"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return error["msg"]


def _in_words(message: str) -> str:
    """Return a message of pydantic without its subject, in the terms of config files."""
    message = re.sub(r" after validation, not \d+$", "", _SUBJECT.sub("", message))
    return message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")


def shown(value: Any) -> str:
    """Return a value as messages show it: at most 80 characters, however large it is."""
    return f"{_SHORT.repr(value):.80}"
