"""One run over a pipeline: batch after batch, read ahead on a background thread where the host reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

from ._batch_rule import BatchRule
from ._prefetch import Ahead
from ._routes import Prepared, Route
from .spec import Batch


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a run knows of its pipeline: whether it is still the current one, where the pipeline stands, where the run ends."""

    is_current: Callable[[], bool]
    position: Callable[[], int]
    end: int | None


class BatchIterator:
    """Batches from where the pipeline stands to the end of the run.

    Holds no batch: what was served is freed when its user drops it. Its thread ends when it is exhausted, closed or dropped.
    """

    def __init__(
        self, route: Route, rule: BatchRule, ticket: Ticket, hand_over: Callable[..., Batch], *, prefetch: int
    ) -> None:
        self._route = route
        self._rule = rule
        self._ticket = ticket
        self._hand_over = hand_over
        self._prefetch = prefetch
        self._ahead: Ahead[Prepared] | None = None
        self._announced_to = 0
        if prefetch and route.reads_on_host:
            self._ahead = Ahead(route.prepare, name="prefetch")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        began = perf_counter()
        if not self._ticket.is_current():
            self.close()
            raise RuntimeError(
                "this loop is over: the pipeline was iterated anew, reset or restored since it began; use the newer iterator"
            )
        position = self._ticket.position()
        size = self._size_at(position)
        if not size:
            self.close()
            raise StopIteration
        batch = self._route.finish(self._prepared(position, size))
        return self._hand_over(batch, position, size, began)

    def close(self) -> None:
        """End the background thread, if there is one; what it read ahead and was not served is read again next time."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _size_at(self, position: int) -> int:
        end = self._ticket.end
        return self._rule.next_size(None if end is None else end - position)

    def _prepared(self, position: int, size: int) -> Prepared:
        version = self._route.version()
        wanted: Any = (position, size, version)
        if self._ahead is None:
            return self._route.prepare(wanted)
        if self._ahead.first != wanted:  # the first batch; or step() took one, a batch failed, the order changed
            self._ahead.forget()
            self._announced_to = position
        while len(self._ahead) <= self._prefetch and (size := self._size_at(self._announced_to)):
            self._ahead.announce((self._announced_to, size, version))
            self._announced_to += size
        return self._ahead.take()
