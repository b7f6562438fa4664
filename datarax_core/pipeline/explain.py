"""Reports of a pipeline in sentences: its parts, the route that its records take, and the batches that a run will serve."""

from collections.abc import Iterator

from datarax_core.devices.layout import DEFAULT
from datarax_core.routes.definition import BatchRule, Definition
from datarax_core.routes.table import route_of
from datarax_core.stages.apply import stage_name
from datarax_core.stages.cache import describe_caches


def summary(definition: Definition) -> str:
    """Return one line: source and order, stages, batch rule."""
    source = definition.source
    names = ", ".join(map(stage_name, definition.stages)) or "none"
    records = route_of(definition).describe_records(source)
    return f"Pipeline({source.title}: {records}; stages: {names}{_call(definition)}; {_rule(definition.rule)})"


def _call(definition: Definition) -> str:
    return "" if definition.call is None else f", called by {definition.call.name}"


def explain(definition: Definition) -> str:
    """Return the route of a loop over the pipeline, in sentences."""
    route = route_of(definition).describe(definition)
    return "\n".join([summary(definition), *route, *_devices(definition), *describe_caches(definition.stages)])


def plan_of(definition: Definition) -> str:
    """Return a description of a run of the pipeline: batches, records and epochs; nothing is read."""
    rule, length = definition.rule, definition.epoch_length
    batches = None if length is None else rule.num_batches(length)
    if batches is not None:
        served = f"{batches:,} batch{'' if batches == 1 else 'es'} a run"
    else:
        served = (
            "batches without end" if rule.num_epochs is None else "as many batches a run as the stream has records for"
        )
    return f"{served} ({_rule(rule)})\n{definition.source.plan(rule.num_epochs)}"


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
    return f"batches of {rule.batch_size}, {epochs}{last}"
