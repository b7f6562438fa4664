"""Promises about the config of a decoder: no option is ignored, wrong ones are refused, and JSON and its schema agree."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

import jax
import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic import ValidationError

from datarax_core.records.spec import Batch, describe
from datarax_core.registry.decoders import Decoder
from datarax_core.testing.checks import attempt, broken, not_claimed, require, shown
from datarax_core.testing.sources.declarations import Shows
from datarax_core.testing.sources.effects import option_types

from .exact import exact_difference
from .subject import DecoderSubject, spec_of_records

_UNKNOWN: Final = "no_such_option"

_WRONG: Final[dict[Any, tuple[Any, ...]]] = {int: ("5", True, 5.0), float: ("0.5", True), bool: ("yes", 1)}
"""Values that an option of a type refuses: such a value in a file is a mistake."""

_TRIED_SPECS: Final = (
    {"another": jax.ShapeDtypeStruct((3,), np.dtype(np.int16))},
    {"another": jax.ShapeDtypeStruct((), np.dtype(object))},
)
"""Element specs whose decoders have values for options, such as the declared fields, that the kit cannot guess."""


class BuildPromises:
    """The config under test, the decoder that it describes, and its records."""

    def test_it_is_built_from_its_config(self, subject: DecoderSubject) -> None:
        """The config is valid, and the decoder decodes the records, of which it knows the element spec."""
        for step, make in (
            ("validating its config", lambda: subject.decoder),
            ("writing the batch" if not subject.author.records else "taking the records", lambda: subject.records),
            ("element_spec() or spec_from()", lambda: subject.spec),
            ("decode()", lambda: subject.decoded),
        ):
            try:
                made = make()
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"the decoder under test promises to decode its records, but {step} fails: {type(cause).__name__}: "
                    f"{cause}. Correct the config, the records, or the method"
                )
            if step == "validating its config":
                require(
                    isinstance(made, Decoder),
                    f"make_decoder() promises a config with a type, or a Decoder, but returned {type(made).__name__}",
                )
        leaves = jax.tree.leaves(subject.spec)
        require(
            leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves),
            f"{subject.title} promises a jax.ShapeDtypeStruct for each field, but its element spec is {subject.spec!r}",
        )


class ConfigPromises:
    """Options, JSON and the JSON Schema of the decoder."""

    def test_an_unknown_option_is_refused(self, subject: DecoderSubject) -> None:
        """An unknown option, such as a misspelt one, is an error that names it."""
        try:
            subject.validated({**subject.fields, _UNKNOWN: 1})
        except ValidationError as refused:
            require(
                _UNKNOWN in str(refused),
                f"{_title(subject)} refuses an unknown option, but its error does not name the option: {refused}. Derive "
                "it from Decoder, and do not change its validators",
            )
        else:
            broken(
                f"{_title(subject)} promises to refuse unknown options, but accepted {_UNKNOWN}=1; leave model_config of "
                'Decoder as it is, with extra="forbid"'
            )

    def test_every_option_is_refused_or_has_an_effect(self, subject: DecoderSubject) -> None:
        """Each option changes what is decoded or written, and a value that cannot work is refused."""
        reports = [report for option in _options(subject) if (report := _without_effect(subject, option))]
        require(
            not reports,
            f"{_title(subject)} promises to ignore no option, but {'; '.join(reports)}. Let each option change what is decoded "
            "or written, refuse values that cannot work, or remove the option. Declare a value that the kit cannot guess in "
            "effective, alone or as Shows(value=..., at=...), and an option whose effect only your own test can show in "
            "shown_elsewhere",
        )

    def test_a_config_never_changes(self, subject: DecoderSubject) -> None:
        """The decoder is frozen: sources share it, and states name it."""
        try:
            setattr(subject.decoder.model_copy(), "type", subject.decoder.type)  # noqa: B010 - type checkers refuse the assignment
        except ValidationError:
            return
        broken(f"{_title(subject)} promises never to change, but accepted a new `type`; leave it frozen, as Decoder is")

    def test_a_config_survives_json(self, subject: DecoderSubject) -> None:
        """A decoder written as JSON is equal when it is read back."""
        if subject.functions:
            not_claimed(f"{subject.title} holds functions ({', '.join(sorted(subject.functions))}), which JSON cannot")
        again = subject.validated(json.loads(subject.decoder.model_dump_json()))
        differing = [
            name for name in type(again).model_fields if getattr(again, name) != getattr(subject.decoder, name)
        ]
        require(
            again == subject.decoder,
            f"{_title(subject)} promises to be equal after JSON, but {', '.join(differing) or 'it'} came back different: "
            + "; ".join(
                f"{name}={shown(getattr(subject.decoder, name))} as {shown(getattr(again, name))}" for name in differing
            )
            + ". Let each validator accept its own result, and return it unchanged",
        )

    def test_its_schema_says_what_is_accepted(self, subject: DecoderSubject) -> None:
        """The JSON Schema of the decoder, which editors use, accepts the config under test and refuses an unknown option."""
        if subject.functions:
            not_claimed(f"{subject.title} holds functions; the schema describes config files")
        schema = type(subject.decoder).model_json_schema()
        Draft202012Validator.check_schema(schema)
        refused = _refusal(schema, subject.fields)
        require(
            not refused,
            f"the schema of {_title(subject)} refuses a config that works: {refused}. Annotate the field with a type that "
            "describes the accepted values, or with pydantic's WithJsonSchema",
        )
        require(
            _refusal(schema, {**subject.fields, _UNKNOWN: 1}),
            f"the schema of {_title(subject)} accepts {_UNKNOWN}=1, which the config refuses; leave additionalProperties false",
        )

    def test_numbers_and_flags_are_strict(self, subject: DecoderSubject) -> None:
        """An option that is an ``int``, ``float`` or ``bool`` takes no text and no other number, unless ``strict=False``."""
        for name, field in type(subject.decoder).model_fields.items():
            if any(getattr(part, "strict", None) is False for part in field.metadata):
                continue  # the author wants it converted
            kinds = set(option_types(field.annotation)) - {type(None)}
            for value in _WRONG.get(kinds.pop(), ()) if len(kinds) == 1 else ():
                try:
                    subject.validated({**subject.fields, name: value})
                except (ValueError, TypeError):
                    continue
                broken(
                    f"{_title(subject)} promises strict options, but {name} takes {value!r}; annotate it with int, float or "
                    "bool, and leave strict of Decoder as it is"
                )


def _title(subject: DecoderSubject) -> str:
    return type(subject.decoder).__name__


def _refusal(schema: dict[str, Any], value: Mapping[str, Any]) -> str:
    """Return where and why a schema refuses a config; "" if it accepts it."""
    error: Any = best_match(Draft202012Validator(schema).iter_errors(json.loads(json.dumps(value))))
    return "" if error is None else f"{'.'.join(map(str, error.absolute_path)) or 'the config'}: {error.message}"


# -- effects of options -----------------------------------------------------------------------------------------------------


def _options(subject: DecoderSubject) -> list[str]:
    """Return the options to try; fail the test if the author declares one that does not exist."""
    known, author = set(type(subject.decoder).model_fields), subject.author
    if unknown := sorted({*author.effective, *author.shown_elsewhere} - known):
        broken(
            f"{_title(subject)} has no field {', '.join(map(repr, unknown))}, which effective or shown_elsewhere names; "
            "correct the name"
        )
    return sorted(known - {"type", *author.shown_elsewhere})


def _without_effect(subject: DecoderSubject, option: str) -> str:
    """Return a sentence about an option that is ignored; "" if a value has an effect, or all values are refused."""
    trials = list(_trials(subject, option))
    if not trials:
        return f"{option} has no other value that the kit could try"
    outcomes = [_outcome(subject, option, trial) for trial in trials]
    if None in outcomes:
        return ""
    if refusal := next((outcome for outcome in outcomes if option in subject.author.effective and outcome), ""):
        return f"{option}={shown(trials[0].value)}, which effective declares, is refused: {refusal}"
    ignored = [trial.value for trial, outcome in zip(trials, outcomes, strict=True) if not outcome]
    return f"{option}={shown(ignored[0])} is accepted and changes nothing that is decoded or written" if ignored else ""


def _outcome(subject: DecoderSubject, option: str, trial: Shows) -> str | None:
    """Return None if the value changes the decoder, the message if the value is refused, else ""."""
    others = {**subject.fields, **trial.needs}
    try:
        changed = subject.validated({**others, option: trial.value})
        plain = subject.validated(others) if trial.needs else subject.decoder
    except (ValueError, TypeError) as refusal:
        return str(refusal) or type(refusal).__name__
    look: Any = trial.at
    if look is not None:
        return None if repr(look(changed)) != repr(look(plain)) else ""
    return None if _differ(subject, plain, changed) else ""


def _differ(subject: DecoderSubject, one: Decoder, other: Decoder) -> bool:
    """Return whether two decoders decode the records, or write the batch, differently."""
    looks = (
        lambda decoder: describe(spec_of_records(decoder, subject.records)),
        lambda decoder: decoder.encode(subject.batch),
        lambda decoder: decoder.encode(_decoded(subject, decoder)),
    )
    for look in looks:
        (seen, error), (found, refusal) = attempt(lambda: look(one)), attempt(lambda: look(other))  # noqa: B023
        if (error is None) != (refusal is None) or (error is None and seen != found):
            return True
    (seen, error), (found, refusal) = [attempt(lambda: _decoded(subject, each)) for each in (one, other)]  # noqa: B023
    return (error is None) != (refusal is None) or (error is None and bool(exact_difference(seen, found)))


def _decoded(subject: DecoderSubject, decoder: Decoder) -> Batch:
    return decoder.decode(subject.records, spec_of_records(decoder, subject.records))


def _trials(subject: DecoderSubject, option: str) -> Iterator[Shows]:
    """Yield the values to try for an option: the declared one, or values of its type that differ from the current one."""
    declared, current = subject.author.effective, getattr(subject.decoder, option)
    if option in declared:
        value = declared[option]
        yield value if isinstance(value, Shows) else Shows(value=value)
        return
    for spec in _TRIED_SPECS:
        fitted, _ = attempt(lambda: type(subject.decoder).for_spec(spec))  # noqa: B023
        if fitted is not None and getattr(fitted, option) not in (current, None):
            yield Shows(value=getattr(fitted, option))
    for value in _other_values(type(subject.decoder).model_fields[option].annotation, current):
        yield Shows(value=value)


def _other_values(annotation: Any, current: Any) -> Iterator[Any]:
    """Yield values of an annotated type that differ from the current one."""
    for type_ in option_types(annotation):
        if get_origin(type_) is Literal:
            yield from (choice for choice in get_args(type_) if choice != current)
        elif type_ is bool:
            yield not current
        elif type_ is int:
            yield current + 1 if isinstance(current, int) else 1
            yield 0
        elif type_ is float:
            yield current * 2 + 1.0 if isinstance(current, float) else 1.0
