"""Arrays placed on devices, and references: arrays on a device whose rows compiled code reads and writes in place."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding


def put(arrays: Any, sharding: Sharding | None) -> Any:
    """A pytree of arrays that every process has whole, placed as ``sharding`` says; of None on the default device."""
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)

    def spread(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(spread(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf), np.shape(leaf))

    return jax.tree.map(spread, arrays)


class PlacedOnce:
    """Arrays where shardings want them, each placed once for as long as it is the same array."""

    def __init__(self) -> None:
        self._held: dict[Sharding, list[tuple[Any, Any]]] = {}

    def put(self, arrays: Any, sharding: Sharding) -> Any:
        """`put`, or what it gave before."""
        leaves, form = jax.tree.flatten(arrays)
        held = self._held.get(sharding, [])
        known = held if len(held) == len(leaves) else [(None, None)] * len(leaves)
        placed = [
            (leaf, copy if leaf is own else put(leaf, sharding))
            for leaf, (own, copy) in zip(leaves, known, strict=True)
        ]
        self._held[sharding] = placed
        return jax.tree.unflatten(form, [copy for _, copy in placed])


def reference_to(array: Any) -> Any:
    """A ``jax.Ref`` that holds a copy of the array, and outlives the trace in which it is made."""
    with jax.core.eval_context():  # ensure_compile_time_eval would make a tracer of it under jax.grad and jax.vmap
        return jax.new_ref(array)


# By way of the whole array, which a compiled function does not copy: ``ref[indices]`` is taken apart into an index for each
# number of each row (0.8.1 to 0.10.2 at least). Compiled on their own, because outside of a program it would be copied.


@jax.jit
def read_rows(reference: Any, indices: Any) -> Any:
    """The rows (k, ...) at int (k,) ``indices``, all of which must be in range; O(k)."""
    return reference[...].at[indices].get(mode="promise_in_bounds")


@jax.jit
def write_rows(reference: Any, indices: Any, rows: Any) -> None:
    """Put rows in place at ``indices``; O(k), if they were made of what was read before: else XLA may copy all of it."""
    reference[...] = reference[...].at[indices].set(rows, mode="promise_in_bounds")
