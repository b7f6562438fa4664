"""Batches of any iterable are placed on the device before their use, in order, and no thread is left behind."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import NarrowingError, SpecError, prefetch_to_device


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("datarax-to-device")]


@pytest.fixture(autouse=True)
def _every_thread_ends() -> Iterator[None]:
    yield
    gc.collect()
    for thread in threads():
        thread.join(10)
    assert not threads()


class Counted:
    """Batches 0, 1, ..., and the count of batches that were asked for."""

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count, self.fails_at = count, fails_at
        self.asked = 0
        self.changed = threading.Condition()

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.count):
            with self.changed:
                self.asked += 1
                self.changed.notify_all()
            if number == self.fails_at:
                raise OSError("the disk is gone")
            yield {"x": np.full((4, 2), number, np.float32)}

    def wait_until_asked(self, times: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked >= times, timeout=10)


def numbers(batches: Any) -> list[float]:
    return [float(batch["x"][0, 0]) for batch in batches]


@pytest.mark.parametrize("size", [0, 1, 2, 20])
def test_every_batch_comes_once_and_in_order(size: int) -> None:
    batches = prefetch_to_device(Counted(7), size)
    assert numbers(batches) == [0, 1, 2, 3, 4, 5, 6]
    assert next(batches, None) is None
    assert all(isinstance(batch["x"], jax.Array) for batch in prefetch_to_device(Counted(2), size))


@pytest.mark.parametrize(("size", "ahead"), [(0, 0), (1, 1), (3, 3)])
def test_exactly_size_batches_are_read_ahead(size: int, ahead: int) -> None:
    source = Counted(10)
    batches = prefetch_to_device(source, size)
    assert source.asked == 0
    next(batches)
    source.wait_until_asked(1 + ahead)
    next(batches)
    source.wait_until_asked(2 + ahead)
    batches.close()
    assert source.asked == 2 + ahead


@pytest.mark.parametrize("size", [0, 2])
def test_an_error_is_raised_in_place_of_its_batch(size: int) -> None:
    batches = prefetch_to_device(Counted(5, fails_at=2), size)
    assert [float(next(batches)["x"][0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert next(batches, None) is None


def test_the_thread_ends_when_the_iterator_is_closed_dropped_or_left() -> None:
    closed, dropped = prefetch_to_device(Counted(50)), prefetch_to_device(Counted(50))
    for batches in (closed, dropped):
        next(batches)
    assert len(threads()) == 2
    closed.close()
    assert next(closed, None) is None
    del dropped, batches
    with prefetch_to_device(Counted(50)) as left:
        next(left)
    gc.collect()
    for thread in threads():
        thread.join(10)
    assert not threads()


def test_a_producer_may_reuse_its_buffer() -> None:
    memory = np.empty(1024 + 16, np.float32)  # aligned to 64 bytes, where a CPU would use the memory itself
    buffer = memory[(-memory.ctypes.data % 64) // 4 :][:1024].reshape(4, 256)

    def produce() -> Iterator[Any]:
        for number in range(6):
            buffer[:] = number
            yield {"x": buffer}

    assert numbers(list(prefetch_to_device(produce()))) == [0, 1, 2, 3, 4, 5]


def test_batches_of_any_structure_are_placed_and_text_stays_on_the_host() -> None:
    text = np.array(["a", "b"])
    (batch,) = prefetch_to_device([{"x": np.arange(2), "nested": {"y": [1.5, 2]}, "text": text}])
    assert (batch["x"].dtype, batch["nested"]["y"][0].dtype) == (np.int32, np.float32)
    assert isinstance(batch["text"], np.ndarray)
    assert batch["text"].tolist() == ["a", "b"]
    (pair,) = prefetch_to_device([(np.zeros(2, np.float32), jax.numpy.ones(2))])
    assert [leaf.tolist() for leaf in pair] == [[0, 0], [1, 1]]


def test_a_value_that_no_device_can_hold_is_refused_in_place_of_its_batch() -> None:
    batches = prefetch_to_device([{"id": np.arange(2)}, {"id": np.array([0, 2**40])}, ("a", 1)])
    assert next(batches)["id"].tolist() == [0, 1]
    with pytest.raises(NarrowingError, match=rf"field 'id' is int64 and {2**40} \(row 1\) does not fit int32"):
        next(batches)
    with pytest.raises(SpecError, match="need a field name, since they stay on the host"):
        next(batches)


@pytest.mark.parametrize("given", [None, 3, object()])
def test_a_value_that_is_no_iterable_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^prefetch_to_device takes an iterable of batches, not"):
        prefetch_to_device(given)


def test_other_arguments_that_cannot_work_are_refused() -> None:
    sharding: Any = "data"
    with pytest.raises(TypeError, match=r"^sharding is a jax\.sharding\.Sharding, or None for one device, not 'data'$"):
        prefetch_to_device([], sharding=sharding)
    with pytest.raises(ValueError, match=r"^size is at least 0, not -1$"):
        prefetch_to_device([], -1)


def test_batches_are_laid_over_devices() -> None:
    script = """
        import jax, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec
        from datarax_core import prefetch_to_device
        mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        given = [{"x": np.arange(8, dtype=np.float32) + i} for i in range(3)]
        for number, batch in enumerate(prefetch_to_device(given, sharding=sharding)):
            assert batch["x"].sharding == sharding
            assert batch["x"].tolist() == (np.arange(8) + number).tolist()
            assert [shard.data.shape for shard in batch["x"].addressable_shards] == [(2,)] * 4
        print("served", number + 1)
    """
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )
    assert done.stdout == "served 3\n", done.stderr
