"""The endless sequence of a proportional mixture, by arithmetic: the child at each position, and the end of each epoch.

If every child repeats without end, one schedule serves all positions. If a child drops out, an epoch has several phases, each
with the shares of the children that are left; every epoch has the same phases, and each child continues in its own order.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT

from .schedule import Schedule
from .shares import Shares

Stop: TypeAlias = Literal["total", "first_exhausted", "all_seen"]

TIMELINE_RULE: Final = 1
"""Version of the arithmetic; every saved state holds it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Ending of a child: how many records it has, and when it drops out of an epoch of the mixture."""

    length: int | None
    """Records in one epoch of the child; None for a stream without a length."""

    rounds: int | None
    """Epochs of the child after which it drops out; None if it never drops out."""

    @property
    def limit(self) -> int | None:
        """Records after which the child drops out of an epoch of the mixture; None if it repeats without end."""
        return None if self.rounds is None or self.length is None else self.rounds * self.length

    @property
    def exhausted_at(self) -> int:
        """Records after which the child has no new record to serve."""
        return self.limit or self.length or 0


@dataclass(frozen=True, eq=False)
class Phase:
    """The positions ``start .. end`` of an epoch; child i served ``counts[i]`` records before. An ``end`` of None: no end."""

    start: int
    counts: np.ndarray
    schedule: Schedule
    end: int | None


class Timeline:
    """The mapping between positions of the mixture and (child, position in the child's own order).

    Args:
        shares: Shares of the children.
        endings: Length of each child, and how often it is repeated.
        stop: The rule that ends an epoch.
    """

    def __init__(self, shares: Shares, endings: Sequence[Ending], stop: Stop) -> None:
        self.shares = shares
        self.endings = tuple(endings)
        self.stop: Stop = stop
        self._known: list[Phase] = []
        self._following = self._generate_phases()

    def __reduce__(self) -> tuple[Any, ...]:
        return Timeline, (self.shares, self.endings, self.stop)  # a pickle holds nothing that can be computed again

    def describe(self) -> list[str]:
        """Return the shares for a fingerprint."""
        return list(map(str, self.shares.fractions))

    @property
    def title(self) -> str:
        """The arithmetic in the name of an order."""
        return f"rule {TIMELINE_RULE}"

    def weights_at(self, position: int) -> tuple[float, ...]:  # noqa: ARG002 - as `StagedTimeline`
        """Return the shares, which are the same at all positions."""
        return tuple(map(float, self.shares.fractions))

    @property
    def served(self) -> list[int]:
        """The children whose share is above 0."""
        return [child for child, numerator in enumerate(self.shares.numerators) if numerator]

    @property
    def is_continuous(self) -> bool:
        """Whether no child ever drops out, so that one schedule serves all positions."""
        return all(self.endings[child].rounds is None for child in self.served)

    @functools.cached_property
    def epoch_length(self) -> int | None:
        """Records in an epoch; None if a child has no length."""
        if any(ending.length is None for ending in self.endings):
            return None
        if self.stop == "total":
            total, limits = sum(ending.length or 0 for ending in self.endings), self._limits()
            return total if None in limits else min(total, sum(filter(None, limits)))
        if self.stop == "first_exhausted":
            return min(self.position_after(child, self.endings[child].exhausted_at) for child in self.served)
        return max(self.position_after(child, self.endings[child].length or 0) for child in self.served)

    @functools.cached_property
    def known_end(self) -> int | None:
        """The latest end of a mixture that ends with its first exhausted child, if a child has no length; None otherwise."""
        if self.epoch_length is not None or self.stop != "first_exhausted":
            return None
        ends = [self.endings[child].exhausted_at for child in self.served]
        return min((self.position_after(c, end) for c, end in zip(self.served, ends, strict=True) if end), default=None)

    def position_after(self, child: int, count: int) -> int:
        """Return the position in an epoch right after record number ``count`` of ``child``, counted from 1."""
        for phase in self._phases():
            before = int(phase.counts[child])
            if phase.schedule.numerators[child] and count > before:
                position = phase.start + phase.schedule.position_of(child, count - before - 1) + 1
                if phase.end is None or position <= phase.end:
                    return position
        raise ValueError(f"child {child} drops out before it has served {count} records")

    def at(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (child, position in its order) at positions ``start .. start + size``, both (size,)."""
        if self.is_continuous:
            return self._first.schedule.at(start, size)
        which, places = np.empty(size, np.int32), np.empty(size, np.int64)
        for child, first, rows in self.stretches(start, size):
            which[rows] = child
            places[rows] = first + np.arange(len(rows))
        return which, places

    def stretches(self, start: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (child, first position in its order, rows) for ``start .. start + size``, as `Schedule.stretches` does."""
        if self.is_continuous:
            yield from self._first.schedule.stretches(start, size)
            return
        done = 0
        while done < size:
            epoch, offset = self._located(start + done)
            phase = next(p for p in self._phases() if p.end is None or offset < p.end)
            count = min([size - done, *(end - offset for end in (phase.end, self.epoch_length) if end is not None)])
            before = phase.counts + (self._epoch_counts * epoch if epoch else 0)
            for child, first, rows in phase.schedule.stretches(offset - phase.start, count):
                yield child, int(before[child]) + first, rows + done
            done += count

    def counts(self, position: int) -> np.ndarray:
        """Return int64 (k,): the number of records of each child before ``position``."""
        if self.is_continuous:
            return self._first.schedule.counts(position)
        epoch, offset = self._located(position)
        return self._counts_within(offset) + (self._epoch_counts * epoch if epoch else 0)

    def traced_at(self, start: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """Return the same as `at` for a traced ``start``, as int32 (size,) each; equal to the bit."""
        if self.is_continuous:
            return self._first.schedule.traced_at(start.astype(np.int32), size)
        positions = start.astype(np.int32) + jnp.arange(size, dtype=np.int32)
        phases, tables = jax.tree.map(jnp.asarray, self._tables)
        length = np.int32(min(self.epoch_length or 1, DEVICE_LIMIT))
        epochs = positions // length
        offsets = positions - epochs * length
        phase = (offsets[:, None] >= phases["start"][None, 1:]).sum(axis=1)
        local = offsets - phases["start"][phase]
        periods = local // phases["period"][phase]
        slots = local - periods * phases["period"][phase] + phases["table"][phase]
        children = tables["children"][slots]
        before = phases["counts"][phase, children] + epochs * phases["epoch_counts"][children]
        return children, before + periods * phases["numerators"][phase, children] + tables["ranks"][slots]

    def most_of(self, child: int, size: int) -> int:
        """Return the largest number of records of ``child`` in any ``size`` consecutive positions."""
        if not self.is_continuous:
            return size
        return min(size, -(-size * self.shares.numerators[child] // self.shares.denominator) + 1)

    # -- inside ---------------------------------------------------------------------------------------------------------

    @property
    def _first(self) -> Phase:
        return next(self._phases())

    def _located(self, position: int) -> tuple[int, int]:
        """Return (epoch, position in the epoch); an epoch without a known length is the only one."""
        return (0, position) if self.epoch_length is None else divmod(position, self.epoch_length)

    @functools.cached_property
    def _epoch_counts(self) -> np.ndarray:
        limits, length = self._limits(), self.epoch_length or 0
        if None not in limits and length == sum(filter(None, limits)):
            return np.asarray(
                [limit or 0 for limit in limits]
            )  # every child is served to its limit: the phases are not needed
        return self._counts_within(length)

    def _limits(self) -> list[int | None]:
        return [
            ending.limit if numerator else 0
            for ending, numerator in zip(self.endings, self.shares.numerators, strict=True)
        ]

    def _counts_within(self, offset: int) -> np.ndarray:
        phase = next(p for p in self._phases() if p.end is None or offset <= p.end)
        counts: np.ndarray = phase.counts + phase.schedule.counts(offset - phase.start)
        return counts

    def _phases(self) -> Iterator[Phase]:
        """Yield the phases of an epoch; each is computed when first needed, since a long one takes a second."""
        known = 0
        while True:
            if known == len(self._known):
                phase = next(self._following, None)
                if phase is None:
                    return
                self._known.append(phase)
            yield self._known[known]
            known += 1

    def _generate_phases(self) -> Iterator[Phase]:
        start, counts, dropped = 0, np.zeros(len(self.endings), np.int64), frozenset[int]()
        while left := [child for child in self.served if child not in dropped]:
            schedule = Schedule.of(self.shares.without(dropped) if dropped else self.shares)
            ends = [
                (schedule.position_of(child, limit - int(counts[child]) - 1) + 1, child)
                for child in left
                if (limit := self.endings[child].limit) is not None
            ]
            if not ends:
                yield Phase(start, counts, schedule, None)
                return
            length, child = min(ends)
            yield Phase(start, counts, schedule, start + length)
            start, counts, dropped = start + length, counts + schedule.counts(length), dropped | {child}

    @functools.cached_property
    def _tables(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Tables for compiled code, as int32: (a row for each phase, the slots of all phases one after another)."""
        phases = []
        for phase in self._phases():
            phases.append(phase)
            if phase.end is None or phase.end >= (self.epoch_length or 0):
                break
        schedules = [phase.schedule for phase in phases]
        periods = list(map(len, schedules))
        by_phase = {
            "start": [phase.start for phase in phases],
            "period": periods,
            "table": np.cumsum([0, *periods[:-1]]),
            "counts": [phase.counts for phase in phases],
            "numerators": [schedule.numerators for schedule in schedules],
            "epoch_counts": self._epoch_counts,
        }
        slots = {
            "children": np.concatenate([schedule.children for schedule in schedules]),
            "ranks": np.concatenate([schedule.ranks for schedule in schedules]),
        }
        return as_int32(by_phase), as_int32(slots)


def as_int32(tables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the tables as int32; numbers past 32 bits belong to positions that compiled code does not reach."""
    return {
        name: np.minimum(np.asarray(table, np.int64), DEVICE_LIMIT).astype(np.int32) for name, table in tables.items()
    }
