"""Features of a tf.train.SequenceExample: those of its context, and its feature lists, each of them as one feature.

A feature list has a feature for each step. Here its steps are joined to one payload, whose first axis is that of the steps.
Steps of one size, and short ones of any size, are found by NumPy; records of any other valid form are parsed by protobuf.
"""

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

from .example_wire import BYTES, FLOATS, LISTS, Payload, SequenceExample, entries_between, parsed_feature, span_at

_CONTEXT, _LISTS = 0x0A, 0x12  # tags of the two parts of a record, and of the name and the value of an entry
_STEP: Final = 0x0A
_HEADER: Final = 6
"""Bytes before the payload in a short step: the tags and lengths of the feature, of its list, and of the payload."""

_LONGEST_SHORT: Final = 0x7F

_Bytes: TypeAlias = npt.NDArray[np.uint8]


class Feature(NamedTuple):
    """Content of a feature, or of all steps of a feature list."""

    kind: int
    payload: Payload
    values_a_step: int | None = None
    """Number of values of each step of a feature list, -1 if it has no steps; None for a feature."""


def sequence_features(record: bytes) -> dict[str, Feature] | None:
    """Return the features of a SequenceExample, or an Example, as known writers write it; None if it has another form.

    Raises:
        ValueError: A name occurs in the context and in the feature lists, or the steps of a feature list differ.
    """
    at, context, lists = 0, {}, {}
    if record[:1] == b"\x0a":
        start, at = _part(record, 0, len(record), _CONTEXT)
        entries = entries_between(record, start, at) if at else None
        if entries is None:
            return None
        context = {entry.name: Feature(entry.kind, record[entry.start : entry.stop]) for entry in entries}
    if at < len(record):
        start, stop = _part(record, at, len(record), _LISTS)
        found = _feature_lists(record, start, stop) if stop == len(record) else None
        if found is None:
            return None
        lists = found
    return _joined(context, lists)


def parsed_features(record: bytes) -> dict[str, Feature]:
    """Return the features of a record of any form, parsed by protobuf; those without a list are left out.

    Raises:
        ValueError: The record is no Example, or a SequenceExample as `sequence_features` refuses it.
    """
    example = SequenceExample()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"the record is no tf.train.Example: {error}") from error
    found = {name: parsed_feature(feature) for name, feature in example.context.feature.items()}
    context = {name: Feature(*feature) for name, feature in found.items() if feature is not None}
    lists = {name: _of_steps(name, steps.feature) for name, steps in example.feature_lists.feature_list.items()}
    return _joined(context, lists)


def _joined(context: dict[str, Feature], lists: dict[str, Feature]) -> dict[str, Feature]:
    if both := sorted(context.keys() & lists.keys()):
        raise ValueError(f"the record has {both[0]!r} in its context and in its feature lists; rename one of them")
    return {**context, **lists}


def _part(record: bytes, at: int, stop: int, tag: int) -> tuple[int, int]:
    """Return where the content of the part with this tag begins and ends; (0, 0) if another tag is there, or it is cut off."""
    try:
        start, end = span_at(record, at, tag)
    except (IndexError, ValueError):
        return 0, 0
    return (start, end) if end <= stop else (0, 0)


def _feature_lists(record: bytes, at: int, stop: int) -> dict[str, Feature] | None:
    lists: dict[str, Feature] = {}
    while at < stop:
        start, at = _part(record, at, stop, _CONTEXT)
        name_start, name_stop = _part(record, start, at, _CONTEXT) if at else (0, 0)
        first, last = _part(record, name_stop, at, _LISTS) if name_stop else (0, 0)
        try:
            name = record[name_start:name_stop].decode()
        except UnicodeDecodeError:
            return None
        steps = _steps(name, record, first, last) if last and last == at else None
        if steps is None or name in lists:
            return None
        lists[name] = steps
    return lists


