"""Effects of options: values to try for each option of a config, and whether they change anything observable."""

import functools
import os
import typing
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal
from unittest.mock import patch

import jax
import numpy as np

from datarax_core.errors import DataraxError
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import describe
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import broken, shown

from .declarations import Look, Shows
from .subject import Subject, batches

_POSITIONS: Final = 512
_RECORDS: Final = 4
_OBSERVED: Final = "observed"


def options_without_effect(subject: Subject) -> list[str]:
    """Return a sentence for each option of the config that changes nothing observable and refuses no value."""
    return [report for option in _options(subject) if (report := _without_effect(subject, option))]


def _options(subject: Subject) -> list[str]:
    """Return the options to try; fail the test if the author declares one that does not exist."""
    known = set(type(subject.config).model_fields)
    author = subject.author
    if unknown := sorted({*author.effective, *author.shown_elsewhere} - known):
        broken(
            f"{type(subject.config).__name__} has no field {', '.join(map(repr, unknown))}, which effective or shown_elsewhere "
            "names; correct the name"
        )
    return sorted(known - {"type", *author.shown_elsewhere})


def _without_effect(subject: Subject, option: str) -> str:
    """Return a sentence about an option that is ignored; "" if a value has an effect, or all values are refused."""
    trials = _trials(subject, option)
    if not trials:
        return f"{option} has no other value that the kit could try"
    outcomes = [_outcome(subject, option, trial) for trial in trials]
    if _OBSERVED in outcomes:
        return ""
    if refusal := next((outcome for outcome in outcomes if option in subject.author.effective and outcome), ""):
        return f"{option}={shown(trials[0].value)}, which effective declares, is refused: {refusal}"
    ignored = [trial.value for trial, outcome in zip(trials, outcomes, strict=True) if not outcome]
    return f"{option}={shown(ignored[0])} is accepted and changes nothing that can be observed" if ignored else ""


def _outcome(subject: Subject, option: str, trial: Shows) -> str:
    """Return `_OBSERVED` if the value changes the source, the message if the value is refused, else ""."""
    others = {**subject.fields, **trial.needs}
    try:
        config = subject.validated({**others, option: trial.value})
        if option == "stochastic" and config.stochastic is not trial.value:
            return "the default, which may be spelled out, and which another option overrides"
        source = subject.build(config=config)
        found = _observed(source, trial.at)
    except (DataraxError, ValueError, TypeError, OSError, NotImplementedError) as refusal:
        return str(refusal) or type(refusal).__name__
    return _OBSERVED if found != _observed_without(subject, others, trial) else ""


def _observed_without(subject: Subject, others: dict[str, Any], trial: Shows) -> Any:
    """Return the observation of a source without the value: with the options it needs, if they work without the value."""
    if trial.needs:
        try:
            return _observed(subject.build(config=subject.validated(others)), trial.at)
        except (DataraxError, ValueError, TypeError):
            pass
    return _observed_of_subject(subject) if trial.at is None else _observed(subject.build(), trial.at)


@functools.lru_cache(maxsize=1)  # one observation serves all options of a subject
def _observed_of_subject(subject: Subject) -> Any:
    return _observed(subject.build(), None)


# -- values to try ----------------------------------------------------------------------------------------------------------


def _trials(subject: Subject, option: str) -> list[Shows]:
    """Return the values to try for an option: the declared one, or values of its type that differ from the current one."""
    declared = subject.author.effective
    if option in declared:
        value = declared[option]
        return [value if isinstance(value, Shows) else Shows(value=value)]
    current = getattr(subject.config, option)
    if option in _OF_EVERY_CONFIG:
        return [trial for trial in _OF_EVERY_CONFIG[option] if trial.value != current]
    if paths := missing_paths(subject.fields.get(option)):
        return [Shows(value=paths)]
    annotation = type(subject.config).model_fields[option].annotation
    return [Shows(value=value) for value in _other_values(annotation, current)]


_OF_EVERY_CONFIG: Final[dict[str, list[Shows]]] = {
    "cacheable": [Shows(value=True), Shows(value=False)],
    "batch_stats_fn": [Shows(value=jax.tree.structure)],
    "precomputed_stats": [Shows(value={"mean": 0.0})],
    "stochastic": [Shows(value=True, needs={"stream_name": "another"}), Shows(value=False)],
    "stream_name": [Shows(value="another"), Shows(value="another", needs={"stochastic": True})],
}


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


def _observed(source: DataSourceModule, at: Look | None) -> Any:
    """Return the result of ``at`` for a source, or of every function in `_LOOKS`, in a form that can be compared."""
    if at is not None:
        return _comparable(at(source))
    return {name: _comparable(look(source)) for name, look in _LOOKS.items()}


def _properties(source: DataSourceModule) -> Any:
    statistics = source.config.batch_stats_fn
    return [
        source.epoch_length,
        getattr(source, "run_length", None),
        describe(source.element_spec()),
        source.access,
        source.capabilities,
        source.requires_rng_streams(),
        source.elements_ahead,
        source.get_statistics(),
        statistics and source.compute_statistics({"x": 0}),
        sorted(source.get_state()) if source.capabilities.resumable else None,
    ]


def _order(source: DataSourceModule) -> Any:
    if source.access == "stream":
        return None
    length = min(2 * (source.epoch_length or 1), _POSITIONS)
    return np.asarray(source.record_indices_at(0, length, source.order_key_data()))


def _records(source: DataSourceModule) -> Any:
    if source.access == "stream":
        return list(batches(source, _POSITIONS))
    rows = np.arange(min(_RECORDS, source.num_records))
    return [source.fetch(rows), source.get_batch(_RECORDS)]


def _elements(source: DataSourceModule) -> Any:
    return list(islice(source, _RECORDS))


def _reads(source: DataSourceModule) -> Any:
    """Return how many reads two requests for the same record cost, which shows whether records are kept."""
    if source.access == "stream":
        return None
    calls = 0
    read = type(source).get_records

    def counted(self: DataSourceModule, indices: Any) -> Any:
        nonlocal calls
        calls += 1
        return read(self, indices)

    with patch.object(type(source), "get_records", counted):
        source.fetch(np.zeros(1, np.int64))
        source.fetch(np.zeros(1, np.int64))
    return calls


_LOOKS: Final[dict[str, Look]] = {
    "properties": _properties,
    "order": _order,
    "records": _records,
    "elements": _elements,
    "reads": _reads,
}


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
