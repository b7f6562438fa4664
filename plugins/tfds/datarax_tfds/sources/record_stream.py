"""The streaming source over files with random access."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import jax
import numpy as np

from datarax_core.background import Ahead
from datarax_core.order import Order, record_numbers
from datarax_core.records import Batch, ElementSpec

from .opened import Records
from .streaming import TFDSStreamingSource


class RecordStream(TFDSStreamingSource, readers=("array_record", "tfrecord")):
    """See `TFDSStreamingSource`."""

    @property
    def records(self) -> Records:
        """The records by index, which copies of this source share."""
        records = self._opened.records
        assert records is not None  # noqa: S101 - `TFDSStreamingSource.__new__` makes instances of this class where there are
        return records

    @property
    def length(self) -> int:
        """Number of records."""
        return len(self)

    @property
    def index(self) -> int:
        """How many records of the current epoch were served."""
        return self.cursor.position % self.length if self.length else 0

    @property
    def epoch(self) -> int:
        """How many epochs were served in full."""
        return self.cursor.position // self.length if self.length else 0

    def element_spec(self) -> ElementSpec:
        """What one record looks like, by the declarations of the data set."""
        return self.records.spec

    def order(self) -> Order:
        """See `DataSourceModule.order`; of no records there is none."""
        if not self.length:
            raise ValueError(f"{self.title} is empty: the split {self.split_name!r} has no records to serve")
        return super().order()

    def get_records(self, indices: Any) -> Batch:
        """The records at concrete ``indices`` as NumPy arrays.

        Raises:
            IndexError: An index is out of range.
            RecordError: A record cannot be read or decoded; names file, record and cause.
            DataFileError: A file changed since the source was built.
        """
        numbers = record_numbers(indices, self.length, self.title)
        return self.records.batch(numbers.astype(np.int64, copy=False))  # uint8 would wrap

    def get_batch(self, batch_size: int) -> Batch:
        """The next ``batch_size`` records; those of the next calls are read meanwhile, if they come one after the other."""
        if self.cursor.is_traced or not isinstance(batch_size, int) or batch_size < 1:
            return super().get_batch(batch_size)
        batch = self._next(batch_size)
        self.cursor.advance(batch_size)
        self.note_served(1)
        return batch

    def __next__(self) -> Any:
        """The next element of the loop that is under way."""
        left = self._left_of_run()
        if left <= 0:
            raise StopIteration
        position = self.cursor.position
        element = self._loop.element(self, position)
        if element is None:
            self._loop.hold(position, self._next(min(self.elements_ahead, left), stop=position + left))
            element = self._loop.element(self, position)
        self.cursor.advance(1)
        return element

    def reset_cache(self) -> None:
        """Drop the records kept for ``cacheable``, and what was read ahead."""
        super().reset_cache()
        self._loop.close()

    def fingerprint(self) -> dict[str, Any]:
        """See `TFDSSourceBase.fingerprint`; with names and sizes of the files."""
        return {**super().fingerprint(), **self.records.files.fingerprint()}

    # -- files ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all files, and end what is read ahead; the next read opens them again."""
        self._loop.close()
        self.records.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._loop = ReadAhead(self.config.prefetch_buffer)

    def _next(self, size: int, *, stop: int | None = None) -> Batch:
        """The records at the position where this source stands, in its own order; ``stop`` is where its loop ends."""
        return self._loop.next(self, self.cursor.position, size, stop=stop)

    def _renew_host_state(self) -> None:
        super()._renew_host_state()
        self._begin()

    def _drop_host_state(self) -> None:
        super()._drop_host_state()
        del self._loop


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
