"""Places of a pipeline that a user names, by step, position or epoch: to go there, or to look at the batch there."""

from dataclasses import dataclass, field
from typing import Any

from datarax_core.order.numbers import whole_number
from datarax_core.order.order import HOST_LIMIT
from datarax_core.records.spec import Batch
from datarax_core.routes.base import Stats
from datarax_core.routes.definition import Definition
from datarax_core.routes.shared_programs import Programs
from datarax_core.routes.table import route_of


def place_of(definition: Definition, method: str, **asked: int | None) -> int:
    """Return the position of a place that is named in one way: by ``step``, ``position`` or ``epoch``.

    Args:
        definition: The pipeline's.
        method: Name of the caller in errors.
        asked: By these names, the number or None.

    Raises:
        TypeError: None or several are given, or one is no integer.
        ValueError: It is negative, larger than positions can be, or a position in the middle of a batch of a schedule.
        NotImplementedError: The source is a stream, which has no random access.
    """
    given = {name: number for name, number in asked.items() if number is not None}
    if len(given) != 1:
        ways = " or ".join(f"{method}({name}=...)" for name in asked)
        raise TypeError(f"{method} takes one of {', '.join(asked)}: {ways}; {', '.join(given) or 'none'} given")
    source, sizes = definition.source, definition.rule.sizes
    if source.access == "stream":
        raise NotImplementedError(
            f"{method} reads at any place, but {source.title} is a stream, which is read forward only; go back to a place that "
            "you have a state of, by set_state(), or to the start by reset()"
        )
    ((name, number),) = given.items()
    number = whole_number(name, number, at_least=0)
    if name == "epoch":
        position = number * _epoch_length(definition)
    elif name == "step":
        position = sizes.position_of(number)
    else:
        position = number
        if position <= HOST_LIMIT:
            _require_boundary(definition, position)
    if position > HOST_LIMIT - sizes.largest:
        raise ValueError(f"{name}={number} is position {position}, beyond the last that batches reach, {HOST_LIMIT}")
    return position


def start_of_run_at(definition: Definition, position: int) -> int:
    """Return where the run begins that ``position`` lies in, if runs follow one another from position 0."""
    length = definition.rule.run_length(definition.epoch_length)
    return 0 if length is None else position // length * length


def batch_at(definition: Definition, programs: Programs, position: int) -> Batch:
    """Return the full batch at a position, after its stages; no variable of a stage is written, and nothing is counted."""
    source, rule = definition.source, definition.rule
    route = route_of(definition)(definition, _Readers(programs), is_loop=False)
    substituted = source.substituted_here
    try:
        prepared = route.prepare((position, rule.size_at(position), route.version()))
        return route.finish(prepared, keeps_values=False)
    finally:
        route.close()
        source.note_substituted(substituted - source.substituted_here)


@dataclass
class _Readers:
    """Readers and counts of a single batch, which this thread reads; the programs are the pipeline's."""

    programs: Programs
    stats: Stats = field(default_factory=Stats)
    stream: Any = None
    workers: Any = None
    threads: Any = None
    buffers: Any = field(default_factory=dict)


def _epoch_length(definition: Definition) -> int:
    length = definition.epoch_length
    if length is None:  # only streams have none
        raise NotImplementedError(f"{definition.source.title} has no epochs of a known length")
    return length


def _require_boundary(definition: Definition, position: int) -> None:
    """Raise if a batch may not begin at ``position``. With one batch size, it may anywhere.

    Where sizes change, batches begin at the boundaries of the full batches from position 0 on, which `Pipeline.step` serves,
    and at those of batches that are cut from the start of a run or epoch on, as loops cut them.

    Raises:
        ValueError: Names the boundaries before and after it.
    """
    sizes = definition.rule.sizes
    if sizes.constant is not None:
        return
    epoch_length = _epoch_length(definition)
    starts = {0, start_of_run_at(definition, position), position // epoch_length * epoch_length}
    if any(sizes.position_after(start, sizes.batches_between(start, position)) == position for start in starts):
        return
    step = sizes.batches_before(position)
    before, after = sizes.position_of(step - 1), sizes.position_of(step)
    raise ValueError(
        f"position={position} is in the middle of a batch: batch sizes are {sizes.describe()}, and step {step - 1} serves the "
        f"{after - before} records from position {before} on; take position={before} (step={step - 1}) or position={after} "
        f"(step={step})"
    )
