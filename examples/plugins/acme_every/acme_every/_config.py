"""The config of the view."""

from typing import Literal, Self

from pydantic import Field, model_validator

from datarax_core import ViewConfig
from datarax_core.config import Count, NonNegative


class AcmeEveryConfig(ViewConfig):
    """Config of an `AcmeEvery`; `ViewConfig` has the fields ``source`` and ``shuffle``."""

    type: Literal["acme_every"] = "acme_every"
    every: Count = Field(description="One record of so many.")
    first: NonNegative = Field(default=0, description="The first of these records; less than every.")
    keep: Literal["these", "others"] = Field(
        default="these", description="Whether these records are served, or all others."
    )

    @model_validator(mode="after")
    def _require_records_on_both_sides(self) -> Self:
        if self.first >= self.every:
            raise ValueError(
                f"first={self.first} is not one of the first {self.every} records; give 0 to {self.every - 1}"
            )
        if self.every == 1 and self.keep == "others":
            raise ValueError("every=1 leaves no others; give 2 or more, or leave keep out")
        return self
