"""What configs are made of: immutable models that compare and hash whatever they hold, and the types of their fields."""

import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from datarax_core.errors import PluginError

from .messages import at_type, plugin_error, shown, suggesting


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal: arrays by dtype, shape and elements, those without axes by value, NaN as NaN."""
    left, right = _plain(left), _plain(right)
    if _is_array(left) or _is_array(right):
        return _is_array(left) and _is_array(right) and _same_array(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(same, left, right))
    return left is right or (_is_nan(left) and _is_nan(right)) or _is_equal(left, right)


def stable_hash(value: Any) -> int:
    """A hash that agrees with `same`; arrays count by dtype and shape, so that it stays cheap."""
    value = _plain(value)
    if _is_array(value):
        return hash((str(value.dtype), tuple(value.shape)))
    if isinstance(value, Mapping):
        return hash(frozenset((key, stable_hash(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return hash(tuple(map(stable_hash, value)))
    if _is_nan(value):  # Python hashes each NaN by its identity
        return 0
    try:
        return hash(value)
    except TypeError:  # something mutable; equal ones have the same type at least
        return hash(type(value))


def _plain(value: Any) -> Any:
    return value.item() if _is_array(value) and value.shape == () else value


def _is_array(value: Any) -> bool:
    """NumPy's and JAX's arrays and scalars, told by what they have, so that neither library is imported."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "__array__")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_equal(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except (TypeError, ValueError):  # a table or the like, whose == is no single answer
        return False


def _same_array(left: Any, right: Any) -> bool:
    import numpy as np  # noqa: PLC0415 - configs without arrays do not pay for it

    if left is right:
        return True
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    numbers = np.issubdtype(left.dtype, np.inexact)
    return np.array_equal(np.asarray(left), np.asarray(right), equal_nan=numbers)


T = TypeVar("T")

PLUGIN_KIND: Final = "x-datarax-plugin"
"""The keyword by which a JSON Schema says that plugins of a kind belong there."""


def _as_int(value: Any) -> Any:
    """NumPy's integers as Python's; a bool is none, and neither is 4.0."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _beside_config_file(value: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get("base")
    return value if base is None or "://" in value else str(Path(base, value))


Flag = StrictBool
"""True or False; not 1, not "yes"."""

Integer = Annotated[StrictInt, BeforeValidator(_as_int)]
"""A whole number; not 4.0, not "4", not True."""

Count = Annotated[StrictInt, Field(ge=1), BeforeValidator(_as_int)]
"""A whole number from 1."""

NonNegative = Annotated[StrictInt, Field(ge=0), BeforeValidator(_as_int)]
"""A whole number from 0."""

Name = Annotated[str, StringConstraints(min_length=1)]
"""A text that is not empty."""

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; not "0.5", not True."""

LocalPath = Annotated[Name, BeforeValidator(_as_text), AfterValidator(_beside_config_file)]
"""A file or folder. A relative one in a config file is relative to that file; nothing in it is expanded."""


class FrozenConfig(BaseModel):
    """What every config has: immutable, unknown fields refused, comparable and hashable whatever it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    schema_rules: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """What JSON Schema can say of checks that look at several fields, such as `never`; for editors, and for `drx schema`."""

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as invalid:
            raise suggesting(invalid, cls.model_fields) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        if cls.schema_rules:
            handler.resolve_ref_schema(schema)["allOf"] = [dict(rule) for rule in cls.schema_rules]
        return schema

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and same(self.__dict__, other.__dict__))

    def __hash__(self) -> int:
        return hash((type(self), stable_hash(self.__dict__)))


NOT_NULL: Final[Mapping[str, Any]] = {"not": {"type": "null"}}
"""JSON Schema for a value that is given, and is not null."""


def having(**values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema for a config whose fields are all given and like these; for `FrozenConfig.schema_rules`."""
    return {"properties": {name: dict(value) for name, value in values.items()}, "required": list(values)}


def never(**values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema for a config whose fields are not all like these, such as ``never(drop_last=..., pad_last=NOT_NULL)``."""
    return {"not": having(**values)}


def only_if(condition: Mapping[str, Any], **values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema for a config whose fields are all like these only where another schema holds."""
    return {"if": having(**values), "then": dict(condition)}


def named_by_type(value: Mapping[str, Any], look_up: Callable[[str], T], word: str, example: str) -> T:
    """What ``look_up`` gives for the ``type`` of a mapping; for validators of fields that take plugins.

    Raises:
        ValidationError: There is no ``type``, or it names no plugin that can be used; placed at that key.
    """
    name = value.get("type")
    if not isinstance(name, str):
        given = f"is {shown(name)}" if "type" in value else "is missing"
        raise at_type(f"the {word}'s `type` {given}; name an installed {word}, such as {example}", name)
    try:
        return look_up(name)
    except PluginError as error:
        raise at_type(str(error), name, error) from error


def plugin_config(
    value: Any, info: ValidationInfo, *, base: type[T], look_up: Callable[[str], type[Any]], word: str, example: str
) -> T:
    """For validators of fields that take plugins: a ``base`` as it is, or the one that a mapping with a ``type`` makes.

    Raises:
        PydanticCustomError, ValidationError: It is neither, or invalid.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, Mapping):
        raise plugin_error(f"a {word} is a mapping with a `type`, such as {{type: {example}}}, not {shown(value)}")
    model = named_by_type(value, look_up, word, example)
    # under its own name: the one that was written may be an alias
    config: T = model.model_validate({**value, "type": model.model_fields["type"].default}, context=info.context)
    return config


def plugin_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a plugin of a kind, such as "source"; in the schema of all, those that are installed replace it."""
    return {"type": "object", "required": ["type"], PLUGIN_KIND: kind}
