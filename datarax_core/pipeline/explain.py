"""Reports of a pipeline in sentences: its parts, the route that its records take, and the batches that a run will serve."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from datarax_core.devices.layout import DEFAULT
from datarax_core.order.batch_sizes import ScheduledBatchSizes
from datarax_core.records.spec import device_spec, named_fields
from datarax_core.routes.definition import BatchRule, Definition
from datarax_core.routes.table import route_of
from datarax_core.sources.description import reading_lines
from datarax_core.stages.apply import stage_name
from datarax_core.stages.cache import describe_caches

from .progress import Progress


def summary(definition: Definition) -> str:
    """Return one line: source and order, stages, batch rule."""
    source = definition.source
    names = ", ".join(map(stage_name, definition.stages)) or "none"
    records = route_of(definition).describe_records(source)
    return f"Pipeline({source.title}: {records}; stages: {names}{_call(definition)}; {_rule(definition.rule)})"


def _call(definition: Definition) -> str:
    return "" if definition.call is None else f", called by {definition.call.name}"


def explain(definition: Definition, progress: Progress, *, resumes_loop: bool) -> str:
    """Return the route of a loop over the pipeline, in sentences."""
    route = route_of(definition).describe(definition)
    described = [
        summary(definition),
        *route,
        *reading_lines(definition.source),
        *_sizes(definition),
        *_devices(definition),
    ]
    described += describe_caches(definition.stages)
    if progress.threads is not None and (found := progress.threads.describe()):
        described.append(f"Measured so far: {found}.")
    if resumes_loop:
        described.append(
            "It was saved in a loop: the next loop goes on with that run, and ends at once if no batch is left of it."
        )
    return "\n".join(described)


def stats_of(definition: Definition, progress: Progress, position: int) -> dict[str, Any]:
    """Return the counts of a pipeline at ``position``, as `Pipeline.stats` names them."""
    leaves = named_fields(device_spec(definition.reader.element_spec())).values()
    record_bytes = sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in leaves if None not in leaf.shape)
    substituted = {"records_substituted": definition.source.get_operation_stats()["skipped_count"]}
    threads = {} if progress.threads is None else progress.threads.as_dict()
    counts = progress.stats.as_dict(record_bytes) | threads | substituted
    return counts | definition.source.stats_at(position)


def plan_of(definition: Definition, run_start: int = 0) -> str:
    """Return a description of the run that begins at ``run_start``: batches, records and epochs; nothing is read."""
    rule, length = definition.rule, definition.epoch_length
    batches = None if length is None else rule.num_batches(length, run_start)
    if batches is not None:
        served = f"{batches:,} batch{'' if batches == 1 else 'es'} a run"
    else:
        served = (
            "batches without end" if rule.num_epochs is None else "as many batches a run as the stream has records for"
        )
    end = None if batches is None else run_start + (rule.run_length(length) or 0)
    lines = [_stage_line(stage) for stage in stages_of_run(rule, run_start, end)]
    return "\n".join([f"{served} ({_rule(rule)})", *lines, definition.source.plan(rule.num_epochs)])


class BatchStage(NamedTuple):
    """A stage of a schedule of batch sizes in a run; of one without end, the last stage has no number of batches."""

    position: int
    """Where its first batch begins."""
    batch_size: int
    batches: int | None


def stages_of_run(rule: BatchRule, start: int, end: int | None) -> list[BatchStage]:
    """Return the stages of a schedule between two positions, by the batches that begin there; none for one size.

    A last batch that is short counts, unless ``drop_last`` leaves it out.
    """
    sizes, found = rule.batch_size, list[BatchStage]()
    if not isinstance(sizes, ScheduledBatchSizes):
        return found
    while end is None or start < end:
        change = sizes.next_change(start)
        borders = [border for border in (change, end) if border is not None]
        if not borders:
            return [*found, BatchStage(start, sizes.at(start), None)]
        stop = min(borders)
        batches = sizes.batches_between(start, stop)
        is_cut = stop == end and rule.drop_last and sizes.last_size(start, stop) > 0
        if batches - is_cut:
            found.append(BatchStage(start, sizes.at(start), batches - is_cut))
        start = sizes.position_after(start, batches)
    return found


def _stage_line(stage: BatchStage) -> str:
    served = (
        "batches without end"
        if stage.batches is None
        else f"{stage.batches:,} batch{'' if stage.batches == 1 else 'es'}"
    )
    return f"  from position {stage.position:,}: {served} of {stage.batch_size:,}"


def _sizes(definition: Definition) -> Iterator[str]:
    """Yield a sentence on what several batch sizes cost and rule out."""
    sizes = definition.rule.batch_size
    if isinstance(sizes, int):
        return
    if definition.has_compiled_stages or definition.source.access == "device":
        number = len({*sizes.distinct, *(() if definition.rule.pad_last else sizes.short)})
        yield f"Batches have {number} sizes; the step is compiled once for each, when it is first met."
    if not definition.reader.differs_in_shape:
        yield "step() in compiled code, which has one shape, is refused, and so is a scan() across a change of size."


def _devices(definition: Definition) -> Iterator[str]:
    layout, route = definition.layout, route_of(definition)
    if layout == DEFAULT:
        return
    yield f"Batches are laid out by {getattr(layout, 'sharding', layout.data_sharding)}."
    yield from route.describe_copies(definition)
    if layout.num_processes > 1:
        yield route.describe_sharing(definition)


def _rule(rule: BatchRule) -> str:
    epochs = "endless" if rule.num_epochs is None else f"{rule.num_epochs} epoch{'s' if rule.num_epochs > 1 else ''}"
    last = ", drop_last" if rule.drop_last else f", pad_last={rule.pad_last!r}" if rule.pad_last else ""
    size = rule.batch_size
    return f"batches of {size if isinstance(size, int) else size.describe()}, {epochs}{last}"
