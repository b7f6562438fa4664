"""Config of a pipeline, read from a file or a mapping, and described as JSON Schema."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    PlainValidator,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
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
from datarax_core.config.files import read_config_file
from datarax_core.config.lines import Origin
from datarax_core.config.messages import error_at, plugin_cause, problems
from datarax_core.config.models import SourceConfig
from datarax_core.errors import ConfigError, Problem

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


class PipelineConfig(FrozenConfig):
    """A source, the rule by which its records become batches, and the stages that transform the batches."""

    source: AnySource = Field(description="Where the records come from.")
    batch_size: Count = Field(le=2**31 - 1, description="Records in a batch.")
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
    found = read_config_file(path)
    return parse_config(
        found.mapping,
        registry=registry,
        stage_registry=stage_registry,
        decoder_registry=decoder_registry,
        base=Path(path).absolute().parent,
        origin=Origin(os.fspath(path), found.top),
    )


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
    return schema_of(PipelineConfig, sections)
