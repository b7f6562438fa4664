"""Sources for the tests of core: eager sources on device and host, and sources as third parties would write them."""

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Columns, DataSourceModule, EagerSourceBase, Order, StructuralConfig, columns_of
from datarax_core.pipeline import loop
from datarax_core.sources.eager import Placement


def source_config(*, shuffle: bool = False, cacheable: bool = False) -> StructuralConfig:
    return StructuralConfig(stochastic=shuffle, stream_name="shuffle" if shuffle else None, cacheable=cacheable)


def records_of(length: int) -> dict[str, np.ndarray]:
    ids = np.arange(length, dtype=np.int32)
    return {"id": ids, "x": np.stack([ids * 0.5, ids + 1.0], axis=1).astype(np.float32)}


def make_eager(
    data: int | Mapping[str, Any] | Columns = 100,
    *,
    shuffle: bool = False,
    placement: Placement = "device",
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    name: str | None = None,
) -> EagerSourceBase:
    given = records_of(data) if isinstance(data, int) else data
    columns = given if isinstance(given, Columns) else columns_of(given, "the test's data")
    return EagerSourceBase(
        source_config(shuffle=shuffle),
        columns,
        order=Order(columns.length, *shard),
        shuffle=shuffle,
        placement=placement,
        rngs=nnx.Rngs(seed),
        name=name,
    )


class Reads:
    """The record indices of each read of a source, and whether reads fail."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.fail = False


class HostRecords(DataSourceModule):
    """A third party's host source: only the three methods that an author must write."""

    def __init__(
        self, config: StructuralConfig, length: int, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.length = length
        self.reads = Reads()

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "x": jax.ShapeDtypeStruct((2,), np.float32)}

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        if self.reads.fail:
            raise OSError("the disk is gone")
        self.reads.calls.append(indices.tolist())
        ids = indices.astype(np.int32)
        return {"id": ids, "x": np.stack([ids * 0.5, ids + 1.0], axis=1).astype(np.float32)}


class DeviceRecords(DataSourceModule):
    """A third party's device source: its records are JAX arrays in variables."""

    traceable = True

    def __init__(
        self, config: StructuralConfig, length: int, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        columns = records_of(length)
        self.length = length
        self.id = nnx.Variable(jax.numpy.asarray(columns["id"]))
        self.x = nnx.Variable(jax.numpy.asarray(columns["x"]))

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "x": jax.ShapeDtypeStruct((2,), np.float32)}

    def get_records(self, indices: Any) -> dict[str, jax.Array]:
        return {"id": self.id[indices], "x": self.x[indices]}


class Watch:
    """The reads of a stream, the threads that read, and a function that is called before each read."""

    def __init__(self, before: Callable[[int, int], object] | None = None) -> None:
        self.before = before or (lambda _start, _size: None)
        self.reads: list[tuple[int, int]] = []
        self.threads: set[str] = set()


class Endless(DataSourceModule):
    """A stream of 0, 1, 2, ... with the only method that a stream must write; it has no state."""

    def __init__(self, before: Callable[[int, int], object] | None = None, *, name: str | None = None) -> None:
        super().__init__(StructuralConfig(stochastic=False, stream_name=None), name=name)
        self.at = 0
        self._watch = Watch(before)

    @property
    def watch(self) -> Watch:
        return self._watch

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.dtype(np.int32))}

    def get_batch(self, batch_size: int) -> dict[str, Any]:
        self._watch.threads.add(threading.current_thread().name)
        self._watch.reads.append((self.at, batch_size))
        self._watch.before(self.at, batch_size)
        ids = self.records(self.at, batch_size)
        self.at += len(ids)
        return {"id": ids}

    def records(self, start: int, size: int) -> np.ndarray:
        return np.arange(start, start + size, dtype=np.int32)


class Resumable(Endless):
    """A resumable stream of 0, 1, 2, ... It returns the dict that it keeps changing as its state, as some authors do."""

    def __init__(self, before: Callable[[int, int], object] | None = None, *, name: str | None = None) -> None:
        super().__init__(before, name=name)
        self._state = {"at": 0}

    @property
    def at(self) -> int:
        return self._state["at"]

    @at.setter
    def at(self, at: int) -> None:
        if "_state" in vars(self):
            self._state["at"] = at

    def reset(self, seed: int | None = None) -> None:  # noqa: ARG002 - the signature of the base class
        self.at = 0

    def get_state(self) -> dict[str, Any]:
        return self._state

    def set_state(self, state: dict[str, Any]) -> None:
        self._state = state


class Ending(Resumable):
    """A stream that ends after ``length`` records, and has no ``len()``."""

    def __init__(
        self, length: int, before: Callable[[int, int], object] | None = None, *, name: str | None = None
    ) -> None:
        super().__init__(before, name=name)
        self.records_in_all = length

    def records(self, start: int, size: int) -> np.ndarray:
        if start >= self.records_in_all:
            raise StopIteration
        return super().records(start, min(size, self.records_in_all - start))


class Sized(Resumable):
    """A stream with ``length`` records in an epoch: record r of epoch e is 100 * e + r."""

    def __init__(
        self, length: int, before: Callable[[int, int], object] | None = None, *, name: str | None = None
    ) -> None:
        super().__init__(before, name=name)
        self.epoch_size = length

    def __len__(self) -> int:
        return self.epoch_size

    def records(self, start: int, size: int) -> np.ndarray:
        epoch, record = np.divmod(np.arange(start, start + size), self.epoch_size)
        return (100 * epoch + record).astype(np.int32)


MakeSource = Callable[..., Any]


@pytest.fixture(scope="session")
def make_source() -> MakeSource:
    """Make an eager source: ``make_source(length or data, shuffle=, placement=, seed=, shard=, name=)``."""
    return make_eager


@pytest.fixture(scope="session")
def make_host_source() -> MakeSource:
    """Make a third party's host source: ``make_host_source(length, shuffle=, cacheable=, seed=, name=)``."""

    def make(
        length: int = 100, *, shuffle: bool = False, cacheable: bool = False, seed: int = 0, name: str | None = None
    ) -> HostRecords:
        config = source_config(shuffle=shuffle, cacheable=cacheable)
        return HostRecords(config, length, rngs=nnx.Rngs(seed), name=name)

    return make


@pytest.fixture(scope="session")
def make_device_source() -> MakeSource:
    """Make a third party's device source: ``make_device_source(length, shuffle=, seed=)``."""

    def make(length: int = 100, *, shuffle: bool = False, seed: int = 0) -> DeviceRecords:
        return DeviceRecords(source_config(shuffle=shuffle), length, rngs=nnx.Rngs(seed))

    return make


@pytest.fixture(scope="session")
def streams() -> SimpleNamespace:
    """The classes of streams in this module."""
    return SimpleNamespace(Endless=Endless, Resumable=Resumable, Ending=Ending, Sized=Sized)


@pytest.fixture
def threads_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have loops prefetch from their start; after the test, wait until no thread of core is left."""
    monkeypatch.setattr(loop, "WORTH_A_THREAD", -1.0)
    yield
    gc.collect()
    deadline = time.monotonic() + 10
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("datarax-")]:
        assert time.monotonic() < deadline, left
        threading.Event().wait(0.001)
