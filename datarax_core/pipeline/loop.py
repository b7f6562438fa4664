"""One run over a pipeline: batch after batch, read ahead on a thread once reading one takes long enough."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from time import perf_counter
from typing import Any, Final, Protocol, Self

from datarax_core.background import Ahead
from datarax_core.records.spec import Batch

from .definition import BatchRule
from .route import Prepared, Route

WORTH_A_THREAD: Final = 75e-6
"""Seconds. To hand a batch from one thread to another, and the interpreter's lock back and forth, takes about as long."""

_AT_ONCE: Final = 1e-3  # whoever takes this long is not asked twice

_ASKED: Final = 3  # batches; the quickest of them tells, since any may have met a hiccup

_AHEAD_AT_FIRST, _AHEAD_AT_MOST, _GROWTH = 64, 4096, 4


class PrefetchDecision:
    """Decides from the batches that a loop reads itself. Those read on a thread do not tell: they wait for the loop, too.

    So while reading is slow, the loop reads ahead for 64 batches, and then some itself to see whether it still is; then for
    256, and so on.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_ASKED)
        self._left = 0
        self._next = _AHEAD_AT_FIRST

    @property
    def is_slow(self) -> bool:
        """Whether the next batches are worth being read ahead."""
        return self._left > 0 or WORTH_A_THREAD < 0

    def note_own(self, seconds: float) -> None:
        """Note how long it took the loop to read a batch itself."""
        self._seconds.append(seconds)
        is_slow = len(self._seconds) == _ASKED and min(self._seconds) > WORTH_A_THREAD
        if is_slow or seconds > max(_AT_ONCE, WORTH_A_THREAD):
            self._left, self._next = self._next, min(self._next * _GROWTH, _AHEAD_AT_MOST)
            self._seconds.clear()

    def note_ahead(self) -> None:
        """Note that a batch was read ahead."""
        self._left -= 1


class GiveBack(Protocol):
    """Says that a loop is over: because the run is, or because nobody wants more of it."""

    def __call__(self, *, is_exhausted: bool) -> None:
        """End the loop."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a run knows of its pipeline: whether it is the current one, where the pipeline stands, where the run ends."""

    is_current: Callable[[], bool]
    position: Callable[[], int]
    end: int | None
    hand_over: Callable[[Batch, int, Prepared, float], Batch]
    move_past: Callable[[int, Prepared], None]
    give_back: GiveBack


class BatchIterator:
    """Batches from where the pipeline stands to the end of the run.

    Holds no batch: what was served is freed when its user drops it. Its thread ends when it is exhausted, closed or dropped.
    """

    def __init__(self, route: Route, rule: BatchRule, ticket: Ticket, *, prefetch: int) -> None:
        self._route = route
        self._rule = rule
        self._ticket = ticket
        self._prefetch = prefetch if route.may_read_ahead else 0
        self._pace = PrefetchDecision()
        self._ahead: Ahead[Prepared] | None = None
        self._requested_to = 0
        self._may_start_over = True
        self._turn = RLock()
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The next batch; threads that share a loop share its batches."""
        with self._turn:
            return self._next_batch(perf_counter())

    def _next_batch(self, began: float) -> Batch:
        if not self._ticket.is_current():
            self.close()
            raise RuntimeError(
                "this loop is over: the pipeline was iterated anew, reset, restored or closed since it began; "
                "use the newer iterator"
            )
        if self._is_over:
            raise StopIteration
        position = self._ticket.position()
        prepared = self._next_prepared(position)
        if prepared is None:
            self._is_over = True
            self._end_thread()
            self._ticket.give_back(is_exhausted=True)
            raise StopIteration
        self._may_start_over = False
        return self._ticket.hand_over(self._route.finish(prepared), position, prepared, began)

    def close(self) -> None:
        """End the background thread, if there is one; what it read ahead and was not served is read again next time."""
        self._end_thread()
        self._ticket.give_back(is_exhausted=False)

    def __del__(self) -> None:
        if hasattr(self, "_ticket"):
            self._ticket.give_back(is_exhausted=False)

    def _end_thread(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _next_prepared(self, position: int) -> Prepared | None:
        """The next batch of the run before its stages; None if the run is over."""
        size = self._size_at(position)
        if not size:
            return None
        try:
            prepared = self._prepared(position, size)
        except StopIteration:  # of a stream that nobody knew the length of
            return self._anew(position)
        if prepared.size < size and self._rule.drop_last:
            self._ticket.move_past(position, prepared)
            return self._anew(position + prepared.size)
        return prepared

    def _anew(self, position: int) -> Prepared | None:
        """What comes after the end of a stream: nothing, unless that is where this run began."""
        may_start_over, self._may_start_over = self._may_start_over, False
        return self._next_prepared(position) if may_start_over and self._route.start_over(position) else None

    def _size_at(self, position: int) -> int:
        end = self._ticket.end
        return self._rule.next_size(None if end is None else end - position)

    def _prepared(self, position: int, size: int) -> Prepared:
        """Read here while that is quick; once it is not, on the thread, which then is kept busy."""
        version = self._route.version()
        wanted: Any = (position, size, version)
        if not self._prefetch or (not self._pace.is_slow and (self._ahead is None or not self._ahead.is_busy)):
            prepared = self._route.prepare(wanted)
            self._pace.note_own(prepared.seconds)
            return prepared
        if self._ahead is None:
            self._ahead = Ahead(self._route.prepare_ahead, name="prefetch")
        if self._ahead.first != wanted:  # the first batch; or step() took one, a batch failed, the order changed
            self._ahead.cancel()
            self._requested_to = position
        depth = self._prefetch if self._pace.is_slow else 0
        while len(self._ahead) <= depth and (size := self._size_at(self._requested_to)):
            self._ahead.request((self._requested_to, size, version))
            self._requested_to += size
        self._pace.note_ahead()
        return self._ahead.take()
