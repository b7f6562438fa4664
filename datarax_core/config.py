"""Configs: immutable, validated when they are built, and for sources chosen by ``type``.

A value that cannot work is refused here, with its field named; nothing that a config accepts is ignored later.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

from pydantic import (
    Field,
    PlainValidator,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ._config_base import (
    NOT_NULL,
    Count,
    Flag,
    FrozenConfig,
    Integer,
    LocalPath,
    Name,
    NonNegative,
    Real,
    having,
    named_by_type,
    never,
    only_if,
    plugin_config,
    plugin_schema,
)
from ._config_errors import plugin_cause, problems
from ._config_files import read_config_file
from ._config_places import Origin
from ._problem import Problem
from .errors import ConfigError
from .registry import SourceRegistry, default_registry, given_or_default
from .stages import AnyStage, StageRegistry

if TYPE_CHECKING:
    from .decoders import DecoderRegistry

__all__ = [
    "NOT_NULL",
    "AnySource",
    "Count",
    "DataraxModuleConfig",
    "Flag",
    "FrozenConfig",
    "Integer",
    "LocalPath",
    "Name",
    "NonNegative",
    "PipelineConfig",
    "Real",
    "SourceConfig",
    "SourceConfigBase",
    "StructuralConfig",
    "given_or",
    "having",
    "load_config",
    "named_by_type",
    "never",
    "only_if",
    "parse_config",
    "plugin_schema",
    "require_stochastic",
    "shuffling_is_stochastic",
    "stream_rules",
]

SHUFFLE_STREAM: Final = "shuffle"
"""The random stream that shuffles are drawn from, unless a config names another."""


def stream_rules(*flags: str) -> list[dict[str, Any]]:
    """The `FrozenConfig.schema_rules` of ``stochastic``, ``stream_name``, and flags of `shuffling_is_stochastic`."""
    flagged = [having(**{flag: {"const": True}}) for flag in flags]
    stochastic = having(stochastic={"const": True})
    unflagged = [{"not": {"anyOf": flagged}}] if flagged else []
    return [
        only_if({"anyOf": [stochastic, *flagged]}, stream_name=NOT_NULL),
        {"if": {"allOf": [stochastic, *unflagged]}, "then": having(stream_name=NOT_NULL)},
        *(never(stochastic={"const": False}, **{flag: {"const": True}}) for flag in flags),
    ]


class DataraxModuleConfig(FrozenConfig):
    """Options of every module.

    A subclass that comes with a ``__post_init__`` keeps it: it runs once the fields are valid, and a ``ValueError``
    that it raises is a validation error like any other.
    """

    cacheable: Flag = Field(default=False, description="Keep what was computed once, until reset_cache().")
    batch_stats_fn: Callable[..., Any] | None = Field(default=None, description="Computes the statistics of a batch.")
    precomputed_stats: dict[str, Any] | None = Field(default=None, description="Statistics known beforehand.")

    @field_validator("precomputed_stats")
    @classmethod
    def _one_kind_of_statistics(cls, value: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if value is not None and info.data.get("batch_stats_fn") is not None:
            raise ValueError("batch_stats_fn and precomputed_stats exclude each other; give one of them")
        return value

    @model_validator(mode="after")
    def _run_post_init(self) -> Self:
        self.__post_init__()
        return self

    def __post_init__(self) -> None:
        """Checks of a subclass that are not validators."""


class StructuralConfig(DataraxModuleConfig):
    """Options of modules that may draw random numbers."""

    stochastic: Flag = Field(default=False, description="Whether random numbers are drawn.")
    stream_name: Name | None = Field(default=None, validate_default=True, description="The random stream to draw from.")

    schema_rules: ClassVar[Sequence[Mapping[str, Any]]] = stream_rules()

    @field_validator("stream_name")
    @classmethod
    def _stream_if_stochastic(cls, value: str | None, info: ValidationInfo) -> str | None:
        stochastic = info.data.get("stochastic")
        if stochastic is True and value is None:
            raise ValueError('stochastic=True needs a stream_name, such as stream_name="shuffle"')
        if stochastic is False and value is not None:
            raise ValueError(f"stream_name={value!r} has no use without stochastic=True; set that, or leave it out")
        return value


class SourceConfig(StructuralConfig):
    """Options of a source. Each source's config gives ``type`` its registered name as default."""

    type: Name = Field(description="The registered name of the source.")


def shuffling_is_stochastic(values: Any, *flags: str) -> Any:
    """For a validator before all others: what a config is made of, made stochastic if one of its ``flags`` is set.

    The random stream is ``shuffle``, unless another one is named. See `require_stochastic` for the flags themselves.
    """
    is_set = isinstance(values, dict) and any(values.get(flag) is True for flag in flags)
    if not is_set or values.get("stochastic", True) is not True:
        return values
    return {"stochastic": True, **values, "stream_name": given_or(values, "stream_name", SHUFFLE_STREAM)}


def given_or(values: Mapping[str, Any], field: str, default: Any) -> Any:
    """What a config is made of as a field; ``default`` if that is null or left out."""
    value = values.get(field)
    return default if value is None else value


