"""Classes that define `get_batch_at` or ``__getitem__`` in place of `get_records`: they work as indexed sources."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.config import StructuralConfig
from datarax_core.errors import SpecError
from datarax_core.sources import DataSourceModule
from datarax_core.stages import Cache

LENGTH = 10
SEQUENTIAL = StructuralConfig()
SHUFFLED = StructuralConfig(stochastic=True, stream_name="shuffle")


def _first_of(key: Any) -> Any:
    """Return a number in [0, LENGTH) for a shuffle that compiles quickly."""
    return (jax.random.key_data(key)[0] % LENGTH).astype(jnp.int32)


class ByPosition(DataSourceModule):
    """The contract of `get_batch_at`, traceable, over an array on the device."""

    def __init__(self, config: StructuralConfig = SEQUENTIAL, *, rngs: nnx.Rngs | None = None) -> None:
        super().__init__(config, rngs=nnx.Rngs(3) if rngs is None else rngs)
        self.values = nnx.data(jnp.arange(LENGTH, dtype=jnp.float32))

    def __len__(self) -> int:
        return LENGTH

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), jnp.float32)}

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Any:
        rows = (jnp.arange(size) + start) % LENGTH
        return {"x": self.values[rows if key is None else (3 * rows + _first_of(key)) % LENGTH]}


class Clamping(ByPosition):
    """Reads a slice, which compiled code moves to the last whole one where it would reach past the end."""

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Any:
        values = self.values if key is None else jnp.roll(self.values, _first_of(key))
        return {"x": jax.lax.dynamic_slice_in_dim(values, start, size)}


class OnHost(ByPosition):
    """The contract of `get_batch_at` in NumPy, which nothing can trace."""

    def get_batch_at(self, start: int, size: int, key: Any = None) -> Any:
        if start < 0 or start + size > LENGTH:
            raise IndexError(f"{start} to {start + size}")
        seed = None if key is None else np.asarray(jax.random.key_data(key))
        order = np.arange(LENGTH) if seed is None else np.random.default_rng(seed).permutation(LENGTH)
        return {"x": np.arange(LENGTH, dtype=np.float32)[order[start : start + size]]}


class ByIndex(DataSourceModule):
    """PyTorch's contract; record 0 shows the element spec."""

    def __init__(self, config: StructuralConfig = SEQUENTIAL, *, rngs: nnx.Rngs | None = None) -> None:
        super().__init__(config, rngs=nnx.Rngs(3) if rngs is None else rngs)

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> Any:
        return {"x": np.float32(index)}


CLASSES = [ByPosition, Clamping, OnHost, ByIndex]
every_class = pytest.mark.parametrize("cls", CLASSES)
every_order = pytest.mark.parametrize("config", [SEQUENTIAL, SHUFFLED], ids=["sequential", "shuffled"])


def rows_of(batches: Any) -> list[list[float]]:
    return [np.asarray(batch["x"]).tolist() for batch in batches]


@every_class
@every_order
def test_every_route_serves_one_stream_of_whole_epochs(cls: type[Any], config: StructuralConfig) -> None:
    loop = rows_of(Pipeline(source=cls(config), batch_size=4, num_epochs=2))
    flat = np.concatenate(loop)
    assert [sorted(flat[:LENGTH]), sorted(flat[LENGTH:])] == [list(range(LENGTH))] * 2
    assert (flat[:LENGTH].tolist() == flat[LENGTH:].tolist()) == (config is SEQUENTIAL)
    stepped, compiled = (Pipeline(source=cls(config), batch_size=4) for _ in range(2))
    assert rows_of(stepped.step() for _ in loop) == loop
    step = nnx.jit(lambda pipeline: pipeline.step())
    if (cls, config) == (OnHost, SHUFFLED):
        with pytest.raises(
            NotImplementedError, match=r"OnHost is shuffled by its own get_batch_at\(\), which cannot be traced"
        ):
            step(compiled)
    else:
        assert rows_of(step(compiled) for _ in loop) == loop
    assert Pipeline(source=cls(config), batch_size=4).scan(lambda batch: batch["x"], length=5).tolist() == loop
    own, again = cls(config), cls(config)
    assert rows_of(own.get_batch(4) for _ in loop) == loop
    assert [float(element["x"]) for _ in range(2) for element in again] == flat.tolist()


@every_class
@every_order
def test_batches_longer_than_an_epoch(cls: type[Any], config: StructuralConfig) -> None:
    one_by_one = np.concatenate(rows_of(Pipeline(source=cls(config), batch_size=1, num_epochs=5)))
    pipeline = Pipeline(source=cls(config), batch_size=25)
    assert np.concatenate(rows_of([pipeline.step(), pipeline.step()])).tolist() == one_by_one.tolist()
    scanned = Pipeline(source=cls(config), batch_size=25).scan(lambda batch: batch["x"], length=2)
    assert scanned.ravel().tolist() == one_by_one.tolist()


