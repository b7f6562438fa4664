"""Arrays on the device that programs reach by reference: neither a constant in them, nor copied at every call."""

from typing import Any

import jax


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
