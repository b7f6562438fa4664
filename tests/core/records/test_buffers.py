"""Memory of batches: used again once nobody refers to it, and never before."""

import gc

import jax
import numpy as np

from datarax_core.records.buffers import Buffers


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_all_views_are_gone() -> None:
    buffers = Buffers((4, 64), np.uint8, kept=2)
    first = buffers.new()
    place, part = address(first), first[1:3].view(np.int16).reshape(-1)
    del first
    other = buffers.new()
    assert address(other) != place  # `part` is a view of the first
    del part
    gc.collect()
    assert address(buffers.new()) == place
    assert other.shape == (4, 64)
    assert other.dtype == np.uint8
    assert address(other) % 64 == 0


def test_memory_that_jax_took_over_comes_back_with_the_array() -> None:
    buffers = Buffers((16, 64), np.int32, kept=4)
    held = []
    for number in range(20):
        array = buffers.new()
        array[...] = number
        held.append(jax.device_put(array))
        if number % 3:
            held.pop(0)
        del array
    for kept in held:
        values = np.unique(np.asarray(kept))
        assert len(values) == 1
    assert len({int(np.asarray(kept)[0, 0]) for kept in held}) == len(held)


def test_no_more_is_kept_than_asked_for_and_none_of_large_arrays_between_uses() -> None:
    buffers = Buffers((1 << 10,), np.uint8, kept=1)
    arrays = [buffers.new() for _ in range(3)]
    places = {address(array) for array in arrays}
    del arrays
    again = [buffers.new() for _ in range(3)]
    assert len(places & {address(array) for array in again}) >= 1
    large = Buffers((40 << 20,), np.uint8, kept=1)
    del again
    array = large.new()
    del array
    large.rest()
    assert not large._kept.free
