"""The config of draws with replacement: where the weights come from, and how many draws an epoch has."""

from collections.abc import Collection, Mapping
from os import PathLike, fspath
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from datarax_core.config import (
    NOT_NULL,
    Count,
    LocalFile,
    Name,
    SourceConfig,
    given_or,
    having,
    never,
)
from datarax_core.registry import ParentSource

SAMPLE_STREAM: Final = "sample"

_FILE: Final[TypeAdapter[str]] = TypeAdapter(LocalFile)


def _as_text(value: Any) -> Any:
    return fspath(value) if isinstance(value, PathLike) else value


def _file_or_field(value: str, info: ValidationInfo) -> str:
    """Return the path of an ``.npy`` file relative to the config file; the name of a field as it is."""
    return _FILE.validate_python(value, context=info.context) if value.endswith(".npy") else value


class SampleViewConfig(SourceConfig):
    """Config of a `SampleView`. Without weights and classes, all records are drawn equally often."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "sample", "balanced": "label", "source": {"type": "memory", "path": "digits.npz"}},
                {
                    "type": "sample",
                    "weights": "weights.npy",
                    "draws": 100_000,
                    "source": {"type": "memory", "path": "digits.npz"},
                },
            ]
        }
    )

    may_differ: ClassVar[Collection[str]] = (
        "source",
        "weights",
        "balanced",
    )  # the table's checksum says what must match

    type: Literal["sample"] = "sample"
    source: ParentSource = Field(
        default=None,
        validate_default=True,
        description="The source that records are drawn from; None in Python, where it is an argument.",
    )
    weights: Annotated[Name, BeforeValidator(_as_text), AfterValidator(_file_or_field)] | None = Field(
        default=None,
        description="The weight of each record: the path of an .npy file of numbers, or the field that holds them.",
    )
    balanced: Name | None = Field(
        default=None,
        description="A field of whole numbers, booleans or text, each value of which is drawn equally often.",
    )
    draws: Count | None = Field(
        default=None, description="Number of draws in an epoch; as many as there are records if not given."
    )

    schema_rules: ClassVar = (having(source=NOT_NULL), never(weights=NOT_NULL, balanced=NOT_NULL))

    @model_validator(mode="before")
    @classmethod
    def _always_draws(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("stochastic", True), bool):
            # False, the default of other configs, may be spelled out
            return {**values, "stochastic": True, "stream_name": given_or(values, "stream_name", SAMPLE_STREAM)}
        return values

    @field_validator("balanced")
    @classmethod
    def _weights_or_classes(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("weights") is not None:
            raise ValueError(
                "weights and balanced exclude each other: classes that are balanced have their weights by that"
            )
        return value
