"""Batches in memory that several processes see: rows are written by one and read by another, nothing is pickled."""

import math
import mmap
import os
import tempfile
from typing import Any

import jax
import numpy as np

from .buffers import ALIGNMENT, aligned_empty
from .spec import Batch, ElementSpec, named_fields


class SharedBatches:
    """Room for ``blocks`` batches of up to ``rows`` records each, and for the record indices that they are made of.

    Memory: ``blocks * rows`` records, of which only what was ever written takes room. It has no name: it is gone with the
    last process that maps it, however that process ends.

    Args:
        spec: Element spec of the records. Fields of Python objects find no room here, and are handed over otherwise.
        file: An open `shared_file` of at least `size` bytes.
    """

    def __init__(self, spec: ElementSpec, rows: int, blocks: int, file: int) -> None:
        leaves, self._form = jax.tree.flatten(spec)
        self._names = list(named_fields(spec))
        memory = np.frombuffer(mmap.mmap(file, self.size(spec, rows, blocks)), np.uint8)
        self._blocks = [_Block(memory[part], leaves, rows) for part in _parts(_block_size(leaves, rows), blocks)]

    @staticmethod
    def size(spec: ElementSpec, rows: int, blocks: int) -> int:
        """Bytes of all blocks."""
        return blocks * _block_size(jax.tree.leaves(spec), rows)

    def indices(self, block: int) -> np.ndarray:
        """int64 (rows,): where the record indices of a batch are left for those who read its records."""
        return self._blocks[block].indices

    def write(self, block: int, start: int, batch: Batch) -> dict[int, np.ndarray]:
        """Put a batch into rows ``start ...``; returns the fields that find no room, by their number in the spec."""
        fields = named_fields(batch)
        homeless = {}
        for number, (name, column) in enumerate(zip(self._names, self._blocks[block].columns, strict=True)):
            rows = np.asarray(fields[name])
            if column is None:
                homeless[number] = rows
            else:
                column[start : start + len(rows)] = rows
        return homeless

    def read(self, block: int, size: int, homeless: dict[int, list[np.ndarray]]) -> Batch:
        """A copy of the first ``size`` rows, in new arrays that a device can take over; the other fields are put together."""
        leaves = []
        for number, column in enumerate(self._blocks[block].columns):
            if column is None:
                leaves.append(np.concatenate(homeless[number]))
                continue
            rows = aligned_empty((size, *column.shape[1:]), column.dtype)
            rows[...] = column[:size]
            leaves.append(rows)
        return jax.tree.unflatten(self._form, leaves)


def shared_file(size: int) -> int:
    """A file descriptor of ``size`` bytes of memory, for `SharedBatches` in this process and its children to map."""
    if hasattr(os, "memfd_create"):  # not in /dev/shm, of which containers have 64 MiB
        file = os.memfd_create("datarax")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, max(1, size))
    return file


class _Block:
    """One block as arrays: indices, and a column for each field that has room."""

    def __init__(self, memory: np.ndarray, leaves: list[jax.ShapeDtypeStruct], rows: int) -> None:
        self.indices, end = _placed(memory, 0, (rows,), np.dtype(np.int64))
        self.columns: list[np.ndarray | None] = []
        for leaf in leaves:
            column = None
            if not leaf.dtype.hasobject:
                column, end = _placed(memory, end, (rows, *leaf.shape), leaf.dtype)
            self.columns.append(column)


def _placed(memory: np.ndarray, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, int]:
    """(an array at ``start``, where the next one starts)."""
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, memory[start : start + size]), start + _padded(size)


def _block_size(leaves: list[jax.ShapeDtypeStruct], rows: int) -> int:
    held = [leaf for leaf in leaves if not leaf.dtype.hasobject]
    return _padded(8 * rows) + sum(_padded(rows * math.prod(leaf.shape) * leaf.dtype.itemsize) for leaf in held)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _parts(size: int, count: int) -> list[slice]:
    return [slice(number * size, (number + 1) * size) for number in range(count)]
