"""Options of configs: values to try for each of them, and whether they change anything observable.

Each kit observes its own subject: `Configured` says what it gives for that.
"""

import functools
import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import jax
import numpy as np

from datarax_core.config.base import FrozenConfig
from datarax_core.errors import DataraxError
from datarax_core.records.ragged import Ragged

from .checks import broken, shown

_OBSERVED: Final = "observed"

Look = Callable[[Any], Any]
"""A function that returns something observable of what a config builds, such as the order of a source or an attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shows:
    """A value for an option of the config, and where its effect can be observed; used in ``effective``.

    Attributes:
        value: The value to try.
        at: Function of what the config builds, whose result differs between one with the value and one without it. None
            compares what all have: of a source order, records, lengths, capabilities; of a stage its batch and its spec.
        needs: The other options that the value requires, by name. ``beside`` is the former name of this argument.
    """

    value: Any
    at: Look | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)
    beside: InitVar[Mapping[str, Any] | None] = None

    def __post_init__(self, beside: Mapping[str, Any] | None) -> None:
        if beside is not None:
            object.__setattr__(self, "needs", {**self.needs, **beside})


class Author(Protocol):
    """Declarations about a config, of any kit."""

    @property
    def effective(self) -> Mapping[str, Any | Shows]:
        """Values to try by option."""

    @property
    def shown_elsewhere(self) -> Mapping[str, str]:
        """Tests of options whose effect no kit can observe."""


class Configured(Protocol):
    """Subject of a kit that is built from a config."""

    noun: str
    """The noun for it in messages, such as "source"."""
    base: str
    """The name of the base class of its config."""

    remedy: str
    """What else may show the effect of an option, a sentence; or nothing."""

    def __hash__(self) -> int: ...  # observations of it are kept

    @property
    def author(self) -> Author:
        """The declarations about it."""

    @property
    def given(self) -> Any:
        """The config as its author declares it: a mapping, or a config."""

    @property
    def config(self) -> Any:
        """The config, validated."""

    def validated(self, config: Any) -> Any:
        """Return a validated config, of the class registered for its type."""

    def observed(self, config: Any, at: Look | None) -> Any:
        """Return what ``at`` returns for what the config builds, or all that can be observed of it; None is the own config."""

    def usual_trials(self, option: str) -> Sequence[Shows] | None:
        """Return the values to try for an option that every such config has, or that has a meaning here; None for others."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of whole configs that name it."""

    def in_whole_config(
        self, fields: dict[str, Any], refusal_of: Callable[[Mapping[str, Any]], str] | None = None
    ) -> dict[str, Any]:
        """Return a whole config with these options; ``refusal_of`` says why the schema refuses one."""

    def require_config(self) -> None:
        """Skip the test if it is built from no config."""


def fields_of(subject: Configured) -> dict[str, Any]:
    """Return the options that the author set, by name, not validated."""
    if isinstance(subject.given, Mapping):
        return dict(subject.given)
    given: FrozenConfig = subject.given
    return {"type": subject.config.type} | {name: getattr(given, name) for name in given.model_fields_set}


def options_without_effect(subject: Configured) -> list[str]:
    """Return a sentence for each option of the config that changes nothing observable and refuses no value."""
    return [report for option in _options(subject) if (report := _without_effect(subject, option))]


def _options(subject: Configured) -> list[str]:
    """Return the options to try; fail the test if the author declares one that does not exist."""
    known = set(type(subject.config).model_fields)
    author = subject.author
    if unknown := sorted({*author.effective, *author.shown_elsewhere} - known):
        broken(
            f"{type(subject.config).__name__} has no field {', '.join(map(repr, unknown))}, which effective or shown_elsewhere "
            "names; correct the name"
        )
    return sorted(known - {"type", *author.shown_elsewhere})


def _without_effect(subject: Configured, option: str) -> str:
    """Return a sentence about an option that is ignored; "" if a value has an effect, or all values are refused."""
    trials = trials_of(subject, option)
    if not trials:
        return f"{option} has no other value that the kit could try"
    outcomes = [_outcome(subject, option, trial) for trial in trials]
    if _OBSERVED in outcomes:
        return ""
    if refusal := next((outcome for outcome in outcomes if option in subject.author.effective and outcome), ""):
        return f"{option}={shown(trials[0].value)}, which effective declares, is refused: {refusal}"
    ignored = [trial.value for trial, outcome in zip(trials, outcomes, strict=True) if not outcome]
    return f"{option}={shown(ignored[0])} is accepted and changes nothing that can be observed" if ignored else ""


def changed_configs(subject: Configured) -> Iterator[tuple[str, Any]]:
    """Yield (option and value in words, config) for each value of `trials_of` without ``at`` that the config accepts."""
    for option in _options(subject):
        for trial in trials_of(subject, option):
            if trial.at is not None:  # its effect is elsewhere than in what all have
                continue
            try:
                config = subject.validated({**fields_of(subject), **trial.needs, option: trial.value})
            except (DataraxError, ValueError, TypeError, OSError):
                continue
            yield f"{option}={shown(trial.value)}", config


