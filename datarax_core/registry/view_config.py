"""The base of the configs of views: the source that a view is of, and its order."""

from collections.abc import Collection
from typing import Any, ClassVar

from pydantic import Field, model_validator

from datarax_core.config.base import Flag
from datarax_core.config.models import SourceConfig, shuffling_is_stochastic, stream_rules

from .pipeline_config import AnySource


class ViewConfig(SourceConfig):
    """Config of a view of one source. A subclass gives ``type`` its registered name as default."""

    # the fingerprint of the source that was built says what must match
    may_differ: ClassVar[Collection[str]] = ("source",)

    source: AnySource | None = Field(
        default=None, description="The source that this is a view of; None in Python, where the source is an argument."
    )
    shuffle: Flag | None = Field(
        default=None, description="Whether the view's records are shuffled; null is as the records of its source are."
    )

    schema_rules: ClassVar = (*stream_rules("shuffle"),)

    @model_validator(mode="before")
    @classmethod
    def _draws_if_shuffled(cls, values: Any) -> Any:
        return shuffling_is_stochastic(values, "shuffle")
