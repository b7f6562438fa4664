"""Which records of a source a subset has: a range of its record indices, or of a fixed shuffle of them.

O(1) a record, with no table, equal to the bit on NumPy and under ``jax.jit``.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from ._permutation import SORTED_UP_TO, Integers, round_keys, shuffle, sorted_order
from .order import ORDER_RULE
from .spec import Batch

_SPLIT_WORDS: Final = (0x73706C69, 0x74)  # "split": four words, where the key of an order has two


@dataclass(frozen=True, slots=True)
class Selection:
    """A fixed set of the record indices of a source that has ``population`` records, in a fixed sequence.

    Record i of the subset is record ``rows[i]`` of its parent; with a ``seed``, the record at place ``rows[i]`` of the
    shuffle that the seed selects.
    """

    population: int
    rows: range
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.rows:  # one form for one set; a step that is never taken might be larger than an index
            step = self.rows.step if len(self.rows) > 1 else 1
            rows = range(self.rows.start, self.rows[-1] + (1 if step > 0 else -1), step)
            object.__setattr__(self, "rows", rows)

    def __str__(self) -> str:
        """``[10:20]`` or ``[0:90] of 100 shuffled with seed 0``: the parts of a split differ in nothing else."""
        rows = self.rows
        stop = "" if rows.stop < 0 else rows.stop
        text = f"[{rows.start}:{stop}]" if rows.step == 1 else f"[{rows.start}:{stop}:{rows.step}]"
        return text if self.seed is None else f"{text} of {self.population} shuffled with seed {self.seed}"

    def fingerprint(self) -> str:
        """What a saved state must find again."""
        return str(self) if self.seed is None else f"{self}, rule {ORDER_RULE}"

    def parent_indices(self, indices: Integers) -> Integers:
        """int64 (k,): the parent's record indices for concrete ones of the subset, all of them in range."""
        rows = np.asarray(indices, np.int64) * self.rows.step + self.rows.start
        return rows if self.seed is None else _permuted(rows, self.population, split_keys(self.seed))

    def traced(self) -> tuple["TracedSelection", tuple[Any, ...]]:
        """(function of arguments and traced indices, its arguments): selections of one kind share the function."""
        bounds = np.asarray([self.rows.start, self.rows.step], np.int32)
        if self.seed is None:
            return TracedSelection(None), (bounds, None)
        return TracedSelection(self.population), (bounds, split_keys(self.seed))


@dataclass(frozen=True)
class TracedSelection:
    """`Selection.parent_indices` in compiled code. What differs between parts of one source is an argument, not in here."""

    population: int | None

    def __call__(self, arguments: tuple[Any, ...], indices: jax.Array) -> jax.Array:
        """int32 (k,): the parent's record indices."""
        bounds, keys = arguments
        rows: jax.Array = indices.astype(np.int32) * bounds[1] + bounds[0]
        return (
            rows
            if self.population is None
            else jnp.asarray(_permuted(rows, self.population, jnp.asarray(keys)), np.int32)
        )


@dataclass(frozen=True)
class SelectedRecords:
    """How a compiled step reads a subset of a device source: the indices are mapped, then the parent is read."""

    select: TracedSelection
    read: Callable[[Any, jax.Array], Batch]

    def __call__(self, arrays: tuple[Any, Any], indices: jax.Array) -> Batch:
        """The batch of the subset's records ``indices``; ``arrays`` are (the parent's, those of the selection)."""
        return self.read(arrays[0], self.select(arrays[1], indices))


@functools.lru_cache(maxsize=64)
def split_keys(seed: int) -> np.ndarray:
    """uint32 (1, 2 * ROUNDS): the round keys of a split, apart from those of every order."""
    words = np.asarray([seed, 0, *_SPLIT_WORDS], np.uint32)
    keys: np.ndarray = round_keys(words, np.zeros(1, np.uint32), np.zeros(1, np.uint32))
    keys.flags.writeable = False
    return keys


def _permuted(rows: Integers, length: int, keys: Integers) -> Integers:
    return sorted_order(length, keys)[0, rows] if length <= SORTED_UP_TO else shuffle(rows, length, keys[0])
