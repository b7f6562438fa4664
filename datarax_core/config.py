"""Configs: immutable, validated when they are built, and for sources chosen by ``type``.

A value that cannot work is refused here, with its field named; nothing that a config accepts is ignored later.
"""

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SerializeAsAny,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler

from ._config_errors import at_type, plugin_cause, plugin_error, problems, suggesting
from ._config_files import read_config_file
from ._values import same, stable_hash
from .errors import ConfigError, PluginError
from .registry import SourceRegistry, default_registry, given_or_default
from .suggestions import did_you_mean


def _as_int(value: Any) -> Any:
    """NumPy's integers as Python's; a bool is none, and neither is 4.0."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _beside_config_file(value: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get("base")
    return value if base is None or "://" in value else str(Path(base, value))


T = TypeVar("T")

SHUFFLE_STREAM: Final = "shuffle"
"""The random stream that shuffles are drawn from, unless a config names another."""

Flag = StrictBool
"""True or False; not 1, not "yes"."""

Integer = Annotated[StrictInt, BeforeValidator(_as_int)]
"""A whole number; not 4.0, not "4", not True."""

Count = Annotated[Integer, Field(ge=1)]
"""A whole number from 1."""

NonNegative = Annotated[Integer, Field(ge=0)]
"""A whole number from 0."""

Name = Annotated[str, StringConstraints(min_length=1)]
"""A text that is not empty."""

LocalPath = Annotated[Name, BeforeValidator(_as_text), AfterValidator(_beside_config_file)]
"""A file or folder. A relative one in a config file is relative to that file; nothing in it is expanded."""


class FrozenConfig(BaseModel):
    """What every config has: immutable, unknown fields refused, comparable and hashable whatever it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as invalid:
            raise suggesting(invalid, cls.model_fields) from None

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and same(self.__dict__, other.__dict__))

    def __hash__(self) -> int:
        return hash((type(self), stable_hash(self.__dict__)))


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
    return {"stochastic": True, **values, "stream_name": values.get("stream_name") or SHUFFLE_STREAM}


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
                f"{field} names {', '.join(map(repr, unknown))}, which {self.name!r} does not have"
                f"{did_you_mean(unknown[0], keys)} (its fields are {', '.join(map(repr, sorted(keys)))})"
            )
        kept = [key for key in keys if (key in given) == (self.include_keys is not None)]
        if not kept:
            raise ValueError(
                f"{field} leaves no field of {self.name!r}; its fields are {', '.join(map(repr, sorted(keys)))}"
            )
        return kept


def _source(value: Any, info: ValidationInfo) -> SourceConfig:
    if isinstance(value, SourceConfig):
        return value
    if not isinstance(value, Mapping):
        raise plugin_error(f"a source is a mapping with a `type`, such as {{type: memory}}, not {value!r:.80}")
    registry = (info.context or {}).get("registry") or default_registry()
    config_type: type[SourceConfig] = named_by_type(value, registry.config_type, "source", "memory")
    return config_type.model_validate(dict(value), context=info.context)


def named_by_type(value: Mapping[str, Any], look_up: Callable[[str], T], word: str, example: str) -> T:
    """What ``look_up`` gives for the ``type`` of a mapping; for validators of fields that take plugins.

    Raises:
        ValidationError: There is no ``type``, or it names no plugin that can be used; placed at that key.
    """
    name = value.get("type")
    if not isinstance(name, str):
        given = f"is {name!r:.80}" if "type" in value else "is missing"
        raise at_type(f"the {word}'s `type` {given}; name an installed {word}, such as {example}", value)
    try:
        return look_up(name)
    except PluginError as error:
        raise at_type(str(error), name, error) from error


AnySource = Annotated[SerializeAsAny[SourceConfig], PlainValidator(_source)]
"""A field that takes any installed source, as a config or as a mapping with its ``type``; mixtures nest with it."""


class PipelineConfig(FrozenConfig):
    """A source, and how its records become batches."""

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

    @field_validator("pad_last")
    @classmethod
    def _drop_or_pad(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("drop_last"):
            raise ValueError("drop_last and pad_last exclude each other; the last batch is left out or completed")
        return value


def parse_config(
    mapping: Mapping[str, Any],
    *,
    registry: SourceRegistry | None = None,
    base: str | os.PathLike[str] | None = None,
    origin: str = "config",
) -> PipelineConfig:
    """The pipeline config that a mapping describes.

    Args:
        mapping: Fields of `PipelineConfig`; ``source`` is a mapping with a ``type``, or a config.
        registry: Where names of sources are looked up; by default in what is installed.
        base: The folder that relative paths are relative to; None leaves them as they are.
        origin: What messages call the mapping, such as the name of its file.

    Raises:
        ConfigError: Every problem, one a line, with its place: ``train.yaml: source.sources[1].paths: ...``.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{origin}: a pipeline config is a mapping of its fields, not {type(mapping).__name__}")
    context = {"registry": given_or_default(registry), "base": base}
    try:
        return PipelineConfig.model_validate(dict(mapping), context=context)
    except ValidationError as invalid:
        invalid.__cause__ = plugin_cause(invalid)
        raise ConfigError("\n".join(problems(invalid, origin))) from invalid


def load_config(path: str | os.PathLike[str], registry: SourceRegistry | None = None) -> PipelineConfig:
    """The pipeline config in a ``.yaml``, ``.toml`` or ``.json`` file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: The file cannot be read, or is invalid; every problem with its place.
        TypeError: ``path`` is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"a config is the path of a file, such as 'train.yaml', not {path!r:.80}; Pipeline.from_config takes mappings too"
        )
    mapping = read_config_file(path)
    return parse_config(mapping, registry=registry, base=Path(path).absolute().parent, origin=os.fspath(path))
