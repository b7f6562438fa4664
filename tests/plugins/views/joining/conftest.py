"""Sources for the views that join sources or repeat one, on the device and on the host."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Ragged, StreamingSourceBase, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig

MakeSource = Callable[..., DataSourceModule]


@pytest.fixture
def make_source() -> MakeSource:
    """Return ``make(length, first=0, ragged=False, shuffle=False, placement="device", seed=0)``: records with an id."""

    def make(
        length: int = 10,
        first: int = 0,
        *,
        ragged: bool = False,
        name: str = "rows",
        seed: int = 0,
        **options: Any,
    ) -> DataSourceModule:
        ids = np.arange(first, first + length, dtype=np.int32)
        columns: dict[str, Any] = {"id": ids, "x": np.stack([ids * 0.5, ids + 1.0], 1).astype(np.float32)}
        if ragged:
            columns["tokens"] = Ragged.from_list([np.arange(number % 4, dtype=np.int32) for number in ids])
            columns["name"] = np.array([f"name {number}" for number in ids])
        return MemorySource(MemorySourceConfig(**options), columns, rngs=nnx.Rngs(seed), name=name)

    return make


class Counted(StreamingSourceBase):
    """A stream of ten records."""

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:  # noqa: ARG002 - of streams
        for number in range(start, 10):
            yield {"id": np.int32(number)}


@pytest.fixture
def stream() -> DataSourceModule:
    return Counted(StructuralConfig())
