"""The base of the configs of views: the source that a view is of, and its order."""

from collections.abc import Collection
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from datarax_core.config.base import NOT_NULL, having
from datarax_core.config.models import SourceConfig
from datarax_core.config.shuffling import Shuffling

from .pipeline_config import AnySource


def given_in_a_file(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Validate the source, or the sources, of a view; in a config that stands by itself, such as a file, None is refused."""
    if value is not None:
        return handler(value)
    if "base" in (info.context or {}):  # the folder of a file, or None for a mapping
        said = f"{info.data.get('type', 'a view')} in a config needs its {info.field_name!r}: the source that it is a view of"
        raise ValueError(said)
    return None


ParentSource = Annotated[AnySource | None, WrapValidator(given_in_a_file)]
"""Type of a field for the source that a view is of: given in a config, None in Python. Its default is validated."""


class ViewConfig(SourceConfig):
    """Config of a view of one source. A subclass gives ``type`` its registered name as default."""

    # the fingerprint of the source that was built says what must match
    may_differ: ClassVar[Collection[str]] = ("source",)

    source: ParentSource = Field(
        default=None,
        validate_default=True,
        description="The source that this is a view of; None in Python, where the source is an argument.",
    )
    shuffle: Shuffling | None = Field(
        default=None, description="Whether the view's records are shuffled; null is as the records of its source are."
    )

    schema_rules: ClassVar = (*SourceConfig.schema_rules, having(source=NOT_NULL))
