"""Streaming by record index: the `TFDSStreamingSource` of files with random access, and its read-ahead."""

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import numpy as np

from datarax_core.order import Order, OrderReader, record_numbers
from datarax_core.records import Batch, ElementSpec
from datarax_core.sources import HostState, Verified

from .opened import Records
from .several import SeveralAhead
from .streaming import TFDSStreamingSource

_POSITIONS: Final = 4096
"""Positions of the order whose record indices are computed at once."""


class RecordStream(TFDSStreamingSource, readers=("array_record", "tfrecord", "folder", "mock_data")):
    """The `TFDSStreamingSource` of data sets whose files are read by record index, without TensorFlow."""

    counts_are_fixed = True
    reads_neighbours_together = True

    @property
    def records(self) -> Records:
        """The records by index, which copies of this source share."""
        records = self._opened.records
        assert records is not None  # noqa: S101 - `TFDSStreamingSource.__new__` chooses this class only if there are records
        return records

    def __len__(self) -> int:
        return self.records.length

    @property
    def length(self) -> int:
        """Number of records."""
        return len(self)

    def data_files(self) -> Sequence[str] | None:
        """Return the paths of the files of the split; None for records that are generated."""
        files = self.records.files.table.paths
        return files if all(map(os.path.isfile, files)) else None

    def element_spec(self) -> ElementSpec:
        """Return the element spec, by the declarations of the data set; reads no record."""
        return self.records.element_spec

    def order(self) -> Order:
        """Return the order of the records.

        Raises:
            ValueError: The split has no records.
        """
        if not self.length:
            raise ValueError(f"{self.title} is empty: the split {self.split_name!r} has no records to serve")
        return super().order()

    def get_records(self, indices: Any) -> Batch:
        """Return the records at concrete ``indices`` as NumPy arrays.

        Raises:
            IndexError: An index is out of range.
            RecordError: A record cannot be read or decoded; the message names file, record and cause.
            DataFileError: A file changed since the source was built.
        """
        numbers = record_numbers(indices, self.length, self.title)
        batch, substituted = self.records.batch_of(numbers.astype(np.int64, copy=False), self)  # uint8 would wrap
        self.note_substituted(substituted)
        return batch

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records cannot be read or decoded; ``on_error="substitute"`` makes no difference here."""
        return self.records.verified(
            record_numbers(indices, self.length, self.title).astype(np.int64, copy=False), self
        )

    def get_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records; consecutive calls read the records of the next calls ahead, on a thread."""
        if self.cursor.is_traced or not isinstance(batch_size, int) or batch_size < 1:
            return super().get_batch(batch_size)  # which refuses values that are no batch size
        batch = self._read(batch_size)
        self.cursor.advance(batch_size)
        self.note_served(1)
        return batch

    def __next__(self) -> Any:
        """Return the next element of the loop under way."""
        left = self.left_of_run()
        if left <= 0:
            self.cursor.end_loop()
            raise StopIteration
        position = self.cursor.position
        element = self._read_ahead.element(self, position)
        if element is None:
            self._read_ahead.hold(position, self._read(min(self.elements_ahead, left), stop=position + left))
            element = self._read_ahead.element(self, position)
        self.cursor.advance(1)
        return element

    def elements_read_ahead(self) -> dict[int, Any]:
        """Return the elements that a loop has fetched and not served yet, by position."""
        held = self._read_ahead.elements()
        return {position: element for position, element in held.items() if position >= self.cursor.position}

    def reset_cache(self) -> None:
        """Drop the records kept for ``cacheable``, and the records read ahead."""
        super().reset_cache()
        self._read_ahead.close()

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match, with names and sizes of the files."""
        return {**super().fingerprint(), **self.records.fingerprint()}

    def close(self) -> None:
        """Close all files, and end the thread that reads ahead; the next read opens the files again."""
        self._read_ahead.close()
        self.records.close()

    def _begin(self) -> None:
        self._read_ahead = ReadAhead(self.config.prefetch_buffer)

    def _read(self, size: int, *, stop: int | None = None) -> Batch:
        """Return the records from the source's position on, in its own order; nothing is read ahead from ``stop`` on."""
        return self._read_ahead.next(self, self.cursor.position, size, stop=stop)


@dataclass(frozen=True, eq=False, slots=True)
class _Request:
    """The records at positions ``start .. start + size``; ``indices`` are those of ``records`` that have to be read."""

    start: int
    size: int
    records: np.ndarray
    indices: np.ndarray


