"""Promises about the config: nothing in it is ignored, and a file can hold it."""

import functools
import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from datarax_core.config.models import SourceConfig
from datarax_core.errors import DataraxError

from ._effects import Shows, seen_of, trials
from ._schema import schema_of
from ._subject import Subject
from ._verdict import broken, not_claimed, require

_UNKNOWN: Final = "no_such_option"
_SEEN: Final = "seen"


class ConfigPromises:
    """Options, round trips and the schema."""

    def test_an_unknown_option_is_refused(self, subject: Subject) -> None:
        """A misspelt option is an error, never left out in silence."""
        try:
            subject.validated({**subject.fields, _UNKNOWN: 1})
        except ValidationError as refused:
            require(
                _UNKNOWN in str(refused),
                f"{_title(subject)} refuses an unknown option, but its error does not name it: {refused}. Derive your "
                "config from SourceConfig, and leave its validators be",
            )
        else:
            broken(
                f"{_title(subject)} promises to refuse unknown options, but took {_UNKNOWN}=1; leave model_config of "
                'SourceConfig as it is, with extra="forbid"'
            )

    def test_every_option_is_refused_or_has_an_effect(self, subject: Subject) -> None:
        """Each field changes what the source does; a value that cannot work is refused."""
        reports = [report for field in _fields(subject) if (report := _without_effect(subject, field))]
        require(
            not reports,
            f"{_title(subject)} promises to ignore no option, but {'; '.join(reports)}. Let each change what the source does, "
            "refuse what cannot work, or take it out. A value that the kit cannot guess is declared in effective, alone or "
            "with Shows(value, at=...), and what only a test of yours sees in shown_elsewhere",
        )

    def test_a_config_never_changes(self, subject: Subject) -> None:
        """It is part of what the stream is a function of."""
        try:
            setattr(subject.config.model_copy(), "type", subject.config.type)  # noqa: B010 - type checkers know better
        except ValidationError:
            return
        broken(
            f"{_title(subject)} promises never to change, but took a new `type`; leave it frozen, as SourceConfig is"
        )

    def test_a_config_survives_json(self, subject: Subject) -> None:
        """What is written to a file is read back equal."""
        written = subject.config.model_dump_json(exclude=set(_code(subject.config)))
        again = subject.validated(json.loads(written))
        differing = [name for name in type(again).model_fields if getattr(again, name) != getattr(subject.config, name)]
        require(
            again == subject.config,
            f"{_title(subject)} promises to be the same after JSON, but {', '.join(differing) or 'it'} came back different: "
            ""
            + "; ".join(
                f"{name}={getattr(subject.config, name)!r:.60} as {getattr(again, name)!r:.60}" for name in differing
            )
            + ". A validator has to take what it returns, and return it as it is",
        )

    def test_its_schema_says_what_is_accepted(self, subject: Subject) -> None:
        """JSON Schema, for editors: it accepts the config under test, and no unknown option."""
        fields = _as_json(subject)
        refusal_of = schema_of(subject.author.registry)
        refused = refusal_of(fields)
        require(
            not refused,
            f"the schema of {_title(subject)} refuses a config that works: {refused}. Give the field a type that says what it "
            "takes, or pydantic's WithJsonSchema",
        )
        require(
            refusal_of({**fields, _UNKNOWN: 1}),
            f"the schema of {_title(subject)} accepts {_UNKNOWN}=1, which no config does; leave additionalProperties false",
        )


def _title(subject: Subject) -> str:
    return type(subject.config).__name__


def _code(config: SourceConfig) -> list[str]:
    """The fields that hold what JSON cannot: functions."""
    return [name for name in type(config).model_fields if callable(getattr(config, name))]


def _as_json(subject: Subject) -> dict[str, Any]:
    if isinstance(subject.given, Mapping):
        try:
            written: dict[str, Any] = json.loads(json.dumps(subject.given))
        except TypeError:
            not_claimed("the config under test holds values that no file can; the schema is one of files")
        return written
    fields: dict[str, Any] = json.loads(
        subject.config.model_dump_json(exclude_unset=True, exclude=set(_code(subject.config)))
    )
    return {"type": subject.config.type, **fields}


def _fields(subject: Subject) -> list[str]:
    """Those to be tried; a field that is declared, and does not exist, is a mistake of the author's."""
    known = set(type(subject.config).model_fields)
    author = subject.author
    if unknown := sorted({*author.effective, *author.shown_elsewhere} - known):
        broken(
            f"{_title(subject)} has no field {', '.join(map(repr, unknown))}, which effective or shown_elsewhere names"
        )
    return sorted(known - {"type", *author.shown_elsewhere})


def _without_effect(subject: Subject, field: str) -> str:
    """What is wrong with an option; empty if it is refused, or has an effect."""
    tried = trials(subject, field)
    if not tried:
        return f"{field} has no other value that the kit could try"
    outcomes = [_outcome(subject, field, trial) for trial in tried]
    if _SEEN in outcomes:
        return ""
    if refusal := next((outcome for outcome in outcomes if field in subject.author.effective and outcome), ""):
        return f"{field}={tried[0].value!r:.60}, which you say is effective, is refused: {refusal}"
    ignored = [trial.value for trial, outcome in zip(tried, outcomes, strict=True) if not outcome]
    return f"{field}={ignored[0]!r:.60} is accepted and changes nothing that can be seen" if ignored else ""


def _outcome(subject: Subject, field: str, trial: Shows) -> str:
    """`_SEEN` if the value changes something, the refusal if it is refused, else nothing."""
    beside = {**subject.fields, **trial.beside}
    try:
        config = subject.validated({**beside, field: trial.value})
        source = subject.build(config=config)
        found = seen_of(source, trial.at)
    except (DataraxError, ValueError, TypeError, OSError, NotImplementedError) as refusal:
        return str(refusal) or type(refusal).__name__
    return _SEEN if found != _seen_without(subject, beside, trial) else ""


def _seen_without(subject: Subject, beside: dict[str, Any], trial: Shows) -> Any:
    """What is seen of the source that a value is held against: with what stands beside it, if that works without it."""
    if trial.beside:
        try:
            return seen_of(subject.build(config=subject.validated(beside)), trial.at)
        except (DataraxError, ValueError, TypeError):
            pass
    return _seen_usually(subject) if trial.at is None else seen_of(subject.build(), trial.at)


@functools.lru_cache(maxsize=1)  # for all fields of one source
def _seen_usually(subject: Subject) -> Any:
    return seen_of(subject.build(), None)
