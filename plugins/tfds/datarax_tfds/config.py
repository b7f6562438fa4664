"""Configs of the TFDS sources."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from datarax_core.config import (
    NOT_NULL,
    Count,
    Flag,
    FrozenConfig,
    LocalPath,
    Name,
    NonNegative,
    Shuffling,
    SourceConfigBase,
    having,
    never,
    only_if,
)
from datarax_core.record_files import BadRecordOptions

from .backends import Backend
from .download_options import checked_options
from .names import DataSetName, name_and_folder
from .splits import require_form, split_text
from .unprepared import folder_kind, options_of_builder, reads_a_folder

Placement: TypeAlias = Literal["auto", "device", "host"]

DEFAULT_SEED: Final = 42

_IMAGE_FOLDER: Final = "^(image_folder|ImageFolder)([:/].*)?$"

_SHUFFLE_BUFFER: Final = "Records that tf.data shuffles among one another; with random access, all are shuffled."
_PREFETCH: Final = "Batches that are read ahead; a fixed number, never tuned."


def _checked_name(value: str) -> str:
    DataSetName.of(value)
    return value


def _checked_split(value: str) -> str:
    require_form(value)
    return value


def _expanded(value: Any) -> Any:
    return os.path.expanduser(value) if isinstance(value, str | os.PathLike) else value  # noqa: PTH111 - a Path would damage an address such as gs://


def _local(value: str) -> str:
    if "://" in value:
        raise ValueError(
            f"{value!r} is not on this machine, and files are read in place only; copy the data set to this machine first"
        )
    return value


def forward_only(options: Mapping[str, Any]) -> str | None:
    """Return the option for bad records that is set, which takes random access; None if none is set."""
    if options.get("on_error") == "substitute":
        return "on_error='substitute'"
    return "exclude" if options.get("exclude") is not None else None


def _for_tf_data(value: int | None, info: ValidationInfo) -> int | None:
    backend = info.data.get("backend")
    if value is not None and backend in ("array_record", "tfrecord"):
        raise ValueError(
            f"backend {backend!r} has random access and shuffles all records, without a buffer; leave shuffle_buffer_size out"
        )
    return value


class ImageFolderOptions(FrozenConfig):
    """Arguments of TFDS's ``ImageFolder``: how its images are declared."""

    shape: tuple[Count | None, Count | None, Literal[1, 3, 4]] | None = Field(
        default=None, description="Height, width and channels of every image; null for a size that varies."
    )
    dtype: Literal["uint8", "uint16", "float32"] | None = Field(default=None, description="Dtype of the images.")


