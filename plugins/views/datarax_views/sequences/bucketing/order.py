"""The order of a bucket view: records of each bucket cut into batches, and the batches of all buckets in one sequence."""

import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from datarax_core.background import renew_in_forks
from datarax_core.order import Order, as_integer, key_data
from datarax_core.sources import HostState

_TAG: Final = 0x6275636B
"""Second part of the key of a bucket's records, "buck", so that no bucket is permuted as the batches are."""

_EPOCHS_HELD: Final = 4
"""Epochs whose tables are held: reading ahead reaches over the end of one, and `Batches.at` asks for the one before."""


class Epoch(NamedTuple):
    """The batches of one epoch in their order.

    Attributes:
        batches: int64 (b,), the number of each batch.
        starts: int64 (b + 1,), the position in the epoch at which each begins, and the number of records of the epoch.
    """

    batches: np.ndarray
    starts: np.ndarray


class EpochTables(HostState):
    """The tables of the last epochs that were asked for, by key and epoch; any thread may ask."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Any, Epoch] = OrderedDict()
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Make the lock anew: in a fork, another thread of the parent may have held it."""
        self._lock = threading.Lock()

    def of(self, order: "BucketOrder", key: np.ndarray, epoch: int) -> Epoch:
        """Return the table of an epoch, made if it is not held."""
        place = (key.tobytes(), epoch)
        with self._lock:
            table = self._tables.get(place)
            if table is None:
                table = self._tables[place] = order.shuffled(key, epoch)
                if len(self._tables) > _EPOCHS_HELD:
                    self._tables.popitem(last=False)
            return table


