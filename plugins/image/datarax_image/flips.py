"""The stage that flips pictures, `flip`."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from datarax_core.config import Real

from .geometry import CUTS_NOTHING, Geometric
from .pixels import Placement


class Flip(Geometric):
    """Stage that flips pictures at random, left to right and top to bottom."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "flip", "field": "image"}]})

    schema_rules: ClassVar = (
        *Geometric.schema_rules,
        CUTS_NOTHING,
        {"not": {"properties": {"horizontal": {"const": 0}, "vertical": {"const": 0}}, "required": ["horizontal"]}},
    )
    stochastic: ClassVar[bool] = True

    type: Literal["flip"] = "flip"
    horizontal: Real = Field(default=0.5, ge=0, le=1, description="Probability that left and right are exchanged.")
    vertical: Real = Field(default=0.0, ge=0, le=1, description="Probability that top and bottom are exchanged.")

    @model_validator(mode="after")
    def _flips(self) -> "Flip":
        if not self.horizontal and not self.vertical:
            raise ValueError("both probabilities are 0, so that nothing is flipped; leave the stage out")
        return self

    def result_size(self, size: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
        """Return (height, width) of results."""
        return size

    def place(self, size: tuple[int, int], rng: np.random.Generator | None) -> Placement:
        """Return the placement of a picture."""
        if rng is None:
            raise ValueError("flip draws random numbers: call stage(batch, rngs), with a generator for each record")
        across, down = rng.random(2).tolist()
        return Placement(0, 0, *size, size=size, flips=(across < self.horizontal, down < self.vertical))
