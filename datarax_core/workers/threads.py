"""Threads that read parts of batches for one source, several batches at once: the same batches, while others wait."""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Final

import numpy as np

from datarax_core.background import run_in_thread
from datarax_core.records.spec import Batch

from .parts import joined_parts, parts_of
from .thread_count import Reading, Stopwatch, ThreadCount

_UNDER_WAY_A_THREAD: Final = 2
"""Parts that are under way for each thread, so that none waits for the next batch."""


@dataclass(slots=True, eq=False)
class PendingRows:
    """A batch that `ReadingThreads.begin` has cut in parts; `ReadingThreads.result` returns it.

    Attributes:
        indices: The indices by which its records are read.
        parts: The rows of each part.
        threads: The number of threads that were to read when it was begun.
        batches: The batch of each part that was read.
        errors: The errors of parts, by their number.
        finished: An entry for each part that is over.
        is_cancelled: Whether nobody waits for the batch any more, or never did, or has it.
    """

    indices: np.ndarray
    parts: list[Any]
    threads: int
    batches: list[Batch] = field(default_factory=list)
    errors: dict[int, BaseException] = field(default_factory=dict)
    finished: SimpleQueue[Reading | None] = field(default_factory=SimpleQueue)
    is_cancelled: bool = False


class ReadingThreads:
    """Threads that call ``read`` for parts of batches; `fetch` returns the batches that ``read`` returns.

    Parts are read in the order of their batches. The threads are started with the first batch, and end when this object is
    closed or dropped: parts that no thread has begun are left out, and nobody waits for the others.

    One thread begins batches and waits for them; `close` may be called by any.

    Args:
        read: Returns the records at int (k,) indices as a batch. Called by all threads at once.
        count: The number of threads, which may change from batch to batch.
        title: Name of the source in errors.
        by_index: Whether each part has indices that are near one another, as is best for files; if not, it is a run of rows.
    """

    def __init__(self, read: Callable[[np.ndarray], Batch], count: ThreadCount, title: str, *, by_index: bool) -> None:
        self._count = count
        self._title = title
        self._by_index = by_index
        self._crew = _Crew(read)
        self._under_way: deque[PendingRows] = deque()
        weakref.finalize(
            self, self._crew.end
        ).atexit = False  # `background` ends the threads at exit, and waits for them

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at ``indices``, read by all threads; raises as `result` does."""
        return self.result(self.begin(indices))

    @property
    def has_room(self) -> bool:
        """Whether more batches are worth beginning. More than keep the threads busy would only take time from whoever waits."""
        under_way = self._under_way
        while under_way and under_way[0].is_cancelled:
            under_way.popleft()
        return sum(len(pending.parts) for pending in under_way) < _UNDER_WAY_A_THREAD * self._count.threads

    def begin(self, indices: np.ndarray, *, wanted: int = 1) -> PendingRows:
        """Begin to read the records at ``indices``, after all batches that were begun before; returns at once.

        ``wanted`` is the number of batches that are asked for, this one and those to come: the more, the fewer parts has each.
        """
        threads, rows = self._count.threads, len(indices)
        self._crew.resize(threads)
        enough = -(-_UNDER_WAY_A_THREAD * threads // wanted)
        number = max(1, min(max(enough, self._count.parts_for(rows)), threads, rows))
        pending = PendingRows(indices, parts_of(indices, number, by_index=self._by_index), threads)
        pending.batches = [None] * number
        for part in range(number):
            self._crew.queue.put((pending, part))
        self._under_way.append(pending)
        return pending

    def result(self, pending: PendingRows) -> Batch:
        """Wait for a batch that was begun, and return it.

        Raises:
            RuntimeError: These threads were ended meanwhile.
            Exception: The error of the first part that failed, of any class, once all parts are over.
        """
        reading, left = Reading(), len(pending.parts)
        try:
            while left and (found := pending.finished.get()) is not None:
                reading, left = reading + found, left - 1
        finally:
            pending.is_cancelled = True
        if left:
            raise RuntimeError(f"the threads that read {self._title} were ended while a batch was waited for")
        if pending.errors:
            error = pending.errors[min(pending.errors)]
            pending.errors.clear()
            try:
                raise error
            finally:
                del error, pending  # of frames that the traceback holds
        elapsed = self._crew.elapsed()
        if (
            pending.threads == self._count.threads
        ):  # what other threads have begun says nothing of a number that is tried
            self._count.note(reading, elapsed)
        return joined_parts(pending.batches, pending.parts)

    def close(self) -> None:
        """End the threads, after the parts that they are reading; whoever waits for a batch gets an error."""
        self._crew.end()
        for pending in tuple(self._under_way):
            pending.is_cancelled = True
            pending.finished.put(None)
        self._under_way.clear()


class _Crew:
    """The part of `ReadingThreads` that the threads hold. It never holds the other, which can be dropped while they run."""

    def __init__(self, read: Callable[[np.ndarray], Batch]) -> None:
        self.queue: SimpleQueue[tuple[PendingRows, int] | None] = SimpleQueue()
        self._read = read
        self._size = 0
        self._is_over = False
        self._lock = threading.Lock()  # of the three below, which say how long any thread has been reading
        self._reading = 0
        self._since = self._elapsed = 0.0

    def elapsed(self) -> float:
        """Return the seconds since the last call in which any thread was reading."""
        with self._lock:
            now = perf_counter()
            elapsed = self._elapsed + (now - self._since if self._reading else 0.0)
            self._since, self._elapsed = now, 0.0
            return elapsed

    def _count_reading(self, change: int) -> None:
        with self._lock:
            now = perf_counter()
            if self._reading:
                self._elapsed += now - self._since
            self._since = now
            self._reading += change

    def resize(self, size: int) -> None:
        """Start threads, or let some end after what is queued, until there are ``size``; fewer if the system starts no more."""
        if self._is_over:
            raise RuntimeError("these threads were ended")
        while self._size < size:
            try:
                run_in_thread(self._run, self, f"datarax-read-{self._size}")
            except RuntimeError:
                if not self._size:
                    raise
                return
            self._size += 1
        while self._size > size:
            self._size -= 1
            self.queue.put(None)

    def end(self) -> None:
        """Let all threads end, each after the part that it is reading."""
        self._is_over = True
        self.queue.put(None)

    def _run(self) -> None:
        while (part := self.queue.get()) is not None:
            self._read_part(*part)
            del part  # a thread that waits holds no batch
        if self._is_over:
            self.queue.put(None)  # for the next thread

    def _read_part(self, pending: PendingRows, number: int) -> None:
        """Read one part; its end is announced whatever happens."""
        reading = Reading()
        if self._is_over or pending.is_cancelled:
            pending.finished.put(None if self._is_over else reading)
            return
        rows = pending.indices[pending.parts[number]]
        self._count_reading(1)
        watch = Stopwatch()
        try:
            pending.batches[number] = self._read(rows)
            reading = watch.read(len(rows))
        except BaseException as error:  # noqa: BLE001 - any error is raised in the thread that waits for the batch
            pending.errors[number] = error
        finally:
            self._count_reading(-1)
            pending.finished.put(reading)
