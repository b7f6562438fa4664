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
        missing = np.unique(indices[~self._present[indices]])
        if missing.size:
            jax.tree.map(lambda column, rows: self._keep(column, missing, rows), self._columns, read(missing))
            self._present[missing] = True
        return jax.tree.map(lambda column: column[indices], self._columns)

    def _keep(self, column: np.ndarray, indices: np.ndarray, rows: Any) -> None:
        column[indices] = np.asarray(rows)
