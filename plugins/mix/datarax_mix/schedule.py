"""The schedule of a mixture: for each position, the child that serves it and the position in that child's own order.

One period of the shares is held as a table. Record k of a child with share w must be served in one of the slots from
``floor(k / w)`` to ``ceil((k + 1) / w) - 1``; exactly then the child's count is within one of its share after any number of
slots. The schedule is earliest deadline first: each slot takes, among the records whose slots have begun, the one whose slots
end first, which meets all deadlines (the chairman assignment problem: Tijdeman, 1980; the slots are the windows of Baruah,
Cohen, Plaxton and Varvel, "Proportionate progress", 1996). Rounding the shares, or serving the child that is furthest behind,
meets them for two children only.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, heappushpop
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np

from .shares import Shares

_MIN_SLOTS: Final = 2**16  # a short period is repeated in the table, so that a batch wraps around at most once


@dataclass(frozen=True, eq=False)
class Schedule:
    """A table of slots that repeats from position 0 without end: one period of the shares, or several. O(1) a position."""

    children: np.ndarray
    """int (n,): the child that each slot belongs to."""

    ranks: np.ndarray
    """int32 (n,): for each slot, the number of earlier slots in the table that belong to the same child."""

    slots: tuple[np.ndarray, ...]
    """For each child, the slots that belong to it, in ascending order."""

    numerators: np.ndarray
    """int64 (k,): for each child, the number of slots that belong to it."""

    @classmethod
    def of(cls, shares: Shares, at_most: int | None = None) -> "Schedule":
        """Return the schedule of ``shares``; computed once a process, in about a second for the longest period.

        ``at_most`` is the number of positions that are asked for, if it is known, so that a short stage gets a short table.
        """
        times = max(1, _MIN_SLOTS // shares.denominator)
        if at_most is not None:
            times = max(1, min(times, -(-at_most // shares.denominator)))
        return _schedule(shares.numerators, shares.denominator, times)

    def __len__(self) -> int:
        return len(self.children)

    def at(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (child, position in its order) at ``start .. start + size``: int8 or int32, and int64, both (size,)."""
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
        """Yield (child, first position in its order, rows) for ``start .. start + size``; rows are ascending int (k,) from 0.

        A child may be yielded more than once; its positions then continue. O(size), without a lookup for each position.
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
        """Return the same as `at` for a traced int32 ``start``, as int32 (size,) each."""
        length = np.int32(len(self))
        rounds, slot = jnp.divmod(start, length)
        slots = slot + jnp.arange(size, dtype=np.int32)
        passed = (slots >= length).astype(np.int32) if size <= len(self) else slots // length
        slots -= passed * length
        children = jnp.asarray(self.children)[slots].astype(np.int32)
        before = jnp.asarray(self.numerators, np.int32)[children] * (rounds + passed)
        return children, before + jnp.asarray(self.ranks)[slots]

    def counts(self, position: int) -> np.ndarray:
        """Return int64 (k,): for each child, the number of positions before ``position`` that belong to it."""
        round_, slot = divmod(position, len(self))
        return self.numerators * round_ + [int(np.searchsorted(slots, slot)) for slots in self.slots]

    def position_of(self, child: int, count: int) -> int:
        """Return the position at which ``child`` serves its record number ``count``, counted from 0."""
        round_, rank = divmod(count, int(self.numerators[child]))
        return round_ * len(self) + int(self.slots[child][rank])


@functools.lru_cache(maxsize=64)
def _schedule(numerators: tuple[int, ...], period: int, times: int) -> Schedule:
    children = np.tile(_by_deadline(numerators, period), times)
    counts = np.asarray(numerators, np.int64) * times
    by_child, ranks = np.argsort(children, kind="stable"), np.empty(len(children), np.int32)
    ranks[by_child] = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    for table in (children, by_child, ranks, counts):
        table.flags.writeable = False
    return Schedule(children, ranks, tuple(np.split(by_child, np.cumsum(counts)[:-1])), counts)


def _by_deadline(numerators: tuple[int, ...], period: int) -> np.ndarray:
    """Return int (period,): the child of each slot, earliest deadline first."""
    served = [child for child, numerator in enumerate(numerators) if numerator]
    records = [np.arange(numerators[child], dtype=np.int64) for child in served]
    begins = np.concatenate([k * period // numerators[c] for c, k in zip(served, records, strict=True)])
    ends = np.concatenate([-((k + 1) * -period // numerators[c]) for c, k in zip(served, records, strict=True)])
    ranked = ends * len(numerators) + np.repeat(served, [len(k) for k in records])  # sorts by end, then by child
    order = np.argsort(begins, kind="stable")
    jobs = ranked[order].tolist()
    begun = np.searchsorted(begins[order], np.arange(period), side="right").tolist()
    waiting: list[int] = []
    slots, taken = [0] * period, 0
    for slot, end in enumerate(begun):
        if end == taken + 1:  # by far the most frequent case; one heap operation instead of two
            slots[slot] = heappushpop(waiting, jobs[taken])
        else:
            for job in jobs[taken:end]:
                heappush(waiting, job)
            slots[slot] = heappop(waiting)
        taken = end
    dtype = np.int8 if len(numerators) <= 2**7 else np.int32
    return (np.asarray(slots) % len(numerators)).astype(dtype)
