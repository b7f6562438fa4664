"""Stages that are configs, built for the records of a pipeline: what cannot work is refused before anything is served."""

import zlib
from collections.abc import Callable, Sequence
from typing import Final

import jax
import numpy as np
from flax import nnx

from datarax_core.config.lines import dotted
from datarax_core.errors import StageError
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

from .apply import Split, Values, apply_stages, require_stage

_MASK: Final = jax.ShapeDtypeStruct((), np.dtype(np.bool_))


class PlacedStageError(StageError):
    """A stage of a pipeline cannot work: ``number`` is its place among them, ``reason`` says why."""

    def __init__(self, number: int, refused: Exception) -> None:
        self.number, self.reason = number, str(refused)
        option = getattr(refused, "option", ())
        place = dotted(("stages", number, *option))
        super().__init__(f"{place}: {refused}", option)

    def __reduce__(self) -> tuple[type[StageError], tuple[str, tuple[int | str, ...]]]:
        return StageError, (str(self), self.option)


def built_stages(
    stages: Sequence[Callable[..., Batch]],
    source: DataSourceModule,
    rngs: nnx.Rngs | None,
    *,
    batch_size: int,
    mask_field: str | None,
) -> list[Callable[..., Batch]]:
    """The stages, each that is a config as it is built for records as they are where it stands.

    Stages in front of one that is built are traced; nothing else is.

    Raises:
        StageError: One cannot work on such records; says which, and which option of it.
        TypeError: One built something that is no stage.
    """
    configs = [number for number, stage in enumerate(stages) if isinstance(stage, Stage)]
    if not configs:
        return list(stages)
    built: list[Callable[..., Batch]] = []
    inside, host_fields = split_host_fields(source.element_spec())
    inside = device_spec(inside)
    if mask_field is not None:
        inside = with_fields(inside, {mask_field: _MASK}, "the mask of pad_last")
    for number, stage in enumerate(stages):
        if number > configs[-1]:
            built.append(stage)
            continue
        if isinstance(stage, Stage):
            stage = _built(stage, number, with_host_fields(inside, host_fields) if host_fields else inside, rngs)  # noqa: PLW2901 - from here on
        built.append(stage)
        if number < configs[-1]:
            inside, host_fields = _after(built, inside, batch_size), host_fields_after([stage], host_fields)
    return built


def _built(stage: Stage, number: int, spec: ElementSpec, rngs: nnx.Rngs | None) -> Callable[..., Batch]:
    try:
        built = stage.build(spec, _own_streams(rngs, number))
    except ValueError as refused:
        raise PlacedStageError(number, refused) from refused
    require_stage(built, f"what stage {number} ({stage.type}) built")
    return built


def _own_streams(rngs: nnx.Rngs | None, number: int) -> nnx.Rngs:
    """Random streams of a stage's own; those of the pipeline stay where they are."""
    if rngs is None:
        return nnx.Rngs()
    place = zlib.crc32(f"stage {number}".encode())
    folded = {}
    for name, stream in rngs.items():  # type: ignore[no-untyped-call]  # flax leaves it out
        key, count = stream.key.get_raw_value(), stream.count.get_raw_value()
        folded[name] = jax.random.fold_in(jax.random.fold_in(key, count), place)
    return nnx.Rngs(**folded)


def _after(stages: Sequence[Callable[..., Batch]], spec: ElementSpec, size: int) -> ElementSpec:
    """The spec after the last of these stages, which is called by its number for what it draws."""
    names = (np.zeros(2, np.uint32), np.zeros(size, np.uint32), np.zeros(size, np.uint32))
    first = len(stages) - 1
    last = Split(tuple(stages[first:]))

    def through(values: Values, batch: Batch) -> Batch:
        return apply_stages(last.structure.merge(values), batch, names, first=first)

    return spec_of(jax.eval_shape(through, last.read(), batch_struct(spec, size)))
