"""The orders of a mixture: position -> record, either in exact proportions or drawn at random.

The records of a mixture are those of its children, one child after another: record r of child i is record ``offsets[i] + r``.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT, fold_in
from datarax_core.sources import DataSourceModule

from .stages import StagedTimeline
from .timeline import Timeline

Children = Sequence[DataSourceModule]

_COUNTED_AT_ONCE: Final = 1 << 16


class ProportionalOrder:
    """Exact proportions; each child in the order that its own key selects, epoch after epoch of the child."""

    def __init__(self, timeline: Timeline | StagedTimeline, offsets: np.ndarray) -> None:
        self.timeline = timeline
        self._offsets = offsets

    @property
    def epoch_length(self) -> int | None:
        """Records in an epoch; None if a child has no length."""
        return self.timeline.epoch_length

    @property
    def title(self) -> str:
        """The order's name in reports and saved states."""
        return f"proportional, {self.timeline.title}"

    def record_indices(self, children: Children, start: int, size: int, key_data: np.ndarray) -> np.ndarray:
        """Return int64 (size,): the records at concrete positions ``start .. start + size``."""
        keys = child_keys(key_data, len(children))
        indices = np.empty(size, np.int64)
        for child, first, rows in self.timeline.stretches(start, size):
            own = children[child].record_indices_at(first, len(rows), keys[child])
            indices[rows] = np.asarray(own, np.int64) + self._offsets[child]
        return indices

    def traced_record_indices(self, children: Children, start: Any, size: int, key_data: Any) -> jax.Array:
        """Return int32 (size,): the records at ``start .. start + size``, where the position or the key is traced."""
        keys = fold_in(key_data, jnp.arange(len(children), dtype=np.uint32))

        def records_of(child: int, first: jax.Array, count: int) -> Any:
            records = children[child].record_indices_at(first, count, keys[:, child])
            return records + np.int32(self._offsets[child])

        return self._traced(records_of, start, size)

    def epochs(self, children: Children, start: int, size: int) -> np.ndarray:
        """Return int64 (size,): for each record, the epoch of its child in which it is served."""
        epochs = np.empty(size, np.int64)
        for child, first, rows in self.timeline.stretches(start, size):
            epochs[rows] = children[child].epochs_at(first, len(rows))
        return epochs

    def traced_epochs(self, children: Children, start: Any, size: int) -> jax.Array:
        """Return the same as `epochs` for a traced ``start``, as int32 (size,)."""
        return self._traced(lambda child, first, count: children[child].epochs_at(first, count), start, size)

    def counts(self, children: Children, position: int, key_data: Any) -> np.ndarray:  # noqa: ARG002 - as `CategoricalOrder`
        """Return int64 (k,): the number of records of each child before ``position``."""
        return self.timeline.counts(position)

    def _traced(self, values_of: Callable[[int, jax.Array, int], Any], start: Any, size: int) -> jax.Array:
        """Return int32 (size,): for each position, its value among those of its child.

        ``values_of(child, first, count)`` gives the values of a child at ``count`` positions of its own order.
        """
        which, places = self.timeline.traced_at(start, size)
        stretches, at, taken = [], jnp.zeros(size, np.int32), 0
        for child in self.timeline.served:
            mine, most = which == child, self.timeline.most_of(child, size)
            first = jnp.where(mine.any(), jnp.where(mine, places, DEVICE_LIMIT).min(), 0)
            stretches.append(jnp.asarray(values_of(child, first, most), np.int32))
            at = jnp.where(mine, places - first + np.int32(taken), at)
            taken += most
        return jnp.concatenate(stretches)[at]