class ReadAhead(HostState):
    """Batches of one source, read ahead on threads of their own while the loop over the source does something else.

    A request that begins where the one before ended shows that there is a loop; from then on ``depth`` further batches are
    read ahead. The records that are served do not depend on it. The threads refer to the source's records, but not to the
    source, and end when the source is dropped.

    Args:
        depth: Number of batches that are read ahead; 0 reads each batch when it is requested.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._order: OrderReader | None = None
        self._key_data: Any = None
        self._end = -1
        self._ahead: SeveralAhead[tuple[Batch, int] | None] | None = None
        self._last: _Request | None = None
        self._elements: list[Any] = []
        self._start = 0

    def constructor_data(self) -> tuple[int]:
        """Return the depth: a clone of the source reads ahead as far, with a thread of its own."""
        return (self._depth,)

    def next(self, source: RecordStream, start: int, size: int, *, stop: int | None) -> Batch:
        """Return the records at positions ``start .. start + size`` of the source's own order.

        Args:
            source: The source.
            start: First position.
            size: Number of records.
            stop: Position from which on nothing is read ahead; None for an endless loop.
        """
        key_data = source.order_key_data()
        if key_data is not self._key_data:
            self.close()
            self._key_data = key_data
        is_loop = start == self._end and self._depth > 0
        batch = self._take(source, start, size, stop) if is_loop else source.fetch(self._indices(source, start, size))
        self._end = start + size
        return batch

    def element(self, source: RecordStream, position: int) -> Any:
        """Return the held element at ``position`` of the source's own order; None if it is not held."""
        place = position - self._start
        is_held = 0 <= place < len(self._elements) and source.order_key_data() is self._key_data
        return self._elements[place] if is_held else None

    def elements(self) -> dict[int, Any]:
        """Return the held elements by position."""
        return dict(enumerate(self._elements, self._start))

    def hold(self, start: int, batch: Batch) -> None:
        """Hold the elements of a batch, which begins at position ``start``."""
        rows = len(jax.tree.leaves(batch)[0])
        self._elements = [jax.tree.map(lambda column: column[row], batch) for row in range(rows)]  # noqa: B023
        self._start = start

    def close(self) -> None:
        """Drop all batches read ahead and all held elements, and end the thread."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._order = self._last = None
        self._elements, self._end = [], -1

    def _take(self, source: RecordStream, start: int, size: int, stop: int | None) -> Batch:
        if self._ahead is None:
            threads = self._depth if source.records.features.releases_gil else 1
            self._ahead = SeveralAhead(_reader_of(source), most=threads)
        ahead = self._ahead
        request: Any = ahead.first
        if request is None or (request.start, request.size) != (start, size):
            ahead.cancel()
            request = self._last = self._request(ahead, source, start, size)
        last = self._last or request
        while len(ahead) <= self._depth:
            following = last.start + last.size
            rows = size if stop is None else min(size, stop - following)
            if rows <= 0:
                break
            last = self._last = self._request(ahead, source, following, rows)
        taken = ahead.take()
        batch, substituted = (None, 0) if taken is None else taken
        source.note_substituted(substituted)
        cache = source.record_cache()
        if cache is not None:
            if batch is not None:
                cache.keep(request.indices, batch)
            return cache.take(request.records)
        assert batch is not None  # noqa: S101 - only a cache can leave nothing to read
        return batch

    def _request(
        self, ahead: SeveralAhead[tuple[Batch, int] | None], source: RecordStream, start: int, size: int
    ) -> _Request:
        records = self._indices(source, start, size)
        cache = source.record_cache()
        request = _Request(start, size, records, records if cache is None else cache.missing(records))
        ahead.request(request)
        return request

    def _indices(self, source: RecordStream, start: int, size: int) -> np.ndarray:
        if self._order is None:
            self._order = _order_reader(source, self._key_data)
        return self._order.take(start, size)


def _reader_of(source: RecordStream) -> Any:
    """Return the work of the thread: a function that refers to the records, and only weakly to the source."""
    records = source.records
    weak: Any = weakref.proxy(source)

    def read(request: _Request) -> tuple[Batch, int] | None:
        return records.batch_of(request.indices, weak) if len(request.indices) else None

    return read


def _order_reader(source: RecordStream, key_data: Any) -> OrderReader:
    """Return a reader of the source's own order that does not refer to the source, which would then be dropped late."""
    order = source.order()
    return OrderReader(lambda start, size: np.asarray(order.record_indices(start, size, key_data)), capacity=_POSITIONS)
