"""A background thread that works ahead: results of requested work in order, and work that can be cancelled."""

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakSet

T = TypeVar("T")


_EXIT_SECONDS: Final = 10.0

_ENDED: Final = object()


class RenewedInForks(Protocol):
    """An object with locks or open files, which a fork cannot use: `renew_in_forks` lets it make new ones there."""

    def renew_in_fork(self) -> None:
        """Drop what does not work in a fork, and make locks anew; called there, before any other code runs."""


_renewed_in_forks: Final[WeakSet[RenewedInForks]] = WeakSet()

_of_parent: Final[list[Any]] = []
"""Objects that only the parent of this process may close."""


def renew_in_forks(holder: RenewedInForks) -> None:
    """Have ``holder.renew_in_fork()`` called in each fork of this process, where nobody frees locks of the parent's threads."""
    _renewed_in_forks.add(holder)


def leave_to_parent(value: Any) -> None:
    """Keep an object of the parent for as long as this process runs, since closing it might wait for the parent's threads."""
    _of_parent.append(value)


def _renew_all() -> None:
    for holder in list(_renewed_in_forks):
        holder.renew_in_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_all)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_own_process(process: int, thing: str) -> None:
    """Raise if this process is a fork of the one in which ``thing`` was made. Costs 0.1 us.

    Args:
        process: Number of the process in which it was made.
        thing: What does not work in a fork, for the error.

    Raises:
        RuntimeError: Names both processes, and says what to do.
    """
    if os.getpid() != process:
        raise RuntimeError(
            f"{thing} of process {process} is used in a fork of it, {os.getpid()}, where threads of the parent do not exist "
            "and would be waited for without end; start processes by 'spawn' or 'forkserver' (of a PyTorch DataLoader: "
            "multiprocessing_context='spawn')"
        )


class Ahead(Generic[T]):
    """The results of ``work(item)`` for items that are requested before the results are needed.

    A thread does the requested work in order; `take` returns the results in the same order. The thread ends when this object
    is closed or dropped: requests in the queue are cancelled, and work in progress is finished, but nobody waits for it.
    A fork of the process, which has no such thread, starts one of its own, and does the work for results that are due again.

    (A thread and two queues, since handing over a result costs a fifth of what a future of ``concurrent.futures`` costs.)

    Args:
        work: Called by the thread with each item.
        name: Name of the thread, behind ``datarax-``.
        look_ahead: Called by the thread before each item, with the items that are requested and not worked on yet, that one
            first; it may begin work on them that goes on elsewhere. If it raises, ``work`` of that item is taken to raise.
    """

    def __init__(
        self, work: Callable[..., T], *, name: str, look_ahead: Callable[[Sequence[Any]], None] | None = None
    ) -> None:
        self._requested: deque[object] = deque()  # items whose result was not taken yet
        self._is_settled = True  # no cancelled work is in progress
        self._name = f"datarax-{name}"
        self._start(work, look_ahead)

    def _start(self, work: Callable[..., T], look_ahead: Callable[[Sequence[Any]], None] | None) -> None:
        self._process = os.getpid()
        self._worker = _Worker(work, look_ahead)
        self._finalizer = weakref.finalize(self, self._worker.end)
        self._finalizer.atexit = False  # `_end_all` ends the worker at exit, and waits for it
        run_in_thread(self._worker.run, self._worker, self._name)

    def _start_anew(self) -> None:
        """Start a thread in a fork, which has none."""
        self._finalizer.detach()
        self._start(self._worker.work, self._worker.look_ahead)
        for item in self._requested:
            self._worker.requests.put((self._worker.generation, item))

    def __len__(self) -> int:
        """Return the number of requested items whose result was not taken yet."""
        return len(self._requested)

    @property
    def is_busy(self) -> bool:
        """True if a result has not been taken yet, or if cancelled work may still be in progress."""
        return bool(self._requested) or not self._is_settled

    @property
    def is_ready(self) -> bool:
        """Whether a result is ready, so that `take` need not wait, unless it is one of cancelled work."""
        return bool(self._worker.results)

    @property
    def first(self) -> object:
        """The item whose result `take` returns next; None if no result is due."""
        return self._requested[0] if self._requested else None

    def request(self, item: object) -> None:
        """Have ``work(item)`` done after the work requested before."""
        if os.getpid() != self._process:
            self._start_anew()
        # In this order, so that an interruption never leaves an item in `_requested` that the worker does not have.
        self._worker.requests.put((self._worker.generation, item))
        self._requested.append(item)

    def take(self) -> T:
        """Wait for the result for the item `first`, and return it. An interruption at any moment loses no result.

        Raises:
            RuntimeError: Another thread closed this object during the wait.
            Exception: The error that the work raised, of any class.
        """
        if os.getpid() != self._process:
            self._start_anew()
        while True:
            item, result, error = self._worker.next_result()
            if item is _ENDED or not self._requested:
                raise RuntimeError("this loop was closed by another thread while it waited for a batch")
            if item is self._requested[0]:
                break
            self._worker.results.popleft()  # left over: a KeyboardInterrupt came during its request, or when it was taken
        # In this order: a result that an interruption leaves over is found above; a missing one would be waited for forever.
        self._requested.popleft()
        self._worker.results.popleft()
        self._is_settled = True  # one thread works in order, so work cancelled before is over
        if error is not None:
            try:
                raise error
            finally:
                # Its traceback holds this frame, which holds `self`: a dropped loop would wait for the garbage collector.
                del error
        return result  # type: ignore[no-any-return]  # the worker does not carry the type of the work

    def cancel(self) -> None:
        """Cancel all requests whose result was not taken. Work in progress goes on; its result is discarded."""
        self._is_settled = self._is_settled and not self._requested
        self._requested.clear()
        self._worker.generation += 1

    def close(self) -> None:
        """Cancel all requests, and end the thread once the work in progress is finished."""
        self.cancel()
        self._finalizer()