def _steps(name: str, record: bytes, start: int, stop: int) -> Feature | None:
    """Return the steps between two bytes of a record, joined; None if they have a form that NumPy does not read."""
    if start == stop:
        return Feature(BYTES, [], -1)
    step_start, step_stop = _part(record, start, stop, _STEP)
    kind = record[step_start] if step_start < step_stop else 0
    list_start, list_stop = _part(record, step_start, step_stop, kind) if kind in LISTS else (0, 0)
    first, last = _part(record, list_start, list_stop, _STEP) if list_stop else (0, 0)
    if not last == list_stop == step_stop or not last:
        return None
    stored = np.frombuffer(record, np.uint8, stop - start, start)
    size = step_stop - start
    if len(stored) % size == 0:
        steps = stored.reshape(-1, size)
        if (steps[:, : first - start] == steps[0, : first - start]).all():
            payloads = steps[:, first - start :]
            return _of_payloads(name, kind, payloads.reshape(-1), np.full(len(steps), last - first))
    return _short_steps(name, kind, stored)


def _short_steps(name: str, kind: int, stored: _Bytes) -> Feature | None:
    """Return steps of up to 127 bytes, of any sizes, joined; None if there are others."""
    if len(stored) < _HEADER:
        return None
    first, size, second, list_size, third, payload_size = (
        stored[place : len(stored) - _HEADER + 1 + place] for place in range(_HEADER)
    )
    is_header = (
        (first == _STEP) & (second == kind) & (third == _STEP) & (size >= _HEADER - 2) & (size <= _LONGEST_SHORT)
    )
    is_header &= (size - 2 == list_size) & (size - 4 == payload_size)  # a payload may look like a header too
    starts = np.flatnonzero(is_header)
    stops = starts + size[starts] + 2
    if not len(starts) or starts[0] or (starts[1:] != stops[:-1]).any() or stops[-1] != len(stored):
        return None
    is_payload = np.ones(len(stored), np.bool_)
    for place in range(_HEADER):
        is_payload[starts + place] = False
    return _of_payloads(name, kind, stored[is_payload], stops - starts - _HEADER)


def _of_payloads(name: str, kind: int, packed: _Bytes, sizes: npt.NDArray[np.int64]) -> Feature | None:
    """Return the payloads of all steps, given one after another with their sizes."""
    joined, stops = packed.tobytes(), np.cumsum(sizes)
    if kind == BYTES:
        values = [joined[stop - size : stop] for stop, size in zip(stops.tolist(), sizes.tolist(), strict=True)]
        return Feature(BYTES, values, 1)
    if kind == FLOATS:
        if (sizes % 4).any():
            return None
        counts = sizes // 4
    else:
        is_last = packed < 0x80  # the top bit of all bytes of an integer but the last one is set
        if not sizes.min() or not is_last[stops - 1].all():
            return None
        counts = np.add.reduceat(is_last, stops - sizes, dtype=np.int64)
    if (odd := counts != counts[0]).any():
        raise _unequal(name, int(counts[0]), int(counts[odd][0]))
    return Feature(kind, joined, int(counts[0]))


def _of_steps(name: str, steps: Any) -> Feature:
    """Return the steps of a feature list that protobuf parsed, joined."""
    if not steps:
        return Feature(BYTES, [], -1)
    parsed = [parsed_feature(step) for step in steps]
    kinds = {step[0] if step else 0 for step in parsed}
    if len(kinds) > 1 or 0 in kinds:
        listed = " and ".join(sorted(LISTS.get(kind, "nothing") for kind in kinds))
        raise ValueError(f"the feature list {name!r} has steps of {listed}; all of them hold one kind of list")
    (kind,) = kinds
    counts = [len(getattr(step, LISTS[kind]).value) for step in steps]
    if odd := [count for count in counts if count != counts[0]]:
        raise _unequal(name, counts[0], odd[0])
    values = [value for step in parsed if step for value in (step[1] if isinstance(step[1], list) else [step[1]])]
    return Feature(kind, values if kind == BYTES else b"".join(values), counts[0])


def _unequal(name: str, one: int, other: int) -> ValueError:
    return ValueError(
        f"the feature list {name!r} has steps of {one} and of {other} values; only the number of steps may vary"
    )
