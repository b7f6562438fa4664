"""Reading of rows for the host route: by one thread, by several, or in worker processes, some batches ahead."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from datarax_core.records.spec import Batch
from datarax_core.sources.reading_ahead import Expected, ReadingAhead
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.workers.parts import joined_parts
from datarax_core.workers.pool import PendingBatch, Workers
from datarax_core.workers.thread_count import Stopwatch, ThreadCount
from datarax_core.workers.threads import PendingRows, ReadingThreads

_LEAST_ROWS: Final = 16
"""Rows of the first batch from which on one is read by itself, to see whether it is waited for."""

_ASKED_FOR_AHEAD: Final = 4
"""Batches before which a source is asked whether it reads ahead: it may not know before it has read some records."""

Begun: TypeAlias = PendingBatch | PendingRows | Expected | None
"""A batch that is being read; None if it is read when its result is asked for."""


class RowReader:
    """Reads rows where a pipeline says: in worker processes if there are some, on threads if several pay, else here.

    Args:
        reader: The source, or the reader of its records after host stages.
        workers: Processes that read; None reads in this one.
        count: The number of threads that read here.
        by_index: Whether records whose indices are near one another are read faster together.
    """

    def __init__(
        self, reader: DataSourceModule | StagedReader, workers: Workers | None, count: ThreadCount, *, by_index: bool
    ) -> None:
        self._reader = reader
        self._staged = reader if isinstance(reader, StagedReader) else None
        self._fetch = reader.fetch_of_order()
        self._fetch_part = self._fetch if self._staged is None else self._staged.fetch_part
        self._workers = workers
        self._count = count
        self._by_index = by_index
        self._threads: ReadingThreads | None = None
        self._source_ahead: ReadingAhead | None = None  # used while one thread reads
        self._asked_for_ahead = 0

    @property
    def begins_ahead(self) -> bool:
        """Whether `begin` begins to read; if not, one thread reads batch after batch."""
        return self._workers is not None or self._count.threads > 1 or self._ahead_of_source() is not None

    @property
    def has_room(self) -> bool:
        """Whether more batches are worth beginning."""
        if self._workers is not None:
            return self._workers.has_room
        if self._count.threads == 1:
            return self._source_ahead is not None and self._source_ahead.has_room
        return self._threads is None or self._threads.has_room

    def begin(self, indices: np.ndarray, *, wanted: int = 1) -> Begun:
        """Begin to read the records at ``indices``, after those that were begun before.

        ``wanted`` is the number of batches that are asked for, this one and those to come; 0 if its result is asked for now.
        """
        if self._workers is not None:
            return self._workers.begin(indices if self._staged is None else self._staged.indices_for_workers(indices))
        if self._count.threads == 1:
            ahead = self._ahead_of_source() if wanted else None
            return None if ahead is None else ahead.begin(indices)
        self._leave_source_ahead()
        if self._threads is None:
            title = self._reader.title
            self._threads = ReadingThreads(self._fetch_part, self._count, title, by_index=self._by_index)
        return self._threads.begin(indices, wanted=max(1, wanted))

    def result(self, begun: Begun, indices: np.ndarray) -> Batch:
        """Return the records at ``indices``, given what `begin` returned for them; raises what the source raised."""
        if isinstance(begun, PendingRows):
            if (threads := self._threads) is None:
                raise RuntimeError(
                    f"the threads that read {self._reader.title} were ended while a batch was waited for"
                )
            return self._finished(threads.result(begun), indices)
        if isinstance(begun, PendingBatch) and self._workers is not None:
            batch = self._workers.result(begun)
            return batch if self._staged is None else self._staged.complete_from_workers(batch, indices)
        if begun is not None and not isinstance(begun, PendingBatch) and self._source_ahead is not None:
            batch = self._fetch(indices)
            begun.cancel()  # if it was read otherwise, since a record turned out to be bad
            self._note_readings(self._source_ahead)
            return batch
        if not self._count.is_measured_now():
            return self._fetch(indices)
        if self._count.is_new and len(indices) >= _LEAST_ROWS:
            return self._first_batch(indices)
        watch = Stopwatch(alone=True)
        batch = self._fetch(indices)
        self._note(watch, len(indices))
        return batch

    def _first_batch(self, indices: np.ndarray) -> Batch:
        """Return the first batch that is read of all: its first row by itself, and the rest by several threads if it waited."""
        read = self._fetch_part
        watch = Stopwatch(alone=True)
        first = read(indices[:1])
        self._count.note_first_row(watch.read(1))
        rest = self.begin(indices[1:], wanted=0)
        if isinstance(rest, PendingRows) and self._threads is not None:
            others = self._threads.result(rest)
        else:
            watch = Stopwatch(alone=True)
            others = read(indices[1:])
            self._note(watch, len(indices) - 1)
        return self._finished(joined_parts([first, others], [slice(1), slice(1, len(indices))]), indices)

    def _ahead_of_source(self) -> ReadingAhead | None:
        """Return what reads ahead by itself, for a source that has it: once a batch was read, and while one thread reads."""
        if self._source_ahead is None and self._asked_for_ahead < _ASKED_FOR_AHEAD and not self._count.is_new:
            self._asked_for_ahead += 1
            if self._workers is None and self._reader.is_thread_safe:
                self._source_ahead = self._reader.reading_ahead(partial(Stopwatch, alone=True))
        return self._source_ahead

    def _leave_source_ahead(self) -> None:
        ahead, self._source_ahead = self._source_ahead, None
        if ahead is not None:
            ahead.close()
            self._asked_for_ahead = 0

    def _note_readings(self, ahead: ReadingAhead) -> None:
        """Note how batches were read ahead, each as its share of the call that read it."""
        for reading, batches in ahead.take_readings():
            share = reading / batches
            self._count.note(share, share.seconds)

    def _note(self, watch: Stopwatch, rows: int) -> None:
        reading = watch.read(rows)
        self._count.note(reading, reading.seconds)

    def _finished(self, batch: Batch, indices: np.ndarray) -> Batch:
        return batch if self._staged is None else self._staged.complete(batch, indices)

    def cancel(self, begun: Begun) -> None:
        """Leave a batch that was begun: nobody asks for its result."""
        if isinstance(begun, PendingRows):
            begun.is_cancelled = True
        elif isinstance(begun, PendingBatch):
            if self._workers is not None:
                self._workers.cancel(begun)
        elif begun is not None:
            begun.cancel()

    def close(self) -> None:
        """End the threads; worker processes are the pipeline's, and go on."""
        self._leave_source_ahead()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()


