"""Number of threads that read for a pipeline: a fixed one, or as many as pay, found by measuring how long reading waits."""

from dataclasses import dataclass
from typing import Final

from datarax_core.order.numbers import Auto

MOST_THREADS: Final = 32
"""Threads that are tried at most."""

_WORTH_MORE: Final = 1e-3
"""Seconds that reading a batch takes at least, for more threads to be tried."""

_UNMEASURED: Final = 64
"""Batches that are not measured after one that was quick, since measuring costs about a microsecond."""

_SLOW_AT_ONCE: Final = 20e-3
"""Seconds of reading after which one batch is enough to decide; otherwise it takes `_MEASURED` batches."""

_MEASURED: Final = 4

_WAITS: Final = 0.3
"""Part of the reading time that is waited, from which on more threads may pay."""

_BUSY: Final = 0.7
"""Share of one core that the threads keep busy together, from which on more threads are not tried."""

_PAYS: Final = 1.25
"""Factor of the speed by which more threads pay."""

_ALIKE: Final = 0.95
"""Factor of the speed by which fewer threads are as good."""

_FIRST_REST, _MOST_REST, _GROWTH = 64, 4096, 4
"""Batches until a number of threads is tried again that did not pay: at first, at most, and the growth factor."""

_PART_SECONDS: Final = 0.05
"""Seconds that a part takes at most, if there are threads for smaller parts: batches come evenly then."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows that were read, and the seconds that it took, of which the threads worked on a processor."""

    rows: int = 0
    seconds: float = 0.0
    worked: float = 0.0

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(self.rows + other.rows, self.seconds + other.seconds, self.worked + other.worked)


class ThreadCount:
    """Number of threads that read for a pipeline; with ``"auto"`` it changes as batches are read.

    It begins with one. Where threads wait, for a disk or a network, more are tried, and kept if records come faster by a
    quarter. Fewer are tried now and then, and kept if records come as fast. Every trial takes some batches, and the next
    one that fails is further away.
    """

    def __init__(self, asked: int | Auto) -> None:
        self.asked = asked
        self.threads = 1 if asked == "auto" else asked
        self.waiting: float | None = None
        """Part of the reading time that was waited, as measured last; None if nothing was measured."""
        self._sum, self._batches = Reading(), 0
        self._row_seconds = 0.0
        self._before: tuple[int, float] | None = None  # the threads before the trial under way, and their speed
        self._rest, self._next_rest = 0, _FIRST_REST
        self._is_waited_for = True
        self._unmeasured = 0  # batches that are not measured

    def __getstate__(self) -> int | Auto:
        return self.asked

    def __setstate__(self, asked: int | Auto) -> None:
        self.__init__(asked)  # type: ignore[misc]  # what was measured is not of another process

    def is_measured_now(self) -> bool:
        """Return whether the batch that one thread reads next is to be measured: not each, of those that are quick."""
        if self.asked != "auto":
            return False
        self._unmeasured -= 1
        return self._unmeasured < 0

    def note_wait(self) -> None:
        """Note that the loop waited for a batch: reading is what holds it up."""
        self._is_waited_for = True

    def parts_for(self, rows: int) -> int:
        """Return the least number of parts of so many rows that come evenly."""
        return int(rows * self._row_seconds / _PART_SECONDS) + 1

    def note(self, reading: Reading) -> None:
        """Note the reading of one batch by `threads`."""
        self._unmeasured = 0 if reading.seconds >= _WORTH_MORE else _UNMEASURED
        self._sum, self._batches = self._sum + reading, self._batches + 1
        total = self._sum
        is_slow = self._batches == 1 and total.seconds >= _SLOW_AT_ONCE and self._before is None
        if not total.rows or not (is_slow or self._batches >= _MEASURED):
            return
        batch_seconds = total.seconds / self._batches
        self._sum, self._batches = Reading(), 0
        self.waiting = min(1.0, max(0.0, 1 - total.worked / total.seconds)) if total.seconds else 0.0
        self._row_seconds = total.seconds / total.rows
        if self.asked == "auto":
            self._decide(self.threads / max(self._row_seconds, 1e-9), batch_seconds)

    def _decide(self, speed: float, batch_seconds: float) -> None:
        """Keep the number of threads, or try another, given the records a second that these threads read."""
        if self._before is not None:
            before, speed_before = self._before
            self._before = None
            needed = _PAYS if self.threads > before else _ALIKE
            if speed < speed_before * needed:
                self.threads = before
                self._rest, self._next_rest = self._next_rest, min(self._next_rest * _GROWTH, _MOST_REST)
                return
            self._next_rest = _FIRST_REST
            if self.threads < before or not self._may_pay(batch_seconds):
                self._rest = _FIRST_REST
                return
        if self._rest > 0:
            self._rest -= _MEASURED
            return
        if self._may_pay(batch_seconds) and self._is_waited_for:
            self._try(self._more(), speed)
        elif self.threads > 1:
            self._try(self.threads // 2, speed)

    def _may_pay(self, batch_seconds: float) -> bool:
        waiting = self.waiting or 0.0
        is_idle = waiting >= _WAITS and self.threads * (1 - waiting) < _BUSY
        return is_idle and batch_seconds >= _WORTH_MORE and self.threads < MOST_THREADS

    def _more(self) -> int:
        """Return the number of threads to try: so many that they keep a core busy, a power of two; twice as many at least."""
        worked = max(1 - (self.waiting or 0.0), 1e-3)
        wanted = 1 << (max(1, int(1 / worked)).bit_length() - 1)
        return min(MOST_THREADS, max(2 * self.threads, wanted))

    def _try(self, threads: int, speed: float) -> None:
        self._before, self.threads = (self.threads, speed), threads
        self._is_waited_for = False

    def describe(self) -> str:
        """Return what was found, as a sentence without its end; empty if nothing was measured."""
        if self.waiting is None:
            return ""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"the reader waits {self.waiting:.0%} of the time: {threads}"
