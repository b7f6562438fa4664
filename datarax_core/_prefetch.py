"""Work done ahead on one background thread, in order, and dropped without a trace when nobody wants it any more."""

import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """The results of ``work(item)`` for items that are announced before they are wanted.

    One thread works through them in order. It ends when this object is closed or dropped: what is queued is cancelled, and
    what is under way is finished, not waited for.
    """

    def __init__(self, work: Callable[..., T], *, name: str) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"datarax-{name}")
        self._queue: deque[tuple[object, Future[T]]] = deque()
        self._finalizer = weakref.finalize(self, self._thread.shutdown, wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._queue)

    def announce(self, item: object) -> None:
        """Have the work for ``item`` done after that for the items before."""
        self._queue.append((item, self._thread.submit(self._work, item)))

    @property
    def first(self) -> object:
        """The item announced first whose result was not taken yet; None if there is none."""
        return self._queue[0][0] if self._queue else None

    def take(self) -> T:
        """The result for `first`, waited for.

        Raises:
            Whatever the work raised.
        """
        return self._queue.popleft()[1].result()

    def forget(self) -> None:
        """Drop all that is announced."""
        while self._queue:
            self._queue.pop()[1].cancel()

    def close(self) -> None:
        """End the thread once what is under way is finished."""
        self.forget()
        self._finalizer()
