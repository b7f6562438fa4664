"""Config of a pipeline, read from a file or a mapping, and described as JSON Schema."""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    Discriminator,
    Field,
    PlainValidator,
    PrivateAttr,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from datarax_core.config.base import (
    NOT_NULL,
    Count,
    Flag,
    FrozenConfig,
    Name,
    NonNegative,
    never,
    plugin_config,
    plugin_schema,
)
from datarax_core.config.files import SUFFIXES, read_config_file
from datarax_core.config.lines import Origin
from datarax_core.config.messages import error_at, plugin_cause, plugin_error, problems, shown
from datarax_core.config.models import SourceConfig
from datarax_core.errors import ConfigError, PluginError, Problem
from datarax_core.extensions.known import opening

from .decoders import DecoderRegistry, default_decoders
from .schema import SchemaSection, schema_of
from .sources import SourceRegistry, default_registry, given_or_default
from .stages import AnyStage, Stage, StageRegistry, default_stages, host_stage_behind, host_stage_refusal


def _source(value: Any, info: ValidationInfo) -> SourceConfig:
    """Return the source config that the value of a config field stands for."""
    registry = (info.context or {}).get("registry") or default_registry()
    return plugin_config(value, info, base=SourceConfig, look_up=registry.config_type, noun="source", example="memory")


AnySource = Annotated[SerializeAsAny[SourceConfig], PlainValidator(_source), WithJsonSchema(plugin_schema("source"))]
"""Type of a config field for any source: a `SourceConfig`, or a mapping with its ``type``. Mixtures nest sources with it."""


_Size = Annotated[Count, Field(le=2**31 - 1)]
_PAIR: Final = {"type": "array", "minItems": 2, "maxItems": 2}
_SIZE: Final = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_POSITION: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}

_Schedule = Annotated[
    tuple[tuple[Annotated[NonNegative, Field(le=2**63 - 1)], _Size], ...],
    Field(min_length=1),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "description": "Pairs of [position, batch size]: the first at 0, positions rising.",
            "prefixItems": [{**_PAIR, "prefixItems": [{"const": 0}, _SIZE]}],
            "items": {**_PAIR, "prefixItems": [_POSITION, _SIZE]},
        }
    ),
]

_BatchSize = Annotated[
    Annotated[_Size, Tag("number")] | Annotated[_Schedule, Tag("schedule")],
    Discriminator(lambda value: "schedule" if isinstance(value, list | tuple) else "number"),
]

_DECIDED: Final = object()
"""The ``batch_size`` of a config that leaves it out, since its source decides."""


def _require_rising(positions: Sequence[int]) -> None:
    """Raise unless a schedule begins at 0 and its positions rise, as `ScheduledBatchSizes` does; at the place in the config."""
    if positions[0]:
        said = f"the schedule begins at position {positions[0]}, so that batches before it have no size; begin it at 0"
        raise error_at((0, 0), said, positions[0])
    for number, (before, position) in enumerate(pairwise(positions), 1):
        if position <= before:
            goes = "begins there too" if position == before else f"begins at {before}, so that the schedule goes back"
            said = f"position {position} is not after the stage before it, which {goes}; positions rise"
            raise error_at((number, 0), said, position)


def _decides_batches(source: Any, registry: SourceRegistry) -> bool:
    """Return whether the source of a config, or one that it is a view of, decides the sizes of its batches."""
    if isinstance(source, SourceConfig):
        return source.decides_batches or _decides_batches(getattr(source, "source", None), registry)
    if not isinstance(source, Mapping) or not isinstance(source.get("type"), str):
        return False
    try:
        name = registry.canonical_name(source["type"])  # an alias warns where the source is validated
        decides = registry.config_type(name).decides_batches
    except PluginError:  # it is named where the source is validated
        return False
    return decides or _decides_batches(source.get("source"), registry)


