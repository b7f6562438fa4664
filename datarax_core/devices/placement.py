"""Arrays placed on devices, and references: arrays on a device whose rows compiled code reads and writes in place."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding


def put(arrays: Any, sharding: Sharding | None) -> Any:
    """Place a pytree of arrays, which every process has as a whole, by ``sharding``; None is the default device."""
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)

    def spread(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(spread(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf), np.shape(leaf))

    return jax.tree.map(spread, arrays)


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
