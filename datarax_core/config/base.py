"""Base of configs: an immutable model that compares and hashes whatever it holds, and the types of its fields."""

import glob
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self, TypeVar
from weakref import WeakSet

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
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

from .addresses import REMOTE, require_local, scheme_of, without_file_scheme
from .messages import error_at_type, plugin_error, shown, with_suggestions
from .pydantic_scan import survive_damage
from .redaction import require_no_credentials
from .strict import as_integer, with_strict_scalars

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # pydantic has no public name for it

survive_damage()  # before the first model is made

T = TypeVar("T")

PLUGIN_KEYWORD: Final = "x-datarax-plugin"
"""Keyword of a JSON Schema for a value that is a plugin's config; its value is the noun for the plugin, such as "source"."""


def _as_text(value: Any) -> Any:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return without_file_scheme(text) if isinstance(text, str) else text


def _relative_to_config_file(value: str, info: ValidationInfo) -> str:
    """Return a relative path joined to the folder of its config file, if it has one; addresses as they are."""
    base = (info.context or {}).get("base")
    return value if base is None or scheme_of(value) else str(Path(base, value))


def _pattern_relative_to_config_file(value: str, info: ValidationInfo) -> str:
    """Return as `_relative_to_config_file`, with the characters of patterns in the config's own folder escaped."""
    base = (info.context or {}).get("base")
    if base is None or scheme_of(value) or Path(value).is_absolute():
        return value
    return str(Path(glob.escape(str(base)), value))


Flag = StrictBool
"""True or False; not 1, not "yes"."""

Integer = Annotated[StrictInt, BeforeValidator(as_integer)]
"""An integer; not 4.0, not "4", not True."""

Count = Annotated[StrictInt, Field(ge=1), BeforeValidator(as_integer)]
"""An integer from 1."""

NonNegative = Annotated[StrictInt, Field(ge=0), BeforeValidator(as_integer)]
"""An integer from 0."""

Name = Annotated[str, StringConstraints(min_length=1)]
"""A text that is not empty."""

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; not "0.5", not True."""

LocalPath = Annotated[
    Name, BeforeValidator(_as_text), AfterValidator(require_no_credentials), AfterValidator(_relative_to_config_file)
]
"""Path of a file or folder. In a config file, a relative path is relative to that file. Nothing in it is expanded.

