"""NumPy arrays put on one device quickly: the arrays that `jax.device_put` returns."""

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from datarax_core import aligned_empty
from datarax_core.devices import placement
from datarax_core.devices.placement import Putter, default_device, in_large_pages, put_on_one, quick_put

DTYPES = [np.bool_, np.uint8, np.int32, np.float16, ml_dtypes.bfloat16, np.float32, np.complex64]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_those_of_device_put(dtype: type, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    assert quick_put() is not None
    if not quick:
        monkeypatch.setattr(placement, "quick_put", lambda: None)
    for sharding in (None, SingleDeviceSharding(jax.devices()[0])):
        putter = Putter(jax.device_put(np.zeros(1, np.int8), sharding))
        for shape in ((), (0, 3), (5,), (4, 3, 2)):
            array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
            wanted, made = jax.device_put(array, sharding), putter.put(array)
            assert (made.aval, made.sharding, made.committed) == (wanted.aval, wanted.sharding, wanted.committed)
            assert np.array_equal(np.asarray(made), array)


def test_aligned_memory_is_taken_over_and_other_memory_copied() -> None:
    array = aligned_empty((64, 64), np.float32)
    array[...] = 1
    assert put_on_one({"x": array}, None)["x"].unsafe_buffer_pointer() == array.ctypes.data
    other = np.zeros(1025, np.float32)[1:]
    made = put_on_one([other], None)[0]
    jax.block_until_ready(made)
    other[...] = 5
    assert not np.asarray(made).any()


def test_a_transfer_guard_allows_what_it_allowed() -> None:
    array = np.ones(3, np.float32)
    with jax.transfer_guard("disallow"):
        assert np.array_equal(np.asarray(put_on_one(array, None)), array)
    with (
        jax.transfer_guard("disallow_explicit"),
        pytest.raises(RuntimeError, match="Disallowed host-to-device transfer"),
    ):
        put_on_one(array, None)


def test_the_default_device_is_that_of_jax() -> None:
    assert default_device() == next(iter(jax.device_put(np.zeros(1)).devices()))
    with jax.default_device(jax.devices()[0]):
        assert default_device() == jax.devices()[0]


def test_large_arrays_lie_where_the_device_takes_them_over() -> None:
    memory = np.zeros((5 << 20) + 128, np.uint8)
    start = -memory.ctypes.data % 64 + 16
    array = memory[start : start + (5 << 20)]
    array[::1000] = 3
    held = in_large_pages(array)
    assert held.ctypes.data % 64 == 0
    assert np.array_equal(held, array)
    assert in_large_pages(held) is held
    assert in_large_pages(array[:100]).base is memory
