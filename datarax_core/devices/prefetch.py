"""Prefetching to devices: batches of any iterable, placed on a device by a background thread before they are used."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

import jax
import numpy as np

from datarax_core.background import Ahead
from datarax_core.order.numbers import whole_number
from datarax_core.records.joining import host_column
from datarax_core.records.narrowing import narrow
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, split_host_fields, with_host_fields


def prefetch_to_device(
    iterable: Iterable[Batch], size: int = 2, sharding: jax.sharding.Sharding | None = None
) -> "DeviceBatches":
    """Return an iterator of the batches of any iterable on the device, ``size`` of them placed before they are used.

    Batches are pytrees of arrays, checked and narrowed as a pipeline does; text and object fields of a dict stay NumPy
    arrays. Yielded arrays are copied, so the iterable may reuse its buffers. (A `Pipeline` prefetches its batches by itself,
    without the copy.)

    Args:
        iterable: Iterated once, on a background thread.
        size: The number of batches held in addition to the one in use; 0 places each batch when it is asked for, without a
            thread.
        sharding: The sharding of the batches; None is the default device. If it spans several processes, each process
            iterates over the rows of its own devices.

    Raises:
        TypeError: ``iterable`` or ``sharding`` is of another type.
        ValueError: ``size`` is no integer from 0 on. Errors of the iterable, `NarrowingError` and `SpecError` for values that
            no device can hold, are raised by the iterator, in place of the batch.
    """
    if not isinstance(iterable, Iterable):
        raise TypeError(f"prefetch_to_device takes an iterable of batches, not {iterable!r:.80}")
    if not isinstance(sharding, jax.sharding.Sharding | None):
        raise TypeError(f"sharding is a jax.sharding.Sharding, or None for one device, not {sharding!r:.80}")
    return DeviceBatches(iter(iterable), whole_number("size", size, at_least=0), sharding)


class DeviceBatches:
    """Iterator and context manager of batches on the device, in the order of the iterable; made by `prefetch_to_device`.

    Its thread ends when the iterator is exhausted, closed or dropped. An error is raised in place of its batch.
    """

    def __init__(self, batches: Iterator[Any], size: int, sharding: jax.sharding.Sharding | None) -> None:
        self._next = _Next(batches, sharding)
        self._size = size
        self._ahead: Ahead[Batch] | None = None
        self._is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._is_closed:
            raise StopIteration
        if not self._size:
            return self._next()
        if self._ahead is None:
            self._ahead = Ahead(self._next, name="to-device")
        while len(self._ahead) <= self._size:
            self._ahead.request(None)
        try:
            return self._ahead.take()
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        """End the thread after the batch in progress; batches that were prefetched are dropped."""
        self._is_closed = True
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Next:
    """The work of the thread: the next batch, placed. It never holds the `DeviceBatches`, which can be dropped meanwhile."""

    def __init__(self, batches: Iterator[Any], sharding: jax.sharding.Sharding | None) -> None:
        self._batches = batches
        self._sharding = sharding

    def __call__(self, _: object = None) -> Batch:
        batch, host_fields = split_host_fields(jax.tree.map(_as_array, next(self._batches)))
        placed = jax.block_until_ready(jax.tree.map(self._place, batch, narrow(batch)))
        return with_host_fields(placed, jax.tree.map(_copied, host_fields)) if host_fields else placed

    def _place(self, given: Any, narrowed: Any) -> jax.Array:
        if isinstance(given, np.ndarray) and narrowed is given:
            narrowed = given.copy()  # a CPU would alias the memory, despite may_alias
        placed: jax.Array
        if self._sharding is None or self._sharding.is_fully_addressable:
            placed = jax.device_put(narrowed, self._sharding)
        else:
            placed = jax.make_array_from_process_local_data(self._sharding, np.asarray(narrowed))
        return placed


def _copied(column: Any) -> Any:
    return column if isinstance(column, Ragged) else np.array(column)


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else host_column(leaf)