``file:///data/train`` is the path ``/data/train``; other addresses are passed on as they are, but for those that hold
credentials, which are refused.
"""

LocalFile = Annotated[
    LocalPath, AfterValidator(require_local), Field(json_schema_extra={"not": {"type": "string", "pattern": REMOTE}})
]
"""As `LocalPath`, and an address of another machine is refused, with what to do."""

LocalPattern = Annotated[
    Name,
    BeforeValidator(_as_text),
    AfterValidator(require_no_credentials),
    AfterValidator(_pattern_relative_to_config_file),
]
"""As `LocalPath`, for a path that may be a glob: in the folder of the config file, ``*``, ``?`` and ``[`` stand for themselves,
and are escaped as `glob.escape` does it."""


class ConfigType(ModelMetaclass):
    """Type of config classes, on which the decorator ``dataclasses.dataclass`` has no effect.

    A config class is complete without the decorator, which would put its own ``__init__`` in place of pydantic's.
    """

    def __setattr__(cls, name: str, value: Any) -> None:  # noqa: N805 - of a metaclass
        """Leave out everything that ``dataclasses.dataclass`` sets.

        Raises:
            TypeError: The decorator asks for ``order=True`` or ``slots=True``, which a config cannot have.
        """
        if name == "__dataclass_params__":
            local = sys._getframe(1).f_locals  # noqa: SLF001 - of the decorator, which tells `slots` no other way in 3.11
            slots = getattr(value, "slots", local.get("slots", False))
            if value.order or slots:
                raise TypeError(
                    f"{cls.__name__} is a config, which is complete without @dataclass; leave the decorator out"
                )
            _DECORATED.add(cls)
        if cls not in _DECORATED or name not in _SET_BY_DATACLASS:
            super().__setattr__(name, value)


_DECORATED: Final[WeakSet[type]] = WeakSet()

_SET_BY_DATACLASS: Final = frozenset({
    "__dataclass_fields__", "__dataclass_params__", "__delattr__", "__eq__", "__hash__", "__init__", "__match_args__",
    "__replace__", "__repr__", "__setattr__",
})  # fmt: skip


class FrozenConfig(BaseModel, metaclass=ConfigType):
    """Base of every config: immutable, strict, without unknown fields, comparable and hashable whatever it holds.

    A field annotated ``int`` takes neither ``"5"`` nor ``5.0`` nor ``True``; ``bool`` takes True and False only; ``float``
    takes integers too. A field with ``Field(strict=False)`` converts as pydantic does by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    schema_rules: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """JSON Schemas of checks that involve several fields, such as `never` makes; for editors, and for ``drx schema``.

    Called: by ``drx schema`` and ``json_schema()``.
    Default: an empty tuple.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as invalid:
            names = [field.alias or name for name, field in cls.model_fields.items()]
            raise with_suggestions(invalid, names) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = with_strict_scalars(handler(source))
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        if cls.schema_rules:
            handler.resolve_ref_schema(schema)["allOf"] = [dict(rule) for rule in cls.schema_rules]
        return schema

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        for name, field in type(self).model_fields.items():
            if name not in self.__dict__ and not field.is_required():  # pickled before the class had the field
                self.__dict__[name] = field.get_default(call_default_factory=True, validated_data=self.__dict__)

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and same(self.__dict__, other.__dict__))

    def __hash__(self) -> int:
        return hash((type(self), stable_hash(self.__dict__)))


NOT_NULL: Final[Mapping[str, Any]] = {"not": {"type": "null"}}
"""JSON Schema of a value that is given, and is not null."""


def having(**values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a config in which all these fields are given and match; for `FrozenConfig.schema_rules`."""
    return {"properties": {name: dict(value) for name, value in values.items()}, "required": list(values)}


def never(**values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a config in which these fields do not all match, as in ``never(a=NOT_NULL, b=NOT_NULL)``."""
    return {"not": having(**values)}


def only_if(condition: Mapping[str, Any], **values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a config in which all these fields match only if it also matches ``condition``."""
    return {"if": having(**values), "then": dict(condition)}


def named_by_type(value: Mapping[str, Any], look_up: Callable[[str], T], noun: str, example: str) -> T:
    """Return the result of ``look_up`` for the ``type`` of a mapping; for validators of fields that take plugins.

    Args:
        value: The mapping.
        look_up: Returns a plugin by name, or raises a `PluginError`.
        noun: Noun for the plugin, such as "source".
        example: A name of such a plugin, for messages.

    Raises:
        ValidationError: There is no ``type``, or it names no plugin that can be used; placed at that key.
    """
    name = value.get("type")
    if not isinstance(name, str):
        given = f"is {shown(name)}" if "type" in value else "is missing"
        raise error_at_type(f"the {noun}'s `type` {given}; name an installed {noun}, such as {example}", name)
    try:
        return look_up(name)
    except PluginError as error:
        raise error_at_type(str(error), name, error) from error


def plugin_config(
    value: Any, info: ValidationInfo, *, base: type[T], look_up: Callable[[str], type[Any]], noun: str, example: str
) -> T:
    """Return the plugin config that a value stands for; for validators of fields that take plugins.

    Args:
        value: A ``base``, which is returned as it is, or a mapping with a ``type``.
        info: The validator's second argument; its context is that of nested configs.
        base: Base class of such configs.
        look_up: Returns the config class of a plugin by name, or raises a `PluginError`.
        noun: Noun for the plugin, such as "source".
        example: A name of such a plugin, for messages.

    Raises:
        PydanticCustomError, ValidationError: It is neither, or invalid.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, Mapping):
        raise plugin_error(f"a {noun} is a mapping with a `type`, such as {{type: {example}}}, not {shown(value)}")
    model = named_by_type(value, look_up, noun, example)
    # The class's own name, since the given one may be an alias.
    config: T = model.model_validate({**value, "type": model.model_fields["type"].default}, context=info.context)
    return config


def plugin_schema(noun: str) -> dict[str, Any]:
    """Return the JSON Schema of a plugin's config, for a noun such as "source"; `registry.schema` puts installed ones there."""
    return {"type": "object", "required": ["type"], PLUGIN_KEYWORD: noun}


# -- equality of values, arrays among them -------------------------------------------------------------------------------


def same(left: Any, right: Any) -> bool:
    """Return True if two values are equal. Arrays compare by dtype, shape and elements, scalars by value; NaN equals NaN."""
    left, right = _plain(left), _plain(right)
    if _is_array(left) or _is_array(right):
        return _is_array(left) and _is_array(right) and _same_array(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(same, left, right))
    return left is right or (_is_nan(left) and _is_nan(right)) or _is_equal(left, right)


def stable_hash(value: Any) -> int:
    """Return a hash that agrees with `same`. Arrays count by dtype and shape only, so that it stays cheap."""
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
    except TypeError:  # a mutable object: equal ones have the same type at least
        return hash(type(value))


def _plain(value: Any) -> Any:
    """Return an array without axes as a Python scalar; any other value as it is."""
    return value.item() if _is_array(value) and value.shape == () else value


def _is_array(value: Any) -> bool:
    """Return True for arrays and scalars of NumPy and JAX, by their attributes, so that neither library is imported."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "__array__")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_equal(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except (TypeError, ValueError):  # a table, for example, whose == returns a table
        return False


def _same_array(left: Any, right: Any) -> bool:
    import numpy as np  # noqa: PLC0415 - only configs with arrays need it

    if left is right:
        return True
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    numbers = np.issubdtype(left.dtype, np.inexact)
    return np.array_equal(np.asarray(left), np.asarray(right), equal_nan=numbers)
