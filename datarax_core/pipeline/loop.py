"""One run over a pipeline: batch after batch, read ahead on a thread once reading a batch takes long enough."""

from collections import deque
from time import perf_counter
from typing import Any, Final, Self

from flax.errors import TraceContextError

from datarax_core.background import Ahead
from datarax_core.devices.traces import closed_over
from datarax_core.records.spec import Batch
from datarax_core.routes.base import Prepared, Route
from datarax_core.routes.definition import Definition
from datarax_core.routes.stream_reader import EndOfStream

from .ahead_depth import AheadDepth
from .progress import Progress, Run, RunningPipeline

WORTH_A_THREAD: Final = 75e-6
"""Seconds that reading a batch must take for a thread to be worth it.

To hand a batch from one thread to another, and the interpreter's lock back and forth, takes about as long.
"""

_SLOW_AT_ONCE: Final = 1e-3
"""Seconds after which one batch is enough to decide."""

_MEASURED: Final = 3
"""Batches that are measured otherwise. The quickest of them decides, since any of them may have met a hiccup."""

_REQUESTED_AT_ONCE: Final = 16
"""Batches that a loop asks for at once, at most: reading ahead far is worked up to, batch by batch."""

_FIRST_READ_AHEAD, _MOST_READ_AHEAD, _GROWTH = 64, 4096, 4
"""Batches that are read ahead before the loop reads one itself again: at first, at most, and the growth factor."""


