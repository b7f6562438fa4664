"""The order in which the files are shuffled and the records of each stay in sequence: cheap for disks and object stores."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import Order, as_integer

DEVICE_LIMIT = 2**31 - 1


@dataclass(frozen=True, eq=False, slots=True)
class FileOrder:
    """Epoch after epoch, each another order of the files; the shuffle of the files is the core's.

    Args:
        counts: int64 (files,): records that each serves; those that serve none may be among them.
    """

    counts: np.ndarray

    def record_indices(self, start: Any, size: int, key: Any) -> Any:
        """The records at positions ``start .. start + size``: int64 (size,), or int32 (size,) if anything is traced.

        Cost: O(files + size) for each epoch that is touched.

        Raises:
            TypeError: ``start`` or ``size`` is no integer.
            ValueError: ``start`` or ``size`` is negative, or a traced order is asked for more than 2**31 - 1 records.
        """
        size = _from_zero("size", size)
        if isinstance(start, jax.core.Tracer):
            if not jnp.issubdtype(start.dtype, np.integer):
                raise TypeError(f"a position is an integer, not {start.dtype}")
            wide = start if start.dtype.itemsize > 4 else start.astype(np.uint32)  # the next epoch may begin past 2**31
            return self._on_device(wide, size, key)
        start = _from_zero("a position", start)
        return (self._on_device if isinstance(key, jax.core.Tracer) else self._on_host)(start, size, key)

    def _on_host(self, start: int, size: int, key: Any) -> np.ndarray:
        counts, starts = self._served()
        length = int(counts.sum())
        epoch, offset = divmod(start, length)
        found: list[np.ndarray] = []
        while size:
            taken = min(size, length - offset)
            files = Order(len(counts)).record_indices(epoch * len(counts), len(counts), key)
            ends = np.cumsum(counts[files])
            positions = np.arange(offset, offset + taken, dtype=np.int64)
            at = np.searchsorted(ends, positions, side="right")
            found.append(starts[files[at]] + positions - (ends - counts[files])[at])
            size, epoch, offset = size - taken, epoch + 1, 0
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _on_device(self, start: Any, size: int, key: Any) -> jax.Array:
        counts, starts = self._served()
        length = int(counts.sum())
        if length > DEVICE_LIMIT:
            raise ValueError(
                f"{length} records are more than the {DEVICE_LIMIT} that 32-bit positions under jit can address; "
                "iterate from Python, where positions are 64-bit"
            )
        counts, starts, num = counts.astype(np.int32), starts.astype(np.int32), len(counts)
        epoch, offset = divmod(start, length) if isinstance(start, int) else jnp.divmod(start, start.dtype.type(length))
        rows = offset + jnp.arange(size, dtype=np.uint32)  # which may pass 2**31
        passed = (rows // np.uint32(length)).astype(np.int32)
        positions = (rows % np.uint32(length)).astype(np.int32)
        found = jnp.zeros(size, np.int32)
        for ahead in range((size - 1) // length + 2):
            files = Order(num).record_indices((epoch + ahead) * num, num, key)
            ends = jnp.cumsum(jnp.asarray(counts)[files])
            at = jnp.searchsorted(ends, positions, side="right")
            rows_in = jnp.asarray(starts)[files[at]] + positions - (ends[at] - jnp.asarray(counts)[files[at]])
            found = jnp.where(passed == ahead, rows_in, found)
        return found

    def _served(self) -> tuple[np.ndarray, np.ndarray]:
        """(counts, first record index) of the files that serve any."""
        filled = np.flatnonzero(self.counts)
        starts = np.cumsum(self.counts) - self.counts
        return self.counts[filled], starts[filled]


def _from_zero(field: str, value: Any) -> int:
    number = as_integer(field, value)
    if number < 0:
        raise ValueError(f"{field} is 0 or more, not {number}")
    return number
