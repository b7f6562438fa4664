"""Config of a source of TFRecord files."""

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from datarax_core.config import (
    NOT_NULL,
    NOT_READ,
    READ_SCHEMES,
    REMOTE,
    Count,
    Flag,
    LocalPattern,
    NonNegative,
    Shuffling,
    SourceConfig,
    having,
    never,
    only_if,
    refusal_of,
    scheme_of,
)
from datarax_core.files import FileKind
from datarax_core.record_files import BadRecordOptions
from datarax_core.registry import AnyDecoder
from datarax_core.storage import RemoteOptions, redacted

TFRECORD: Final = FileKind(
    "TFRecord",
    (".tfrecord", ".tfrecords", ".tfrec", ".tfrecord.gz", ".tfrecords.gz", ".tfrec.gz"),
    READ_SCHEMES,
)

DEFAULT_SEED: Final = 42

_PATH: Final = {"type": "string", "minLength": 1, "not": {"pattern": NOT_READ}}
_REMOTE: Final = {"type": "string", "pattern": REMOTE}
_SOME_REMOTE: Final = {"anyOf": [_REMOTE, {"type": "array", "contains": _REMOTE}]}
_ONE_OR_MORE: Final = WithJsonSchema({"anyOf": [_PATH, {"type": "array", "items": _PATH, "minItems": 1}]})


class TFRecordSourceConfig(BadRecordOptions, RemoteOptions, SourceConfig):
    """Settings of a `TFRecordSource`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "tfrecord", "paths": "data/train-*.tfrecord", "decoder": "example", "shuffle": True}]
        }
    )

    type: Literal["tfrecord"] = "tfrecord"
    paths: Annotated[tuple[LocalPattern, ...], Field(min_length=1), _ONE_OR_MORE] = Field(
        description="Files, gzip ones too, folders, globs, or all shards of a data set: name@8, name-?????-of-?????. "
        "Also at addresses.",
    )
    decoder: AnyDecoder | None = Field(
        default=None,
        description="Decoder of the bytes of a record, such as example; null serves the bytes as the field record.",
    )
    shuffle: Shuffling = Field(default=False, description="Serve the records of each epoch in a shuffled order.")
    seed: NonNegative = Field(
        default=DEFAULT_SEED,
        le=2**32 - 1,
        description="Seed of the shuffle; with random streams, folded into their key, which the default leaves as it is.",
    )
    local_files_only: Flag = Field(default=False, description="Refuse addresses such as s3://..., before any attempt.")
    max_open_files: Count = Field(default=256, description="Files that stay open between batches.")

    schema_rules: ClassVar = (
        *SourceConfig.schema_rules,
        *BadRecordOptions.bad_record_rules,
        *RemoteOptions.remote_rules,
        only_if(having(paths=_SOME_REMOTE), cache_dir=NOT_NULL),
        only_if(having(paths=_SOME_REMOTE), storage_options=NOT_NULL),
        never(local_files_only={"const": True}, paths=_SOME_REMOTE),
    )

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path_is_a_list_of_one(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("paths")
    @classmethod
    def _addresses_that_are_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            if scheme_of(path) not in (None, *TFRECORD.schemes):
                raise ValueError(refusal_of(path, TFRECORD.schemes))
        return value

    @field_validator("local_files_only")
    @classmethod
    def _no_address(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        remote = [path for path in info.data.get("paths", ()) if scheme_of(path) is not None]
        if value and remote:
            raise ValueError(
                f"local_files_only=True forbids {redacted(remote[0])!r}, which is not on this machine; copy it here first"
            )
        return value

    @model_validator(mode="after")
    def _options_of_an_address(self) -> Self:
        self.require_address(self.paths)
        return self