class TFDSConfigBase(BadRecordOptions, SourceConfigBase):
    """Settings that all TFDS sources share."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "mnist", "split": "train"}]})

    name: Annotated[Name, AfterValidator(_checked_name)] = Field(
        description="Name of the data set: name, name/config, name:1.0.0 or name/config:1.0.0; in Python also a TFDS builder. "
        "image_folder or translate_folder: the files of data_dir, as TFDS's builders of these names read them."
    )
    builder_kwargs: ImageFolderOptions | None = Field(
        default=None, description="Arguments of the builder image_folder: shape and dtype of the images."
    )
    split: Annotated[Name, BeforeValidator(split_text), AfterValidator(_checked_split)] = Field(
        description="Split: train, train[:200], train[10%:], train+test, all, even_splits('train', n=3)[0]."
    )
    data_dir: Annotated[LocalPath, BeforeValidator(_expanded), AfterValidator(_local)] | None = Field(
        default=None, description="Folder of prepared data sets; ~ is your home folder, null is TFDS's own folder."
    )
    try_gcs: Flag = Field(
        default=False,
        description="Download the prepared data set from Google's bucket, if it is not on disk, but there.",
    )
    shuffle: Shuffling = Field(default=False, description="Serve the records of each epoch in a shuffled order.")
    seed: NonNegative = Field(
        default=DEFAULT_SEED,
        le=2**32 - 1,
        description="Changes the shuffle that the random streams select; without random streams, selects the shuffle.",
    )
    as_supervised: Flag = Field(
        default=False, description="Serve the data set's (input, target) pair as the fields image and label."
    )
    as_objects: Flag = Field(
        default=False,
        description="Serve arrays of varying shape as objects, an array a record, in place of ragged columns.",
    )
    download_and_prepare_kwargs: Annotated[dict[str, Any], AfterValidator(checked_options)] | None = Field(
        default=None, description="Arguments of TFDS's download_and_prepare, used if the data set has to be prepared."
    )
    beam_num_workers: Count | None = Field(
        default=None,
        description="Workers of the Beam pipeline that prepares the data set, if TFDS prepares it by Beam.",
    )
    backend: Backend = Field(
        default="auto",
        description="Reader of the files: auto is one without TensorFlow if the format has one, else tf.data.",
    )
    local_files_only: Flag = Field(default=False, description="Never download or prepare a data set.")

    schema_rules: ClassVar = (
        *SourceConfigBase.schema_rules,
        *BadRecordOptions.bad_record_rules,
        never(backend={"const": "tf.data"}, on_error={"const": "substitute"}),
        never(backend={"const": "tf.data"}, exclude=NOT_NULL),
        only_if(having(name={"pattern": _IMAGE_FOLDER}), builder_kwargs=NOT_NULL),
    )

    @model_validator(mode="before")
    @classmethod
    def _builder_is_name_and_folder(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not hasattr(values.get("name"), "data_dir"):
            return values
        builder = values["name"]
        if reads_a_folder(builder):
            name, folder, kwargs = options_of_builder(builder)
            own = {"name": name, "data_dir": folder, **({"builder_kwargs": kwargs} if kwargs else {})}
        else:
            name, folder = name_and_folder(builder)
            own = {"name": name, "data_dir": folder}
        for option in own.keys() - {"name"}:
            if values.get(option) is not None:
                raise ValueError(f"the builder {name} has its own {option}, {own[option]}; leave {option} out")
        return {**values, **own}

    @field_validator("builder_kwargs")
    @classmethod
    def _of_image_folder(cls, value: ImageFolderOptions | None, info: ValidationInfo) -> ImageFolderOptions | None:
        if value is not None and "name" in info.data:
            kind = folder_kind(DataSetName.of(info.data["name"]).name)
            if kind is None or not kind.has_options:
                raise ValueError(f"builder_kwargs are those of image_folder; {info.data['name']!r} takes none")
        return value

    @field_serializer("include_keys", "exclude_keys")
    def _in_order(self, keys: frozenset[str] | None) -> list[str] | None:
        """Sort the keys, so that every process writes the same text for a config."""
        return None if keys is None else sorted(keys)

    @field_validator("as_supervised")
    @classmethod
    def _pair_or_keys(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        filters = [name for name in ("include_keys", "exclude_keys") if info.data.get(name) is not None]
        if value and filters:
            raise ValueError(
                f"as_supervised serves the two fields of the data set's pair, so that {filters[0]} has nothing to choose; "
                "give one of them"
            )
        return value

    @field_validator("beam_num_workers")
    @classmethod
    def _one_pipeline(cls, value: int | None, info: ValidationInfo) -> int | None:
        options = info.data.get("download_and_prepare_kwargs") or {}
        if value is not None and "beam_options" in options.get("download_config", {}):
            raise ValueError("the beam_options of download_config set the number of workers already; give one of them")
        return value

    @field_validator("backend")
    @classmethod
    def _writes_what_it_reads(cls, value: Backend, info: ValidationInfo) -> Backend:
        file_format = (info.data.get("download_and_prepare_kwargs") or {}).get("file_format")
        written = "tfrecord" if info.data.get("try_gcs") else file_format
        reads = {
            "array_record": ("array_record",),
            "tfrecord": ("tfrecord",),
            "tf.data": ("tfrecord", "parquet", "riegeli"),
        }
        if written is not None and written not in reads.get(value, (written,)):
            by = "the bucket of try_gcs has" if info.data.get("try_gcs") else "download_and_prepare_kwargs writes"
            raise ValueError(f"{by} {written} files, which backend {value!r} does not read; leave one of them out")
        return value

    @field_validator("backend")
    @classmethod
    def _by_index(cls, value: Backend, info: ValidationInfo) -> Backend:
        if value == "tf.data" and (option := forward_only(info.data)) is not None:
            raise ValueError(f"backend 'tf.data' reads forward only, where {option} has no use; leave one of them out")
        return value

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
    placement: Placement = Field(
        default="auto",
        description="Where the records are kept: device, host, or auto, which is the device if they fit.",
    )

    cacheable: Flag = Field(
        default=False,
        description="True by nature: all records are read once, when the source is built, whatever this says.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_buffers(cls, values: Any) -> Any:
        given = [
            name for name in ("shuffle_buffer_size", "prefetch_buffer") if isinstance(values, dict) and name in values
        ]
        if given:
            raise ValueError(
                f"{given[0]} is an option of TFDSStreamingConfig (type: tfds_streaming); an eager source holds all records, "
                "and shuffle=True shuffles all of them"
            )
        return values


class TFDSStreamingConfig(TFDSConfigBase):
    """Settings of a `TFDSStreamingSource`."""

    type: Literal["tfds_streaming"] = "tfds_streaming"
    shuffle_buffer_size: Annotated[Count, AfterValidator(_for_tf_data)] = Field(
        default=1000, description=_SHUFFLE_BUFFER
    )
    prefetch_buffer: NonNegative = Field(default=2, description=_PREFETCH)


class TFDSConfig(TFDSConfigBase):
    """Settings of a source that is eager or streaming: the split, the machine's memory and these options decide."""

    type: Literal["tfds"] = "tfds"
    placement: Placement | None = Field(
        default=None, description="Where the records of an eager source are kept; selects the eager source."
    )
    shuffle_buffer_size: Annotated[Count | None, AfterValidator(_for_tf_data)] = Field(
        default=None, description=f"{_SHUFFLE_BUFFER} Selects the streaming source."
    )
    prefetch_buffer: NonNegative | None = Field(default=None, description=f"{_PREFETCH} Selects the streaming source.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        streaming = self.streaming_options()
        if self.placement is not None and streaming:
            raise ValueError(
                f"placement is an option of eager sources, {streaming[0]} of streaming ones; leave one of them out, so that it "
                "is known which one is meant"
            )
        return self

    def streaming_options(self) -> list[str]:
        """Return the names of the options that are set and that only a streaming source has."""
        buffers = [name for name in ("shuffle_buffer_size", "prefetch_buffer") if getattr(self, name) is not None]
        return [*buffers, *(["cacheable"] if self.cacheable else [])]
