"""Building the stages of a pipeline from configs; a stage that cannot work is refused before anything is served."""

import zlib
from collections.abc import Callable, Sequence
from typing import Final

import jax
import numpy as np
from flax import nnx

from datarax_core.config.lines import dotted
from datarax_core.errors import StageError
from datarax_core.extensions.contract import contract_fault
from datarax_core.records.spec import (
    Batch,
    ElementSpec,
    batch_struct,
    device_spec,
    host_fields_after,
    spec_of,
    split_host_fields,
    with_fields,
    with_host_fields,
)
from datarax_core.registry.stages import Stage
from datarax_core.sources.source import DataSourceModule

from .apply import apply_stages, note_failed, require_stage
from .randomness import RecordIds, structs_of
from .split_modules import SplitModules, Values

_MASK: Final = jax.ShapeDtypeStruct((), np.dtype(np.bool_))


def build_stages(
    stages: Sequence[Callable[..., Batch]],
    source: DataSourceModule,
    rngs: nnx.Rngs | None,
    *,
    batch_size: int,
    mask_field: str | None,
) -> list[Callable[..., Batch]]:
    """Return the stages, each config among them built for the records at its place in the pipeline.

    Cost: the stages before the last config are traced, and no others; nothing is compiled or read.

    Args:
        stages: Stages of a pipeline: configs (`Stage`) and other callables.
        source: Source of the pipeline.
        rngs: Random streams of the pipeline. They do not advance: each config gets streams folded from them and its number.
        batch_size: Records of a batch, for tracing.
        mask_field: Name of the mask that ``pad_last`` adds to batches; None without one.

    Raises:
        StageError: A stage cannot work on such records; names the stage and its option.
        TypeError, PluginContractError: A config built something that is no stage.
    """
    configs = [number for number, stage in enumerate(stages) if isinstance(stage, Stage)]
    if not configs:
        return list(stages)
    built: list[Callable[..., Batch]] = []
    device_fields, host_fields = split_host_fields(source.element_spec())
    device_fields = device_spec(device_fields)
    if mask_field is not None:
        device_fields = with_fields(device_fields, {mask_field: _MASK}, "the mask of pad_last")
    for number, stage in enumerate(stages):
        if isinstance(stage, Stage):
            spec = with_host_fields(device_fields, host_fields) if host_fields else device_fields
            built.append(_built(stage, number, spec, rngs))
        else:
            built.append(stage)
        if number < configs[-1]:
            device_fields = _spec_after_last(built, device_fields, batch_size)
            host_fields = host_fields_after(built[-1:], host_fields)
    return built


class PlacedStageError(StageError):
    """A stage of a pipeline cannot work: ``number`` is its place among the stages, ``reason`` the message of the stage."""

    def __init__(self, number: int, refused: Exception) -> None:
        self.number, self.reason = number, str(refused)
        option = getattr(refused, "option", ())
        place = dotted(("stages", number, *option))
        super().__init__(f"{place}: {refused}", option)

    def __reduce__(self) -> tuple[type[StageError], tuple[str, tuple[int | str, ...]]]:
        return StageError, (str(self), self.option)


def _built(stage: Stage, number: int, spec: ElementSpec, rngs: nnx.Rngs | None) -> Callable[..., Batch]:
    try:
        built = stage.build(spec, _streams_of(rngs, number))
    except ValueError as refused:
        raise PlacedStageError(number, refused) from refused
    except Exception as error:
        note_failed(error, stage, number)
        raise
    if not callable(built) or isinstance(built, type):
        problem = f".build() returned {built!r:.60}; return self, or the callable that runs in its place, such as an nnx.Module"
        raise contract_fault("stage", type(stage), problem, stage.type)
    require_stage(built, f"what stage {number} ({stage.type}) built")
    return built


def _streams_of(rngs: nnx.Rngs | None, number: int) -> nnx.Rngs:
    """Return random streams for one stage, folded from those of the pipeline, which do not advance."""
    if rngs is None:
        return nnx.Rngs()
    place = zlib.crc32(f"stage {number}".encode())
    folded = {}
    for name, stream in rngs.items():  # type: ignore[no-untyped-call]  # flax leaves it out
        key, count = stream.key.get_raw_value(), stream.count.get_raw_value()
        folded[name] = jax.random.fold_in(jax.random.fold_in(key, count), place)
    return nnx.Rngs(**folded)


def _spec_after_last(stages: Sequence[Callable[..., Batch]], spec: ElementSpec, size: int) -> ElementSpec:
    """Return the spec after the last of these stages, given the spec before it; the stage is traced with record ids."""
    record_ids = structs_of(RecordIds(*(np.zeros(2, np.uint32) for _ in range(3))), size)
    number = len(stages) - 1
    last = SplitModules((stages[number],))

    def run(values: Values, batch: Batch, record_ids: RecordIds) -> Batch:
        return apply_stages(last.structure.merge(values), batch, record_ids, first=number)

    return spec_of(jax.eval_shape(run, last.read(), batch_struct(spec, size), record_ids))
