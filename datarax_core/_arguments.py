"""What a pipeline is built of, checked before anything is built."""

from collections.abc import Sequence
from typing import Any

from ._modules import require_hash
from ._plan import Plan
from ._programs import with_fields
from .source import DataSourceModule
from .spec import device_spec, split_beside


def require_source(source: Any) -> None:
    """Refuse what is no source."""
    if not isinstance(source, DataSourceModule):
        raise TypeError(
            f"source is a DataSourceModule, such as MemorySource(config, data), not {type(source).__name__}"
        )


def require_stages(stages: Any) -> None:
    """Refuse what is no list of callables, or cannot be a part of what a compiled program is found by."""
    if callable(stages) or not isinstance(stages, Sequence):
        raise TypeError(f"stages is a list of callables, not {type(stages).__name__}")
    for number, stage in enumerate(stages):
        require_stage(stage, f"stage {number}")


def require_stage(stage: Any, what: str) -> None:
    """Refuse what is not callable, or cannot be looked up."""
    if not callable(stage):
        raise TypeError(f"{what} is not callable: {stage!r}; a stage takes a batch and returns one")
    require_hash(stage, what)


def require_batches(plan: Plan) -> None:
    """Refuse what leaves no batch, cannot be laid out, or reads in a way that the source has no use for."""
    source, rule, length = plan.source, plan.rule, plan.epoch_length
    spec = source.element_spec()
    if rule.pad_last is not None:
        with_fields(spec, {rule.pad_last: None}, "the mask of pad_last")
    if length is None and rule.num_epochs not in (None, 1):
        raise ValueError(
            f"num_epochs={rule.num_epochs} counts epochs, but {source.title} is a stream without a length: a loop "
            "over it runs until it ends; leave num_epochs at 1"
        )
    if length is not None and rule.num_batches(length) == 0:
        raise ValueError(
            f"batch_size={rule.batch_size} with drop_last leaves no batch of the {length} records "
            f"that {source.title} serves; make it smaller"
        )
    if plan.workers and source.access != "host":
        raise ValueError(
            f"workers={plan.workers} read records for a source on the host, but {source.title} is "
            f"{'a stream, which only one can read' if source.access == 'stream' else 'on the device'}"
        )
    plan.layout.check(device_spec(split_beside(spec)[0]), rule.batch_size, rule.last_size(length))
