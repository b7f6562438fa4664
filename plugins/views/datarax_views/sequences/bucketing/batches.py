"""The sizes of the batches of a bucket view, by position: those of the order that its key selects at that moment."""

from collections.abc import Callable
from typing import Any

import numpy as np

from datarax_core.order import BatchSizes, key_data

from .order import BucketOrder, EpochTables


class BucketBatches(BatchSizes):
    """The sizes of batches, which differ from bucket to bucket: a look-up in the table of an epoch.

    Args:
        order: The order of the batches.
        tables: The tables of epochs.
        key: Returns the key of the order; None for records in sequence.
    """

    def __init__(self, order: BucketOrder, tables: EpochTables, key: Callable[[], Any]) -> None:
        self._order = order
        self._tables = tables
        self._key = key

    @property
    def largest(self) -> int:
        """Records of a full batch of the bucket that has most."""
        return max(self._order.sizes)

    @property
    def distinct(self) -> tuple[int, ...]:
        """The sizes of full batches, ascending."""
        return tuple(sorted(set(self._order.sizes)))

    @property
    def short(self) -> tuple[int, ...]:
        """The sizes of the last batches of buckets that are short, ascending."""
        return tuple(sorted(set(self._order.short_sizes) - {0}))

    def at(self, position: int) -> int:
        """Return the records from ``position`` to the end of its batch: of a boundary, those of the batch."""
        return self._order.batch_at(position, self._key_data(), self._tables)[1]

    def full_at(self, position: int) -> int:
        """Return the records of a full batch of the bucket whose batch lies at ``position``."""
        return self._order.full_size_at(position, self._key_data(), self._tables)

    def batches_before(self, position: int) -> int:
        """Return the number of batches that begin before ``position``."""
        epochs, offset = divmod(position, self._order.num_records)
        if not offset:
            return epochs * self._order.num_batches
        return self._order.batch_at(position - 1, self._key_data(), self._tables)[0] + 1

    def position_of(self, step: int) -> int:
        """Return the position at which batch number ``step`` begins."""
        epochs, batch = divmod(step, self._order.num_batches)
        if not batch:
            return epochs * self._order.num_records
        return self._order.position_of(step, self._key_data(), self._tables)

    def last_size(self, start: int, stop: int) -> int:
        """Return the records of the last batch before ``stop``, if that is cut short there; 0 if it is not."""
        if stop <= start or stop % self._order.num_records == 0 or self.at(stop - 1) == 1:
            return 0
        return stop - self.position_of(self.batches_before(stop) - 1)

    def fingerprint(self) -> Any:
        """Return a text: the sizes are in the fingerprint of the source."""
        return "of the source"

    def describe(self) -> str:
        """Return the sizes in words: ``32 to 256, by bucket``."""
        sizes = self.distinct
        return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}, by bucket"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketBatches) and (self._order, self._key) == (other._order, other._key)

    def __hash__(self) -> int:
        return hash((self._order, self._key))

    def _key_data(self) -> np.ndarray | None:
        key = self._key()
        return None if key is None else np.asarray(key_data(key))
