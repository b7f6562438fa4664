"""Arrays placed on devices, and references: arrays on a device whose rows compiled code reads and writes in place."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from datarax_core.records.gathers import ALIGNMENT, aligned_empty


def put(arrays: Any, sharding: Sharding | None) -> Any:
    """Place a pytree of arrays, which every process has as a whole, by ``sharding``; None is the default device."""
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)

    def spread(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(spread(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf), np.shape(leaf))

    return jax.tree.map(spread, arrays)


def default_device() -> Any:
    """Return the device on which JAX places arrays and runs programs that nothing else places."""
    chosen: Any = getattr(jax.config, "jax_default_device", None)  # jax's stubs leave it out
    if chosen is None:
        return jax.local_devices()[0]
    return jax.local_devices(backend=chosen)[0] if isinstance(chosen, str) else chosen


_LARGE: Final = 1 << 22
"""Bytes of an array from which on NumPy asks Linux for large pages."""


def in_large_pages(array: np.ndarray) -> np.ndarray:
    """Return a large array in memory that a CPU device takes over; any other array, and any for another device, as it is.

    JAX would copy it to memory in pages of 4 KiB, from which a gather of 256 records of 3 KiB takes a fifth longer.
    """
    if array.nbytes < _LARGE or jax.default_backend() != "cpu" or array.dtype.hasobject:
        return array
    if array.flags.c_contiguous and not array.__array_interface__["data"][0] % ALIGNMENT:
        return array
    held = aligned_empty(array.shape, array.dtype)
    np.copyto(held, array)
    return held


class Putter:
    """Puts NumPy arrays where a given array lies, on one device, as `jax.device_put` does and in a sixth of its time.

    A CPU takes memory over that is aligned to 64 bytes, as `aligned_empty` makes it: it must not be written to any more. Other
    memory is copied.

    Args:
        like: An array on one device: those that are put have its sharding, and are committed to it if it is.
    """

    def __init__(self, like: jax.Array) -> None:
        self._sharding = like.sharding
        self._devices = list(like.devices())
        self._is_committed = like.committed
        self._put = quick_put()
        self._avals: dict[Any, Any] = {}

    def put(self, array: np.ndarray) -> jax.Array:
        """Return the array on the device; its dtype is one that JAX keeps as it is."""
        if self._put is None:
            return self._put_slowly(array)
        key = (array.shape, array.dtype)
        aval = self._avals.get(key)
        if aval is None:
            if len(self._avals) >= _MOST_SHAPES:
                self._avals.clear()
            aval = self._avals[key] = jax.core.ShapedArray(*key)
        try:
            made: jax.Array = self._put(aval, self._sharding, [array], self._devices, self._is_committed)
        except Exception:  # noqa: BLE001 - such as under jax.transfer_guard, which takes it for an implicit transfer
            return self._put_slowly(array)
        return made

    def _put_slowly(self, array: np.ndarray) -> jax.Array:
        placed: jax.Array = jax.device_put(array, self._sharding if self._is_committed else None)
        return placed


def put_on_one(batch: Any, sharding: Sharding | None) -> Any:
    """Return ``jax.device_put(batch, sharding)`` for arrays in dtypes of devices, on one device; None is the default device."""
    putter = _putter(sharding, default_device() if sharding is None else None)
    return jax.tree.map(
        lambda leaf: putter.put(leaf) if type(leaf) is np.ndarray else jax.device_put(leaf, sharding), batch
    )


def put_parts(
    parts: list[np.ndarray], shape: tuple[int, ...], sharding: Sharding, devices: list[jax.Device]
) -> jax.Array:
    """Return the array of ``shape`` by ``sharding`` of which the ``devices`` of this process hold the ``parts``."""
    if (put := quick_put()) is not None:
        try:
            made: jax.Array = put(jax.core.ShapedArray(shape, parts[0].dtype), sharding, parts, devices, True)  # noqa: FBT003
        except Exception:  # noqa: BLE001, S110 - such as under jax.transfer_guard
            pass
        else:
            return made
    placed = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=True)]
    return jax.make_array_from_single_device_arrays(shape, sharding, placed)


@functools.lru_cache(maxsize=64)
def _putter(sharding: Sharding | None, device: Any) -> Putter:  # noqa: ARG001 - the default device, part of the key
    return Putter(jax.device_put(np.zeros(1, np.int8), sharding))


_MOST_SHAPES: Final = 1024


@functools.cache
def quick_put() -> Callable[..., Any] | None:
    """Return the function of jaxlib with which `jax.device_put` ends, if it gives the very same; else None.

    It has no public name, and takes 4 us an array, where `jax.device_put` takes 28 (jax 0.8.1 to 0.10.2).
    """
    try:
        from jax._src import lib  # noqa: PLC0415 - jax has no public name for it

        put: Callable[..., Any] = getattr(lib, "xla_client").batched_device_put  # noqa: B009 - jax's stubs leave it out
        sample = aligned_empty((2, 3), np.int16)
        sample[...] = [[1, -2, 3], [-4, 5, -6]]
        for sharding in (None, jax.sharding.SingleDeviceSharding(jax.local_devices()[0])):
            wanted = jax.device_put(sample, sharding)
            made = put(
                jax.core.ShapedArray(sample.shape, sample.dtype),
                wanted.sharding,
                [sample],
                list(wanted.devices()),
                sharding is not None,
            )
            is_same = type(made) is type(wanted) and (np.asarray(made) == sample).all()
            is_same &= (made.aval, made.sharding, made.committed) == (wanted.aval, wanted.sharding, wanted.committed)
            if not is_same:
                return None
    except Exception:  # noqa: BLE001 - of another jax: whatever is not as it was
        return None
    return put


class PlacedOnce:
    """Arrays placed by shardings, and kept: an array is placed again only after it was replaced by another."""

    def __init__(self) -> None:
        self._placed: dict[Sharding, list[tuple[Any, Any]]] = {}

    def put(self, arrays: Any, sharding: Sharding) -> Any:
        """Return the arrays placed by ``sharding``, as the function `put` does; arrays that were placed before are kept."""
        leaves, form = jax.tree.flatten(arrays)
        before = self._placed.get(sharding, [])
        known = before if len(before) == len(leaves) else [(None, None)] * len(leaves)
        placed = [
            (leaf, copy if leaf is array else put(leaf, sharding))
            for leaf, (array, copy) in zip(leaves, known, strict=True)
        ]
        self._placed[sharding] = placed
        return jax.tree.unflatten(form, [copy for _, copy in placed])


def reference_to(array: Any) -> Any:
    """Return a ``jax.Ref`` that holds a copy of the array, and outlives the trace in which it is made."""
    with jax.core.eval_context():  # ensure_compile_time_eval would make a tracer under jax.grad and jax.vmap
        return jax.new_ref(array)


def free_references(references: Iterable[Any]) -> None:
    """Free the arrays that references hold; programs that close over the references are kept by jax, and never run again."""
    for reference in references:
        # jax.free_ref and jax.freeze keep the memory as long as the reference (jax 0.10.2)
        buffer = getattr(getattr(reference, "_refs", reference), "_buf", None)
        if buffer is not None:
            buffer.delete()


# Both functions index the whole array ``ref[...]``, which compiled code does not copy: jax (0.8.1 to 0.10.2 at least) lowers
# ``ref[indices]`` to an index for each number of each row. They are jitted, since outside of a program the array is copied.


@jax.jit
def read_rows(reference: Any, indices: Any) -> Any:
    """Return the rows, (k, ...), at ``indices``, int (k,), all of which must be in range; O(k)."""
    return reference[...].at[indices].get(mode="promise_in_bounds")


@jax.jit
def write_rows(reference: Any, indices: Any, rows: Any) -> None:
    """Write rows at ``indices``, in place; O(k) if the rows depend on a read before, else XLA may copy the whole array."""
    reference[...] = reference[...].at[indices].set(rows, mode="promise_in_bounds")
