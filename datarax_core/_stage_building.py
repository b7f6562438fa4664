"""Stages that are configs, built for the records of a pipeline: what cannot work is refused before anything is served."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from ._arguments import require_stage
from ._batch_rule import BatchRule
from ._config_places import dotted
from ._modules import Split, Values, apply_stages
from .config import PipelineConfig
from .errors import ConfigError, StageError
from .source import DataSourceModule
from .spec import Batch, ElementSpec, batch_struct, device_spec, spec_of, split_beside
from .stages import Stage

T = TypeVar("T")


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
    stages: Sequence[Callable[..., Batch]], source: DataSourceModule, rule: BatchRule, rngs: nnx.Rngs | None
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
    inside, beside = split_beside(source.element_spec())
    inside = device_spec(inside)
    if rule.pad_last is not None:
        inside = {**inside, rule.pad_last: jax.ShapeDtypeStruct((), np.dtype(np.bool_))}
    for number, stage in enumerate(stages):
        if number > configs[-1]:
            built.append(stage)
            continue
        if isinstance(stage, Stage):
            stage = _built(stage, number, {**inside, **beside} if beside else inside, rngs)  # noqa: PLW2901 - from here on
        built.append(stage)
        if number < configs[-1]:
            inside, beside = _after(built, inside, rule.batch_size), passed_beside([stage], beside)
    return built


@contextmanager
def placing_stages_of(config: PipelineConfig) -> Iterator[None]:
    """A stage of the config that is refused in the block is told with its line.

    Raises:
        ConfigError: It cannot work on the records.
    """
    try:
        yield
    except PlacedStageError as refused:
        if refused.number >= len(config.stages):  # one of those that were made in Python
            raise
        place = ("stages", refused.number, *refused.option)
        raise ConfigError.of([config.problem(place, refused.reason)]) from refused


def passed_beside(stages: Sequence[Any], fields: Mapping[str, T]) -> dict[str, T]:
    """What rides beside a batch after these stages: arrays, or their specs."""
    passed = dict(fields)
    for stage in stages:
        if (beside := getattr(stage, "beside", None)) is not None:
            passed = beside(passed)
    return passed


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
