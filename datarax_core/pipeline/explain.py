"""What a pipeline says of itself: the route that its records take, why, and what would be faster."""

from collections.abc import Iterator

from datarax_core.devices.layout import DEFAULT
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.cache import describe_caches

from .definition import BatchRule, Definition


def summary(plan: Definition) -> str:
    """One line: source and order, stages, batch rule."""
    names = ", ".join(map(stage_name, plan.stages)) or "none"
    return f"Pipeline({plan.source.title}: {_records(plan.source)}; stages: {names}; {_rule(plan.rule)})"


def explain(plan: Definition) -> str:
    """The route of a loop over the pipeline, in sentences."""
    routes = {"device": _device_route, "host": _host_route, "stream": _stream_route}
    lines = [*routes[plan.source.access](plan), *_devices(plan), *describe_caches(plan.stages)]
    return "\n".join([summary(plan), *lines])


def plan_of(plan: Definition) -> str:
    """What a run of the pipeline will serve, in words; nothing is read."""
    rule, length = plan.rule, plan.epoch_length
    batches = None if length is None else rule.num_batches(length)
    served = "batches without end" if batches is None else f"{batches:,} batch{'' if batches == 1 else 'es'} a run"
    return f"{served} ({_rule(rule)})\n{plan.source.plan(rule.num_epochs)}"


def _records(source: DataSourceModule) -> str:
    if source.access == "stream":
        length = source.epoch_length
        return "a stream" if length is None else f"a stream of {length} records an epoch"
    return f"{source.epoch_length} records {source.order_title}"


def _device_route(plan: Definition) -> Iterator[str]:
    stages = f"the {len(plan.stages)} stages" if len(plan.stages) > 1 else "the stage" if plan.stages else "no stages"
    yield f"device route: {plan.source.title} is traceable: one compiled step gathers a batch and runs {stages}."
    yield "Steps are dispatched without waiting for them; nothing is read ahead on a thread."


def _host_route(plan: Definition) -> Iterator[str]:
    title = plan.source.title
    yield f"host route: {title} reads records at concrete indices; each batch is then placed on the device{_then(plan)}."
    yield _ahead(plan)
    if plan.workers:
        yield f"Each batch is read by {plan.workers} processes, a part each."
    yield "step() and scan() inside compiled code reach the source by a callback to the host."
    if type(plan.source).traceable:
        yield "It could be gathered on the device: placement='device', if the memory allows."
    elif not plan.source.config.cacheable:
        yield "If decoding is what takes long and memory allows, cacheable=True keeps each record once it is read;"
        yield "if it is Python that decodes, workers=2 reads in processes of their own."


def _stream_route(plan: Definition) -> Iterator[str]:
    title = plan.source.title
    yield f"stream route: {title} is read forward only; each batch is then placed on the device{_then(plan)}."
    if plan.source.capabilities.resumable:
        yield _ahead(plan)
    else:
        yield (
            f"Nothing is read ahead, and there is no state to save: {title} cannot say where it stands. With get_state() "
            "and set_state() it could."
        )
    yield "Compiled code cannot reach it: scan(), and step() under jit, need random access."


def _ahead(plan: Definition) -> str:
    if not plan.prefetch:
        return "Nothing is read ahead: prefetch=0; with prefetch=2, reading would overlap with the work of the loop."
    return (
        f"A background thread reads {plan.prefetch} batches ahead of the loop, once reading one takes long enough to be "
        "worth it."
    )


def _then(plan: Definition) -> str:
    return ", where one compiled step runs the stages" if plan.stages else ""


def _devices(plan: Definition) -> Iterator[str]:
    if plan.layout == DEFAULT:
        return
    yield f"Batches are laid out by {getattr(plan.layout, 'sharding', plan.layout.data_sharding)}."
    if plan.source.access == "device" and hasattr(plan.layout, "sharding"):
        yield "Each device holds a copy of the data, and gathers its own rows."
    if plan.layout.num_processes == 1:
        return
    if plan.part is not None:
        yield f"The stream is split by process: this one reads part {plan.part[0]} of {plan.part[1]}, from 0."
    elif plan.source.access == "stream":
        yield f"{plan.source.title} cannot be split: each process reads every record, and keeps the rows of its devices."
    else:
        yield f"Each of {plan.layout.num_processes} processes reads the rows that its devices hold."


def _rule(rule: BatchRule) -> str:
    epochs = "endless" if rule.num_epochs is None else f"{rule.num_epochs} epoch{'s' if rule.num_epochs > 1 else ''}"
    last = ", drop_last" if rule.drop_last else f", pad_last={rule.pad_last!r}" if rule.pad_last else ""
    return f"batches of {rule.batch_size}, {epochs}{last}"
