"""Linear ramps of shares, as a staircase whose counts follow the integral of the ramp at the end of each step.

From share a to share b over n records, the integral at x is ``a x + (b - a) x^2 / 2n``; those of all children add up to x. A
step of a ramp has whole numbers of records of each child, and is served like a stage of constant shares. These numbers are the
schedule of the ramp, earliest deadline first as in `schedule`, with a step in place of a slot; so that a child's count at the
end of a step is the integral, rounded up or down. All is computed with integers.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Final

from .shares import LARGEST, Shares

RAMP_RULE: Final = 1
"""Version of the arithmetic; saved states of mixtures with stages hold it."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """A ramp of the children's shares from ``first`` to ``last`` over ``length`` records.

    It has as many steps as a step has records, so that the steps are too small to matter: within one, the integral is never
    more than 1/8 of a record from the line between its ends. Beyond 2^20 records there are 1,024 steps, and each repeats a
    table of 1,024 records; the counts then follow the integral to a millionth of the ramp's length.
    """

    first: Shares
    last: Shares
    length: int

    @property
    def repeats(self) -> int:
        """How often each step repeats its table: 1 up to 2^20 records."""
        return -(-self.length // LARGEST)

    def steps(self) -> Iterator[tuple[int, Shares]]:
        """Yield (number of records, shares) of each step; together they have ``length`` records."""
        repeats, start = self.repeats, 0
        slots = self.length // repeats
        done = [0] * len(self.first.numerators)
        for end in _ends(slots):
            counts = self._counts_after(end, done, slots)
            added = tuple(after - before for after, before in zip(counts, done, strict=True))
            yield (end - start) * repeats, Shares(added, end - start, 0.0)
            start, done = end, counts
        if rest := self.length - slots * repeats:
            yield rest, self.last

    def _counts_after(self, end: int, done: Sequence[int], slots: int) -> list[int]:
        """Return each child's count after ``end`` slots, of which it had ``done`` at the end of the step before.

        Records whose deadline has passed are served, then those of the earliest deadlines among the ones that have begun.
        """
        served = [max(count, self._scaled(child, end) // self._unit) for child, count in enumerate(done)]
        begun = [child for child, count in enumerate(served) if self._scaled(child, end) > count * self._unit]
        missing = end - sum(served)
        for child in sorted(begun, key=lambda child: (self._deadline(child, served[child], end, slots), child))[
            :missing
        ]:
            served[child] += 1
        return served

    def _deadline(self, child: int, record: int, start: int, slots: int) -> int:
        """Return the first slot from ``start`` at whose beginning the integral holds all of ``record``, counted from 0."""
        wanted = (record + 1) * self._unit
        return start + bisect_left(range(start, slots + 1), wanted, key=lambda slot: self._scaled(child, slot))

    @property
    def _unit(self) -> int:
        return 2 * self.length * self.first.denominator * self.last.denominator

    def _scaled(self, child: int, slot: int) -> int:
        """Return the integral of a child's share after ``slot`` slots of ``repeats`` records, in slots, times ``_unit``."""
        first = self.first.numerators[child] * self.last.denominator
        last = self.last.numerators[child] * self.first.denominator
        return (2 * self.length * first + (last - first) * self.repeats * slot) * slot


def _ends(slots: int) -> Iterator[int]:
    """Yield the end of each step: as many steps as a step has slots."""
    count = isqrt(slots)
    return (number * slots // count for number in range(1, count + 1))
