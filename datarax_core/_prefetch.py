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
        thread = threading.Thread(target=self._lane.run, name=f"datarax-{name}", daemon=True)
        _running[thread] = self._lane
        thread.start()
        self._finalizer = weakref.finalize(self, self._lane.end)
        self._finalizer.atexit = False  # `_end_all` sees to that, and waits

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
        self._announced.append(item)
        self._lane.requests.put((self._lane.turn, item))

    def take(self) -> T:
        """The result for `first`, waited for; an interruption while waiting loses nothing.

        Raises:
            Whatever the work raised.
        """
        result, error = self._lane.next_result()
        self._announced.popleft()
        self._is_settled = True  # one thread, in order: what was forgotten before is over
        if error is not None:
            raise error
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
        self.results: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()

    def run(self) -> None:
        try:
            while (request := self.requests.get()) is not None:
                turn, item = request
                if turn == self.turn:
                    self.results.put((turn, *self._outcome(item)))
        finally:
            _running.pop(threading.current_thread(), None)

    def _outcome(self, item: Any) -> tuple[Any, BaseException | None]:
        try:
            return self.work(item), None
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the thread that takes the result
            return None, error

    def next_result(self) -> tuple[Any, BaseException | None]:
        while True:
            turn, result, error = self.results.get()
            if turn == self.turn:
                return result, error

    def end(self) -> None:
        self.turn += 1
        self.requests.put(None)


_running: dict[threading.Thread, _Lane] = {}


@atexit.register
def _end_all() -> None:
    """Wait for threads that work for loops nobody closed, or closed a moment ago, but not for ever for a source that hangs.

    A thread that comes back from compiled code while the interpreter is taken apart would abort the process.
    """
    ending = dict(_running)
    for lane in ending.values():
        lane.end()
    for thread in ending:
        thread.join(_EXIT_SECONDS)
