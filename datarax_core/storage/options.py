"""Options of sources that read addresses: where fetched bytes are kept, and how the store is reached."""

import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, StrictInt, WithJsonSchema, field_validator, model_validator

from datarax_core.config.addresses import scheme_of
from datarax_core.config.base import NOT_NULL, FrozenConfig, LocalFile, having, only_if
from datarax_core.config.redaction import secrets_of

_UNITS: Final = {unit: 1 << 10 * power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))}
_DECIMAL: Final = {unit: 1000**power for power, unit in enumerate(("B", "kB", "MB", "GB", "TB"))}
_SIZE: Final = r"^[0-9]+(\.[0-9]+)? ?(B|[kK]B|[KMGT]iB|[MGT]B)$"


def _as_bytes(value: Any) -> Any:
    """Return a text such as ``20GiB`` as a number of bytes; other values unchanged."""
    if not isinstance(value, str):
        return value
    if not re.match(_SIZE, value):
        raise ValueError(f"{value!r} is no number of bytes; write one such as 20GiB, 500MB or 1000000")
    number, unit = re.split(r" ?(?=[A-Za-z])", value, maxsplit=1)
    return int(float(number) * {**_UNITS, **_DECIMAL, "KB": 1000}[unit])


ByteCount = Annotated[
    StrictInt,
    Field(ge=1),
    BeforeValidator(_as_bytes),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _SIZE}]}),
]
"""A number of bytes from 1, also as a text with a unit: ``20GiB``, ``500MB``."""


class RemoteOptions(FrozenConfig):
    """Options of the config of a source that reads addresses, to derive from beside `SourceConfig`.

    Such a config adds `remote_rules` to its ``schema_rules``.
    """

    cache_dir: LocalFile | None = Field(
        default=None,
        description="Folder of this machine in which bytes from addresses are kept; null keeps nothing.",
    )
    cache_bytes: ByteCount | None = Field(
        default=None,
        description="Bytes that the folder may take, such as 20GiB; those used least lately go first. "
        "null leaves a twentieth of the disk free.",
    )
    storage_options: dict[str, Any] | None = Field(
        default=None,
        description="Options of fsspec's file system, such as {anon: true}; credentials come from the environment instead.",
    )

    may_differ: ClassVar[Collection[str]] = ("cache_dir", "cache_bytes", "storage_options")
    """Fields that change where bytes come from, and none of the records: no part of a fingerprint.

    Called: when a state is restored.
    Default: all fields of this class.
    """

    remote_rules: ClassVar = (only_if(having(cache_dir=NOT_NULL), cache_bytes=NOT_NULL),)
    """The rules of these fields, for the ``schema_rules`` of the config.

    Called: by the body of the class of a config.
    """

    @field_validator("storage_options")
    @classmethod
    def _no_credentials(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if found := sorted(secrets_of(value or {})):
            raise ValueError(
                f"{', '.join(found)} of storage_options would keep credentials in a config, where states and logs show them; "
                "leave it out: credentials are taken from the environment (AWS_ACCESS_KEY_ID, "
                "GOOGLE_APPLICATION_CREDENTIALS, ...) or from the provider's own files (~/.aws, ~/.netrc, ...)"
            )
        return value

    def require_address(self, paths: Iterable[str]) -> None:
        """Raise if options of addresses are set, and no path is an address; for validators of the config.

        Raises:
            ValueError: Names the option, which would have no effect.

        Called: by validators of configs that have paths.
        Default: refuses ``cache_dir`` and ``storage_options`` where all paths are of this machine.
        """
        given = [name for name in ("cache_dir", "storage_options") if getattr(self, name) is not None]
        if given and all(scheme_of(path) is None for path in paths):
            raise ValueError(f"{given[0]} has no use here, where no path is an address such as s3://...; leave it out")

    @model_validator(mode="after")
    def _limit_of_a_cache(self) -> "RemoteOptions":
        if self.cache_bytes is not None and self.cache_dir is None:
            raise ValueError("cache_bytes limits the cache in cache_dir, which is null; name a folder there")
        return self
