"""From a position of an endless stream to a record index: epochs, shuffles and shards as integer arithmetic.

O(1) a record in time and memory, with nothing to store and nothing to checkpoint. The same rule runs on NumPy and under
``jax.jit``, equal to the bit. The shuffle itself is in `permutation`.
"""

import functools
from dataclasses import dataclass
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np

from .numbers import as_integer, whole_number
from .permutation import BLOCK, DEVICE_LIMIT, SORTED_UP_TO, Integers, key_data, round_keys, shuffle, sorted_order

ORDER_RULE: Final = 1
"""Version of the arithmetic, a part of every saved state: a state of another version belongs to another order."""

HOST_LIMIT: Final = 2**63 - 1
"""The most records of an order, and the last position in an epoch, that 64-bit arithmetic on the host can address."""

_EPOCHS_CACHED: Final = 2  # round keys of more epochs at once are computed and not cached


@dataclass(frozen=True, slots=True)
class Order:
    """The order of an endless stream over ``length`` records, epoch after epoch.

    With ``num_shards`` > 1 it is the order of shard ``shard``: positions ``shard``, ``shard + num_shards``, ... of each
    epoch, so that shards are disjoint and together complete.

    Args:
        length: Number of records, 1 to 2**63 - 1.
        shard: Number of the shard, from 0.
        num_shards: Number of shards.

    Raises:
        TypeError: An argument is no integer.
        ValueError: ``length`` or ``shard`` is out of range, or the shard is empty.
    """

    length: int
    shard: int = 0
    num_shards: int = 1

    def __post_init__(self) -> None:
        for field in ("length", "shard", "num_shards"):  # NumPy's integers would lack the methods of Python's
            object.__setattr__(self, field, as_integer(field, getattr(self, field)))
        if not 1 <= self.length <= HOST_LIMIT:
            raise ValueError(f"an order needs 1 to 2**63 - 1 records, not {self.length!r}")
        if not 0 <= self.shard < self.num_shards:
            raise ValueError(f"shard {self.shard!r} is not one of 0 .. {self.num_shards - 1}; number shards from 0")
        if self.shard >= self.length:
            raise ValueError(f"shard {self.shard} of {self.num_shards} is empty: there are {self.length} records only")

    @property
    def epoch_length(self) -> int:
        """Number of records in one epoch of this shard."""
        return -(-(self.length - self.shard) // self.num_shards)

    def record_indices(self, start: int | jax.Array, size: int, key: jax.Array | np.ndarray | None = None) -> Integers:
        """Return the record indices at the ``size`` positions from ``start`` on.

        Args:
            start: First position, 0 or more. A Python integer may exceed 64 bits if the number of its epoch does not; a
                traced integer must stay under 2**31.
            size: Number of positions.
            key: PRNG key, typed or as uint32 key data, that selects the shuffle; None for records in sequence.

        Returns:
            int64 (size,) NumPy array, or int32 (size,) JAX array if ``start`` or ``key`` is traced. O(size) time and memory.

        Raises:
            TypeError: ``start`` or ``size`` is no integer.
            ValueError: ``start`` or ``size`` is negative, or ``start`` or ``key`` is traced and there are more than 2**31 - 1
                records.
        """
        size = whole_number("size", size, at_least=0)
        if isinstance(start, jax.core.Tracer):
            if not jnp.issubdtype(start.dtype, np.integer):
                raise TypeError(f"a position is an integer, not {start.dtype}")
            wide = start if start.dtype.itemsize >= 4 else start.astype(np.int32)
            return self._on_device(wide, size, key)
        start = as_integer("a position", start)
        if start < 0:
            raise ValueError(f"position {start} is before the start of the stream; positions count from 0")
        return (self._on_device if isinstance(key, jax.core.Tracer) else self._on_host)(start, size, key)

    def records_at(self, offsets: np.ndarray, epoch: int, key: jax.Array | np.ndarray | None = None) -> np.ndarray:
        """Return the record indices at concrete offsets in one epoch, which need not be one after another.

        Args:
            offsets: int (k,), each in ``[0, epoch_length)``.
            epoch: Number of the epoch.
            key: PRNG key, typed or as uint32 key data, that selects the shuffle; None for records in sequence.

        Returns:
            int64 (k,): what `record_indices` gives at the positions ``epoch * epoch_length + offsets``.
        """
        positions = np.asarray(offsets, np.int64) * self.num_shards + self.shard
        if key is None:
            return positions
        keys = _keys_of_epochs(np.asarray(key_data(key)), epoch, 1)
        if self.length <= SORTED_UP_TO:
            return np.asarray(sorted_order(self.length, keys)[0, positions], np.int64)
        return np.asarray(shuffle(positions, self.length, keys[0]))

    def _on_host(self, start: int, size: int, key: jax.Array | np.ndarray | None) -> np.ndarray:
        epoch, offset = divmod(start, self.epoch_length)
        if key is None:
            # uint64: offset + size may pass 2**63
            rows = np.uint64(offset) + np.arange(size, dtype=np.uint64)
            return (rows % np.uint64(self.epoch_length)).astype(np.int64) * self.num_shards + self.shard
        keys = _keys_of_epochs(np.asarray(key_data(key)), epoch, self._epochs_in(offset, size))
        if self.epoch_length > BLOCK:
            return self._epoch_by_epoch(offset, size, keys)
        passed, rows = np.divmod(offset + np.arange(size), self.epoch_length)
        positions = rows * self.num_shards + self.shard
        if self.length <= SORTED_UP_TO:
            return np.asarray(sorted_order(self.length, keys)[passed, positions])
        by_position = np.take(np.ascontiguousarray(keys.T), passed, axis=1) if len(keys) > 1 else keys[0]
        return np.asarray(shuffle(positions, self.length, by_position))

    def _epoch_by_epoch(self, offset: int, size: int, keys: np.ndarray) -> np.ndarray:
        """Return the record indices for long epochs: a key for each epoch costs a third less than a key for each position."""
        indices = np.empty(size, np.int64)
        done = 0
        for epoch_keys in keys:
            span = min(self.epoch_length - offset, size - done)
            positions = np.arange(offset, offset + span, dtype=np.int64) * self.num_shards + self.shard
            indices[done : done + span] = shuffle(positions, self.length, epoch_keys)
            done, offset = done + span, 0
        return indices

    def _epochs_in(self, offset: int, size: int) -> int:
        """Return the number of epochs of ``size`` positions, the first of which is at ``offset`` in its epoch."""
        return max(offset + size - 1, 0) // self.epoch_length + 1

    def _on_device(self, start: int | jax.Array, size: int, key: jax.Array | np.ndarray | None) -> Integers:
        if self.length > DEVICE_LIMIT:
            raise ValueError(
                f"{self.length} records are more than the {DEVICE_LIMIT} that 32-bit positions under jit can address; "
                "iterate from Python, where positions are 64-bit"
            )
        length = np.uint32(self.epoch_length)
        low, high, offset = _located(start, self.epoch_length)
        rows = offset + jnp.arange(size, dtype=np.uint32)
        spanned = 2 if size <= self.epoch_length else (size - 1) // self.epoch_length + 2
        passed = (rows >= length).astype(np.uint32) if spanned == 2 else rows // length
        positions = (rows - passed * length) * np.uint32(self.num_shards) + np.uint32(self.shard)
        if key is None:
            return positions.astype(np.int32)
        ahead = jnp.arange(spanned, dtype=np.uint32)
        epochs = low + ahead
        keys = round_keys(key_data(key), epochs, high + (epochs < low).astype(np.uint32))  # a sum that wraps carries
        if self.length <= SORTED_UP_TO:
            return sorted_order(self.length, keys)[passed, positions].astype(np.int32)
        row_keys = jnp.where(passed[None] == 0, keys[0][:, None], keys[1][:, None]) if spanned == 2 else keys[passed].T
        return shuffle(positions, self.length, row_keys).astype(np.int32)


def epochs_of(start: int | jax.Array, size: int, epoch_length: int) -> Integers:
    """Return the epochs of the ``size`` positions from ``start`` on: int (size,). A Python integer may be of any size."""
    if not isinstance(start, int):
        return (start + jnp.arange(size)) // epoch_length
    epoch, offset = divmod(start, epoch_length)
    return epoch + (offset + np.arange(size)) // epoch_length


def _located(start: int | jax.Array, epoch_length: int) -> tuple[Integers, Integers, Integers]:
    """Return the epoch (lower 32 bits, upper 32 bits) and the offset in it, each uint32, of a position, traced or not."""
    if isinstance(start, int):
        epoch, rest = divmod(start, epoch_length)
        return np.uint32(epoch & 0xFFFFFFFF), np.uint32(epoch >> 32), np.uint32(rest)
    epochs, rests = jnp.divmod(start, start.dtype.type(epoch_length))
    high = (epochs >> 32).astype(np.uint32) if start.dtype.itemsize == 8 else np.uint32(0)
    return epochs.astype(np.uint32), high, rests.astype(np.uint32)


def _keys_of_epochs(key_data: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return the round keys of ``count`` epochs; those of one or two, which many requests share, are cached (0.3 ms each)."""
    if count > _EPOCHS_CACHED:
        return np.asarray(round_keys(key_data, *_halves_of_epochs(first, count)))
    return np.concatenate([_cached_keys(key_data.tobytes(), epoch) for epoch in range(first, first + count)])


@functools.lru_cache(maxsize=4096)
def _cached_keys(key_data: bytes, epoch: int) -> np.ndarray:
    keys: np.ndarray = round_keys(np.frombuffer(key_data, np.uint32), *_halves_of_epochs(epoch, 1))
    keys.flags.writeable = False
    return keys


def _halves_of_epochs(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper 32 bits of ``count`` epoch numbers."""
    epochs = np.uint64(first) + np.arange(count, dtype=np.uint64)
    return (epochs & np.uint64(0xFFFFFFFF)).astype(np.uint32), (epochs >> np.uint64(32)).astype(np.uint32)
