"""Fields of configs that take a list, or a mapping by name: nested configs, and a value for each of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError


def listed_by_key(value: Any, handler: Callable[[Any], Any]) -> Any:
    """Validate the values of a mapping as a tuple, for a ``WrapValidator``; an error in a value is reported at the value's key.

    A mapping with a ``type`` is one config, not several by name, and is left to the field's own validator.
    """
    if not isinstance(value, Mapping) or "type" in value:
        return handler(value)
    keys = list(value)
    try:
        return handler(tuple(value.values()))
    except ValidationError as invalid:
        raise ValidationError.from_exception_data(invalid.title, [_at_key(e, keys) for e in invalid.errors()]) from None


def _at_key(error: ErrorDetails, keys: Sequence[Any]) -> InitErrorDetails:
    """Return pydantic's error with the key of a mapping in place of the item's number."""
    code: Any = error["type"]
    custom = PydanticCustomError(code, "{message}", {**error.get("ctx", {}), "message": error["msg"]})
    named = [str(keys[part]) if isinstance(part, int) else part for part in error["loc"][:1]]
    return InitErrorDetails(type=custom, loc=(*named, *error["loc"][1:]), input=error["input"])
