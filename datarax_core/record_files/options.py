"""Options for bad records, which the configs of sources over files share."""

from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from datarax_core.config.base import NOT_NULL, FrozenConfig, Integer, LocalFile, LocalPath, Real, having, only_if

from .bad_records import BadRecordPolicy

_SUBSTITUTING: Final = having(on_error={"const": "substitute"})


class BadRecordOptions(FrozenConfig):
    """Fields of a config that say what happens to records that cannot be read or decoded.

    A config derives from it, besides its own base class, and adds `bad_record_rules` to its ``schema_rules``.
    """

    on_error: Literal["raise", "substitute"] = Field(
        default="raise",
        description="For a record that cannot be read or decoded: raise an error, or serve the next record in its place.",
    )
    max_errors: Integer | Real | None = Field(
        default=None,
        validate_default=True,
        json_schema_extra={"minimum": 0, "if": {"minimum": 1}, "then": {"type": ["integer", "null"]}},
        description="With substitute: how many bad records are allowed, or below 1 which share of all; null allows any number.",
    )
    quarantine: LocalFile | None = Field(
        default=None, description="With substitute: file that bad records are appended to, a line of JSON each."
    )
    exclude: LocalPath | None = Field(
        default=None,
        description="File that lists records never to serve, as quarantine and drx verify write it. Also at an address.",
    )

    bad_record_rules: ClassVar = (
        only_if(_SUBSTITUTING, max_errors=NOT_NULL),
        only_if(_SUBSTITUTING, quarantine=NOT_NULL),
    )
    """The rules of these fields, for the ``schema_rules`` of the config.

    Called: by the body of the class of a config.
    """

    @field_validator("max_errors", "quarantine")
    @classmethod
    def _only_with_substitute(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("on_error") == "raise":
            raise ValueError(
                f"{info.field_name} has no use without on_error='substitute': the first bad record is an error"
            )
        return value

    @field_validator("max_errors")
    @classmethod
    def _a_count_or_a_share(cls, value: float | None) -> float | None:
        if value is None or (value >= 0 and (isinstance(value, int) or value < 1)):
            return value
        raise ValueError(f"max_errors is a number of records from 0, or a share of them below 1, not {value!r}")

    def bad_record_policy(self) -> BadRecordPolicy | None:
        """Return the policy for bad records; None if the first one is an error.

        Raises:
            FileNotFoundError: The folder of the quarantine file does not exist.

        Called: by sources over files, in their constructor.
        """
        if self.on_error == "raise":
            return None
        quarantine = self.quarantine and str(Path.cwd() / self.quarantine)  # the process may change its folder
        policy = BadRecordPolicy(self.max_errors, quarantine)
        policy.require_folder()
        return policy
