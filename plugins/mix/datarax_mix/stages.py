"""The sequence of a mixture whose weights change at positions: stages of constant shares, and ramps from one to the next.

It has the interface of `timeline.Timeline`. Each stage goes on from the children's positions at which the former ended, and
within a stage of constant shares every child's count is within one of its share since the start of the stage.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT

from .ramps import RAMP_RULE, Ramp
from .schedule import Schedule
from .shares import Shares
from .timeline import TIMELINE_RULE, Ending, Stop, as_int32


@dataclass(frozen=True, slots=True)
class Stage:
    """The shares from position ``start`` on; with ``end``, those of the stage before, changing evenly to ``shares`` by then."""

    start: int
    shares: Shares
    end: int | None = None

    @property
    def is_ramp(self) -> bool:
        """Whether the shares change within the stage."""
        return self.end is not None


@dataclass(frozen=True, eq=False)
class Step:
    """Positions from ``start`` on with constant shares; child i served ``counts[i]`` records before."""

    start: int
    counts: np.ndarray
    shares: Shares
    size: int | None
    """Number of positions; None for the last step, which has no end."""

    @property
    def schedule(self) -> Schedule:
        """The schedule of the shares."""
        return Schedule.of(self.shares, self.size)

    def counts_at(self, position: int) -> np.ndarray:
        """Return int64 (k,): the number of records of each child before ``position``, which is in this step or at its end."""
        periods, rest = divmod(position - self.start, self.shares.denominator)
        counts: np.ndarray = self.counts + np.asarray(self.shares.numerators, np.int64) * periods
        return counts + self.schedule.counts(rest) if rest else counts


class StagedTimeline:
    """The mapping between positions of the mixture and (child, position in the child's own order), for weights in stages.

    Args:
        stages: The stages; the first begins at position 0 and is no ramp, each other one after the former has ended.
        endings: Length of each child. All children repeat without end.
    """

    stop: Final[Stop] = "total"
    is_continuous: Final = True
    known_end: Final = None
    title: Final = f"rule {TIMELINE_RULE}, ramps rule {RAMP_RULE}"

    def __init__(self, stages: Sequence[Stage], endings: Sequence[Ending]) -> None:
        self.stages = tuple(stages)
        self.endings = tuple(endings)

    def __reduce__(self) -> tuple[Any, ...]:
        return StagedTimeline, (self.stages, self.endings)  # a pickle holds nothing that can be computed again

    @property
    def shares(self) -> Shares:
        """The shares at position 0."""
        return self.stages[0].shares

    def describe(self) -> list[dict[str, Any]]:
        """Return the stages for a fingerprint."""
        return [
            {
                "from": stage.start,
                **({} if stage.end is None else {"to": stage.end}),
                "ramp" if stage.is_ramp else "shares": list(map(str, stage.shares.fractions)),
            }
            for stage in self.stages
        ]

    @functools.cached_property
    def served(self) -> list[int]:
        """The children whose share is above 0 in some stage."""
        numerators = [stage.shares.numerators for stage in self.stages]
        return [child for child in range(len(self.endings)) if any(of_stage[child] for of_stage in numerators)]

    @functools.cached_property
    def epoch_length(self) -> int | None:
        """Records in an epoch: as many as the children have; None if a child has no length."""
        lengths = [ending.length for ending in self.endings]
        return None if None in lengths else sum(filter(None, lengths))

    def weights_at(self, position: int) -> tuple[float, ...]:
        """Return the shares at ``position``; on a ramp, those of the straight line."""
        number = bisect_right(self.stages, position, key=lambda stage: stage.start) - 1
        stage = self.stages[number]
        shares = stage.shares.fractions
        if stage.end is not None and position < stage.end:
            part, before = Fraction(position - stage.start, stage.end - stage.start), self.stages[number - 1].shares
            shares = tuple(a + (b - a) * part for a, b in zip(before.fractions, shares, strict=True))
        return tuple(map(float, shares))

    def position_after(self, child: int, count: int) -> int:
        """Return the position right after record number ``count`` of ``child``, counted from 1.

        Raises:
            ValueError: The child's share becomes 0 before.
        """
        steps = self._steps
        number = bisect_right(steps, count - 1, key=lambda step: int(step.counts[child])) - 1
        step = steps[number]
        if not step.shares.numerators[child]:
            raise ValueError(f"child {child} is served no more before it has served {count} records")
        return step.start + step.schedule.position_of(child, count - 1 - int(step.counts[child])) + 1

    def at(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (child, position in its order) at positions ``start .. start + size``, both (size,)."""
        parts = []
        for step, first, count in self._parts(start, size):
            which, places = step.schedule.at(first - step.start, count)
            parts.append((which, places + step.counts[which]))
        if len(parts) == 1:
            return parts[0]
        which, places = map(np.concatenate, zip(*parts, strict=True))
        return which, places

    def stretches(self, start: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (child, first position in its order, rows) for ``start .. start + size``, as `Schedule.stretches` does."""
        for step, first, count in self._parts(start, size):
            for child, place, rows in step.schedule.stretches(first - step.start, count):
                yield child, place + int(step.counts[child]), rows + (first - start)

    def counts(self, position: int) -> np.ndarray:
        """Return int64 (k,): the number of records of each child before ``position``."""
        return self._step_at(position).counts_at(position)

    def traced_at(self, start: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """Return the same as `at` for a traced ``start``, as int32 (size,) each; equal to the bit."""
        steps, tables = jax.tree.map(jnp.asarray, self._tables)
        positions = start.astype(np.int32) + jnp.arange(size, dtype=np.int32)
        step = jnp.searchsorted(steps["start"], positions, side="right") - 1
        periods, slots = jnp.divmod(positions - steps["start"][step], steps["period"][step])
        slots += steps["table"][step]
        children = tables["children"][slots]
        return children, steps["counts"][step, children] + periods * steps["numerators"][step, children] + tables[
            "ranks"
        ][slots]

    def most_of(self, child: int, size: int) -> int:  # noqa: ARG002 - as `Timeline`
        """Return a bound of the number of records of ``child`` in ``size`` consecutive positions."""
        return size

    # -- shares at positions, for draws -----------------------------------------------------------------------------------

    def bounds_at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (sums of numerators, int64 (size, k), denominators, int64 (size,)) of the shares at ``positions``."""
        steps = self._steps
        starts = np.asarray([step.start for step in steps])
        step = np.searchsorted(starts, positions, side="right") - 1
        numerators, denominators = self._numerators
        return np.cumsum(numerators, axis=1)[step], denominators[step]

    def traced_bounds_at(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the same as `bounds_at` for traced ``positions``, as int32."""
        starts = as_int32({"start": [step.start for step in self._steps]})["start"]
        step = jnp.searchsorted(jnp.asarray(starts), positions, side="right") - 1
        numerators, denominators = (table.astype(np.int32) for table in self._numerators)
        return jnp.asarray(np.cumsum(numerators, axis=1, dtype=np.int32))[step], jnp.asarray(denominators)[step]

    # -- inside -----------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _steps(self) -> list[Step]:
        """The steps of all stages, one after another: one for a stage of constant shares, many for a ramp."""
        steps, start, counts = [], 0, np.zeros(len(self.endings), np.int64)
        for size, shares in self._sizes():
            steps.append(Step(start, counts, shares, size))
            if size is not None:
                start += size
                counts = steps[-1].counts_at(start)
        return steps

    def _sizes(self) -> Iterator[tuple[int | None, Shares]]:
        """Yield (number of positions, shares) of each step; the last number is None."""
        ends = [stage.start for stage in self.stages[1:]]
        before = self.stages[0].shares
        for stage, end in zip(self.stages, [*ends, None], strict=True):
            start = stage.start
            if stage.end is not None:
                yield from Ramp(before, stage.shares, stage.end - start).steps()
                start = stage.end
            if end is None or start < end:
                yield None if end is None else end - start, stage.shares
            before = stage.shares

    def _step_at(self, position: int) -> Step:
        return self._steps[bisect_right(self._steps, position, key=lambda step: step.start) - 1]

    def _parts(self, start: int, size: int) -> Iterator[tuple[Step, int, int]]:
        """Yield (step, first position, number of positions) for ``start .. start + size``."""
        position, number = start, bisect_right(self._steps, start, key=lambda step: step.start) - 1
        while position < start + size:
            step = self._steps[number]
            end = start + size if step.size is None else min(start + size, step.start + step.size)
            yield step, position, end - position
            position, number = end, number + 1

    @functools.cached_property
    def _numerators(self) -> tuple[np.ndarray, np.ndarray]:
        shares = [step.shares for step in self._steps]
        return np.asarray([one.numerators for one in shares], np.int64), np.asarray([one.denominator for one in shares])

    @functools.cached_property
    def _tables(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Tables for compiled code, as int32: (a row for each step, the slots of all steps one after another)."""
        steps = [step for step in self._steps if step.start <= DEVICE_LIMIT]
        schedules = [Schedule.of(step.shares, 1) for step in steps]
        periods = list(map(len, schedules))
        by_step = {
            "start": [step.start for step in steps],
            "period": periods,
            "table": np.cumsum([0, *periods[:-1]]),
            "counts": [step.counts for step in steps],
            "numerators": [schedule.numerators for schedule in schedules],
        }
        slots = {
            "children": np.concatenate([schedule.children for schedule in schedules]),
            "ranks": np.concatenate([schedule.ranks for schedule in schedules]),
        }
        return as_int32(by_step), as_int32(slots)