class CategoricalOrder:
    """Independent draws: for position p, ``fold_in(key, p)`` draws a child by weight, and a record of it, with replacement.

    With ``k = fold_in(key, p)``, the key data of ``fold_in(k, 0)``, read as a number of 64 bits and scaled to the common
    denominator of the shares, draws the child; the key data of ``fold_in(k, 1)``, scaled to the child's number of records,
    draws the record. If the child is a mixture, it draws with ``fold_in(k, 1)`` in place of k.
    """

    title: str = "categorical, rule 1"

    def __init__(self, timeline: Timeline | StagedTimeline, offsets: np.ndarray) -> None:
        self._bounds = np.cumsum(timeline.shares.numerators)
        self._offsets = offsets
        self._lengths = np.diff(offsets)
        self._counted: tuple[bytes, int, np.ndarray] = (b"", 0, np.zeros(len(self._lengths), np.int64))

    @property
    def epoch_length(self) -> int:
        """The number of records of all children."""
        return int(self._offsets[-1])

    def record_indices(self, children: Children, start: int, size: int, key_data: np.ndarray) -> np.ndarray:
        """Return int64 (size,): the records at concrete positions ``start .. start + size``."""
        indices: np.ndarray = self.draw(children, _keys_at(key_data, start, size), start + np.arange(size))[1]
        return indices

    def traced_record_indices(self, children: Children, start: Any, size: int, key_data: Any) -> jax.Array:
        """Return int32 (size,): the records at ``start .. start + size``, where the position or the key is traced."""
        positions = start.astype(np.uint32) + jnp.arange(size, dtype=np.uint32)
        keys = fold_in(jnp.asarray(key_data), positions)
        indices: jax.Array = self.draw(children, keys, positions.astype(np.int32))[1]
        return indices

    def epochs(self, children: Children, start: int, size: int) -> np.ndarray:  # noqa: ARG002 - as `ProportionalOrder`
        """Return the positions: a record that is drawn again gets new random numbers, as if in another epoch."""
        return np.arange(start, start + size)

    def traced_epochs(self, children: Children, start: Any, size: int) -> jax.Array:  # noqa: ARG002 - as `ProportionalOrder`
        """Return the same as `epochs` for a traced ``start``."""
        epochs: jax.Array = start + jnp.arange(size)
        return epochs

    def counts(self, children: Children, position: int, key_data: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the number of records of each child before ``position``.

        Counted by drawing all of them: O(position), but only what follows the last call if ``position`` did not go back.
        """
        counted_key, done, counts = self._counted
        if counted_key != key_data.tobytes() or done > position:
            done, counts = 0, np.zeros(len(self._lengths), np.int64)
        while done < position:
            size = min(_COUNTED_AT_ONCE, position - done)
            which, _ = self.draw(children, _keys_at(key_data, done, size), done + np.arange(size))
            done, counts = done + size, counts + np.bincount(which, minlength=len(counts))
        self._counted = key_data.tobytes(), done, counts
        return counts

    def draw(self, children: Children, keys: Any, positions: Any = None) -> tuple[Any, Any]:
        """Return (child, record of the mixture), each (k,), drawn with each of the keys, uint32 (2, k), at its position."""
        traced = isinstance(keys, jax.Array)
        zeros = (jnp if traced else np).zeros(keys.shape[1], np.uint32)
        which = self._children_of(fold_in(keys, zeros), positions)
        record_keys = fold_in(keys, zeros + np.uint32(1))
        if traced:
            records = _scaled(record_keys, jnp.asarray(self._lengths, np.uint32)[which]).astype(np.int32)
        else:
            records = _scaled(record_keys, self._lengths.astype(np.uint64)[which]).astype(np.int64)
        for number, child in enumerate(children):
            if (draw_in_child := nested_draw(child)) is None:
                continue
            if traced:
                records = jnp.where(which == number, draw_in_child(record_keys), records)
            elif (rows := np.flatnonzero(which == number)).size:
                records[rows] = draw_in_child(record_keys[:, rows])
        offsets = jnp.asarray(self._offsets, np.int32) if traced else self._offsets
        return which, records + offsets[which]

    def _children_of(self, bits: Any, positions: Any) -> Any:  # noqa: ARG002 - an override uses the positions
        """Return the child (k,) that each draw of 64 bits, uint32 (2, k), selects."""
        slots = _scaled(bits, int(self._bounds[-1]))
        if isinstance(bits, jax.Array):
            return jnp.searchsorted(jnp.asarray(self._bounds, np.int32), slots.astype(np.int32), side="right")
        return np.searchsorted(self._bounds, slots.astype(np.int64), side="right")


class StagedCategoricalOrder(CategoricalOrder):
    """Independent draws by weights in stages: a draw at position p has the shares of p; on a ramp, those of its step there."""

    def __init__(self, timeline: StagedTimeline, offsets: np.ndarray) -> None:
        super().__init__(timeline, offsets)
        self._timeline = timeline
        self.title = f"{CategoricalOrder.title}, {timeline.title}"

    def _children_of(self, bits: Any, positions: Any) -> Any:
        if isinstance(bits, jax.Array):
            traced_bounds, traced_limits = self._timeline.traced_bounds_at(positions)
            return (_scaled(bits, traced_limits).astype(np.int32)[:, None] >= traced_bounds).sum(axis=1)
        bounds, limits = self._timeline.bounds_at(positions)
        return (_scaled(bits, limits).astype(np.int64)[:, None] >= bounds).sum(axis=1)


def nested_draw(child: Any) -> Callable[[Any], Any] | None:
    """Return the function (keys -> records) by which a child draws that is a mixture, or has weights of its own; else None.

    A source with weights has a method ``draw_with(keys)``, as the views of type ``sample`` do.
    """
    draws = getattr(child, "draws", None)
    if isinstance(draws, CategoricalOrder):
        return lambda keys: draws.draw(child.children, keys)[1]
    draw_with: Callable[[Any], Any] | None = getattr(child, "draw_with", None)
    return draw_with


def is_staged(child: Any) -> bool:
    """Return whether a child is a mixture whose weights change at positions."""
    return isinstance(getattr(child, "timeline", None), StagedTimeline)


def by_child(which: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (child, its rows in ascending order) for each child that occurs in ``which``."""
    if not which.size or (first := int(which[0])) == which.max() == which.min():
        yield from [(first, np.arange(which.size))] if which.size else []
        return
    order = np.argsort(which, kind="stable")
    found = which[order]
    for rows in np.split(order, np.flatnonzero(found[1:] != found[:-1]) + 1):
        yield int(which[rows[0]]), rows


def child_keys(key_data: np.ndarray, count: int) -> np.ndarray:
    """Return uint32 (count, 2): the key of each child, ``fold_in(key, number)``."""
    return _held_child_keys(key_data.tobytes(), count)


@functools.lru_cache(maxsize=256)
def _held_child_keys(key_data: bytes, count: int) -> np.ndarray:
    keys: np.ndarray = fold_in(np.frombuffer(key_data, np.uint32), np.arange(count, dtype=np.uint32)).T.copy()
    keys.flags.writeable = False
    return keys


def _keys_at(key_data: np.ndarray, start: int, size: int) -> np.ndarray:
    """Return uint32 (2, size): the key folded with each of the positions ``start .. start + size``, of 64 bits."""
    positions = np.uint64(start) + np.arange(size, dtype=np.uint64)
    high = (positions >> np.uint64(32)).astype(np.uint32)
    return np.asarray(fold_in(key_data, (positions & np.uint64(0xFFFFFFFF)).astype(np.uint32), high))


def _scaled(bits: Any, limits: Any) -> Any:
    """Return ``bits`` (2, k), read as numbers of 64 bits, times ``limits`` / 2**64: even draws from [0, limits)."""
    if isinstance(bits, np.ndarray):
        high, low = bits.astype(np.uint64)
        limits = np.asarray(limits, np.uint64)
        narrow = (high * limits + (low * limits >> np.uint64(32))) >> np.uint64(32)
        wide = ((high << np.uint64(32)) | low) % np.maximum(limits, np.uint64(1))
        return np.where(limits >> np.uint64(32), wide, narrow)
    high, low = bits
    limits = jnp.asarray(limits, np.uint32)
    carried = high * limits + _high_product(low, limits)
    return _high_product(high, limits) + (carried < high * limits).astype(np.uint32)


def _high_product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Return the upper 32 bits of the product of two uint32, computed from products of 16-bit halves."""
    half, mask = np.uint32(16), np.uint32(0xFFFF)
    upper, lower = (left >> half) * (right & mask), (left & mask) * (right >> half)
    middle = ((left & mask) * (right & mask) >> half) + (upper & mask) + (lower & mask)
    return (left >> half) * (right >> half) + (upper >> half) + (lower >> half) + (middle >> half)