def require_stochastic(value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    """For the validator of a flag that shuffles: refuse it where the config says ``stochastic=False``."""
    if value and info.data.get("stochastic") is False:
        raise ValueError(
            f"{info.field_name}=True draws random numbers, which stochastic=False forbids; leave stochastic out"
        )
    return value


class SourceConfigBase(SourceConfig):
    """Options of a source over a named, split data set, such as those that TFDS prepares."""

    name: Name = Field(description="The data set.")
    split: Name = Field(description="The split of it, such as train.")
    data_dir: LocalPath | None = Field(default=None, description="The folder of prepared data sets.")
    include_keys: frozenset[str] | None = Field(
        default=None, min_length=1, description="The fields to keep; null keeps all."
    )
    exclude_keys: frozenset[str] | None = Field(default=None, description="The fields to leave out.")

    schema_rules: ClassVar = (*stream_rules(), never(include_keys=NOT_NULL, exclude_keys=NOT_NULL))

    @field_validator("exclude_keys")
    @classmethod
    def _include_or_exclude(cls, value: frozenset[str] | None, info: ValidationInfo) -> frozenset[str] | None:
        if value is not None and info.data.get("include_keys") is not None:
            raise ValueError("include_keys and exclude_keys exclude each other; give one of them")
        return value

    def kept_keys(self, keys: Iterable[str]) -> list[str]:
        """Those of a data set's ``keys`` that ``include_keys`` or ``exclude_keys`` leave, in their order.

        Raises:
            ValueError: A key that is named there does not exist, or none is left.
        """
        keys = list(keys)
        given = self.include_keys if self.include_keys is not None else self.exclude_keys or frozenset()
        field = "include_keys" if self.include_keys is not None else "exclude_keys"
        if unknown := sorted(given - set(keys)):
            raise ValueError(
                f"{field} names {', '.join(map(repr, unknown))}, which {self.name!r} does not have; its fields are "
                f"{', '.join(map(repr, sorted(keys)))}"
            )
        kept = [key for key in keys if (key in given) == (self.include_keys is not None)]
        if not kept:
            raise ValueError(
                f"{field} leaves no field of {self.name!r}; its fields are {', '.join(map(repr, sorted(keys)))}"
            )
        return kept


def _source(value: Any, info: ValidationInfo) -> SourceConfig:
    registry = (info.context or {}).get("registry") or default_registry()
    return plugin_config(value, info, base=SourceConfig, look_up=registry.config_type, word="source", example="memory")


AnySource = Annotated[SerializeAsAny[SourceConfig], PlainValidator(_source), WithJsonSchema(plugin_schema("source"))]
"""A field that takes any installed source, as a config or as a mapping with its ``type``; mixtures nest with it."""


class PipelineConfig(FrozenConfig):
    """A source, how its records become batches, and what is made of those."""

    source: AnySource = Field(description="Where the records come from.")
    batch_size: Count = Field(description="Records in a batch.")
    seed: NonNegative = Field(default=0, le=2**32 - 1, description="Selects every order and every random number.")
    num_epochs: Count | None = Field(default=1, description="How often each record is served; null is endless.")
    drop_last: Flag = Field(default=False, description="Leave out the last batch if it is short.")
    prefetch: NonNegative = Field(default=2, description="Batches that a loop reads ahead where the host reads them.")
    workers: NonNegative = Field(default=0, description="Processes that read for a source whose decoding is Python.")
    pad_last: Name | None = Field(
        default=None,
        description="Complete the last batch, and add a boolean field of this name, true for real records.",
    )
    stages: tuple[AnyStage, ...] = Field(default=(), description="What is made of each batch, one stage after another.")

    schema_rules: ClassVar = (never(drop_last={"const": True}, pad_last=NOT_NULL),)

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @field_validator("pad_last")
    @classmethod
    def _drop_or_pad(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("drop_last"):
            raise ValueError("drop_last and pad_last exclude each other; the last batch is left out or completed")
        return value

    def problem(self, place: tuple[int | str, ...], message: str) -> Problem:
        """A problem with the value at ``place``, such as ``("stages", 1, "field")``, with the line of its file."""
        return self._origin.problem(place, message)


def parse_config(
    mapping: Mapping[str, Any],
    *,
    registry: SourceRegistry | None = None,
    stage_registry: StageRegistry | None = None,
    decoder_registry: "DecoderRegistry | None" = None,
    base: str | os.PathLike[str] | None = None,
    origin: str | Origin = "config",
) -> PipelineConfig:
    """The pipeline config that a mapping describes.

    Args:
        mapping: Fields of `PipelineConfig`; ``source`` is a mapping with a ``type``, or a config.
        registry: Where names of sources are looked up; by default in what is installed.
        stage_registry: Where names of stages are looked up; likewise.
        decoder_registry: Where names of decoders are looked up; likewise.
        base: The folder that relative paths are relative to; None leaves them as they are.
        origin: What messages call the mapping, such as the name of its file.

    Raises:
        ConfigError: Every problem, one a line, with its place: ``train.yaml:7: source.sources[1].paths: ...``.
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
    decoder_registry: "DecoderRegistry | None" = None,
) -> PipelineConfig:
    """The pipeline config in a ``.yaml``, ``.toml`` or ``.json`` file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: The file cannot be read, or is invalid; every problem with its line and place.
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