class BegunBatch(Protocol):
    """A batch that was begun, and maybe more that is known of it."""

    @property
    def rows(self) -> Begun:
        """How its rows are read."""


BatchT = TypeVar("BatchT", bound=BegunBatch)


class RowsAhead(Generic[BatchT]):
    """Batches that are being read, in the order in which they are asked for; left when this object is dropped."""

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader
        self._begun: dict[Any, BatchT] = {}

    def begin_all(self, items: Sequence[Any], begin: Callable[[Any, int], BatchT]) -> None:
        """Begin the batches of the first items, as many as there is room for, and leave all others that were begun.

        An error is raised only if it is that of the first item; the others are begun again when they are the first.
        """
        begun = self._begun
        if begun and (len(begun) > len(items) or next(iter(begun)) != items[0]):
            self.clear()
        wanted = len(items)
        for number, item in enumerate(islice(items, len(begun), None), len(begun)):
            if number and not self._reader.has_room:
                return
            try:
                begun[item] = begin(item, wanted)
            except Exception:  # an author's order may raise anything; it is raised when this item is the first
                if number:
                    return
                raise

    def take(self, item: Any) -> BatchT | None:
        """Return what was begun for the item; None if nothing was."""
        return self._begun.pop(item, None)

    def clear(self) -> None:
        """Leave all batches that were begun."""
        for item in list(self._begun):
            if (begun := self._begun.pop(item, None)) is not None:
                self._reader.cancel(begun.rows)

    def __del__(self) -> None:
        self.clear()
