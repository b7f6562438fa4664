"""Columns on a CPU device, seen by the host without a copy: rows can be taken from them by NumPy as by compiled code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import jax
import numpy as np

from .spec import Batch


@dataclass(frozen=True, slots=True)
class HostTable:
    """Columns of one length in the memory of a CPU device, and how fields make up a batch.

    Attributes:
        columns: The columns as they lie on the device.
        arranged: Returns the batch of fields in the order of the columns.
    """

    columns: tuple[jax.Array, ...]
    arranged: Callable[[Sequence[Any]], Batch]


@runtime_checkable
class TakesRows(Protocol):
    """A function of arrays and indices, with which a compiled step reads records, that takes the rows at the indices."""

    def __call__(self, arrays: Any, indices: Any) -> Batch:
        """Return the batch of the records at ``indices``."""

    def on_host(self, arrays: Any) -> HostTable | None:
        """Return the columns of which it takes rows, with nothing done to them; None if it does anything else."""


_WORDS: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def host_view(column: Any) -> np.ndarray | None:
    """Return the memory of a column on a CPU device; None if NumPy needs a copy.

    As unsigned integers (rows,) where a row has the size of one, else as uint8 (rows, bytes of a row).
    """
    if not isinstance(column, jax.Array) or len(column.devices()) != 1 or column.ndim < 1 or not len(column):
        return None
    if next(iter(column.devices())).platform != "cpu":
        return None
    if not column.size:
        return np.empty((len(column), 0), np.uint8)
    rows = np.asarray(column)
    is_same = rows.nbytes == column.nbytes and rows.flags.c_contiguous and rows.dtype == column.dtype
    if not is_same or rows.__array_interface__["data"][0] != column.unsafe_buffer_pointer():
        return None
    row_bytes = rows.nbytes // len(rows)
    if row_bytes in _WORDS:
        return rows.reshape(len(rows), -1).view(_WORDS[row_bytes])[:, 0]
    return rows.reshape(len(rows), -1).view(np.uint8)
