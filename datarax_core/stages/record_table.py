"""Rows by record index on the device, which compiled code reads and writes in place."""

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
    """A row for each of ``length`` records, and whether it is known; made by `prepare`, once shapes are known.

    Compared by identity, and outside of every module's graph. The arrays are ``jax.Ref``: an ``nnx.Variable`` of this size
    would be copied by every call of a compiled function, a reference is read and written where it lies.
    """

    def __init__(self, length: int, sharding: jax.sharding.Sharding | None) -> None:
        self.length = length
        self.sharding = sharding
        self._structs: tuple[jax.ShapeDtypeStruct, ...] | None = None  # of a record's row
        self._columns: tuple[Any, ...] = ()
        self._marks: Any = None
        # Programs that hold this table live as long as it does: those that all pipelines share would keep its memory.
        self.compiled: Callable[[Any], Callable[..., Any]] = functools.lru_cache(maxsize=256)(jax.jit)

    def renewed(self) -> "RecordTable":
        """A table like this one in which nothing is known."""
        return RecordTable(self.length, self.sharding)

    def __getstate__(self) -> dict[str, Any]:
        return {"length": self.length, "sharding": self.sharding}  # a pickle carries no work that can be done again

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # as `renewed` does

    @property
    def nbytes(self) -> int:
        """Bytes on the device; 0 until the table is made."""
        if self._structs is None:
            return 0
        row: int = sum(math.prod(struct.shape) * struct.dtype.itemsize for struct in self._structs)
        return self.length * (row + 1)

    @property
    def num_known(self) -> int:
        """How many records have their row."""
        return 0 if self._marks is None else int(np.count_nonzero(self._marks[...]))

    def prepare(self, structs: Sequence[jax.ShapeDtypeStruct]) -> None:
        """Make the table, of rows like ``structs``, on the first call; later ones must want the same.

        Raises:
            ValueError: They want another.
        """
        wanted = tuple(structs)
        if self._structs is None:
            self._make(wanted)
        elif self._structs != wanted:
            raise ValueError(
                f"the rows kept are {_listed(self._structs)}, and now they would be {_listed(wanted)}; what is made of a "
                "record must have one shape and dtype, so give each use a Cache of its own"
            )

    def read(self, indices: Any) -> tuple[Any, list[Any]]:
        """(marks uint8 (k,), rows (k, ...)) of the records at int (k,) ``indices``; a row is known where its mark is not 0."""
        return read_rows(self._marks, indices), [read_rows(column, indices) for column in self._columns]

    def write(self, indices: Any, marks: Any, rows: Iterable[Any]) -> None:
        """Keep the rows of these records, whose ``marks`` were read. Where an index is repeated, one of its rows is kept."""
        for column, values in zip(self._columns, rows, strict=True):
            write_rows(column, indices, values)
        # Made of what was read, and not a constant: XLA copies the whole table where it may write before it reads.
        write_rows(self._marks, indices, marks | 1)

    def forget(self) -> None:
        """Know no row any longer. In place: compiled programs hold these very arrays."""
        if self._marks is not None:
            self._marks[...] = self._zeros((), jnp.uint8)

    def _make(self, structs: tuple[jax.ShapeDtypeStruct, ...]) -> None:
        with jax.core.eval_context():
            self._columns = tuple(reference_to(self._zeros(struct.shape, struct.dtype)) for struct in structs)
            self._marks = reference_to(self._zeros((), jnp.uint8))
        self._structs = structs

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.zeros((self.length, *shape), dtype, device=self.sharding)


def tables_in(stages: Iterable[Any]) -> Iterator[RecordTable]:
    """The tables of stages, and of stages in them."""
    for stage in stages:
        if isinstance(stage, tuple):
            yield from tables_in(stage)
        elif takes_record_indices(stage):  # looked at first, because most do not, and a walk costs as much as a batch
            yield from (part for _, part in nnx.iter_graph(stage) if isinstance(part, RecordTable))


def _listed(structs: Sequence[jax.ShapeDtypeStruct]) -> str:
    return ", ".join(f"{struct.dtype}{list(struct.shape)}" for struct in structs)
