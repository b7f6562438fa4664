"""What can be set on the source."""

from typing import Annotated, Any, Literal

from datarax_core.config import Count, Flag, SourceConfig, require_stochastic, shuffling_is_stochastic
from pydantic import AfterValidator, Field, model_validator


class AcmeGridConfig(SourceConfig):
    """Settings of a `AcmeGrid`."""

    type: Literal["acme_grid"] = "acme_grid"
    num_records: Count = Field(default=100, description="How many records there are.")
    shuffle: Annotated[Flag, AfterValidator(require_stochastic)] = Field(
        default=False, description="Serve the records of each epoch in a shuffled order."
    )

    @model_validator(mode="before")
    @classmethod
    def _shuffling_is_stochastic(cls, values: Any) -> Any:
        return shuffling_is_stochastic(values, "shuffle")