class _Worker:
    """The part of `Ahead` that the thread holds. It never holds the `Ahead`, which can be dropped while the thread runs."""

    def __init__(self, work: Callable[..., Any], look_ahead: Callable[[Sequence[Any]], None] | None) -> None:
        self.work = work
        self.look_ahead = look_ahead
        self.generation = 0  # increases when requests are cancelled: requests of earlier generations are not worked on
        self.requests: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
        self.results: deque[tuple[int, Any, Any, BaseException | None]] = deque()
        self.signals: SimpleQueue[None] = SimpleQueue()  # one for each new result

    def run(self) -> None:
        """Work until `end`; the body of the thread."""
        if self.look_ahead is not None:
            self._run_looking_ahead(self.look_ahead)
            return
        while (request := self.requests.get()) is not None:
            generation, item = request
            if generation == self.generation:
                self._add_result(generation, item, *self._outcome(item))

    def _run_looking_ahead(self, look_ahead: Callable[[Sequence[Any]], None]) -> None:
        waiting: deque[Any] = deque()  # items of one generation
        generation = self.generation
        while True:
            while not waiting or not self.requests.empty():
                request = self.requests.get()
                if request is None:
                    return
                if request[0] != generation:
                    waiting.clear()
                    generation = request[0]
                waiting.append(request[1])
            if generation == self.generation:
                self._add_result(generation, waiting[0], *self._outcome(waiting[0], look_ahead, waiting))
                waiting.popleft()
            else:
                waiting.clear()

    def _outcome(
        self, item: Any, look_ahead: Callable[[Sequence[Any]], None] | None = None, waiting: Sequence[Any] = ()
    ) -> tuple[Any, BaseException | None]:
        try:
            if look_ahead is not None:
                look_ahead(waiting)
            return self.work(item), None
        except BaseException as error:  # noqa: BLE001 - any error is raised in the thread that takes the result
            return None, error

    def next_result(self) -> tuple[Any, Any, BaseException | None]:
        """Wait for the next result that is not cancelled, and return (item, result, error) without removing it.

        After `end`, the item is `_ENDED`.
        """
        while True:
            while not self.signals.empty():
                self.signals.get()
            while self.results:
                generation, item, result, error = self.results[0]
                if generation == self.generation or item is _ENDED:
                    return item, result, error
                self.results.popleft()
            self.signals.get()

    def _add_result(self, generation: int, item: Any, result: Any, error: BaseException | None) -> None:
        self.results.append((generation, item, result, error))
        self.signals.put(None)

    def end(self) -> None:
        """End the thread after the work in progress, and wake a thread that waits for a result."""
        self.generation += 1
        self.requests.put(None)
        self._add_result(self.generation, _ENDED, None, None)


class EndedAtExit(Protocol):
    """Work of threads that must not run when the interpreter clears its modules; `run_in_thread` ends it before."""

    def end(self) -> None:
        """End the threads after the work in progress; called at exit, maybe once for each thread."""


_running: dict[threading.Thread, EndedAtExit] = {}
"""Threads that were started and still work, with the work of each."""

_started: Final[WeakSet[threading.Thread]] = WeakSet()
"""All threads that were started: one that has done its work still has to free what it held, such as device arrays."""


def run_in_thread(run: Callable[[], None], work: EndedAtExit, name: str) -> None:
    """Start a thread that calls ``run``, part of ``work``, which is ended when the interpreter exits.

    Raises:
        RuntimeError: The system starts no more threads.
    """
    thread = threading.Thread(target=_run, args=(run,), name=name, daemon=True)
    _running[thread] = work
    _started.add(thread)
    try:
        thread.start()
    finally:
        if thread.ident is None:  # it was not started
            _running.pop(thread, None)


def _run(run: Callable[[], None]) -> None:
    try:
        run()
    finally:
        _running.pop(threading.current_thread(), None)


@atexit.register
def _end_all() -> None:
    """End all threads at exit and wait for them, at most `_EXIT_SECONDS` together, in case a source hangs.

    A thread that returns from compiled code while the interpreter shuts down would abort the process.
    """
    for work in list(_running.values()):
        work.end()
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in filter(threading.Thread.is_alive, list(_started)):
        thread.join(max(0.0, deadline - time.monotonic()))
