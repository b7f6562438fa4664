"""Results of a host stage, kept in host memory by record index, up to a number of bytes."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from datarax_core.records.joining import joined_batches
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.sources.columns import RecordCache


class BoundedCache(RecordCache):
    """Records that are kept as they are first made, as long as they fit the bytes; the others are made each time.

    Args:
        length: Number of records.
        spec: Their element spec.
        max_bytes: The most bytes that records take; None for all records.
    """

    def __init__(self, length: int, spec: ElementSpec, max_bytes: int | None) -> None:
        super().__init__(length, spec)
        self._max_bytes = max_bytes
        self.nbytes = 0
        """Bytes of the records that are kept."""
        self.num_kept = 0
        """Number of records that are kept."""
        self._is_full = False

    def fetch(self, indices: np.ndarray, read: Callable[[np.ndarray], Batch]) -> Batch:
        """Return the records at ``indices``; those that are not kept are made, each once."""
        missing = self.missing(indices)
        if not missing.size:
            return self.take(indices)
        made = read(missing)
        self.keep(missing, made)
        return self.taken(indices, missing, made)

    def keep(self, indices: np.ndarray, batch: Batch) -> None:
        """Keep the rows of ``batch``, which are the records at sorted ``indices``, as many as fit."""
        if self._is_full or not len(indices):
            return
        sizes = _row_bytes(batch, len(indices))
        with self._counting:
            new = np.flatnonzero(~self._present[indices])
            if self._max_bytes is not None:
                fit = np.cumsum(sizes[new]) + self.nbytes <= self._max_bytes
                self._is_full = not fit.all()
                new = new[fit]
            if len(new) < len(indices):
                batch = jax.tree.map(lambda column: column[new], batch)
            if len(new):
                super().keep(indices[new], batch)
            self.nbytes += int(sizes[new].sum())
            self.num_kept += len(new)

    def taken(self, indices: np.ndarray, made: np.ndarray, batch: Batch) -> Batch:
        """Return the records at ``indices``: those at the sorted indices ``made`` from ``batch``, the others as kept."""
        if not len(made):
            return self.take(indices)
        places = np.searchsorted(made, indices)
        places[places == len(made)] = 0
        is_made = made[places] == indices
        if is_made.all():
            is_same = len(made) == len(indices) and bool((made == indices).all())
            return batch if is_same else jax.tree.map(lambda column: column[places], batch)
        kept = self.take(indices[~is_made])
        order = np.empty(len(indices), np.int64)
        order[~is_made] = np.arange(len(indices) - int(is_made.sum()))
        order[is_made] = places[is_made] + int((~is_made).sum())
        joined: Batch = jax.tree.map(lambda column: column[order], joined_batches([kept, batch]))
        return joined

    def renew_in_fork(self) -> None:
        """Make the locks anew."""
        super().renew_in_fork()
        self._counting = threading.Lock()


class HostTable:
    """The results of the stage in a `Cache` on the host; compared by identity, and outside of every module's graph.

    Args:
        length: Number of records.
        max_bytes: The most bytes that results take; None for those of all records.
    """

    made_for: tuple[str | None, tuple[str, ...]] | None = None
    """A sample of the records that the first pipeline caches results of, and the names of the stages before the cache."""

    def __init__(self, length: int, max_bytes: int | None) -> None:
        self.length, self.max_bytes = length, max_bytes
        self._store: BoundedCache | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the results that are kept."""
        return 0 if self._store is None else self._store.nbytes

    @property
    def num_known(self) -> int:
        """Number of records whose result is kept."""
        return 0 if self._store is None else self._store.num_kept

    def store(self, spec: ElementSpec) -> BoundedCache:
        """Return the results, which the element spec describes; made on the first call."""
        store = self._store
        if store is None:
            store = self._store = BoundedCache(self.length, spec, self.max_bytes)
        return store

    def forget(self) -> None:
        """Forget all results; who reads them now goes on with the old ones."""
        self._store = None

    def renewed(self) -> "HostTable":
        """Return a table of the same length in which no result is known."""
        return HostTable(self.length, self.max_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return HostTable, (self.length, self.max_bytes)  # results can be computed again, so no pickle holds them


def _row_bytes(batch: Batch, rows: int) -> np.ndarray:
    """Return int64 (rows,): the bytes of each row in all columns; texts and bytes that are objects count by their length."""
    total = np.zeros(rows, np.int64)
    for column in jax.tree.leaves(batch):
        if isinstance(column, Ragged):
            total += np.diff(column.offsets) * (column.values.nbytes // max(1, len(column.values)))
        elif column.dtype.hasobject:
            sizes = [
                sum(map(_size, np.ravel(row).tolist() if isinstance(row, np.ndarray) else [row])) for row in column
            ]
            total += np.array(sizes, np.int64)
        else:
            total += column.nbytes // max(1, rows)
    return total


def _size(value: Any) -> int:
    return int(getattr(value, "nbytes", 0)) or (len(value) if hasattr(value, "__len__") else 8)
