"""Shared memory for batches: workers write their rows, and the process that started them copies the batch out."""

import math
import mmap
import os
import tempfile
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records.dtypes import is_text
from datarax_core.records.gathers import ALIGNMENT, aligned_empty
from datarax_core.records.joining import host_column, joined_columns
from datarax_core.records.spec import Batch, ElementSpec, named_fields


class SharedBatches:
    """Shared memory for ``blocks`` batches of up to ``rows`` records each, and for the record indices of each batch.

    Memory: ``blocks * rows`` records, of which only pages that were written take room. The memory has no name: the system
    frees it with the last process that maps it, however that process ends.

    Args:
        spec: Element spec of the records. Fields of Python objects, of text and bytes, whose width may differ from batch to
            batch, and ragged fields get no room here; `write` returns them, and `read` takes them. A batch may be smaller in
            the axes of a record, if all of its parts are alike.
        rows: Records of the largest batch.
        blocks: How many batches the memory holds at once.
        file: An open `shared_file` of at least `size` bytes.
    """

    def __init__(self, spec: ElementSpec, rows: int, blocks: int, file: int) -> None:
        leaves, self._form = jax.tree.flatten(spec)
        self._names = list(named_fields(spec))
        size = _block_size(leaves, rows)
        memory = np.frombuffer(mmap.mmap(file, self.size(spec, rows, blocks)), np.uint8)
        self._blocks = [_Block(memory[number * size : (number + 1) * size], leaves, rows) for number in range(blocks)]

    @staticmethod
    def size(spec: ElementSpec, rows: int, blocks: int) -> int:
        """Return the bytes of all blocks."""
        return blocks * _block_size(jax.tree.leaves(spec), rows)

    def indices(self, block: int) -> np.ndarray:
        """Return the record indices of a block's batch, int64 (rows,): a view that the pool writes and workers read."""
        return self._blocks[block].indices

    def write(self, block: int, start: int, batch: Batch) -> dict[int, Any]:
        """Write a batch into a block from row ``start`` on; return the fields of objects by their number in the spec.

        Of a field that is smaller than the spec says, the shape of a record is returned.
        """
        fields = named_fields(batch)
        object_fields = {}
        for number, (name, column) in enumerate(zip(self._names, self._blocks[block].columns, strict=True)):
            rows = host_column(fields[name])
            if column is None:
                object_fields[number] = rows
                continue
            if rows.shape[1:] != column.shape[1:]:
                object_fields[number] = rows.shape[1:]
                column = _smaller(column, rows.shape[1:])  # noqa: PLW2901 - of the same memory
            column[start : start + len(rows)] = rows
        return object_fields

    def read(self, block: int, size: int, object_fields: dict[int, list[Any]]) -> Batch:
        """Return a copy of the first ``size`` rows of a block, in new arrays that a device can take over.

        Args:
            block: Number of the block.
            size: Records of the batch.
            object_fields: What `write` returned for each part of the batch, in the order of the rows, by the number of the
                field in the spec; None for a part that has the shape of the spec.

        Raises:
            SpecError: The records of the parts differ in shape.
        """
        leaves = []
        for number, column in enumerate(self._blocks[block].columns):
            parts = object_fields.get(number, [])
            if column is None:
                leaves.append(joined_columns(parts))
                continue
            if parts:
                column = _smaller(column, self._common_shape(number, parts, column.shape[1:]))  # noqa: PLW2901 - of the same memory
            rows = aligned_empty((size, *column.shape[1:]), column.dtype)
            rows[...] = column[:size]
            leaves.append(rows)
        return jax.tree.unflatten(self._form, leaves)

    def _common_shape(self, number: int, shapes: list[Any], greatest: tuple[int, ...]) -> tuple[int, ...]:
        found = {greatest if shape is None else tuple(shape) for shape in shapes}
        if len(found) > 1:
            listed = " and ".join(str(list(shape)) for shape in sorted(found))
            raise SpecError(
                f"the parts of a batch have records of shapes {listed} in field {self._names[number]!r}; the records of a "
                "batch have one shape"
            )
        return found.pop()


def _smaller(column: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the beginning of a column's memory as a column of as many records of a smaller shape."""
    rows = len(column)
    flat = column.reshape(-1)
    return flat[: rows * math.prod(shape)].reshape(rows, *shape)


def shared_file(size: int) -> int:
    """Return a file descriptor of ``size`` bytes of memory that this process and its children can map."""
    if hasattr(os, "memfd_create"):  # not in /dev/shm, of which containers have 64 MiB
        file = os.memfd_create("datarax")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, max(1, size))
    return file


class _Block:
    """Views of one block's memory: the record indices, and a column for each field (None for a field of objects or text)."""

    def __init__(self, memory: np.ndarray, leaves: list[jax.ShapeDtypeStruct], rows: int) -> None:
        self.indices, end = _view(memory, 0, (rows,), np.dtype(np.int64))
        self.columns: list[np.ndarray | None] = []
        for leaf in leaves:
            column = None
            if _has_room(leaf):
                column, end = _view(memory, end, (rows, *leaf.shape), leaf.dtype)
            self.columns.append(column)


def _has_room(leaf: jax.ShapeDtypeStruct) -> bool:
    return None not in leaf.shape and not leaf.dtype.hasobject and not is_text(leaf.dtype)


def _view(memory: np.ndarray, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, int]:
    """Return (array of the bytes from ``start`` on, aligned start of the next array)."""
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, memory[start : start + size]), start + _padded(size)


def _block_size(leaves: list[jax.ShapeDtypeStruct], rows: int) -> int:
    held = [leaf for leaf in leaves if _has_room(leaf)]
    return _padded(8 * rows) + sum(_padded(rows * math.prod(leaf.shape) * leaf.dtype.itemsize) for leaf in held)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
