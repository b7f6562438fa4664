"""Which record of which child stands at a position: in proportion, each child in its own order, or drawn at random.

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

from ._timeline import TIMELINE_RULE, Timeline

Children = Sequence[DataSourceModule]

_COUNTED_AT_ONCE: Final = 1 << 16


class Proportional:
    """Exact proportions; each child in the order that its own key selects, epoch after epoch of its own."""

    def __init__(self, timeline: Timeline, offsets: np.ndarray) -> None:
        self.timeline = timeline
        self._offsets = offsets

    @property
    def epoch_length(self) -> int | None:
        """Records in an epoch; None if the length of a child is not known."""
        return self.timeline.epoch_length

    @property
    def title(self) -> str:
        """What reports and saved states call it."""
        return f"proportional, rule {TIMELINE_RULE}"

    def record_indices(self, children: Children, start: int, size: int, words: np.ndarray) -> np.ndarray:
        """int64 (size,): the records at concrete positions."""
        keys = child_keys(words, len(children))
        indices = np.empty(size, np.int64)
        for child, first, rows in self.timeline.stretches(start, size):
            own = children[child].record_indices_at(first, len(rows), keys[child])
            indices[rows] = np.asarray(own, np.int64) + self._offsets[child]
        return indices

    def traced_record_indices(self, children: Children, start: Any, size: int, words: Any) -> jax.Array:
        """int32 (size,): the same for traced positions or a traced key."""
        keys = fold_in(words, jnp.arange(len(children), dtype=np.uint32))

        def own(child: int, first: jax.Array, count: int) -> Any:
            records = children[child].record_indices_at(first, count, keys[:, child])
            return records + np.int32(self._offsets[child])

        return self._traced(own, start, size)

    def epochs(self, children: Children, start: int, size: int) -> np.ndarray:
        """int64 (size,): the epoch of its child that each record is served in."""
        epochs = np.empty(size, np.int64)
        for child, first, rows in self.timeline.stretches(start, size):
            epochs[rows] = children[child].epochs_at(first, len(rows))
        return epochs

    def traced_epochs(self, children: Children, start: Any, size: int) -> jax.Array:
        """int32 (size,): the same for traced positions."""
        return self._traced(lambda child, first, count: children[child].epochs_at(first, count), start, size)

    def counts(self, children: Children, position: int, words: Any) -> np.ndarray:  # noqa: ARG002 - see `Drawn`
        """int64 (k,): how many records of each child are before ``position``."""
        return self.timeline.counts(position)

    def _traced(self, own: Any, start: Any, size: int) -> jax.Array:
        """Of what ``own(child, first, count)`` gives for each child's stretch of its own positions, each row's."""
        which, places = self.timeline.traced_at(start, size)
        stretches, at, taken = [], jnp.zeros(size, np.int32), 0
        for child in self.timeline.served:
            mine, most = which == child, self.timeline.most_of(child, size)
            first = jnp.where(mine.any(), jnp.where(mine, places, DEVICE_LIMIT).min(), 0)
            stretches.append(jnp.asarray(own(child, first, most), np.int32))
            at = jnp.where(mine, places - first + np.int32(taken), at)
            taken += most
        return jnp.concatenate(stretches)[at]


class Drawn:
    """For position p, ``fold_in(key, p)`` draws a child by weight, and a record in it, with replacement.

    With ``k = fold_in(key, p)``, the words of ``fold_in(k, 0)``, read as a number of 64 bits, are scaled into the common
    denominator of the shares to draw the child; those of ``fold_in(k, 1)`` are scaled into its number of records. Where the
    child is a mixture, ``fold_in(k, 1)`` takes the place of k in it.
    """

    title: Final = "categorical, rule 1"

    def __init__(self, timeline: Timeline, offsets: np.ndarray) -> None:
        self._bounds = np.cumsum(timeline.shares.numerators)
        self._offsets = offsets
        self._lengths = np.diff(offsets)
        self._counted: tuple[bytes, int, np.ndarray] = (b"", 0, np.zeros(len(self._lengths), np.int64))

    @property
    def epoch_length(self) -> int:
        """As many records as the children have."""
        return int(self._offsets[-1])

    def record_indices(self, children: Children, start: int, size: int, words: np.ndarray) -> np.ndarray:
        """int64 (size,): the records at concrete positions."""
        indices: np.ndarray = self.drawn(children, _at_positions(words, start, size))[1]
        return indices

    def traced_record_indices(self, children: Children, start: Any, size: int, words: Any) -> jax.Array:
        """int32 (size,): the same for traced positions or a traced key."""
        positions = start.astype(np.uint32) + jnp.arange(size, dtype=np.uint32)
        indices: jax.Array = self.drawn(children, fold_in(jnp.asarray(words), positions))[1]
        return indices

    def epochs(self, children: Children, start: int, size: int) -> np.ndarray:  # noqa: ARG002 - see `Proportional`
        """The positions: a record that is drawn again is served anew."""
        return np.arange(start, start + size)

    def traced_epochs(self, children: Children, start: Any, size: int) -> jax.Array:  # noqa: ARG002 - as above
        """The same, traced."""
        epochs: jax.Array = start + jnp.arange(size)
        return epochs

    def counts(self, children: Children, position: int, words: np.ndarray) -> np.ndarray:
        """int64 (k,): how many records of each child are before ``position``: counted, going on from the last time."""
        name, done, counts = self._counted
        if name != words.tobytes() or done > position:
            done, counts = 0, np.zeros(len(self._lengths), np.int64)
        while done < position:
            size = min(_COUNTED_AT_ONCE, position - done)
            which, _ = self.drawn(children, _at_positions(words, done, size))
            done, counts = done + size, counts + np.bincount(which, minlength=len(counts))
        self._counted = words.tobytes(), done, counts
        return counts

    def drawn(self, children: Children, keys: Any) -> tuple[Any, Any]:
        """(child, record of the mixture) that each of the keys, uint32 (2, k), draws."""
        traced = isinstance(keys, jax.Array)
        zeros = (jnp if traced else np).zeros(keys.shape[1], np.uint32)
        slots = _scaled(fold_in(keys, zeros), int(self._bounds[-1]))
        of_record = fold_in(keys, zeros + np.uint32(1))
        if traced:
            which = jnp.searchsorted(jnp.asarray(self._bounds, np.int32), slots.astype(np.int32), side="right")
            records = _scaled(of_record, jnp.asarray(self._lengths, np.uint32)[which]).astype(np.int32)
        else:
            which = np.searchsorted(self._bounds, slots.astype(np.int64), side="right")
            records = _scaled(of_record, self._lengths.astype(np.uint64)[which]).astype(np.int64)
        for number, child in enumerate(children):
            if (inner := drawing(child)) is None:
                continue
            if traced:
                records = jnp.where(which == number, inner(of_record), records)
            elif (rows := np.flatnonzero(which == number)).size:
                records[rows] = inner(of_record[:, rows])
        offsets = jnp.asarray(self._offsets, np.int32) if traced else self._offsets
        return which, records + offsets[which]


def drawing(child: Any) -> Callable[[Any], Any] | None:
    """(keys -> records) as a child that is a mixture draws them; None for other children."""
    draws = getattr(child, "draws", None)
    return (lambda keys: draws.drawn(child.children, keys)[1]) if isinstance(draws, Drawn) else None


def by_child(which: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(child, its rows in their order) for each child that there is among ``which``."""
    if not which.size or (first := int(which[0])) == which.max() == which.min():
        yield from [(first, np.arange(which.size))] if which.size else []
        return
    order = np.argsort(which, kind="stable")
    found = which[order]
    for rows in np.split(order, np.flatnonzero(found[1:] != found[:-1]) + 1):
        yield int(which[rows[0]]), rows


