"""Whether a value of a config changes anything that can be seen of its source."""

import os
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from unittest.mock import patch

import jax
import numpy as np

from datarax_core.records.spec import describe
from datarax_core.sources.source import DataSourceModule

from ._subject import batches

if TYPE_CHECKING:
    from ._subject import Subject

Look = Callable[[DataSourceModule], Any]

_POSITIONS: Final = 512
_RECORDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shows:
    """A value for a field of the config, and where its effect is seen, for ``effective``.

    ``at`` is given a source; what it returns differs between a source with the value and one without. None looks at what is
    common to all sources. ``beside`` are the other fields that the value needs.
    """

    value: Any
    at: Look | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)


def trials(subject: "Subject", name: str) -> list[Shows]:
    """The values that are tried for a field: the author's, or those that the kit thinks of."""
    declared = subject.author.effective
    if name in declared:
        value = declared[name]
        return [value if isinstance(value, Shows) else Shows(value=value)]
    current = getattr(subject.config, name)
    if name in _OF_EVERY_CONFIG:
        return [trial for trial in _OF_EVERY_CONFIG[name] if trial.value != current]
    if paths := missing_paths(subject.fields.get(name)):
        return [Shows(value=paths)]
    annotation = type(subject.config).model_fields[name].annotation
    return [Shows(value=value) for value in _others(annotation, current)]


_OF_EVERY_CONFIG: Final[dict[str, list[Shows]]] = {
    "cacheable": [Shows(value=True), Shows(value=False)],
    "batch_stats_fn": [Shows(value=jax.tree.structure)],
    "precomputed_stats": [Shows(value={"mean": 0.0})],
    "stochastic": [Shows(value=True, beside={"stream_name": "another"}), Shows(value=False)],
    "stream_name": [Shows(value="another"), Shows(value="another", beside={"stochastic": True})],
}


def missing_paths(value: Any) -> Any:
    """The same paths, none of which exists; None if these are no paths of files that do."""
    if isinstance(value, str | os.PathLike) and os.fspath(value) and Path(value).exists():
        return f"{os.fspath(value)}-missing"
    if isinstance(value, list | tuple) and value:
        missing = [missing_paths(each) for each in value]
        return missing if all(missing) else None
    return None


def _others(annotation: Any, current: Any) -> Iterator[Any]:
    """Values of a type that differ from the current one."""
    for kind in _kinds(annotation):
        if typing.get_origin(kind) is Literal:
            yield from (choice for choice in typing.get_args(kind) if choice != current)
        elif kind is bool:
            yield not current
        elif kind is int:
            yield current + 1 if isinstance(current, int) else 1


def _kinds(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "__metadata__"):  # Annotated
        yield from _kinds(annotation.__origin__)
    elif typing.get_origin(annotation) is Literal or isinstance(annotation, type):
        yield annotation
    elif typing.get_origin(annotation) not in (list, tuple, dict, set, frozenset):
        for part in typing.get_args(annotation):
            yield from _kinds(part)


# -- what can be seen ---------------------------------------------------------------------------------------------------------


def seen_of(source: DataSourceModule, at: Look | None) -> Any:
    """What can be seen of a source, in a form that is compared."""
    if at is not None:
        return _compared(at(source))
    return {name: _compared(look(source)) for name, look in _LOOKS.items()}


def _what_it_says(source: DataSourceModule) -> Any:
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
    """How often a record is read that is asked for twice."""
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
    "what it says": _what_it_says,
    "order": _order,
    "records": _records,
    "elements": _elements,
    "reads": _reads,
}


def _compared(value: Any) -> Any:
    """Values that Python compares: arrays as their bytes."""
    leaves, form = jax.tree.flatten(value)
    return str(form), [_leaf(leaf) for leaf in leaves]


def _leaf(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | jax.Array):
        array = np.asarray(leaf)
        content = repr(array.tolist()) if array.dtype.hasobject else array.tobytes()
        return str(array.dtype), array.shape, content
    text = repr(leaf)
    return type(leaf).__qualname__ if " at 0x" in text else text  # an address differs from source to source
