"""The config of a Parquet source."""

from collections import Counter
from typing import Any, Literal, Self

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from datarax_core.config import (
    READ_SCHEMES,
    Count,
    LocalPattern,
    Name,
    NonNegative,
    Shuffling,
    SourceConfig,
    refusal_of,
    scheme_of,
)
from datarax_core.storage import RemoteOptions


class AcmeParquetConfig(RemoteOptions, SourceConfig):
    """Config of an `AcmeParquet`."""

    type: Literal["acme_parquet"] = "acme_parquet"
    paths: tuple[LocalPattern, ...] = Field(
        min_length=1, description="Parquet files, folders of them, or globs; also at addresses."
    )
    columns: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="The columns to read; null reads all of them."
    )
    shuffle: Shuffling = Field(default=False, description="Serve each epoch in a shuffled order of all rows.")
    shuffle_window: Count | None = Field(
        default=None,
        description="With shuffle: shuffle row groups, and rows within windows of so many rows; null shuffles all rows.",
    )
    fill_null: dict[Name, StrictBool | StrictInt | StrictFloat | StrictStr] = Field(
        default_factory=dict, description="Replacement of nulls, by column; in other columns a null is an error."
    )
    memory_bytes: NonNegative = Field(
        default=256 << 20,
        description="Memory for the decoded row groups used last; the very last one is kept whatever its size.",
    )

    @field_validator("paths", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _accept_a_single_path(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("paths")
    @classmethod
    def _addresses_that_are_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            if scheme_of(path) not in (None, *READ_SCHEMES):
                raise ValueError(refusal_of(path, READ_SCHEMES))
        return value

    @model_validator(mode="after")
    def _options_of_an_address(self) -> Self:
        self.require_address(self.paths)
        return self

    @field_validator("columns")
    @classmethod
    def _require_distinct_columns(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if twice := [name for name, times in Counter(value or ()).items() if times > 1]:
            raise ValueError(f"column {twice[0]!r} is named more than once; name each column once")
        return value

    @field_validator("shuffle_window")
    @classmethod
    def _require_shuffle(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("shuffle") is False:
            raise ValueError(f"shuffle_window={value} has no use without shuffle=True; set that, or leave it out")
        return value

    @field_validator("memory_bytes")
    @classmethod
    def _require_no_cacheable(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("cacheable"):
            raise ValueError("cacheable=True keeps every row group, and leaves memory_bytes nothing to limit; set one")
        return value
