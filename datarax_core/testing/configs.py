"""Promises about the config: no option is ignored, and JSON and its schema describe it."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from datarax_core.config.base import FrozenConfig

from .checks import broken, not_claimed, require, shown
from .options import Configured, fields_of, option_types, options_without_effect

_NEEDED: Final = (
    "the kit reads the JSON Schema of configs with jsonschema, which is not installed: "
    'pip install "datarax-core[testing]", or pip install jsonschema'
)

_UNKNOWN: Final = "no_such_option"

_WRONG: Final[dict[Any, tuple[Any, ...]]] = {int: ("5", True, 5.0), float: ("0.5", True), bool: ("yes", 1)}
"""Values that an option of a type refuses: such a value in a file is a mistake."""


class ConfigPromises:
    """Options, JSON and the JSON Schema of the config."""

    def test_an_unknown_option_is_refused(self, subject: Configured) -> None:
        """An unknown option, such as a misspelt one, is an error that names it."""
        subject.require_config()
        try:
            subject.validated({**fields_of(subject), _UNKNOWN: 1})
        except ValidationError as refused:
            require(
                _UNKNOWN in str(refused),
                f"{_title(subject)} refuses an unknown option, but its error does not name the option: {refused}. Derive "
                f"the config from {subject.base}, and do not change its validators",
            )
        else:
            broken(
                f"{_title(subject)} promises to refuse unknown options, but accepted {_UNKNOWN}=1; leave model_config of "
                f'{subject.base} as it is, with extra="forbid"'
            )

    def test_every_option_is_refused_or_has_an_effect(self, subject: Configured) -> None:
        """Each option has an effect, and a value that cannot work is refused."""
        subject.require_config()
        reports = options_without_effect(subject)
        require(
            not reports,
            f"{_title(subject)} promises to ignore no option, but {'; '.join(reports)}. Let each option change the "
            f"{subject.noun}, refuse values that cannot work, or remove the option. Declare a value that the kit cannot guess "
            "in effective, alone or as Shows(value=..., at=...), and an option whose effect only your own test can show in "
            f"shown_elsewhere{subject.remedy}",
        )

    def test_a_config_never_changes(self, subject: Configured) -> None:
        """The config is frozen: what is served depends on it."""
        subject.require_config()
        try:
            setattr(subject.config.model_copy(), "type", subject.config.type)  # noqa: B010 - type checkers refuse the assignment
        except ValidationError:
            return
        broken(
            f"{_title(subject)} promises never to change, but accepted a new `type`; leave it frozen, as {subject.base} is"
        )

    def test_a_config_survives_json(self, subject: Configured) -> None:
        """A config written as JSON is equal when it is read back."""
        subject.require_config()
        written = subject.config.model_dump_json(exclude=set(_functions(subject.config)))
        again = subject.validated(json.loads(written))
        differing = [name for name in type(again).model_fields if getattr(again, name) != getattr(subject.config, name)]
        require(
            again == subject.config,
            f"{_title(subject)} promises to be equal after JSON, but {', '.join(differing) or 'it'} came back different: "
            + "; ".join(
                f"{name}={shown(getattr(subject.config, name))} as {shown(getattr(again, name))}" for name in differing
            )
            + ". Let each validator accept its own result, and return it unchanged",
        )

    def test_its_schema_says_what_is_accepted(self, subject: Configured) -> None:
        """The JSON Schema of the config, which editors use, accepts the config under test and refuses an unknown option."""
        subject.require_config()
        refusal_of = _refusals_of(subject.schema())
        whole = subject.in_whole_config(_as_json(subject), refusal_of)
        refused = refusal_of(whole)
        require(
            not refused,
            f"the schema of {_title(subject)} refuses a config that works: {refused}. Annotate the field with a type that "
            "describes the accepted values, or with pydantic's WithJsonSchema",
        )
        require(
            refusal_of(subject.in_whole_config({**_as_json(subject), _UNKNOWN: 1}, refusal_of)),
            f"the schema of {_title(subject)} accepts {_UNKNOWN}=1, which the config refuses; leave additionalProperties false",
        )

    def test_numbers_and_flags_are_strict(self, subject: Configured) -> None:
        """An option that is an ``int``, ``float`` or ``bool`` takes no text and no other number, unless ``strict=False``."""
        subject.require_config()
        for name, field in type(subject.config).model_fields.items():
            if any(getattr(part, "strict", None) is False for part in field.metadata):
                continue  # the author wants it converted
            kinds = set(option_types(field.annotation)) - {type(None)}
            for value in _WRONG.get(kinds.pop(), ()) if len(kinds) == 1 else ():
                try:
                    subject.validated({**fields_of(subject), name: value})
                except (ValueError, TypeError):
                    continue
                broken(
                    f"{_title(subject)} promises strict options, but {name} takes {value!r}; annotate it with int, float or "
                    f"bool, and leave strict of {subject.base} as it is"
                )


def _title(subject: Configured) -> str:
    return type(subject.config).__name__


def _functions(config: FrozenConfig) -> list[str]:
    """Return the names of the options that hold functions, which JSON cannot."""
    return [name for name in type(config).model_fields if callable(getattr(config, name))]


def _as_json(subject: Configured) -> dict[str, Any]:
    """Return the options that the author set as JSON values; skip the test if JSON cannot hold them."""
    if isinstance(subject.given, Mapping):
        try:
            written: dict[str, Any] = json.loads(json.dumps(subject.given))
        except TypeError:
            not_claimed("the config under test holds values that JSON cannot; the schema describes config files")
        return written
    fields: dict[str, Any] = json.loads(
        subject.config.model_dump_json(exclude_unset=True, exclude=set(_functions(subject.config)))
    )
    return {"type": subject.config.type, **fields}


def _refusals_of(schema: dict[str, Any]) -> Callable[[Mapping[str, Any]], str]:
    """Return a function from a whole config to where and why a JSON Schema refuses it; "" if it accepts it."""
    try:
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - it is needed for this test only
        from jsonschema.exceptions import best_match  # noqa: PLC0415
    except ImportError:
        broken(_NEEDED)
    Draft202012Validator.check_schema(schema)

    def refusal(whole: Mapping[str, Any]) -> str:
        error: Any = best_match(Draft202012Validator(schema).iter_errors(dict(whole)))
        return "" if error is None else f"{'.'.join(map(str, error.absolute_path)) or 'the config'}: {error.message}"

    return refusal
