"""Number of threads that read for a pipeline: a fixed one, or as many as pay, found by measuring how long reading waits."""

from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any, Final

from datarax_core.order.numbers import Auto

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MOST_THREADS: Final = 32
"""Threads that are tried at most."""

_WORTH_MORE: Final = 1e-3
"""Seconds that reading a batch takes at least, for several threads to be worth it."""

_MEASURED: Final = 4
"""Batches that are measured before anything is decided, at least."""

_MEASURED_SECONDS: Final = 0.05
"""Seconds for which reading is measured before anything is decided, at least."""

_SLOW_AT_ONCE: Final = 20e-3
"""Seconds of reading, all but waited, after which one batch is enough to decide."""

_UNMEASURED, _UNMEASURED_SLOW, _UNMEASURED_SECONDS = 64, 3, 0.1
"""Batches that are not measured after one that was quick, and after one that was slow and did not wait: of the slow ones as
many as take a tenth of a second, from 3 to 64."""

_WAITS, _WAITS_SURELY = 0.5, 0.8
"""Parts of the reading time that are waited from which on more threads may pay: over some batches, and in one read."""

_BUSY: Final = 0.7
"""Share of the cores that reading can use which the threads keep busy together: from there on, fewer threads are tried, not
more."""

_PAYS, _ALIKE = 1.25, 0.95
"""Factors of the speed: by which more threads pay, and at which fewer are as good."""

_FIRST_REST, _MOST_REST, _GROWTH = 64, 4096, 4
"""Batches until another number of threads is tried again: at first, at most, and the growth factor."""

