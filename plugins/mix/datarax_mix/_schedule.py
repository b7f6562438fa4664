"""Which child serves a position, and its how-manyth record that is: one period of the shares, held as a table.

Record k of a child with share w belongs into the slots from ``floor(k / w)`` to ``ceil((k + 1) / w) - 1``: then, and only
then, its count is within one of its share after any number of slots. Taking, in each slot, of the records whose slots have
begun the one whose slots end first keeps all of these at once (the chairman assignment problem: Tijdeman, 1980; the windows
are those of Baruah, Cohen, Plaxton and Varvel, "Proportionate progress", 1996). Rounding, or the child that is furthest
behind, does so for two children only.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, heappushpop
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np

from ._fractions import Shares

_AT_LEAST: Final = 2**16  # slots of a table: a short period is written down so often that a block wraps at most once


@dataclass(frozen=True, eq=False)
class Schedule:
    """The slots of one period, or of a few, over and over, from position 0 without end. O(1) a position.

    ``children[s]`` is the child that slot s belongs to, ``ranks[s]`` how many slots before it in the table do so, too;
    ``slots[i]`` are those that belong to child i, and ``numerators[i]`` is how many these are.
    """

    children: np.ndarray
    ranks: np.ndarray
    slots: tuple[np.ndarray, ...]
    numerators: np.ndarray

    @classmethod
    def of(cls, shares: Shares) -> "Schedule":
        """The schedule of these shares; computed once a process: about a second for the longest period."""
        return _schedule(shares.numerators, shares.denominator)

    def __len__(self) -> int:
        return len(self.children)

    def at(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(child, position in it) at positions ``start .. start + size``: int8 or int32, and int64, both (size,)."""
        round_, slot = divmod(start, len(self))
        if slot + size <= len(self):
            children = self.children[slot : slot + size]
            return children, self.ranks[slot : slot + size] + (self.numerators * round_)[children]
        slots = slot + np.arange(size)
        rounds = slots // len(self)
        slots -= rounds * len(self)
        children = self.children[slots]
        return children, self.ranks[slots] + self.numerators[children] * (round_ + rounds)

    def stretches(self, start: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """(child, its first position, rows) of the same positions, by child: rows are int (k,) from 0, in their order.

        A child may come more than once, and then goes on where it was. O(size), with nothing looked up a position.
        """
        done = 0
        while done < size:
            round_, slot = divmod(start + done, len(self))
            end = min(len(self), slot + size - done)
            for child, slots in enumerate(self.slots):
                first, last = (
                    (0, len(slots)) if end - slot == len(self) else np.searchsorted(slots, (slot, end)).tolist()
                )
                if first < last:
                    yield child, first + round_ * len(slots), slots[first:last] + (done - slot)
            done += end - slot

    def traced_at(self, start: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """`at` for a traced int32 ``start``: int32 (size,) each."""
        length = np.int32(len(self))
        rounds, slot = jnp.divmod(start, length)
        slots = slot + jnp.arange(size, dtype=np.int32)
        passed = (slots >= length).astype(np.int32) if size <= len(self) else slots // length
        slots -= passed * length
        children = jnp.asarray(self.children)[slots].astype(np.int32)
        before = jnp.asarray(self.numerators, np.int32)[children] * (rounds + passed)
        return children, before + jnp.asarray(self.ranks)[slots]

    def counts(self, position: int) -> np.ndarray:
        """int64 (k,): how many of the positions before ``position`` belong to each child."""
        round_, slot = divmod(position, len(self))
        return self.numerators * round_ + [int(np.searchsorted(slots, slot)) for slots in self.slots]

    def position_of(self, child: int, count: int) -> int:
        """The position of the record of ``child`` that has ``count`` before it."""
        round_, rank = divmod(count, int(self.numerators[child]))
        return round_ * len(self) + int(self.slots[child][rank])


@functools.lru_cache(maxsize=64)
def _schedule(numerators: tuple[int, ...], period: int) -> Schedule:
    times = max(1, _AT_LEAST // period)
    children = np.tile(_by_deadline(numerators, period), times)
    counts = np.asarray(numerators, np.int64) * times
    by_child, ranks = np.argsort(children, kind="stable"), np.empty(len(children), np.int32)
    ranks[by_child] = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    for table in (children, by_child, ranks, counts):
        table.flags.writeable = False
    return Schedule(children, ranks, tuple(np.split(by_child, np.cumsum(counts)[:-1])), counts)


def _by_deadline(numerators: tuple[int, ...], period: int) -> np.ndarray:
    """int (period,): the child of each slot; see the module's docstring."""
    served = [child for child, numerator in enumerate(numerators) if numerator]
    records = [np.arange(numerators[child], dtype=np.int64) for child in served]
    begins = np.concatenate([k * period // numerators[c] for c, k in zip(served, records, strict=True)])
    ends = np.concatenate([-((k + 1) * -period // numerators[c]) for c, k in zip(served, records, strict=True)])
    ranked = ends * len(numerators) + np.repeat(served, [len(k) for k in records])  # one integer: first the end
    order = np.argsort(begins, kind="stable")
    jobs = ranked[order].tolist()
    begun = np.searchsorted(begins[order], np.arange(period), side="right").tolist()
    waiting: list[int] = []
    slots, taken = [0] * period, 0
    for slot, end in enumerate(begun):
        if end == taken + 1:  # the most frequent case by far
            slots[slot] = heappushpop(waiting, jobs[taken])
        else:
            for job in jobs[taken:end]:
                heappush(waiting, job)
            slots[slot] = heappop(waiting)
        taken = end
    dtype = np.int8 if len(numerators) <= 2**7 else np.int32
    return (np.asarray(slots) % len(numerators)).astype(dtype)