class PipelineConfig(FrozenConfig):
    """A source, the rule by which its records become batches, and the stages that transform the batches."""

    source: AnySource = Field(description="Where the records come from.")
    batch_size: _BatchSize = Field(
        description="Records in a batch; or a schedule, such as [[0, 256], [1000000, 512]]: 256, and 512 from record 1,000,000 "
        "on. Left out for a source that decides the sizes of its batches.",
    )
    seed: NonNegative = Field(default=0, le=2**32 - 1, description="Selects every order and every random number.")
    num_epochs: Count | None = Field(default=1, description="How often each record is served; null is endless.")
    drop_last: Flag = Field(default=False, description="Leave out the last batch if it is short.")
    prefetch: NonNegative | Literal["auto"] = Field(
        default="auto",
        description="Batches that a loop reads ahead where the host reads them; auto is as many as fit 256 MiB.",
    )
    threads: Count | Literal["auto"] = Field(
        default="auto", description="Threads that read for a source on the host; auto adds them where reading waits."
    )
    workers: NonNegative = Field(default=0, description="Processes that read for a source whose decoding is Python.")
    pad_last: Name | None = Field(
        default=None,
        description="Complete the last batch, and add a boolean field of this name, true for real records.",
    )
    stages: tuple[AnyStage, ...] = Field(default=(), description="Stages that transform each batch, one after another.")

    schema_rules: ClassVar = (never(drop_last={"const": True}, pad_last=NOT_NULL),)

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="before")
    @classmethod
    def _or_source_decides(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, Mapping) or "batch_size" in values:
            return values
        registry = (info.context or {}).get("registry") or default_registry()
        return {**values, "batch_size": _DECIDED} if _decides_batches(values.get("source"), registry) else values

    @field_validator("batch_size", mode="wrap")
    @classmethod
    def _checked_sizes(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if value is _DECIDED:
            return None
        if isinstance(value, list | tuple) and value and not any(isinstance(pair, list | tuple) for pair in value):
            said = "a schedule is pairs of [position, batch size], such as [[0, 256], [1000000, 512]], not "
            raise plugin_error(f"{said}{shown(value)}")
        sizes = handler(value)
        if isinstance(sizes, tuple):
            _require_rising([position for position, _ in sizes])
        return sizes

    @field_validator("pad_last")
    @classmethod
    def _drop_or_pad(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("drop_last"):
            raise ValueError("drop_last and pad_last exclude each other; the last batch is left out or completed")
        return value

    @field_validator("stages")
    @classmethod
    def _host_stages_first(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if (found := host_stage_behind(stages)) is not None:
            last, number = found
            refusal = host_stage_refusal(stages[last].type, last, stages[number].type, number)
            raise error_at((last,), refusal, stages[last])
        return stages

    def problem(self, place: tuple[int | str, ...], message: str) -> Problem:
        """Return a problem with the value at ``place``, such as ``("stages", 1, "field")``, with the line of its file."""
        return self._origin.problem(place, message)

    def spot(self, place: tuple[int | str, ...]) -> str:
        """Return a place for notes on errors: ``source.sources[1] (train.yaml:6)``."""
        found = self._origin.problem(place, "")
        return f"{found.place} ({':'.join(str(part) for part in (found.file, found.line) if part)})"


def parse_config(
    mapping: Mapping[str, Any],
    *,
    registry: SourceRegistry | None = None,
    stage_registry: StageRegistry | None = None,
    decoder_registry: DecoderRegistry | None = None,
    base: str | os.PathLike[str] | None = None,
    origin: str | Origin = "config",
) -> PipelineConfig:
    """Return the pipeline config that a mapping describes.

    Args:
        mapping: Fields of `PipelineConfig`; ``source`` is a mapping with a ``type``, or a config.
        registry: Where names of sources are looked up; by default among the installed sources.
        stage_registry: Where names of stages are looked up; by default among the installed stages.
        decoder_registry: Where names of decoders are looked up; by default among the installed decoders.
        base: The folder that relative paths are relative to; None leaves them as they are.
        origin: Name of the mapping in messages, such as the path of its file.

    Raises:
        ConfigError: Lists every problem, one per line, with its place: ``train.yaml:7: source.sources[1].paths: ...``.
    """
    origin = Origin(origin) if isinstance(origin, str) else origin
    if not isinstance(mapping, Mapping):
        message = f"a pipeline config is a mapping of its fields, not {type(mapping).__name__}"
        raise ConfigError.of([origin.problem((), message)])
    registries = {"registry": given_or_default(registry), "stages": stage_registry, "decoders": decoder_registry}
    try:
        config = PipelineConfig.model_validate(dict(mapping), context=registries | {"base": base})
    except ValidationError as invalid:
        invalid.__cause__ = plugin_cause(invalid)
        raise ConfigError.of(problems(invalid, mapping, origin)) from invalid
    except RecursionError as cause:
        raise ConfigError.of([origin.problem((), "nested too deeply to be a config")]) from cause
    config._origin = origin  # noqa: SLF001 - of its own class
    return config


def load_config(
    path: str | os.PathLike[str],
    registry: SourceRegistry | None = None,
    *,
    stage_registry: StageRegistry | None = None,
    decoder_registry: DecoderRegistry | None = None,
) -> PipelineConfig:
    """Return the pipeline config in a ``.yaml``, ``.toml`` or ``.json`` file; its relative paths are relative to its folder.

    Raises:
        ConfigError: The file cannot be read, or is invalid; lists every problem with its line and place.
        TypeError: ``path`` is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"a config is the path of a file, such as 'train.yaml', not {path!r:.80}; Pipeline.from_config takes mappings too"
        )
    if (kinds := _opening(path)) and Path(path).exists():
        said = f"this holds records, which {kinds}: a config names it, see drx peek {os.fspath(path)}"
        raise ConfigError.of([Problem(file=os.fspath(path), message=said)])
    found = read_config_file(path)
    return parse_config(
        found.mapping,
        registry=registry,
        stage_registry=stage_registry,
        decoder_registry=decoder_registry,
        base=Path(path).absolute().parent,
        origin=Origin(os.fspath(path), found.top),
    )


def _opening(path: str | os.PathLike[str]) -> str:
    """Return which known sources open a data file that was given in place of a config, as a clause; "" for other paths."""
    if Path(path).suffix.lower() in SUFFIXES:
        return ""
    try:
        found = opening(path)
    except OSError:  # of a folder that may not be listed
        return ""
    names = " or ".join(f"type: {known.name} of {known.distribution}" for known in found)
    return f"{names} reads" if len(found) == 1 else f"{names} read" if found else ""


def pipeline_schema(
    sources: SourceRegistry, stages: StageRegistry | None = None, decoders: DecoderRegistry | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return (JSON Schema of pipeline configs, reasons why plugins are left out); missing registries are the installed ones."""
    stages = default_stages() if stages is None else stages
    decoders = default_decoders() if decoders is None else decoders
    sections = {
        "source": SchemaSection(sources, sources.config_type),
        "stage": SchemaSection(stages, stages.get),
        "decoder": SchemaSection(decoders, decoders.get),
    }
    schema, notes = schema_of(PipelineConfig, sections)
    deciding = sorted(
        name for name in sources.names() if f"source.{name}" in schema["$defs"] and _may_decide(sources, name)
    )
    if deciding:
        schema["required"].remove("batch_size")
        decided = {"properties": {"source": {"properties": {"type": {"enum": deciding}}}}}
        schema["allOf"] = [*schema.get("allOf", ()), {"anyOf": [{"required": ["batch_size"]}, decided]}]
    return schema, notes


def _may_decide(sources: SourceRegistry, name: str) -> bool:
    """Return whether sources of this name decide the sizes of their batches, or may be views of one that does."""
    config = sources.config_type(sources.canonical_name(name))  # an alias warns where a config uses it
    return config.decides_batches or "source" in config.model_fields
