"""Base of sources over files of records: what follows from a reader of the records, whatever their format."""

from typing import Any, ClassVar

import numpy as np

from datarax_core.order.numbers import record_numbers
from datarax_core.order.order import Order
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.registry.decoders import Decoder
from datarax_core.sources.reading_ahead import MappedAhead, ReadingAhead, Watch
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.verification import Verified

from .record_reader import RecordReader


class RecordFilesSource(DataSourceModule):
    """Source of the records in files, with random access to each of them.

    A subclass defines `record_reader`, and `fingerprint` with what tells its files apart. Its config has a ``seed``.
    """

    config_in_fingerprint: ClassVar[bool] = False
    reads_neighbours_together: ClassVar[bool] = True

    @property
    def record_reader(self) -> RecordReader:
        """Reader of the records; copies of the source share it.

        Called: for each batch, and by errors and reports; on any thread. It returns the same object each time.
        Default: none; a subclass writes it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define record_reader; return a RecordReader")

    # -- files and order ------------------------------------------------------------------------------------------------

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, in the order of their records.

        Called: by users and reports.
        Default: the files of the reader's table.
        """
        return self.record_reader.table.paths

    @property
    def decoder(self) -> Decoder:
        """Decoder of the bytes of a record.

        Called: by users.
        """
        return self.record_reader.decoder

    @property
    def order_seed(self) -> int | None:
        """``seed`` of the config, which is folded into the order's key; None if it is the default."""
        seed: int = self.config.seed  # type: ignore[attr-defined]  # the config of a subclass has it
        return None if seed == type(self.config).model_fields["seed"].default else seed

    def __len__(self) -> int:
        return self.record_reader.length

    def element_spec(self) -> ElementSpec:
        """Return the element spec that the decoder declares, or else that of the first record, which is read once for it.

        Raises:
            ValueError: There are no records.
            RecordError: The first record cannot be read or decoded.
        """
        return self.record_reader.spec(self)

    def order(self) -> Order:
        """Return the order of the records.

        Raises:
            ValueError: There are no records.
        """
        self.record_reader.require_records(self)
        return super().order()

    # -- records --------------------------------------------------------------------------------------------------------

    def get_records(self, indices: Any) -> Batch:
        """Return the records at concrete ``indices`` as a batch of NumPy arrays.

        Raises:
            IndexError: An index is out of range.
            RecordError: A record cannot be read or decoded; names file, record and cause. With ``on_error="substitute"``,
                only if more records are bad than ``max_errors`` allows.
            DataFileError: A file changed since the source was built.
        """
        batch, substituted = self.record_reader.batch_of(self.checked_indices(indices), self)
        self.note_substituted(substituted)
        return batch

    def reading_ahead(self, watch: Watch) -> ReadingAhead | None:
        """Return what reads stored records before one loop fetches them; None if nothing is gained, or known, yet."""
        ahead = None if self.config.cacheable else self.record_reader.reading_ahead(watch)
        return None if ahead is None else MappedAhead(ahead, self._expected)

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records cannot be read or decoded; ``on_error="substitute"`` makes no difference here."""
        return self.record_reader.verified(self.checked_indices(indices), self)

    def checked_indices(self, indices: Any) -> np.ndarray:
        """Return record indices as int64 (k,).

        Raises:
            TypeError, IndexError: They are no integers, or one is out of range.
            ValueError: There are no records.

        Called: by `get_records` and `verify_records`.
        """
        self.record_reader.require_records(self)
        numbers = record_numbers(indices, len(self), self.title)
        return numbers.astype(np.int64, copy=False)  # sums of uint8 would wrap

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self.record_reader.close()

    def describe_data(self) -> str:
        """Return the first file, and how many more there are."""
        first, *others = self.paths
        return f"{first!r}" + (f" and {len(others):,} more" if others else "")

    def _expected(self, indices: np.ndarray) -> np.ndarray:
        return self.record_reader.expected_indices(np.asarray(indices).astype(np.int64, copy=False))
