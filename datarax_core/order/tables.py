"""Parts of a source by a table of record indices, each of which is in it once."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import jax
import numpy as np

from .permutation import DEVICE_LIMIT, names_too_many

_EACH_ONCE: Final = (
    "a subset has each record once; leave one out, or draw with replacement by a view of type sample (datarax-views)"
)


@dataclass(frozen=True, eq=False)
class TableSelection:
    """A fixed sequence of record indices of a source, the parent, that has ``population`` records, each at most once.

    Record i of the subset is record ``table[i]`` of the parent. The table takes 8 bytes a record on the host, 4 on a device.
    It is as `Selection`, which needs no table.

    Attributes:
        population: Number of records of the parent.
        table: int64 (k,), read-only.
        reason: What the records have in common, as the end of a sentence: ``where label is 3 or 5``; "" if nobody said.
    """

    population: int
    table: np.ndarray
    reason: str = ""

    def __post_init__(self) -> None:
        table = np.ascontiguousarray(self.table, np.int64).view()
        table.flags.writeable = False
        object.__setattr__(self, "table", table)

    @classmethod
    def of(cls, rows: Any, population: int, title: str) -> Self:
        """Return the selection of the records that ``rows`` names: integers, or one boolean a record.

        Negative integers count from the end, as in NumPy. O(k log k) time.

        Args:
            rows: Array or sequence.
            population: Number of records of the parent.
            title: Name of the parent in errors.

        Raises:
            TypeError: ``rows`` are neither integers nor booleans, or have more or fewer axes than one.
            IndexError: An index is out of range, or there is another number of booleans than of records.
            ValueError: An index is there twice, or nothing is selected.
        """
        array = np.asarray(rows)
        if (
            isinstance(rows, list)
            and array.dtype.kind in "iuf"
            and any(isinstance(row, bool | np.bool_) for row in rows)
        ):
            raise TypeError(
                f"records of {title} are selected by integers, or by one boolean a record, not by both: {rows!r:.80}"
            )
        if array.dtype == bool:
            if array.shape != (population,):
                raise IndexError(
                    f"a mask of {title} has one boolean a record, {population} in all, and this one has shape "
                    f"{list(array.shape)}"
                )
            if not array.any():
                raise ValueError(f"a mask of {title} is False everywhere: it selects none of its {population} records")
            return cls(population, np.flatnonzero(array))
        if array.ndim == 1 and not array.size:
            raise ValueError(f"no record of {title} is selected: a subset has one record at least")
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"records of {title} are selected by integers, or by one boolean a record, such as [0, 5]; not by "
                f"{array.dtype} of shape {list(array.shape)}: {rows!r:.80}"
            )
        outside = (array >= population) | (array < -population if array.dtype.kind == "i" else False)
        if outside.any():
            raise IndexError(f"record {array[np.argmax(outside)]} is out of range: {title} has {population} records")
        table = array.astype(np.int64)
        table[table < 0] += population
        if (twice := first_twice(table)) is not None:
            first, second = twice
            raise ValueError(
                f"record {table[first]} of {title} is selected twice, at places {first} and {second}; {_EACH_ONCE}"
            )
        return cls(population, table)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        """Return ``4,012 of 60,000 records (1f8a0c)``: two tables differ in this text."""
        return f"{len(self):,} of {self.population:,} records ({self.checksum[:6]})"

    @cached_property
    def checksum(self) -> str:
        """Hexadecimal checksum of the table."""
        return hashlib.blake2b(self.table.astype("<i8", copy=False).data, digest_size=16).hexdigest()

    def fingerprint(self) -> str:
        """Return the text by which a saved state recognises the selection."""
        return f"{len(self)} of {self.population} records, checksum {self.checksum}"

    def parent_indices(self, indices: Any) -> np.ndarray:
        """Return the parent's record indices, int64 (k,), for concrete record indices of the subset, which must be in range."""
        found: np.ndarray = self.table[np.asarray(indices)]
        return found

    @property
    def fits_device(self) -> bool:
        """Whether 32-bit indices under jit name all of the parent's records."""
        return self.population <= DEVICE_LIMIT

    @cached_property
    def _table_32(self) -> np.ndarray:
        table = self.table.astype(np.int32)
        table.flags.writeable = False
        return table

    def traced(self, title: str) -> tuple["LookedUp", np.ndarray]:
        """Return (function of a table and traced indices, the table as int32); all tables share the function.

        The table is the same object at each call, so that it is placed once.

        Args:
            title: Name of the subset in errors.

        Raises:
            ValueError: The selection does not fit 32 bits (`fits_device`).
        """
        if not self.fits_device:
            raise names_too_many(title)
        return LookedUp(), self._table_32

    def __getstate__(self) -> dict[str, Any]:
        return {"population": self.population, "table": self.table, "reason": self.reason}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()


@dataclass(frozen=True)
class LookedUp:
    """`TableSelection.parent_indices` for compiled code; the table is an argument."""

    def __call__(self, table: jax.Array, indices: jax.Array) -> jax.Array:
        """Return the parent's record indices, int32 (k,)."""
        return jax.numpy.asarray(table)[indices]


def first_twice(table: np.ndarray) -> tuple[int, int] | None:
    """Return the first two places at which an int (k,) ``table`` has the same number, from 0; None if each is there once."""
    if not table.size or np.all(np.diff(table) > 0):  # as most tables are
        return None
    if int(table.max()) < 64 * len(table):  # a byte for each number costs less than a sort
        seen = np.zeros(int(table.max()) + 1, bool)
        seen[table] = True
        if np.count_nonzero(seen) == len(table):
            return None
    order = np.argsort(table, kind="stable")
    again = np.flatnonzero(np.diff(table[order]) == 0)
    if not again.size:
        return None
    second = int(order[again + 1].min())
    return int(np.argmax(table == table[second])), second
