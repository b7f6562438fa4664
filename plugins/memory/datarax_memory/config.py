"""The config of a memory source."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from datarax_core.config import (
    NOT_NULL,
    NOT_READ,
    READ_SCHEMES,
    REMOTE,
    Count,
    Flag,
    LocalPath,
    NonNegative,
    Shuffling,
    SourceConfig,
    having,
    never,
    only_if,
    refusal_of,
    scheme_of,
)
from datarax_core.storage import RemoteOptions, redacted

_REMOTE: Final = {"type": "string", "pattern": REMOTE}
_ONE_SHARD: Final = {"properties": {"shard_id": {"maximum": 0}}}


def _checked_columns(value: Any) -> tuple[str, ...] | dict[str, str] | None:
    if value is None:
        return None
    names = [*value, *value.values()] if isinstance(value, Mapping) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f"columns is a list of array names, or a mapping from new names to array names, not {value!r:.80}"
        )
    if not names:
        raise ValueError("columns is empty, and a record without fields is none; name one array at least")
    if isinstance(value, Mapping):
        return dict(value)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the array {twice[0]!r} is named twice; name it once")
    return tuple(value)


_NAME: Final = {"type": "string", "minLength": 1}

_COLUMNS_SCHEMA: Final = {
    "anyOf": [
        {"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True},
        {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": _NAME, "minProperties": 1},
        {"type": "null"},
    ]
}


class MemorySourceConfig(RemoteOptions, SourceConfig):
    """Config of a `MemorySource`; ``drx describe memory`` lists its fields."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "memory", "path": "train.npz", "shuffle": True}]}
    )

    type: Literal["memory"] = "memory"
    shuffle: Shuffling = Field(
        default=False, description="Serve each epoch in a shuffled order; makes the source stochastic."
    )
    cache_size: NonNegative = Field(
        default=0, description="Number of gathered batches that are kept, the most recently used ones; 0 keeps none."
    )
    prefetch_size: NonNegative = Field(
        default=0,
        description="Elements that a loop over the source reads ahead, together with the next one; 0 reads none ahead.",
    )
    track_metadata: Flag = Field(
        default=False, description="Make get_with_metadata and get_batch_with_metadata available."
    )
    num_workers: Count = Field(default=1, description="Number of shards; shard k serves positions [k::num_workers].")
    shard_id: NonNegative | None = Field(
        default=None, validate_default=True, description="Which of num_workers shards this source serves."
    )
    path: LocalPath | None = Field(
        default=None,
        description="An .npz file, or a folder of .npy files, one for each field; x.npy with x.offsets.npy if lengths vary. "
        "Also at an address.",
        json_schema_extra={"not": {"type": "string", "pattern": NOT_READ}},
    )
    columns: Annotated[
        tuple[str, ...] | dict[str, str] | None, PlainValidator(_checked_columns), WithJsonSchema(_COLUMNS_SCHEMA)
    ] = Field(
        default=None,
        validate_default=True,
        description="The arrays of the path to serve, as a list, or as a mapping from new names to those in the file.",
    )
    placement: Literal["auto", "device", "host"] = Field(
        default="auto", description="Where batches are gathered: on the device if the data fits there, or on the host."
    )
    local_files_only: Flag = Field(default=False, description="Refuse a path that is an address, before any attempt.")

    schema_rules: ClassVar = (
        *SourceConfig.schema_rules,
        only_if(having(path=NOT_NULL), columns=NOT_NULL),
        never(local_files_only={"const": True}, path=_REMOTE),
        *RemoteOptions.remote_rules,
        only_if(having(path=_REMOTE), cache_dir=NOT_NULL),
        only_if(having(path=_REMOTE), storage_options=NOT_NULL),
        {"if": having(num_workers={"minimum": 2}), "then": having(shard_id=NOT_NULL), "else": _ONE_SHARD},
    )

    @field_validator("shard_id")
    @classmethod
    def _require_numbered_shards(cls, value: int | None, info: ValidationInfo) -> int | None:
        workers = info.data.get("num_workers", 1)
        if value is None and workers > 1:
            raise ValueError(
                f"num_workers={workers} needs a shard_id from 0 to {workers - 1}, or every worker would serve the same records"
            )
        if value is not None and value >= workers and "num_workers" in info.data:
            raise ValueError(f"shard_id={value} is out of range: num_workers={workers} numbers shards from 0")
        return value

    @field_validator("local_files_only")
    @classmethod
    def _no_address(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        path = info.data.get("path")
        if value and path is not None and scheme_of(path) is not None:
            raise ValueError(
                f"local_files_only=True forbids {redacted(path)!r}, which is not on this machine; copy it here"
            )
        return value

    @field_validator("columns")
    @classmethod
    def _require_path(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("path", "") is None:
            raise ValueError(
                "columns chooses among the arrays of a path, and no path is given; choose among data before"
            )
        return value

    @field_validator("path")
    @classmethod
    def _address_that_is_read(cls, value: str | None) -> str | None:
        if value is not None and scheme_of(value) not in (None, *READ_SCHEMES):
            raise ValueError(refusal_of(value, READ_SCHEMES))
        return value

    @model_validator(mode="after")
    def _options_of_an_address(self) -> Self:
        self.require_address([] if self.path is None else [self.path])
        return self

    @property
    def stored_columns(self) -> dict[str, str] | None:
        """From the name of each field to the name of its array in the path; None takes all arrays."""
        return {name: name for name in self.columns} if isinstance(self.columns, tuple) else self.columns
