"""What can be set on a Parquet source."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
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
    Count,
    Flag,
    LocalPath,
    Name,
    NonNegative,
    SourceConfig,
    require_stochastic,
    shuffling_is_stochastic,
)


class AcmeParquetConfig(SourceConfig):
    """Settings of an `AcmeParquet`."""

    type: Literal["acme_parquet"] = "acme_parquet"
    paths: tuple[LocalPath, ...] = Field(min_length=1, description="Parquet files, folders of them, or globs.")
    columns: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="The columns to read; null reads all of them."
    )
    shuffle: Annotated[Flag, AfterValidator(require_stochastic)] = Field(
        default=False, description="Serve each epoch in a shuffled order of all rows."
    )
    shuffle_window: Count | None = Field(
        default=None,
        description="With shuffle: row groups are shuffled, and rows among so many of them; null is among all rows.",
    )
    fill_null: dict[Name, StrictBool | StrictInt | StrictFloat | StrictStr] = Field(
        default_factory=dict, description="What stands in for a null, by column; elsewhere a null is an error."
    )
    cache_bytes: NonNegative = Field(
        default=256 << 20,
        description="Memory for decoded row groups, those used last; the very last one is kept whatever its size.",
    )

    @model_validator(mode="before")
    @classmethod
    def _shuffling_is_stochastic(cls, values: Any) -> Any:
        return shuffling_is_stochastic(values, "shuffle")

    @field_validator("paths", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_path_is_a_list_of_one(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("paths")
    @classmethod
    def _paths_are_local(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if remote := [path for path in value if "://" in path]:
            raise ValueError(f"{remote[0]!r} is not on this machine, and only local files are read; copy it here first")
        return value

    @field_validator("columns")
    @classmethod
    def _columns_are_named_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if twice := [name for name, times in Counter(value or ()).items() if times > 1]:
            raise ValueError(f"column {twice[0]!r} is named more than once; name each column once")
        return value

    @field_validator("shuffle_window")
    @classmethod
    def _only_with_shuffle(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("shuffle") is False:
            raise ValueError(f"shuffle_window={value} has no use without shuffle=True; set that, or leave it out")
        return value

    @field_validator("cache_bytes")
    @classmethod
    def _kept_whole_or_in_part(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("cacheable"):
            raise ValueError("cacheable=True keeps every row group, and leaves cache_bytes nothing to limit; set one")
        return value
