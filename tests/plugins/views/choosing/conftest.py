"""Sources for the views that choose records: each record's id is its index, on the device and on the host."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Ragged, StreamingSourceBase, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig

MakeSource = Callable[..., DataSourceModule]
LABELS = np.array([3, 1, 1, 7, 3, 1, 3, 1, 1, 7], np.int64)


def columns(length: int) -> dict[str, Any]:
    """Return columns whose values follow from the record index: a number, a class, a score, a name, and tokens."""
    ids = np.arange(length, dtype=np.int32)
    return {
        "id": ids,
        "label": np.resize(LABELS, length),
        "score": np.where(ids % 7 == 3, np.nan, ids / 10).astype(np.float32),
        "name": np.array([f"name {number % 4}" for number in ids]),
        "tokens": Ragged.from_list([np.arange(number % 5, dtype=np.int32) for number in ids]),
    }


@pytest.fixture(params=["device", "host"])
def make_source(request: pytest.FixtureRequest) -> MakeSource:
    """Return ``make_source(length, shuffle=False, seed=0)``."""

    def make(length: int = 40, *, shuffle: bool = False, seed: int = 0, **more: Any) -> DataSourceModule:
        config = MemorySourceConfig(shuffle=shuffle, placement=request.param)
        return MemorySource(config, {**columns(length), **more}, rngs=nnx.Rngs(seed), name="rows")

    return make


@pytest.fixture
def source(make_source: MakeSource) -> DataSourceModule:
    return make_source()


class Counted(StreamingSourceBase):
    """A stream of ten records."""

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "label": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:  # noqa: ARG002 - of streams
        for number in range(start, 10):
            yield {"id": np.int32(number), "label": np.int32(number % 2)}


@pytest.fixture
def stream() -> DataSourceModule:
    return Counted(StructuralConfig())
