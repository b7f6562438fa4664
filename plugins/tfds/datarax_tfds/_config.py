"""What can be set on a TFDS source."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from datarax_core.config import (
    Count,
    Flag,
    NonNegative,
    SourceConfigBase,
    require_stochastic,
    shuffling_is_stochastic,
)

DEFAULT_SEED: Final = 42

Backend: TypeAlias = Literal["auto", "array_record", "tfrecord", "tf.data"]


class TFDSConfigBase(SourceConfigBase):
    """What the sources have in common."""

    try_gcs: Flag = Field(
        default=False, description="Fetch the prepared data set from Google's bucket, if it is there."
    )
    shuffle: Annotated[Flag, AfterValidator(require_stochastic)] = Field(
        default=False, description="Serve the records of each epoch in a shuffled order."
    )
    seed: NonNegative = Field(
        default=DEFAULT_SEED,
        le=2**32 - 1,
        description="Selects another shuffle than the random streams alone do; without random streams, the shuffle itself.",
    )
    as_supervised: Flag = Field(
        default=False, description="Serve the data set's (input, target) pair as the fields image and label."
    )
    download_and_prepare_kwargs: dict[str, Any] | None = Field(
        default=None, description="Arguments of TFDS's download_and_prepare, if the data set has to be prepared."
    )
    beam_num_workers: Count | None = Field(
        default=None,
        description="Workers of the Beam pipeline by which the data set is prepared, if it is one of those.",
    )
    local_files_only: Flag = Field(default=False, description="Never download or prepare anything.")
    backend: Backend = Field(
        default="auto",
        description="What reads the files: auto takes what the format allows without TensorFlow, else tf.data.",
    )

    @model_validator(mode="before")
    @classmethod
    def _shuffling_is_stochastic(cls, values: Any) -> Any:
        return shuffling_is_stochastic(values, "shuffle")

    @field_validator("local_files_only")
    @classmethod
    def _nothing_to_prepare(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        useless = [
            name for name in ("try_gcs", "download_and_prepare_kwargs", "beam_num_workers") if info.data.get(name)
        ]
        if value and useless:
            raise ValueError(
                f"{useless[0]} has no use with local_files_only=True, which forbids to prepare anything; set one of them"
            )
        return value


class TFDSEagerConfig(TFDSConfigBase):
    """Settings of a `TFDSEagerSource`."""

    type: Literal["tfds_eager"] = "tfds_eager"
    placement: Literal["auto", "device", "host"] = Field(
        default="auto", description="Where the records lie: on the device if they fit, or on the host."
    )


class _StreamingOptions(TFDSConfigBase):
    shuffle_buffer_size: Count = Field(
        default=1000,
        description="Records among which tf.data shuffles; where there is random access, all are shuffled.",
    )
    prefetch_buffer: NonNegative = Field(default=2, description="Batches that are read ahead: so many, never tuned.")


class TFDSStreamingConfig(_StreamingOptions):
    """Settings of a `TFDSStreamingSource`."""

    type: Literal["tfds_streaming"] = "tfds_streaming"


class TFDSConfig(_StreamingOptions):
    """Settings of a source that is eager or streaming, as the size of the split and the machine's memory allow."""

    type: Literal["tfds"] = "tfds"
