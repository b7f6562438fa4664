"""What a pipeline says of itself: the route that its records take, why, and what would be faster."""

from collections.abc import Sequence
from typing import Any

from ._batch_rule import BatchRule
from ._modules import stage_name
from .cache import describe_caches
from .source import DataSourceModule


def summary(source: DataSourceModule, stages: Sequence[Any], rule: BatchRule) -> str:
    """One line: source and order, stages, batch rule."""
    order = source.order()
    shard = f", shard {order.shard} of {order.num_shards}" if order.num_shards > 1 else ""
    shuffled = "shuffled" if source.is_random_order else "in sequence"
    names = ", ".join(map(stage_name, stages)) or "none"
    return f"Pipeline({source.title}: {order.epoch_length} records {shuffled}{shard}; stages: {names}; {_rule(rule)})"


def explain(source: DataSourceModule, stages: Sequence[Any], rule: BatchRule, prefetch: int) -> str:
    """The route of a loop over the pipeline, in sentences."""
    if source.access == "device":
        lines = [
            f"device route: {source.title} is traceable: one compiled step gathers a batch and runs {_stages(stages)}.",
            "Steps are dispatched without waiting for them; nothing is read ahead on a thread.",
        ]
    else:
        then = f", where one compiled step runs {_stages(stages)}" if stages else ""
        lines = [
            f"host route: {source.title} reads records at concrete indices; each batch is then placed on the device{then}.",
            f"A background thread reads {prefetch} batches ahead of the loop."
            if prefetch
            else "Nothing is read ahead: prefetch=0; with prefetch=2, reading would overlap with the work of the loop.",
            "step() and scan() inside compiled code reach the source by a callback to the host.",
        ]
        if type(source).traceable:
            lines.append("It could be gathered on the device: placement='device', if the memory allows.")
        elif not source.config.cacheable:
            lines.append(
                "If decoding is what takes long and memory allows, cacheable=True keeps each record once it is read."
            )
    return "\n".join([summary(source, stages, rule), *lines, *describe_caches(stages)])


def _stages(stages: Sequence[Any]) -> str:
    return f"the {len(stages)} stages" if len(stages) > 1 else "the stage" if stages else "no stages"


def _rule(rule: BatchRule) -> str:
    epochs = "endless" if rule.num_epochs is None else f"{rule.num_epochs} epoch{'s' if rule.num_epochs > 1 else ''}"
    last = ", drop_last" if rule.drop_last else f", pad_last={rule.pad_last!r}" if rule.pad_last else ""
    return f"batches of {rule.batch_size}, {epochs}{last}"
