"""A table of rows by record index on the device, which compiled code reads and writes in place."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.devices.placement import read_rows, reference_to, write_rows

from .randomness import takes_record_indices


class RecordTable:
    """A row for each of ``length`` records, and a mark whether the row is known; `prepare` allocates the arrays.

    Compared by identity, and outside of every module's graph. The arrays are ``jax.Ref``: a compiled function copies an
    ``nnx.Variable`` of this size with every call, and reads and writes a reference in place.

    Args:
        length: Number of records.
        sharding: Placement of the arrays; None is the default device.
    """

    made_for: tuple[str | None, tuple[str, ...]] | None = None
    """A sample of the records that the first pipeline caches results of, and the names of the stages before the cache."""

    def __init__(self, length: int, sharding: jax.sharding.Sharding | None) -> None:
        self.length = length
        self.sharding = sharding
        self._structs: tuple[jax.ShapeDtypeStruct, ...] | None = None  # of one record's row
        self._columns: tuple[Any, ...] = ()
        self._marks: Any = None
        # Programs that hold this table are cached here, and are freed with it: a cache for all pipelines would keep its memory.
        self.compiled: Callable[[Any], Callable[..., Any]] = functools.lru_cache(maxsize=256)(jax.jit)

    @property
    def nbytes(self) -> int:
        """Bytes on the device; 0 before `prepare`."""
        if self._structs is None:
            return 0
        row: int = sum(math.prod(struct.shape) * struct.dtype.itemsize for struct in self._structs)
        return self.length * (row + 1)

    @property
    def num_known(self) -> int:
        """Number of records whose row is known."""
        return 0 if self._marks is None else int(np.count_nonzero(self._marks[...]))

    def prepare(self, structs: Sequence[jax.ShapeDtypeStruct]) -> None:
        """Allocate the table for rows like ``structs`` on the first call; later calls must want the same rows.

        Raises:
            ValueError: ``structs`` differ from those of the first call.
        """
        wanted = tuple(structs)
        if self._structs is None:
            self._allocate(wanted)
        elif self._structs != wanted:
            raise ValueError(
                f"the rows kept are {_listed(self._structs)}, and now they would be {_listed(wanted)}; all results must have "
                "one shape and dtype, so give each use a Cache of its own"
            )

    def _allocate(self, structs: tuple[jax.ShapeDtypeStruct, ...]) -> None:
        with jax.core.eval_context():
            self._columns = tuple(reference_to(self._zeros(struct.shape, struct.dtype)) for struct in structs)
            self._marks = reference_to(self._zeros((), jnp.uint8))
        self._structs = structs

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.zeros((self.length, *shape), dtype, device=self.sharding)

    def read(self, indices: Any) -> tuple[Any, list[Any]]:
        """Return (marks uint8 (k,), rows (k, ...)) of the records at int (k,) ``indices``; a row is known if its mark is 1."""
        return read_rows(self._marks, indices), [read_rows(column, indices) for column in self._columns]

    def write(self, indices: Any, marks: Any, rows: Iterable[Any]) -> None:
        """Write the rows of records, whose ``marks`` were read before; of an index that is repeated, one row is kept."""
        for column, values in zip(self._columns, rows, strict=True):
            write_rows(column, indices, values)
        # `marks | 1` and not a constant: XLA copies the whole table where it may write before it reads.
        write_rows(self._marks, indices, marks | 1)

    def forget(self) -> None:
        """Mark all rows as unknown, in place, because compiled programs hold these arrays."""
        if self._marks is not None:
            self._marks[...] = self._zeros((), jnp.uint8)

    def renewed(self) -> "RecordTable":
        """Return a table of the same length and placement in which no row is known."""
        return RecordTable(self.length, self.sharding)

    def __getstate__(self) -> dict[str, Any]:
        return {"length": self.length, "sharding": self.sharding}  # rows can be computed again, so no pickle holds them

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a new table, as `renewed` makes it


def tables_in(stages: Iterable[Any]) -> Iterator[RecordTable]:
    """Yield the tables of stages, and of stages inside them."""
    for stage in stages:
        if isinstance(stage, tuple):
            yield from tables_in(stage)
        elif takes_record_indices(
            stage
        ):  # checked first: most stages do not, and walking a graph costs as much as a batch
            yield from (part for _, part in nnx.iter_graph(stage) if isinstance(part, RecordTable))


def _listed(structs: Sequence[jax.ShapeDtypeStruct]) -> str:
    return ", ".join(f"{struct.dtype}{list(struct.shape)}" for struct in structs)
