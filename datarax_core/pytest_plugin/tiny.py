"""A tiny source for tests of stages, views, hooks and pipelines: a few records on the host, whose values show their index."""

from typing import Any, ClassVar, Literal

import jax
import numpy as np
from pydantic import Field

from datarax_core.config.base import NonNegative
from datarax_core.config.models import SourceConfig
from datarax_core.config.shuffling import Shuffling
from datarax_core.order.numbers import record_numbers
from datarax_core.sources.source import DataSourceModule


class TinyConfig(SourceConfig):
    """Records with the fields ``id`` and ``x``: record i has the id i, and x = [i, i + 0.5, -i]."""

    type: Literal["tiny"] = "tiny"
    length: NonNegative = Field(default=8, description="The number of records.")
    shuffle: Shuffling = Field(default=False, description="Serve the records of each epoch in a shuffled order.")


class TinySource(DataSourceModule):
    """Source of a few records: ``id``, int32 (), is the record index; ``x``, float32 (3,), is made from it."""

    config_class: ClassVar[type[SourceConfig]] = TinyConfig
    config: TinyConfig

    def __len__(self) -> int:
        return self.config.length

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the spec of a record: ``id``, int32 (), and ``x``, float32 (3,)."""
        return {"id": jax.ShapeDtypeStruct((), np.int32), "x": jax.ShapeDtypeStruct((3,), np.float32)}

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        """Return the records at the given indices, rows in that order."""
        ids = record_numbers(indices, len(self), self.title).astype(np.int32)
        return {"id": ids, "x": np.stack([ids, ids + 0.5, -ids], axis=1).astype(np.float32)}