_PART_SECONDS: Final = 0.05
"""Seconds that a part takes at most, if there are threads for smaller parts: batches come evenly then."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows that were read, and what it took the threads that read them."""

    rows: int = 0
    seconds: float = 0.0
    """Seconds of all threads together."""
    worked: float = 0.0
    """Seconds on a processor."""
    waits: int = 0
    """How often a thread gave up the processor by itself: none, if it lost it to another process only."""

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(
            self.rows + other.rows,
            self.seconds + other.seconds,
            self.worked + other.worked,
            self.waits + other.waits,
        )

    def __truediv__(self, batches: int) -> "Reading":
        """Return the share of one of so many batches that were read together."""
        return Reading(self.rows // batches, self.seconds / batches, self.worked / batches, -(-self.waits // batches))

    @property
    def waiting(self) -> float:
        """Part of the seconds that was waited."""
        if not self.waits or not self.seconds:
            return 0.0
        return min(1.0, max(0.0, 1 - self.worked / self.seconds))


class Stopwatch:
    """Measurement of reads by the thread that makes them.

    Costs two microseconds for each; twenty with ``alone=True``, which takes the time in which other processes had the
    processor for work: on a busy machine, reading only seems to wait.
    """

    __slots__ = ("_alone", "_began", "_delayed", "_waits", "_worked")

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone
        self._delayed = _delay() if alone else 0.0
        self._worked, self._waits = _usage()
        self._began = perf_counter()

    def read(self, rows: int) -> Reading:
        """Return what it took to read so many rows since this was made."""
        seconds = perf_counter() - self._began
        worked, waits = _usage()
        delayed = _delay() - self._delayed if self._alone else 0.0
        return Reading(rows, seconds, worked - self._worked + delayed, waits - self._waits)


def _usage() -> tuple[float, int]:
    """Return the seconds that this thread was on a processor, and how often it gave it up."""
    if resource is None or not hasattr(resource, "RUSAGE_THREAD"):
        return thread_time(), int(perf_counter() * 1e3)  # every millisecond counts as a wait
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime, usage.ru_nvcsw


def _delay() -> float:
    """Return the seconds that this thread could have worked and others had the processor; 0 where the system does not say."""
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:  # noqa: PTH123 - a third of the time of Path.open
            return int(file.read(80).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class ThreadCount:
    """Number of threads that read for a pipeline; with ``"auto"`` it changes as batches are read.

    It begins with one. Where threads wait, for a disk or a network, or can work on several cores, more are tried, and kept if
    records come faster by a quarter, or if the loop does not wait any more. Fewer are tried now and then, and kept if records
    come as fast. A trial takes some batches; after one that fails the next is further away.

    Args:
        asked: The number, or ``"auto"``.
        cores: How many cores threads can use at once: more than one where reading releases Python's global interpreter lock.
    """

    def __init__(self, asked: int | Auto, cores: int = 1) -> None:
        self.asked = asked
        self.cores = cores
        self.threads = 1 if asked == "auto" else asked
        self.waiting: float | None = None
        """Part of the reading time that was waited, as measured last; None if nothing was measured."""
        self._sum, self._batches, self._elapsed = Reading(), 0, 0.0
        self._row_seconds = 0.0
        self._before: tuple[int, float] | None = None  # the threads before the trial under way, and their speed
        self._rest, self._next_rest = 0, _FIRST_REST
        self._tries_more = True  # until it does not pay; then fewer, until these are slower
        self._is_waited_for = True
        self._unmeasured = 0  # batches that are not measured

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.asked, self.cores)  # what was measured is not of another process

    def is_measured_now(self) -> bool:
        """Return whether the batch that one thread reads next is to be measured: not each, of those that are quick."""
        if self.asked != "auto":
            return False
        self._unmeasured -= 1
        return self._unmeasured < 0

    @property
    def is_new(self) -> bool:
        """Whether nothing was measured yet of a number that is to be found."""
        return self.asked == "auto" and self.waiting is None and not self._batches

    def note_wait(self) -> None:
        """Note that the loop waited for a batch: reading is what holds it up."""
        self._is_waited_for = True

    def parts_for(self, rows: int) -> int:
        """Return the least number of parts of so many rows that come evenly."""
        return int(rows * self._row_seconds / _PART_SECONDS) + 1

    def note_first_row(self, reading: Reading) -> None:
        """Note how one row was read, the first of all: if it was waited for, several threads read the rest of its batch."""
        if self.asked == "auto" and reading.seconds >= _WORTH_MORE and reading.waiting >= _WAITS_SURELY:
            self.waiting, self._row_seconds = reading.waiting, reading.seconds
            self._try(self._more(), 1 / reading.seconds)

    def note(self, reading: Reading, elapsed: float) -> None:
        """Note how one batch was read by `threads`, in ``elapsed`` seconds in which any of them read."""
        is_quick = reading.seconds < _WORTH_MORE
        has_found_one = self.waiting is not None and self.waiting < _WAITS and self.cores == 1
        slow = min(_UNMEASURED, max(_UNMEASURED_SLOW, int(_UNMEASURED_SECONDS / max(reading.seconds, 1e-9))))
        self._unmeasured = _UNMEASURED if is_quick else slow if has_found_one else 0
        if is_quick and self._batches and self._sum.seconds / self._batches >= _WORTH_MORE:
            self._sum, self._batches, self._elapsed = Reading(), 0, 0.0  # it has become quick
        self._sum, self._batches, self._elapsed = self._sum + reading, self._batches + 1, self._elapsed + elapsed
        total, batches, seconds = self._sum, self._batches, self._elapsed
        is_sure = self._before is None and total.seconds >= _SLOW_AT_ONCE and total.waiting >= _WAITS_SURELY
        is_long = batches >= _MEASURED and (seconds >= _MEASURED_SECONDS or total.seconds / batches < _WORTH_MORE)
        is_long |= batches >= _FIRST_REST
        if not total.rows or not (is_sure or is_long):
            return
        self._sum, self._batches, self._elapsed = Reading(), 0, 0.0
        self.waiting = total.waiting
        self._row_seconds = total.seconds / total.rows
        if self.asked == "auto":
            self._decide(total.rows / max(seconds, 1e-9), total.seconds / batches, batches)

    def _decide(self, speed: float, batch_seconds: float, batches: int) -> None:
        """Keep the number of threads, or try another, given the records a second that these threads read."""
        is_waited_for, self._is_waited_for = self._is_waited_for, False
        before, self._before = self._before, None
        if before is not None and is_waited_for and not self._is_better(speed, *before):
            self.threads, self._tries_more = before[0], self.threads < before[0]
            self._rest, self._next_rest = self._next_rest, min(self._next_rest * _GROWTH, _MOST_REST)
        elif self.threads > 1 and batch_seconds < _WORTH_MORE:
            self.threads = 1
        elif self.threads > self.cores and not self.waiting:
            self.threads = self.cores
        elif before is not None and not self._is_busy and not self._may_pay(batch_seconds):
            self._rest = _FIRST_REST
        elif self._rest > 0:
            self._rest -= batches
        elif is_waited_for and self._may_pay(batch_seconds) and (self._tries_more or self.threads == 1):
            self._try(self._more(), speed)
        elif is_waited_for and self.threads > 1:
            self._try(self.threads // 2, speed)

    def _is_better(self, speed: float, threads_before: int, speed_before: float) -> bool:
        return speed >= speed_before * (_PAYS if self.threads > threads_before else _ALIKE)

    @property
    def _is_busy(self) -> bool:
        return self.threads * (1 - (self.waiting or 0.0)) >= _BUSY * self.cores

    def _may_pay(self, batch_seconds: float) -> bool:
        most = MOST_THREADS if (self.waiting or 0.0) >= _WAITS else min(MOST_THREADS, self.cores)
        return self.threads < most and not self._is_busy and batch_seconds >= _WORTH_MORE

    def _more(self) -> int:
        """Return the number of threads to try: so many that they keep a core busy, a power of two; twice as many at least.

        Threads that work, and do not wait, are at most as many as the cores.
        """
        waiting = self.waiting or 0.0
        wanted = 1 << (max(1, int(1 / max(1 - waiting, 1e-3))).bit_length() - 1)
        more = min(MOST_THREADS, max(2 * self.threads, wanted))
        return more if waiting >= _WAITS else max(2, min(more, self.cores))

    def _try(self, threads: int, speed: float) -> None:
        self._before, self.threads = (self.threads, speed), threads

    def as_dict(self) -> dict[str, float]:
        """Return what was found, as `Pipeline.stats` names it; nothing if nothing was measured."""
        return {} if self.waiting is None else {"threads": self.threads, "waited_of_reading": self.waiting}

    def describe(self) -> str:
        """Return what was found, as a sentence without its end; empty if nothing was measured."""
        if self.waiting is None:
            return ""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        if self.threads > 1 and self.waiting < _WAITS:
            return f"the reader works on several cores: {threads}"
        return f"the reader waits {self.waiting:.0%} of the time: {threads}"
