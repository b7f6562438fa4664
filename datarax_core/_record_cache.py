"""Keeps records that were read and decoded once, for sources whose config says ``cacheable``."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .spec import Batch, ElementSpec


class RecordCache:
    """Whole columns, filled as records are first asked for.

    Memory: the records that were touched, up to all of them (pages of a column that nobody touched cost nothing).
    """

    def __init__(self, length: int, spec: ElementSpec) -> None:
        self._columns = jax.tree.map(lambda leaf: np.empty((length, *leaf.shape), leaf.dtype), spec)
        self._present = np.zeros(length, np.bool_)

    def fetch(self, indices: np.ndarray, read: Callable[[np.ndarray], Batch]) -> Batch:
        """The records at ``indices``; those not kept yet are read first, each of them once."""
        missing = self.missing(indices)
        if missing.size:
            self.keep(missing, read(missing))
        return self.take(indices)

    def missing(self, indices: np.ndarray) -> np.ndarray:
        """Those of ``indices`` that are not kept yet, each of them once."""
        return np.unique(indices[~self._present[indices]])

    def keep(self, indices: np.ndarray, batch: Batch) -> None:
        """Keep the records at ``indices``, which are the rows of ``batch``."""
        jax.tree.map(lambda column, rows: _put(column, indices, rows), self._columns, batch)
        self._present[indices] = True

    def take(self, indices: np.ndarray) -> Batch:
        """The records at ``indices``, all of which are kept."""
        return jax.tree.map(lambda column: column[indices], self._columns)


def _put(column: np.ndarray, indices: np.ndarray, rows: Any) -> None:
    column[indices] = np.asarray(rows)