class BucketOrder:
    """Positions to records, in units of batches: a pure function of key and epoch.

    With a key, the records of a bucket are permuted anew in each epoch and cut into batches; the batches of all buckets are
    shuffled. Without one, records keep their sequence, and a batch comes where its last record does. The number of batches, and
    of records, is that of every epoch. The permutations are core's.

    A table of the batches is made once an epoch, O(batches) in time and memory; a record then costs O(log batches).

    Args:
        classes: uint16 (k,), the bucket of each record; records of no bucket have a greater number.
        sizes: The number of records of a full batch of each bucket.
        keep: Whether the last batch of a bucket is kept if it is short; if not, its records are left out of the epoch.
    """

    def __init__(self, classes: np.ndarray, sizes: tuple[int, ...], *, keep: bool) -> None:
        self.classes = classes
        self.sizes = sizes
        self.keep = keep
        counts = np.bincount(classes, minlength=len(sizes))[: len(sizes)]
        self.counts: tuple[int, ...] = tuple(counts.tolist())
        """The number of records of each bucket."""
        full = [count // size for count, size in zip(self.counts, sizes, strict=True)]
        short = [count % size if keep else 0 for count, size in zip(self.counts, sizes, strict=True)]
        self.batches: tuple[int, ...] = tuple(f + bool(rest) for f, rest in zip(full, short, strict=True))
        """The number of batches of each bucket in an epoch."""
        self.short_sizes: tuple[int, ...] = tuple(short)
        """The number of records of the short batch of each bucket; 0 if it has none."""
        self.num_batches = sum(self.batches)
        self.num_records = sum(f * size + rest for f, size, rest in zip(full, sizes, short, strict=True))
        self._first = np.cumsum([0, *self.batches])[:-1]
        self._begin = np.cumsum([0, *self.counts])

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.classes, self.sizes, self.keep)

    def bucket_of_batches(self, batches: np.ndarray) -> np.ndarray:
        """Return int64 (b,): the bucket of each batch, by the number of the batch."""
        return np.searchsorted(self._first, batches, side="right") - 1

    # -- tables of epochs -----------------------------------------------------------------------------------------------------

    @cached_property
    def in_sequence(self) -> Epoch:
        """The table of every epoch without a key."""
        last = np.concatenate(
            [
                self._records_of(bucket)[np.minimum(np.arange(1, number + 1) * size, self.counts[bucket]) - 1]
                for bucket, (size, number) in enumerate(zip(self.sizes, self.batches, strict=True))
            ]
            or [np.empty(0, np.int64)]
        )
        return self._epoch(np.argsort(last, kind="stable"))

    def shuffled(self, key: np.ndarray, epoch: int) -> Epoch:
        """Return the table of an epoch, made anew: 0.1 s for a million batches."""
        return self._epoch(Order(self.num_batches).record_indices(epoch * self.num_batches, self.num_batches, key))

    def _epoch(self, batches: np.ndarray) -> Epoch:
        starts = np.zeros(len(batches) + 1, np.int64)
        np.cumsum(self._size_of_each[batches], out=starts[1:])
        return Epoch(batches, starts)

    @cached_property
    def _size_of_each(self) -> np.ndarray:
        """int64 (b,): the records of each batch, by its number."""
        sizes = np.repeat(np.asarray(self.sizes, np.int64), self.batches)
        for bucket, rest in enumerate(self.short_sizes):
            if rest:
                sizes[self._first[bucket] + self.batches[bucket] - 1] = rest
        return sizes

    def epoch(self, key: np.ndarray | None, epoch: int, tables: EpochTables) -> Epoch:
        """Return the table of an epoch; None as key is the sequence."""
        return self.in_sequence if key is None else tables.of(self, key, epoch)

    # -- records --------------------------------------------------------------------------------------------------------------

    def record_indices(self, start: int, size: int, key: Any, tables: EpochTables) -> np.ndarray:
        """Return int64 (size,): the records at the positions from ``start`` on."""
        start = as_integer("a position", start)
        if start < 0:
            raise ValueError(f"position {start} is before the start of the stream; positions count from 0")
        words = None if key is None else np.asarray(key_data(key))
        indices = np.empty(size, np.int64)
        done = 0
        while done < size:
            epoch, offset = divmod(start + done, self.num_records)
            span = min(self.num_records - offset, size - done)
            self._fill(indices[done : done + span], offset, words, epoch, self.epoch(words, epoch, tables))
            done += span
        return indices

    def _fill(self, indices: np.ndarray, offset: int, key: np.ndarray | None, epoch: int, table: Epoch) -> None:
        """Write the records from an offset in an epoch on; ``indices`` end with the epoch at the latest."""
        end = offset + len(indices)
        first = int(table.starts.searchsorted(offset, side="right")) - 1
        last = int(table.starts.searchsorted(end, side="left"))
        numbers, starts = table.batches[first:last], table.starts[first : last + 1]
        buckets = self.bucket_of_batches(numbers)
        rows = np.diff(starts.clip(offset, end))
        of_bucket = (numbers - self._first[buckets]) * np.asarray(self.sizes)[buckets] - starts[:-1]
        places = np.arange(offset, end) + np.repeat(of_bucket, rows)
        found = np.unique(buckets)
        bucket_of_row = np.repeat(buckets, rows) if len(found) > 1 else None
        for bucket in found.tolist():
            here: Any = slice(None) if bucket_of_row is None else np.flatnonzero(bucket_of_row == bucket)
            indices[here] = self._records_of(bucket)[self._permuted(places[here], bucket, key, epoch)]

    def _permuted(self, places: np.ndarray, bucket: int, key: np.ndarray | None, epoch: int) -> np.ndarray:
        if key is None:
            return places
        own = np.concatenate([key, np.asarray([_TAG, bucket], np.uint32)])
        return Order(self.counts[bucket]).records_at(places, epoch, own)

    def first_record_of(self, bucket: int) -> int:
        """Return the record of a bucket with the smallest index."""
        return int(self._records_of(bucket)[0])

    def _records_of(self, bucket: int) -> np.ndarray:
        return self._records[self._begin[bucket] : self._begin[bucket + 1]]

    @cached_property
    def _records(self) -> np.ndarray:
        """The records of each bucket, one bucket after another, in ascending order; a stable sort of 16 bits is quick."""
        dtype = np.uint32 if len(self.classes) < 1 << 32 else np.int64
        return np.argsort(self.classes, kind="stable").astype(dtype)

    # -- batches --------------------------------------------------------------------------------------------------------------

    def batch_at(self, position: int, key: np.ndarray | None, tables: EpochTables) -> tuple[int, int]:
        """Return (number of the batch in which a position lies, from position 0 on, and its records from there on)."""
        epoch, offset = divmod(position, self.num_records)
        starts = self.epoch(key, epoch, tables).starts
        place = int(starts.searchsorted(offset, side="right"))
        return epoch * self.num_batches + place - 1, int(starts[place]) - offset

    def full_size_at(self, position: int, key: np.ndarray | None, tables: EpochTables) -> int:
        """Return the records of a full batch of the bucket whose batch lies at a position."""
        epoch, offset = divmod(position, self.num_records)
        table = self.epoch(key, epoch, tables)
        place = int(table.starts.searchsorted(offset, side="right")) - 1
        return self.sizes[int(self.bucket_of_batches(table.batches[place]))]

    def position_of(self, step: int, key: np.ndarray | None, tables: EpochTables) -> int:
        """Return the position at which batch number ``step`` of a run begins."""
        epoch, place = divmod(step, self.num_batches)
        return epoch * self.num_records + int(self.epoch(key, epoch, tables).starts[place])


def _made(classes: np.ndarray, sizes: tuple[int, ...], keep: bool) -> BucketOrder:  # noqa: FBT001 - of pickles
    return BucketOrder(classes, sizes, keep=keep)
