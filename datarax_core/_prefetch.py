"""Work done ahead on one background thread, in order, and dropped without a trace when nobody wants it any more."""

import threading
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

    def take(self, item: object) -> T:
        """The result for ``item``, waited for; items announced before it are dropped, one never announced is done now.

        Raises:
            Whatever the work raised.
        """
        while self._queue:
            announced, future = self._queue.popleft()
            if announced == item:
                return future.result()
            future.cancel()
        return self._thread.submit(self._work, item).result()

    def close(self) -> None:
        """End the thread once what is under way is finished."""
        self._queue.clear()
        self._finalizer()


def threads() -> list[str]:
    """Names of the threads of this module that are alive now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("datarax-")]
