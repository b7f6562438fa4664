"""Config of an ArrayRecord source, and the kind of files that it names."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from datarax_core.config import (
    NOT_READ,
    READ_SCHEMES,
    REMOTE,
    Count,
    Flag,
    Integer,
    LocalFile,
    LocalPattern,
    NonNegative,
    Shuffling,
    SourceConfig,
    never,
    refusal_of,
    scheme_of,
)
from datarax_core.files import FileKind, is_remote
from datarax_core.record_files import BadRecordOptions
from datarax_core.registry import AnyDecoder
from datarax_core.storage import RemoteOptions, redacted

DEFAULT_SEED: Final = 42

ARRAY_RECORD: Final = FileKind("ArrayRecord", (".array_record", ".arrayrecord", ".arecord"), READ_SCHEMES)
"""The kind of files that this package reads and writes."""

_PATH: Final = {"type": "string", "minLength": 1, "not": {"pattern": NOT_READ}}
_ONE_OR_MORE: Final = WithJsonSchema({"anyOf": [_PATH, {"type": "array", "items": _PATH, "minItems": 1}]})
_REMOTE: Final = {"type": "string", "pattern": REMOTE}


class ArrayRecordSourceConfig(BadRecordOptions, RemoteOptions, SourceConfig):
    """Settings of an `ArrayRecordSourceModule`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "arrayrecord", "paths": "data/train-*.array_record", "shuffle": True}]}
    )

    type: Literal["arrayrecord"] = "arrayrecord"
    paths: Annotated[tuple[LocalPattern, ...], Field(min_length=1), _ONE_OR_MORE] | None = Field(
        default=None,
        description="Files, folders, globs, or all shards of a data set: name@8, name-?????-of-?????. Also at addresses.",
    )
    decoder: AnyDecoder | None = Field(
        default=None,
        description="Decoder of the bytes of a record; null takes the one that the sidecar file names, or serves bytes.",
    )
    shuffle: Shuffling = Field(default=False, description="Serve the records of each epoch in a shuffled order.")
    shuffle_files: Shuffling = Field(
        default=False, description="Serve the files of each epoch in a shuffled order, the records of each in sequence."
    )
    seed: NonNegative = Field(
        default=DEFAULT_SEED,
        le=2**32 - 1,
        description="Seed of the shuffle; with random streams, folded into their key, which the default leaves as it is.",
    )
    num_epochs: Integer = Field(
        default=-1,
        json_schema_extra={"minimum": -1, "not": {"const": 0}},
        description="Epochs in a loop over the elements; -1 is endless.",
    )
    local_files_only: Flag = Field(default=False, description="Refuse addresses such as s3://..., before any attempt.")
    cache_dir: LocalFile | None = Field(
        default=None,
        description="Folder in which files from addresses are kept; null stands for ~/.cache/datarax/objects.",
    )
    max_open_files: Count = Field(default=256, description="Files that stay open between batches.")

    schema_rules: ClassVar = (
        *SourceConfig.schema_rules,
        never(shuffle={"const": True}, shuffle_files={"const": True}),
        *BadRecordOptions.bad_record_rules,
        never(local_files_only={"const": True}, paths=_REMOTE),
        never(local_files_only={"const": True}, paths={"contains": _REMOTE, "type": "array"}),
        never(local_files_only={"const": True}, exclude=_REMOTE),
    )

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path_is_a_list_of_one(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, list | tuple) else (value,)

    @field_validator("paths")
    @classmethod
    def _addresses_that_are_read(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for path in value or ():
            if scheme_of(path) not in (None, *ARRAY_RECORD.schemes):
                raise ValueError(refusal_of(path, ARRAY_RECORD.schemes))
        return value

    @field_validator("shuffle_files")
    @classmethod
    def _one_shuffle(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if value and info.data.get("shuffle"):
            raise ValueError(
                "shuffle shuffles the records of all files, and leaves shuffle_files nothing to do; set one"
            )
        return value

    @field_validator("num_epochs")
    @classmethod
    def _some_epochs(cls, value: int) -> int:
        if value < 1 and value != -1:
            raise ValueError(f"a loop serves 1 epoch or more, or -1 for no end, not {value}")
        return value

    @field_validator("local_files_only")
    @classmethod
    def _no_remote_paths(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        named = [*(info.data.get("paths") or ()), info.data.get("exclude") or ""]
        remote = [path for path in named if is_remote(path)]
        if value and remote:
            raise ValueError(
                f"local_files_only=True forbids {redacted(remote[0])!r}, which is not on this machine; copy it here first"
            )
        return value

    @model_validator(mode="after")
    def _limit_of_a_cache(self) -> Self:
        """Take ``cache_bytes`` without ``cache_dir``, too: files at addresses are kept in the folder of the user then."""
        if self.paths is not None:
            self.require_address(self.paths)
        return self

    def require_address(self, paths: Iterable[str]) -> None:
        """Raise if options of addresses are set that would have no effect, where neither a path nor `exclude` is an address."""
        named = (*paths, self.exclude or "")
        super().require_address(named)
        if self.cache_bytes is not None and not any(map(is_remote, named)):
            raise ValueError("cache_bytes has no use here, where no path is an address such as s3://...; leave it out")
