"""Work ahead on several threads, whose results come in the order in which they were requested."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from datarax_core.background import Ahead, usable_cores
from datarax_tfds.features.threads import share_of_cores

T = TypeVar("T")

_MOST_THREADS: Final = 4
"""Pieces of work that go on at once; where there are more cores, each decodes on several. Python's part takes a quarter."""

_LEAST_THREADS: Final = 2
"""One thread may wait for a file while the other decodes."""


class SeveralAhead(Generic[T]):
    """The results of ``work(item)`` for requested items, as `Ahead` has them, but of several threads.

    Each thread has a share of the cores for decoding.

    Args:
        work: Called by the threads with each item.
        most: The most items that are requested at a time.
    """

    def __init__(self, work: Callable[[Any], T], *, most: int) -> None:
        parts = min(_MOST_THREADS, usable_cores())

        def work_on_share(item: Any) -> T:
            with share_of_cores(parts):
                return work(item)

        threads = max(1, min(max(_LEAST_THREADS, parts), most))
        self._threads = deque(Ahead(work_on_share, name="tfds") for _ in range(threads))
        self._requested: deque[tuple[Ahead[T], object]] = deque()  # each item and its thread

    @property
    def threads(self) -> int:
        """Number of threads: as many items have to be requested for all of them to work."""
        return len(self._threads)

    def __len__(self) -> int:
        """Return the number of requested items whose result was not taken yet."""
        return len(self._requested)

    @property
    def first(self) -> Any:
        """The item whose result `take` returns next; None if no result is due, or if an interruption lost it."""
        if not self._requested:
            return None
        ahead, item = self._requested[0]
        return item if ahead.first is item else None

    def request(self, item: object) -> None:
        """Have ``work(item)`` done by the thread whose turn it is."""
        ahead = self._threads[0]
        ahead.request(item)
        self._requested.append((ahead, item))
        self._threads.rotate(-1)

    def take(self) -> T:
        """Wait for the result for the item `first`, and return it; raises what the work raised."""
        try:
            result = self._requested[0][0].take()
        except Exception:  # the work's own: the next result is due; an interruption of the wait leaves all as it was
            self._requested.popleft()
            raise
        self._requested.popleft()
        return result

    def cancel(self) -> None:
        """Cancel all requests whose result was not taken."""
        self._requested.clear()
        for ahead in self._threads:
            ahead.cancel()

    def close(self) -> None:
        """Cancel all requests, and end the threads once the work in progress is finished."""
        self._requested.clear()
        for ahead in self._threads:
            ahead.close()
