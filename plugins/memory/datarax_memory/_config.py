"""What can be set on a memory source."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from datarax_core.config import Count, Flag, LocalPath, NonNegative, SourceConfig

SHUFFLE_STREAM = "shuffle"


class MemorySourceConfig(SourceConfig):
    """Settings of a `MemorySource`."""

    type: Literal["memory"] = "memory"
    shuffle: Flag = Field(
        default=False, description="Serve each epoch in a shuffled order; makes the source stochastic."
    )
    cache_size: NonNegative = Field(
        default=0, description="Gathered batches that are kept, those used last; 0 keeps none."
    )
    prefetch_size: NonNegative = Field(
        default=0,
        description="Elements that a loop over the source prepares ahead, in one go with the next; 0 is none.",
    )
    track_metadata: Flag = Field(
        default=False, description="Make get_with_metadata and get_batch_with_metadata available."
    )
    num_workers: Count = Field(default=1, description="Number of shards; shard k serves positions [k::num_workers].")
    shard_id: NonNegative | None = Field(
        default=None, validate_default=True, description="Which of num_workers shards this source serves."
    )
    path: LocalPath | None = Field(
        default=None, description="An .npz file, or a folder of .npy files, one for each field."
    )
    placement: Literal["auto", "device", "host"] = Field(
        default="auto", description="Where batches are gathered: on the device if the data fits there, or on the host."
    )

    @model_validator(mode="before")
    @classmethod
    def _shuffling_is_stochastic(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("shuffle") is True and values.get("stochastic", True) is True:
            return {"stochastic": True, **values, "stream_name": values.get("stream_name") or SHUFFLE_STREAM}
        return values

    @field_validator("shuffle")
    @classmethod
    def _stochastic_if_shuffled(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if value and info.data.get("stochastic") is False:
            raise ValueError("shuffle=True draws random numbers, which stochastic=False forbids; leave stochastic out")
        return value

    @field_validator("shard_id")
    @classmethod
    def _shards_are_numbered(cls, value: int | None, info: ValidationInfo) -> int | None:
        workers = info.data.get("num_workers", 1)
        if value is None and workers > 1:
            raise ValueError(
                f"num_workers={workers} needs a shard_id from 0 to {workers - 1}, or every worker would serve the same records"
            )
        if value is not None and value >= workers and "num_workers" in info.data:
            raise ValueError(f"shard_id={value} is out of range: num_workers={workers} numbers shards from 0")
        return value
