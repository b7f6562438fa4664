"""Work done ahead on one background thread, in order, and dropped without a trace when nobody wants it any more."""

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_EXIT_SECONDS: Final = 10.0

_ENDED: Final = object()


class Ahead(Generic[T]):
    """The results of ``work(item)`` for items that are announced before they are wanted.

    One thread works through them in order. It ends when this object is closed or dropped: what is queued is forgotten, and
    what is under way is finished, not waited for. (A thread and two queues: handing over a result costs a fifth of what
    a future of ``concurrent.futures`` does.)
    """

    def __init__(self, work: Callable[..., T], *, name: str) -> None:
        self._announced: deque[object] = deque()
        self._is_settled = True
        self._lane = _Lane(work)
        self._finalizer = weakref.finalize(self, self._lane.end)
        self._finalizer.atexit = False  # `_end_all` sees to that, and waits
        thread = threading.Thread(target=self._lane.run, name=f"datarax-{name}", daemon=True)
        _running[thread] = self._lane
        thread.start()

    def __len__(self) -> int:
        return len(self._announced)

    @property
    def is_busy(self) -> bool:
        """Whether results are due, or something forgotten may be under way yet."""
        return bool(self._announced) or not self._is_settled

    @property
    def first(self) -> object:
        """The item announced first whose result was not taken yet; None if there is none."""
        return self._announced[0] if self._announced else None

    def announce(self, item: object) -> None:
        """Have the work for ``item`` done after that for the items before."""
        self._lane.requests.put((self._lane.turn, item))  # first: what is noted as announced is under way for certain
        self._announced.append(item)

    def take(self) -> T:
        """The result for `first`, waited for. An interruption at any moment loses nothing.

        Raises:
            RuntimeError: Another thread closed this while it was waited for.
            Whatever the work raised.
        """
        while True:
            item, result, error = self._lane.next_result()
            if item is _ENDED or not self._announced:
                raise RuntimeError("this loop was closed by another thread while it waited for a batch")
            if item is self._announced[0]:
                break
            self._lane.results.popleft()  # a KeyboardInterrupt came when it was being taken, or announced
        self._announced.popleft()  # first: a result that is left over is found out, one that is missing is waited for
        self._lane.results.popleft()
        self._is_settled = True  # one thread, in order: what was forgotten before is over
        if error is not None:
            try:
                raise error
            finally:
                # its traceback holds this frame, which holds `self`: a dropped loop would wait for the collector
                del error
        return result  # type: ignore[no-any-return]  # of the work, whose type this class has

    def forget(self) -> None:
        """Drop all that is announced."""
        self._is_settled = self._is_settled and not self._announced
        self._announced.clear()
        self._lane.turn += 1

    def close(self) -> None:
        """End the thread once what is under way is finished."""
        self.forget()
        self._finalizer()


class _Lane:
    """What the thread sees. It never holds the `Ahead`, which may therefore be dropped while the thread runs."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work = work
        self.turn = 0  # moves on when what was announced is forgotten
        self.requests: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
        self.results: deque[tuple[int, Any, Any, BaseException | None]] = deque()
        self.signals: SimpleQueue[None] = SimpleQueue()  # each says: look at the results again

    def run(self) -> None:
        try:
            while (request := self.requests.get()) is not None:
                turn, item = request
                if turn == self.turn:
                    self._give(turn, item, *self._outcome(item))
        finally:
            _running.pop(threading.current_thread(), None)

    def _outcome(self, item: Any) -> tuple[Any, BaseException | None]:
        try:
            return self.work(item), None
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the thread that takes the result
            return None, error

    def next_result(self) -> tuple[Any, Any, BaseException | None]:
        """(item, result, error) of what is not forgotten, or `_ENDED` as the item; it stays first until it is removed."""
        while True:
            while not self.signals.empty():
                self.signals.get()
            while self.results:
                turn, item, result, error = self.results[0]
                if turn == self.turn or item is _ENDED:
                    return item, result, error
                self.results.popleft()
            self.signals.get()

    def _give(self, turn: int, item: Any, result: Any, error: BaseException | None) -> None:
        self.results.append((turn, item, result, error))
        self.signals.put(None)

    def end(self) -> None:
        self.turn += 1
        self.requests.put(None)
        self._give(self.turn, _ENDED, None, None)  # for a thread that waits for a result


_running: dict[threading.Thread, _Lane] = {}


@atexit.register
def _end_all() -> None:
    """Wait for threads that work for loops nobody closed, or closed a moment ago, but not for ever for a source that hangs.

    A thread that comes back from compiled code while the interpreter is taken apart would abort the process.
    """
    ending = dict(_running)
    for lane in ending.values():
        lane.end()
    for thread in filter(threading.Thread.is_alive, ending):
        thread.join(_EXIT_SECONDS)