def child_keys(words: np.ndarray, count: int) -> np.ndarray:
    """uint32 (count, 2): the key of each child, ``fold_in(key, number)``."""
    return _child_keys(words.tobytes(), count)


@functools.lru_cache(maxsize=256)
def _child_keys(words: bytes, count: int) -> np.ndarray:
    keys: np.ndarray = fold_in(np.frombuffer(words, np.uint32), np.arange(count, dtype=np.uint32)).T.copy()
    keys.flags.writeable = False
    return keys


def _at_positions(words: np.ndarray, start: int, size: int) -> np.ndarray:
    positions = np.uint64(start) + np.arange(size, dtype=np.uint64)
    high = (positions >> np.uint64(32)).astype(np.uint32)
    return np.asarray(fold_in(words, (positions & np.uint64(0xFFFFFFFF)).astype(np.uint32), high))


def _scaled(words: Any, limits: Any) -> Any:
    """``words`` (2, k), read as numbers of 64 bits, times ``limits`` / 2**64: even draws from [0, limits)."""
    if isinstance(words, np.ndarray):
        high, low = words.astype(np.uint64)
        limits = np.asarray(limits, np.uint64)
        narrow = (high * limits + (low * limits >> np.uint64(32))) >> np.uint64(32)
        wide = ((high << np.uint64(32)) | low) % np.maximum(limits, np.uint64(1))
        return np.where(limits >> np.uint64(32), wide, narrow)
    high, low = words
    limits = jnp.asarray(limits, np.uint32)
    carried = high * limits + _high_product(low, limits)
    return _high_product(high, limits) + (carried < high * limits).astype(np.uint32)


def _high_product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The upper half of the 64 bits of a product, from products of halves."""
    half, mask = np.uint32(16), np.uint32(0xFFFF)
    upper, lower = (left >> half) * (right & mask), (left & mask) * (right >> half)
    middle = ((left & mask) * (right & mask) >> half) + (upper & mask) + (lower & mask)
    return (left >> half) * (right >> half) + (upper >> half) + (lower >> half) + (middle >> half)
