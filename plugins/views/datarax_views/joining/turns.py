"""The order of sources one after another: position -> (source, position in the source's own order)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT


class Turns:
    """Sources in turn: in each epoch, an epoch of each source after the other.

    Args:
        lengths: The records in an epoch of each source, each at least 1.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = np.asarray(lengths, np.int64)
        self.starts = np.cumsum([0, *lengths])[:-1].astype(np.int64)
        self.epoch_length = int(sum(lengths))

    def stretches(self, start: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (source, first position in its order, rows) for ``start .. start + size``.

        The positions of a source go on from row to row, also from one epoch to the next.
        """
        epoch, offset = divmod(start, self.epoch_length)
        passed, offsets = np.divmod(offset + np.arange(size), self.epoch_length)
        which = np.searchsorted(self.starts, offsets, side="right") - 1
        edges = np.flatnonzero(np.diff(which)) + 1
        if len(edges) + 1 <= len(self.lengths) and size <= self.epoch_length:  # few runs; else each source once
            runs = np.split(np.arange(size), edges) if size else []
            by_source = [(int(which[rows[0]]), rows) for rows in runs]
        else:
            by_source = [(source, np.flatnonzero(which == source)) for source in np.unique(which).tolist()]
        for source, rows in by_source:
            first = int(rows[0])
            at = (epoch + int(passed[first])) * int(self.lengths[source]) + int(offsets[first] - self.starts[source])
            yield source, at, rows

    def values(self, of_source: Callable[[int, int, int], Any], start: int, size: int) -> np.ndarray:
        """Return int64 (size,): for each position, its value of ``of_source(source, first position, count)``."""
        values = np.empty(size, np.int64)
        for source, first, rows in self.stretches(start, size):
            values[rows] = of_source(source, first, len(rows))
        return values

    def traced_values(self, of_source: Callable[[int, jax.Array, int], Any], start: jax.Array, size: int) -> jax.Array:
        """Return the same as `values` for a traced ``start``, as int32 (size,).

        Each source computes as many values as it has in any ``size`` positions.
        """
        starts, lengths = (
            jnp.asarray(np.minimum(table, DEVICE_LIMIT), np.int32) for table in (self.starts, self.lengths)
        )
        length = np.int32(min(self.epoch_length, DEVICE_LIMIT))
        epoch, offset = jnp.divmod(start.astype(np.int32), length)
        passed, offsets = jnp.divmod(offset + jnp.arange(size, dtype=np.int32), length)
        which = jnp.searchsorted(starts, offsets, side="right") - 1
        firsts = epoch * lengths + jnp.clip(offset - starts, 0, lengths)
        found, before, taken = [], [], 0
        whole, rest = divmod(size, self.epoch_length)
        for source, own_length in enumerate(self.lengths.tolist()):
            count = whole * own_length + min(rest, own_length)
            before.append(taken)
            found.append(jnp.asarray(of_source(source, firsts[source], count), np.int32))
            taken += count
        places = (epoch + passed) * lengths[which] + offsets - starts[which] - firsts[which]
        return jnp.concatenate(found)[jnp.asarray(before, np.int32)[which] + places]
