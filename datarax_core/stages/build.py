"""Building the stages of a pipeline from configs; a stage that cannot work is refused before anything is served."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

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
from datarax_core.registry.stages import Stage, host_stage_behind, host_stage_refusal
from datarax_core.sources.source import DataSourceModule

from .apply import apply_stages, note_failed, require_stage, stage_name
from .on_host.reader import HostSpecs
from .on_host.side import num_on_host, require_side
from .on_host.specs import FirstRecord, spec_after, spec_of_source
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
) -> tuple[list[Callable[..., Batch]], HostSpecs]:
    """Return (the stages, each config among them built for the records at its place in the pipeline, the specs on the host).

    Cost: the compiled stages before the last config are traced, and no others; nothing is compiled. A host stage that does not
    say what comes out of it is run on one record.

    Args:
        stages: Stages of a pipeline: configs (`Stage`) and other callables.
        source: Source of the pipeline.
        rngs: Random streams of the pipeline. They do not advance: each config gets streams folded from them and its number.
        batch_size: Records of a batch, for tracing.
        mask_field: Name of the mask that ``pad_last`` adds to batches; None without one.

    Raises:
        StageError: A stage cannot work on such records, or a host stage stands behind a compiled one; names the stages.
        TypeError, PluginContractError: A config built something that is no stage.
    """
    on_host = _host_stages(stages)
    built, specs = _built_on_host(stages[:on_host], source, rngs)
    configs = [number for number, stage in enumerate(stages) if isinstance(stage, Stage) and number >= on_host]
    if not configs:
        return [*built, *stages[on_host:]], specs
    device_fields, host_fields = split_host_fields(specs.specs[-1] if on_host else source.element_spec())
    device_fields = device_spec(device_fields)
    if mask_field is not None:
        device_fields = with_fields(device_fields, {mask_field: _MASK}, "the mask of pad_last")
    for number, stage in enumerate(stages[on_host:], on_host):
        if isinstance(stage, Stage):
            spec = with_host_fields(device_fields, host_fields) if host_fields else device_fields
            built.append(_built(stage, number, spec, rngs))
        else:
            built.append(stage)
        if number < configs[-1]:
            device_fields = _spec_after_last(built, device_fields, batch_size)
            host_fields = host_fields_after(built[-1:], host_fields)
    return built, specs


def _host_stages(stages: Sequence[Callable[..., Batch]]) -> int:
    """Return how many of the stages, the first ones, run on the host.

    Raises:
        StageError: A host stage stands behind one that runs in compiled code; names both.
    """
    on_host = num_on_host(stages)
    for stage in stages:
        require_side(stage)
    if (found := host_stage_behind(stages)) is not None:
        last, number = found
        refusal = host_stage_refusal(stage_name(stages[last]), last, stage_name(stages[number]), number)
        raise PlacedStageError(last, StageError(refusal))
    return on_host


def _require_no_variables(stage: Any, number: int) -> None:
    """Raise if a host stage holds variables, which threads, workers and callbacks would not share."""
    if isinstance(stage, nnx.Module) and any(isinstance(node, nnx.Variable) for _, node in nnx.iter_graph(stage)):
        refused = StageError(
            f"{stage_name(stage)} runs on the host, and holds variables, which workers and compiled code do not share; keep "
            "what it needs in plain NumPy attributes, or run it on the device"
        )
        raise PlacedStageError(number, refused)


def _built_on_host(
    stages: Sequence[Callable[..., Batch]], source: DataSourceModule, rngs: nnx.Rngs | None
) -> tuple[list[Callable[..., Batch]], HostSpecs]:
    """Return (the host stages, built, the specs before, between and after them)."""
    if not stages:
        return [], HostSpecs()
    built: list[Callable[..., Batch]] = []
    specs, first = [spec_of_source(source)], FirstRecord(source)
    for number, stage in enumerate(stages):
        made = _built(stage, number, specs[-1], rngs, "build_on_host") if isinstance(stage, Stage) else stage
        built.append(made)
        _require_no_variables(made, number)
        try:
            specs.append(spec_after(built, specs, first))
        except StageError as refused:
            raise PlacedStageError(number, refused) from refused
    return built, HostSpecs(specs)


class PlacedStageError(StageError):
    """A stage of a pipeline cannot work: ``number`` is its place among the stages, ``reason`` the message of the stage."""

    def __init__(self, number: int, refused: Exception) -> None:
        self.number, self.reason = number, str(refused)
        option = getattr(refused, "option", ())
        place = dotted(("stages", number, *option))
        super().__init__(f"{place}: {refused}", option)

    def __reduce__(self) -> tuple[type[StageError], tuple[str, tuple[int | str, ...]]]:
        return StageError, (str(self), self.option)


def _built(
    stage: Stage, number: int, spec: ElementSpec, rngs: nnx.Rngs | None, method: str = "build"
) -> Callable[..., Batch]:
    """Return what a config builds by its method of this name, or by ``build`` if it has no such method."""
    try:
        built = getattr(stage, method, stage.build)(spec, _streams_of(rngs, number))
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