def _outcome(subject: Configured, option: str, trial: Shows) -> str:
    """Return `_OBSERVED` if the value changes what is built, the message if the value is refused, else ""."""
    others = {**fields_of(subject), **trial.needs}
    try:
        config = subject.validated({**others, option: trial.value})
        if option == "stochastic" and config.stochastic is not trial.value:
            return "the default, which may be spelled out, and which another option overrides"
        found = _comparable(subject.observed(config, trial.at))
    except (DataraxError, ValueError, TypeError, OSError, NotImplementedError) as refusal:
        return str(refusal) or type(refusal).__name__
    except Exception as error:
        error.add_note(
            f"the kit tried {option}={shown(trial.value)}; refuse a value that cannot work by a ValueError, an OSError or an "
            f"error of datarax_core that names it, and not by {type(error).__name__}"
        )
        raise
    return _OBSERVED if found != _observed_without(subject, others, trial) else ""


def _observed_without(subject: Configured, others: dict[str, Any], trial: Shows) -> Any:
    """Return the observation without the value: with the options it needs, if they work without the value."""
    if trial.needs:
        try:
            return _comparable(subject.observed(subject.validated(others), trial.at))
        except (DataraxError, ValueError, TypeError):
            pass
    return _observed_of_subject(subject) if trial.at is None else _comparable(subject.observed(None, trial.at))


@functools.lru_cache(maxsize=1)  # one observation serves all options of a subject
def _observed_of_subject(subject: Configured) -> Any:
    return _comparable(subject.observed(None, None))


# -- values to try ----------------------------------------------------------------------------------------------------------


def trials_of(subject: Configured, option: str) -> list[Shows]:
    """Return the values to try for an option: the declared one, or values of its type that differ from the current one."""
    declared = subject.author.effective
    if option in declared:
        value = declared[option]
        return [value if isinstance(value, Shows) else Shows(value=value)]
    current = getattr(subject.config, option)
    if (usual := subject.usual_trials(option)) is not None:
        return [trial for trial in usual if trial.value != current]
    if paths := missing_paths(fields_of(subject).get(option)):
        return [Shows(value=paths)]
    annotation = type(subject.config).model_fields[option].annotation
    return [Shows(value=value) for value in _other_values(annotation, current)]


def missing_paths(value: Any) -> Any:
    """Return existing paths with endings that make them missing; None if the value is no existing path, or list of such."""
    if isinstance(value, str | os.PathLike) and os.fspath(value) and Path(value).exists():
        return f"{os.fspath(value)}-missing"
    if isinstance(value, list | tuple) and value:
        missing = [missing_paths(each) for each in value]
        return missing if all(missing) else None
    return None


def _other_values(annotation: Any, current: Any) -> Iterator[Any]:
    """Yield values of an annotated type that differ from the current one."""
    for type_ in option_types(annotation):
        if typing.get_origin(type_) is Literal:
            yield from (choice for choice in typing.get_args(type_) if choice != current)
        elif type_ is bool:
            yield not current
        elif type_ is int:
            yield current + 1 if isinstance(current, int) else 1
        elif type_ is float:
            given = current if isinstance(current, int | float) else 0.0
            yield from (value for value in (given / 2, given + 1, 0.5, 0.0, 1.0) if value != current)
    if isinstance(current, tuple) and current and all(type(each) in (int, float) for each in current):
        yield tuple(each + 1 if type(each) is int else each / 2 + 0.1 for each in current)


def option_types(annotation: Any) -> Iterator[Any]:
    """Yield the types and literals of an annotation, out of unions and ``Annotated``; none of collections."""
    if hasattr(annotation, "__metadata__"):  # Annotated
        yield from option_types(annotation.__origin__)
    elif typing.get_origin(annotation) is Literal or isinstance(annotation, type):
        yield annotation
    elif typing.get_origin(annotation) not in (list, tuple, dict, set, frozenset):
        for part in typing.get_args(annotation):
            yield from option_types(part)


# -- observations -----------------------------------------------------------------------------------------------------------


def _comparable(value: Any) -> Any:
    """Return a pytree in a form that ``==`` compares: arrays as their bytes."""
    leaves, form = jax.tree.flatten(value)
    return str(form), [_leaf(leaf) for leaf in leaves]


def _leaf(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | jax.Array):
        array = np.asarray(leaf)
        content = repr(array.tolist()) if array.dtype.hasobject else array.tobytes()
        return str(array.dtype), array.shape, content
    if isinstance(leaf, Ragged):
        own = leaf.compact()
        return "ragged", _leaf(own.values), _leaf(own.offsets), _leaf(own.shapes)
    text = repr(leaf)
    return type(leaf).__qualname__ if " at 0x" in text else text  # an address differs between equal objects