@every_class
@every_order
@pytest.mark.parametrize("stop", [2, 5])
def test_a_state_resumes_exactly(cls: type[Any], config: StructuralConfig, stop: int) -> None:
    first, second = (Pipeline(source=cls(config), batch_size=3, num_epochs=2) for _ in range(2))
    loop = iter(first)
    for _ in range(stop):
        next(loop)
    second.set_state(first.get_state())
    assert rows_of(second) == rows_of(loop)
    source, twin = cls(config), cls(config)
    source.get_batch(stop)
    twin.set_state(source.get_state())
    assert rows_of([twin.get_batch(7)]) == rows_of([source.get_batch(7)])


@every_class
def test_parts_of_sources_in_sequence(cls: type[Any]) -> None:
    parts = cls().split(train=0.6, test=0.4)
    served = {name: np.concatenate(rows_of(Pipeline(source=part, batch_size=3))) for name, part in parts.items()}
    assert sorted(np.concatenate(list(served.values())).tolist()) == list(range(LENGTH))
    assert not set(served["train"]) & set(served["test"])


def test_the_access_follows_from_the_code() -> None:
    assert [cls().access for cls in CLASSES] == ["device", "device", "host", "host"]
    assert ByIndex().element_spec()["x"].dtype == np.float32


def test_a_source_that_shuffles_by_itself_has_no_parts() -> None:
    for use in (lambda source: source.split(a=0.5), lambda source: source[2], lambda source: source[2:4]):
        with pytest.raises(
            NotImplementedError, match=r"shuffled by its own get_batch_at\(\).*write get_records\(indices\)"
        ):
            use(ByPosition(SHUFFLED))
    with pytest.raises(NotImplementedError, match=r"write get_records\(indices\)"):
        Pipeline(
            source=ByPosition(SHUFFLED), batch_size=2, stages=[Cache(lambda batch: batch, source=ByPosition(SHUFFLED))]
        )


def test_positions_past_32_bits() -> None:
    """The keys of a device source repeat, after whole epochs and alike on every route."""
    source, twin = ByPosition(SHUFFLED), ByPosition(SHUFFLED)
    repeated = (2**31 - 1) // 2 // LENGTH * LENGTH
    far = 5 * repeated + 8
    assert rows_of([DataSourceModule.get_batch_at(source, far, 4, None)]) == rows_of(
        [DataSourceModule.get_batch_at(twin, 8, 4, None)]
    )


def test_wrong_rows_are_refused() -> None:
    class OneTooMany(OnHost):
        def get_batch_at(self, start: int, size: int, key: Any = None) -> Any:  # noqa: ARG002 - the contract
            return {"x": np.zeros(size + 1, np.float32)}

    with pytest.raises(SpecError, match="field 'x' has 5 rows where 4 were asked for"):
        Pipeline(source=OneTooMany(), batch_size=4).step()


def test_an_error_names_the_record() -> None:
    class Failing(ByIndex):
        def __getitem__(self, index: int) -> Any:
            if index == 6:
                raise OSError("no such file")
            if index == 8:
                raise StopIteration
            return super().__getitem__(index)

    with pytest.raises(OSError, match="no such file") as failed:
        Failing().get_records(np.arange(5, 8))
    assert "while Failing read record 6 by its __getitem__()" in failed.value.__notes__
    with pytest.raises(RuntimeError, match="Failing raised StopIteration for record 8"):
        Failing().get_records(np.arange(7, 10))


def test_a_record_of_another_shape_is_refused() -> None:
    class Growing(ByIndex):
        def __getitem__(self, index: int) -> Any:
            return {"x": np.zeros(1 if index < 9 else 2, np.float32)}

    with pytest.raises(SpecError, match="record 9 of Growing is not what the element spec says"):
        list(Pipeline(source=Growing(), batch_size=4))


def test_an_empty_source_of_items_says_so() -> None:
    class Empty(ByIndex):
        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="Empty is empty: it has no record"):
        Empty().element_spec()


def test_a_class_with_neither_is_a_stream() -> None:
    class Nothing(DataSourceModule):
        def __len__(self) -> int:
            return 3

    with pytest.raises(
        NotImplementedError, match=r"Nothing is a stream without random access; read it with get_batch\(\)"
    ):
        Nothing(SEQUENTIAL).split(a=0.5)
    with pytest.raises(
        NotImplementedError, match=r"Nothing defines no method that reads records: define __len__\(\) and get_rec"
    ):
        Nothing(SEQUENTIAL).get_batch(2)
