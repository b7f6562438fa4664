"""Order that shuffles the files and leaves the records of each file in sequence: fast on disks and object stores."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT, Order, as_integer


@dataclass(frozen=True, eq=False, slots=True)
class FileOrder:
    """Order of records by files, which core's `Order` shuffles anew in each epoch.

    Args:
        counts: int64 (files,): number of records that each file serves; 0 is allowed.
    """

    counts: np.ndarray

    def record_indices(self, start: Any, size: int, key: Any) -> Any:
        """Return the record indices at positions ``start .. start + size``: int64 (size,); int32 if an argument is traced.

        Costs O(files + size) for each epoch in the range.

        Args:
            start: First position, counted over all epochs.
            size: Number of records.
            key: Key data of the order.

        Raises:
            TypeError: ``start`` or ``size`` is no integer.
            ValueError: ``start`` or ``size`` is negative, or an argument is traced and there are more than 2**31 - 1 records.
        """
        size = _not_negative("size", size)
        if isinstance(start, jax.core.Tracer):
            if not jnp.issubdtype(start.dtype, np.integer):
                raise TypeError(f"a position is an integer, not {start.dtype}")
            # the end of the range may exceed 2**31
            wide = start if start.dtype.itemsize > 4 else start.astype(np.uint32)
            return self._on_device(wide, size, key)
        start = _not_negative("a position", start)
        return (self._on_device if isinstance(key, jax.core.Tracer) else self._on_host)(start, size, key)

    def _on_host(self, start: int, size: int, key: Any) -> np.ndarray:
        counts, starts = self._filled_files()
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
        counts, starts = self._filled_files()
        length = int(counts.sum())
        if length > DEVICE_LIMIT:
            raise ValueError(
                f"{length} records are more than the {DEVICE_LIMIT} that 32-bit positions under jit can address; "
                "iterate from Python, where positions are 64-bit"
            )
        counts, starts, num = counts.astype(np.int32), starts.astype(np.int32), len(counts)
        epoch, offset = divmod(start, length) if isinstance(start, int) else jnp.divmod(start, start.dtype.type(length))
        rows = offset + jnp.arange(size, dtype=np.uint32)  # may exceed 2**31
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

    def _filled_files(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of records and the first record index of each file that serves records."""
        filled = np.flatnonzero(self.counts)
        starts = np.cumsum(self.counts) - self.counts
        return self.counts[filled], starts[filled]


def _not_negative(field: str, value: Any) -> int:
    number = as_integer(field, value)
    if number < 0:
        raise ValueError(f"{field} is 0 or more, not {number}")
    return number
