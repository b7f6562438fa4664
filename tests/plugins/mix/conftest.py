"""Children for the tests of mixtures: on the device, on the host, and streams; each record's id names its child."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, StreamingSourceBase, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

MakeChild = Callable[..., DataSourceModule]
MakeMix = Callable[..., MixDataSourcesNode]


def records_of(child: int, length: int) -> dict[str, np.ndarray]:
    ids = child * 1_000_000 + np.arange(length, dtype=np.int32)
    return {"id": ids, "x": np.stack([ids, -ids], axis=1).astype(np.float32)}


class Numbered(DataSourceModule):
    """A third party's source with the records of child ``number``."""

    def __init__(
        self,
        config: StructuralConfig,
        number: int,
        length: int,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.number, self.size = number, length

    def constructor_data(self) -> tuple[int, int]:
        return self.number, self.size

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "x": jax.ShapeDtypeStruct((2,), np.float32)}


class Requests:
    """The record indices of each read of a source; outside of the nnx graph."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []


class HostChild(Numbered):
    """A source that the host reads; it notes the indices of each read."""

    def __init__(self, *data: Any, **options: Any) -> None:
        super().__init__(*data, **options)
        self._requests = Requests()

    @property
    def requests(self) -> list[list[int]]:
        return self._requests.calls

    def __len__(self) -> int:
        return self.size

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        self._requests.calls.append(np.asarray(indices).tolist())
        return {name: column[np.asarray(indices)] for name, column in records_of(self.number, self.size).items()}


class Stream(Numbered, StreamingSourceBase):
    """A stream without a length, with another sequence in each epoch."""

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        columns = records_of(self.number, self.size)
        for place in range(start, self.size):
            row = (place + 7 * epoch) % self.size
            yield {name: column[row] for name, column in columns.items()}


class SizedStream(Stream):
    """A stream with a length."""

    def __len__(self) -> int:
        return self.size


def make_child(number: int, length: int, *, kind: str = "device", shuffle: bool = True) -> DataSourceModule:
    if kind in ("device", "memory on the host"):
        config = MemorySourceConfig(shuffle=shuffle, placement="device" if kind == "device" else "host")
        return MemorySource(config, records_of(number, length), rngs=nnx.Rngs(number))
    if kind == "host":
        config = StructuralConfig(stochastic=shuffle, stream_name="shuffle" if shuffle else None)
        return HostChild(config, number, length, rngs=nnx.Rngs(number))
    return (SizedStream if kind == "stream" else Stream)(StructuralConfig(), number, length)


def make_mix(
    sources: Sequence[DataSourceModule] | Mapping[str, DataSourceModule],
    weights: Any = None,
    *,
    seed: int = 0,
    **options: Any,
) -> MixDataSourcesNode:
    name = options.pop("name", None)
    if weights is None and "temperature" not in options:
        weights = (1.0,) * len(sources)
    config = MixDataSourcesConfig(num_sources=len(sources), weights=weights, **options)
    return MixDataSourcesNode(config, sources, rngs=nnx.Rngs(seed), name=name)


@pytest.fixture(scope="session")
def child() -> MakeChild:
    """Return ``child(number, length, kind=, shuffle=)``, which makes a child; record r has the id ``number * 10**6 + r``."""
    return make_child


@pytest.fixture(scope="session")
def mix() -> MakeMix:
    """Return ``mix(children, weights, seed=, **fields of the config)``, which makes a mixture."""
    return make_mix
