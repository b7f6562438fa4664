"""Configs to derive from, for modules and for sources."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from datarax_core.errors import did_you_mean

from .base import NOT_NULL, Flag, FrozenConfig, LocalPath, Name, never
from .shuffling import DESCRIPTION, rules_of, shuffling_fields, stochastic_if_shuffled, stream_rules


class DataraxModuleConfig(FrozenConfig):
    """Options of every module.

    A subclass may define ``__post_init__``: it runs once the fields are valid, and a ``ValueError`` that it raises becomes a
    validation error.
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
        """Check the fields; for subclasses, which need no pydantic validators then."""


def completed(config: DataraxModuleConfig, own: DataraxModuleConfig) -> DataraxModuleConfig:
    """Return ``own`` with the options that ``config`` sets, if the class of ``own`` derives from that of ``config``.

    Any other ``config`` is returned as it is.

    Raises:
        ValidationError: The options exclude one another.
    """
    if isinstance(config, type(own)) or not isinstance(own, type(config)):
        return config
    given = [{name: getattr(each, name) for name in each.model_fields_set} for each in (own, config)]
    return type(own)(**given[0] | given[1])


class StructuralConfig(DataraxModuleConfig):
    """Options of modules that may draw random numbers.

    A subclass with `Shuffling` fields is stochastic if one of them is True.
    """

    may_differ: ClassVar[Collection[str]] = ()
    """Fields that change no records, such as the size of a cache: a saved state is restored whatever their values are.

    Called: when a state is restored.
    Default: an empty tuple: any change of the config refuses a state.
    """

    stochastic: Flag = Field(default=False, description="Whether random numbers are drawn.")
    stream_name: Name | None = Field(default=None, validate_default=True, description="The random stream to draw from.")

    schema_rules: ClassVar[Sequence[Mapping[str, Any]]] = stream_rules()

    @model_validator(mode="before")
    @classmethod
    def _stochastic_if_shuffled(cls, values: Any) -> Any:
        return stochastic_if_shuffled(values, shuffling_fields(cls))

    @field_validator("stream_name")
    @classmethod
    def _stream_if_stochastic(cls, value: str | None, info: ValidationInfo) -> str | None:
        stochastic = info.data.get("stochastic")
        if stochastic is True and value is None:
            raise ValueError('stochastic=True needs a stream_name, such as stream_name="shuffle"')
        if stochastic is False and value is not None:
            raise ValueError(f"stream_name={value!r} has no use without stochastic=True; set that, or leave it out")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core, handler)
        if fields := shuffling_fields(cls):
            own = handler.resolve_ref_schema(schema)
            for name in fields:
                own["properties"][name].setdefault("description", DESCRIPTION)
            if rules := own.get("allOf"):
                unflagged = stream_rules()
                kept = [rule for rule in rules if rule not in unflagged]
                own["allOf"] = [*rules_of(fields), *kept] if len(kept) < len(rules) else rules
        return schema


class SourceConfig(StructuralConfig):
    """Options of a source. A subclass gives ``type`` the registered name of its source as default."""

    type: Name = Field(description="The registered name of the source.")

    decides_batches: ClassVar[bool] = False
    """Whether the source decides the sizes of its batches (`RecordAccess.batch_sizes`): its pipeline has no ``batch_size``.

    Called: when the config of a pipeline is validated.
    Default: False: the pipeline has a ``batch_size``.
    """


class SourceConfigBase(SourceConfig):
    """Options of a source of a named data set with splits, such as a data set of TFDS."""

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
        """Return the ``keys`` of a data set that ``include_keys`` or ``exclude_keys`` leaves, in their order.

        Raises:
            ValueError: One of these options names a key that does not exist, or leaves none.

        Called: by sources of named data sets, in their constructor.
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
