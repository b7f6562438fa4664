"""The streaming source over files with random access."""

from types import TracebackType
from typing import Any, Self

import numpy as np

from datarax_core.order import Order, record_numbers
from datarax_core.records import Batch, ElementSpec

from ._read_ahead import ReadAhead
from ._records import Records
from ._streaming import TFDSStreamingSource


class RecordStream(TFDSStreamingSource):
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
