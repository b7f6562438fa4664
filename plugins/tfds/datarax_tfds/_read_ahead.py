"""What a loop over a source asks for next, read on a thread while it does something else."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jax
import numpy as np

from datarax_core.background import Ahead
from datarax_core.records import Batch

if TYPE_CHECKING:
    from ._record_stream import RecordStream

_POSITIONS: Final = 4096
"""Of the order, that are computed at once."""

_NO_RECORDS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class _Request:
    """The records at ``start .. start + size`` of an order; ``indices`` are those of them that have to be read."""

    start: int
    size: int
    records: np.ndarray
    indices: np.ndarray


class ReadAhead:
    """For the loops over one source, and one thread.

    A loop shows by its second request, which begins where the first one ended; from then on ``depth`` more are under way. What
    is read does not depend on that. The thread holds the source's records, and never the source: it ends with that.

    Args:
        depth: How many batches are read ahead; 0 reads each when it is asked for.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._order = _NO_RECORDS
        self._order_start = 0
        self._words: Any = None
        self._end = -1
        self._ahead: Ahead[Batch] | None = None
        self._elements: list[Any] = []
        self._start = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadAhead, (self._depth,)

    def next(self, source: "RecordStream", start: int, size: int, *, stop: int | None) -> Batch:
        """The records at ``start .. start + size`` of the source's own order; nothing is read from ``stop`` on."""
        words = source.order_key_data()
        if words is not self._words:
            self.close()
            self._words = words
        is_loop = start == self._end and self._depth > 0
        batch = self._taken(source, start, size, stop) if is_loop else source.fetch(self._records(source, start, size))
        self._end = start + size
        return batch

    def element(self, source: "RecordStream", position: int) -> Any:
        """The element at ``position`` of the source's own order, if it is among those held; else None."""
        place = position - self._start
        is_held = 0 <= place < len(self._elements) and source.order_key_data() is self._words
        return self._elements[place] if is_held else None

    def hold(self, start: int, batch: Batch) -> None:
        """Keep the elements of a batch, whose first one is that at ``start``."""
        rows = len(jax.tree.leaves(batch)[0])
        self._elements = [jax.tree.map(lambda column: column[row], batch) for row in range(rows)]  # noqa: B023
        self._start = start

    def close(self) -> None:
        """Drop what was read ahead, and end the thread."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None
        self._order, self._elements, self._end = _NO_RECORDS, [], -1

    def _taken(self, source: "RecordStream", start: int, size: int, stop: int | None) -> Batch:
        if self._ahead is None:
            self._ahead = Ahead(_reader_of(source), name="tfds")
        ahead = self._ahead
        request: Any = ahead.first
        if request is None or (request.start, request.size) != (start, size):
            ahead.forget()
            request = self._announce(source, start, size)
            self._last = request
        while len(ahead) <= self._depth:
            following = self._last.start + self._last.size
            rows = size if stop is None else min(size, stop - following)
            if rows <= 0:
                break
            self._last = self._announce(source, following, rows)
        batch = ahead.take()
        cache = source.record_cache()
        if cache is None:
            return batch
        if len(request.indices):
            cache.keep(request.indices, batch)
        return cache.take(request.records)

    def _records(self, source: "RecordStream", start: int, size: int) -> np.ndarray:
        """The record indices at ``start .. start + size`` of the order, of which a stretch is held."""
        at = start - self._order_start
        if not 0 <= at <= len(self._order) - size:
            self._order = np.asarray(source.record_indices_at(start, max(size, _POSITIONS), self._words))
            self._order_start, at = start, 0
        return self._order[at : at + size]

    def _announce(self, source: "RecordStream", start: int, size: int) -> _Request:
        records = self._records(source, start, size)
        cache = source.record_cache()
        request = _Request(start, size, records, records if cache is None else cache.missing(records))
        assert self._ahead is not None  # noqa: S101 - who calls this has just made it
        self._ahead.announce(request)
        return request

    _last: _Request


def _reader_of(source: "RecordStream") -> Any:
    """What the thread does, which does not refer to the source."""
    records = source.records

    def read(request: _Request) -> Batch | None:
        return records.batch(request.indices) if len(request.indices) else None

    return read
