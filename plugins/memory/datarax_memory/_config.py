"""What can be set on a memory source."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from datarax_core.config import Count, Flag, LocalPath, NonNegative, SourceConfig

SHUFFLE_STREAM = "shuffle"


class MemorySourceConfig(SourceConfig):
    """Settings of a `MemorySource`."""

    type: Literal["memory"] = "memory"
    shuffle: Flag = Field(
        default=False, description="Serve each epoch in a shuffled order; makes the source stochastic."
    )
    cache_size: NonNegative = Field(
        default=0, description="Batches kept by get_batch_at, the latest used; 0 keeps none."
    )
    prefetch_size: NonNegative = Field(
        default=0, description="Elements that a loop over the source prepares ahead, in one go."
    )
    track_metadata: Flag = Field(
        default=False, description="Make get_with_metadata and get_batch_with_metadata available."
    )
    shard_id: NonNegative | None = Field(default=None, description="Which of num_workers shards this source serves.")
    num_workers: Count = Field(default=1, description="Number of shards; shard k serves positions [k::num_workers].")
    path: LocalPath | None = Field(
        default=None, description="An .npz file, or a folder of .npy files, one for each field."
    )
    placement: Literal["auto", "device", "host"] = Field(
        default="auto", description="Where batches are gathered: on the device if the data fits there, or on the host."
    )

    @model_validator(mode="before")
    @classmethod
    def _shuffling_is_stochastic(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("shuffle") is True:
            return {**values, "stochastic": True, "stream_name": values.get("stream_name") or SHUFFLE_STREAM}
        return values

    @model_validator(mode="after")
    def _shards_are_numbered(self) -> Self:
        if self.num_workers > 1 and self.shard_id is None:
            raise ValueError(
                f"num_workers={self.num_workers} needs a shard_id from 0 to {self.num_workers - 1}, or every worker would "
                "serve the same records"
            )
        if self.shard_id is not None and self.shard_id >= self.num_workers:
            raise ValueError(
                f"shard_id={self.shard_id} is out of range: num_workers={self.num_workers} numbers shards from 0"
            )
        return self