class BatchIterator:
    """Batches from the position of a pipeline to the end of a run.

    It holds no batch: a batch that was served is freed when its user drops it. Its thread ends when the iterator is
    exhausted, closed or dropped.

    Args:
        pipeline: Whose position the loop moves.
        definition: Of the pipeline.
        progress: Of the pipeline.
        route: Makes the batches.
        run: The run that the loop serves; the loop is over when another run begins.
    """

    def __init__(
        self, pipeline: RunningPipeline, definition: Definition, progress: Progress, route: Route, run: Run
    ) -> None:
        self._pipeline = pipeline
        self._cursor = pipeline.cursor  # an attribute of a module takes 100 ns, on each batch
        self._progress = progress
        self._events = progress.events
        self._route = route
        self._rule = definition.rule
        self._follows_order = pipeline.source.batch_sizes is not None
        self._run, self._end, self._may_begin_later = run
        route.end_at(self._end)
        self._depth = AheadDepth(definition.prefetch if route.may_read_ahead else 0)
        self._decision = PrefetchDecision()
        self._ahead: Ahead[Prepared] | None = None
        self._requested_to = 0
        self._began_later = False
        self._lock = progress.lock
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Return the next batch; threads that share a loop share its batches."""
        self._progress.require_own_process()
        with self._lock:
            try:
                batch = self._next_batch(perf_counter())
            except TraceContextError as cause:
                title = f"the pipeline over {self._pipeline.source.title}"
                raise closed_over(cause, self._cursor, title, "iterate") from None
            except StopIteration as error:  # whoever raised it: only the end of the run ends a loop
                raise RuntimeError(
                    "a source, stage or hook raised StopIteration while a batch was made; it would end the loop early"
                ) from error
        if batch is self:
            raise StopIteration
        return batch

    def _next_batch(self, began: float) -> Batch:
        """Return the next batch; this iterator itself if the run is over."""
        if not self._cursor.is_current(self._run):
            self.close()
            raise RuntimeError(
                "this loop is over: the pipeline was iterated anew, reset, restored or closed since it began; "
                "use the newer iterator"
            )
        if self._is_over:
            return self
        position = self._cursor.position
        if position >= self._events.due:
            self._progress.catch_up(self._pipeline)
        prepared = self._next_prepared(position)
        if prepared is None:
            self._is_over = True
            self._end_thread()
            self._end_run(is_exhausted=True)
            return self
        if self._may_begin_later:
            self._may_begin_later = False
            position = self._cursor.position  # behind the records before the run that drop_last left out
        return self._progress.hand_over(self._pipeline, self._route.finish(prepared), position, prepared, began)

    def close(self) -> None:
        """End the background thread, if there is one; batches that it read ahead are read again when they are served."""
        self._end_thread()
        self._end_run(is_exhausted=False)

    def __del__(self) -> None:
        if hasattr(self, "_is_over") and not self._cursor.leaves_loop_later(self._run):  # else the constructor failed
            self._end_run(is_exhausted=False)

    def _end_thread(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        self._route.close()

    def _end_run(self, *, is_exhausted: bool) -> None:
        """End the run, if this is still the current loop. `__del__` calls it: it uses no module global."""
        if not self._cursor.is_current(self._run):
            return
        self._cursor.end_loop(self._run)
        position = self._cursor.position
        if is_exhausted and self._end is None:
            self._progress.end_stream(self._pipeline)
        elif is_exhausted and self._end is not None and not self._rule.next_size(position, self._end - position):
            position = self._end  # records that drop_last left out are over as well
        self._progress.end_run(self._pipeline, position)

    def _next_prepared(self, position: int) -> Prepared | None:
        """Return the next batch of the run before its stages; None if the run is over."""
        if self._follows_order:
            self._route.version()
            self._rule = self._route.rule
        size = self._size_at(position)
        if not size:
            return None
        try:
            prepared = self._prepared(position, size)
        except EndOfStream:  # of a stream without a length
            return self._begun_later(position)
        if prepared.size < size and self._rule.drop_last:
            self._progress.move_past(self._pipeline, position, prepared)
            return self._begun_later(position + prepared.size)
        return prepared

    def _begun_later(self, position: int) -> Prepared | None:
        """Return the batch after the end of a stream: none, unless a new run began where an epoch had no more batch."""
        if not self._may_begin_later or self._began_later or not self._route.begin_next_epoch():
            return None
        self._began_later = True
        return self._next_prepared(position)

    def _size_at(self, position: int) -> int:
        return self._rule.next_size(position, None if self._end is None else self._end - position)

    def _prepared(self, position: int, size: int) -> Prepared:
        """Read a batch here while reading is quick; once it is not, on the thread, which then is kept busy."""
        version = self._route.version()
        wanted: Any = (position, size, version)
        route, depth = self._route, self._depth
        if not depth.batches or (not self._decision.is_slow and (self._ahead is None or not self._ahead.is_busy)):
            prepared = route.prepare(wanted)
            self._decision.note_own(prepared.seconds)
            if self._decision.is_slow:
                depth.note(prepared)
            return prepared
        if self._ahead is None:
            self._ahead = Ahead(route.prepare_ahead, name="prefetch", look_ahead=route.look_ahead)
        if self._ahead.first != wanted:  # the first batch; or step() took one, a batch failed, the order changed
            self._ahead.cancel()
            self._requested_to = position
        batches = min(depth.batches, len(self._ahead) + _REQUESTED_AT_ONCE) if self._decision.is_slow else 0
        while len(self._ahead) <= batches and (size := self._size_at(self._requested_to)):
            self._ahead.request((self._requested_to, size, version))
            self._requested_to += size
        if not self._ahead.is_ready:
            route.note_wait()
        prepared = self._ahead.take()
        if not route.begins_ahead:
            self._decision.note_ahead(prepared.seconds)
        depth.note(prepared)
        return prepared


class PrefetchDecision:
    """Decision whether the next batches are read ahead on a thread, made from batches that the loop reads itself.

    Batches that are read on a thread do not count: they wait for the loop, too. So while reading is slow, the loop reads
    ahead for 64 batches, and then reads some itself to measure again; then for 256, and so on, up to 4096.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._left = 0
        self._next = _FIRST_READ_AHEAD

    @property
    def is_slow(self) -> bool:
        """Whether the next batches are worth being read ahead."""
        return self._left > 0 or WORTH_A_THREAD < 0

    def note_own(self, seconds: float) -> None:
        """Note the time that it took the loop to read a batch itself."""
        self._seconds.append(seconds)
        is_slow = len(self._seconds) == _MEASURED and min(self._seconds) > WORTH_A_THREAD
        if is_slow or seconds > max(_SLOW_AT_ONCE, WORTH_A_THREAD):
            self._left, self._next = self._next, min(self._next * _GROWTH, _MOST_READ_AHEAD)
            self._seconds.clear()

    def note_ahead(self, seconds: float = 0.0) -> None:
        """Note that a batch was read ahead, which took so long: a wait for the loop is a matter of microseconds."""
        if seconds < _SLOW_AT_ONCE:
            self._left -= 1
