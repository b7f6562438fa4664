"""Work ahead of its use: batches of any iterable placed on the device, and, as `Ahead`, anything at all."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

import jax
import numpy as np

from datarax_core.background import Ahead
from datarax_core.order.numbers import whole_number
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import Batch, split_host_fields, with_host_fields


def prefetch_to_device(
    iterable: Iterable[Batch], size: int = 2, sharding: jax.sharding.Sharding | None = None
) -> "DeviceBatches":
    """The batches of any iterable on the device, ``size`` of them placed there before they are asked for.

    Batches are pytrees of arrays, checked and narrowed as a pipeline does it; text and object fields of a dict ride beside
    them as NumPy arrays. What the iterable yields is copied, so that it may go on writing to its buffers. (A `Pipeline`
    places its batches ahead by itself, and saves the copy.)

    Args:
        iterable: Iterated once, on a background thread.
        size: How many batches are held besides the one in use; 0 places each when it is asked for, without a thread.
        sharding: How batches are laid over devices; None is the default device. Over several processes, each iterates
            the rows of its own devices.

    Raises:
        TypeError, ValueError: An argument cannot work. As batches are asked for, whatever the iterable raises, and
            `NarrowingError` or `SpecError` for what no device can hold.
    """
    if not isinstance(iterable, Iterable):
        raise TypeError(f"prefetch_to_device takes an iterable of batches, not {iterable!r:.80}")
    if not isinstance(sharding, jax.sharding.Sharding | None):
        raise TypeError(f"sharding is a jax.sharding.Sharding, or None for one device, not {sharding!r:.80}")
    return DeviceBatches(iter(iterable), whole_number("size", size, at_least=0), sharding)


class DeviceBatches:
    """Batches on the device, in the order of what they are made of. Made by `prefetch_to_device`; a context manager too.

    Its thread ends when it is exhausted, closed or dropped. An error comes in the place of the batch that it concerns.
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
        """End the thread once the batch under way is there; batches that were read ahead are dropped."""
        self._is_closed = True
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Next:
    """The work of the thread, which never holds the `DeviceBatches`: those may be dropped while it works."""

    def __init__(self, batches: Iterator[Any], sharding: jax.sharding.Sharding | None) -> None:
        self._batches = batches
        self._sharding = sharding

    def __call__(self, _: object = None) -> Batch:
        batch, host_fields = split_host_fields(jax.tree.map(_as_array, next(self._batches)))
        placed = jax.block_until_ready(jax.tree.map(self._place, batch, narrow(batch)))
        return with_host_fields(placed, jax.tree.map(np.array, host_fields)) if host_fields else placed

    def _place(self, given: Any, narrowed: Any) -> jax.Array:
        if isinstance(given, np.ndarray) and narrowed is given:
            narrowed = given.copy()  # a CPU would use the very memory, whatever may_alias says
        placed: jax.Array
        if self._sharding is None or self._sharding.is_fully_addressable:
            placed = jax.device_put(narrowed, self._sharding)
        else:
            placed = jax.make_array_from_process_local_data(self._sharding, np.asarray(narrowed))
        return placed


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
