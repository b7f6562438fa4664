"""Promises about the order: arithmetic from positions to records, a function of the key and of nothing else."""

from typing import Any, Final

import jax
import numpy as np
import pytest

from datarax_core.order.permutation import key_data
from datarax_core.sources.source import DataSourceModule

from ._compare import difference, part, rows_of
from ._subject import BATCH, Subject
from ._verdict import not_claimed, require

_LONGEST: Final = 1 << 17  # records in an epoch that is looked at as a whole
_FAR: Final = 2**40


class OrderPromises:
    """`record_indices_at` and `get_batch_at`."""

    def test_get_batch_at_is_stateless(self, subject: Subject) -> None:
        """It moves nothing: neither where the source stands, nor what it serves next."""
        subject.require_indexed()
        source, words = subject.build(), subject.source.order_key_data()
        before = source.cursor.position
        first, again = (source.get_batch_at(3, BATCH, words) for _ in range(2))
        text = difference(first, again) or difference(part(subject.served, slice(BATCH)), source.get_batch(BATCH))
        require(
            not text and source.cursor.position == before + BATCH,
            f"{subject.title} promises get_batch_at() to be stateless, but after two calls of it the source stands at "
            f"{source.cursor.position - BATCH}, not {before}, or serves other records: {text or 'not yet'}. Compute "
            "everything from start, size and key",
        )

    def test_a_batch_has_the_size_that_was_asked_for(self, subject: Subject) -> None:
        """Any size, from one record to several epochs."""
        subject.require_indexed()
        length = min(_epoch(subject), 256)
        for size in (1, BATCH, length, 2 * length + 1):
            rows = rows_of(subject.source.get_batch_at(0, size, subject.source.order_key_data()))
            require(
                rows == size,
                f"{subject.title} promises batches of the size asked for, but get_batch_at(0, {size}) has {rows} records; "
                "go on with the next epoch",
            )

    def test_positions_go_on_epoch_after_epoch(self, subject: Subject) -> None:
        """Past the end of an epoch comes the head of the next; positions have no end."""
        subject.require_indexed()
        length = _epoch(subject)
        if length > _LONGEST:
            not_claimed(f"{subject.title} has too many records to look at an epoch as a whole; give it fewer")
        for start in (max(0, length - 3), 2 * length, _FAR):
            epoch, offset = divmod(start, length)
            several = [
                _indices(subject, (epoch + number) * length, length) for number in range(-(-(offset + 7) // length))
            ]
            wanted, found = np.concatenate(several)[offset : offset + 7], _indices(subject, start, 7)
            require(
                np.array_equal(found, wanted) and found.min() >= 0 and found.max() < subject.records,
                f"{subject.title} promises an endless order, but the records at positions {start} to {start + 6} are "
                f"{found.tolist()}, where {wanted.tolist()} are expected: what its epoch of {length} has left, and the head "
                "of the next. Write record_indices_at() by `Order`, and take positions of any size",
            )

    def test_a_range_is_the_same_however_it_is_cut(self, subject: Subject) -> None:
        """Batches of any size are cuts of one sequence."""
        subject.require_indexed()
        total = min(_epoch(subject) + 2 * BATCH, 300)
        whole = _indices(subject, 0, total)
        for size in (1, 7, 32):
            cuts = [_indices(subject, start, min(size, total - start)) for start in range(0, total, size)]
            at = np.flatnonzero(np.concatenate(cuts) != whole)
            require(
                not at.size,
                f"{subject.title} promises one sequence however it is cut, but in pieces of {size} another record stands at "
                f"position {at[:1]}, than in one piece; let the record depend on the position alone, not on where a call "
                "begins",
            )

    def test_an_order_is_a_function_of_its_key(self, subject: Subject) -> None:
        """The same for a key as for its words, from call to call, and in another source of the same config."""
        subject.require_shuffled()
        subject.require_indexed()
        key, size = jax.random.key(7), min(_epoch(subject) + 3, 300)
        source, other = subject.source, subject.build(seed=1)
        ways: dict[str, Any] = {
            "called again": source.record_indices_at(0, size, key),
            "given the words of the key": source.record_indices_at(0, size, np.asarray(key_data(key))),
            "asked of another source of this config": other.record_indices_at(0, size, key),
        }
        first = np.asarray(source.record_indices_at(0, size, key))
        for way, found in ways.items():
            require(
                np.array_equal(first, np.asarray(found)),
                f"{subject.title} promises its order to be a function of the key, but {way} it is another one; take nothing "
                "else into it, and keys by datarax_core.order.key_words",
            )

    def test_another_key_is_another_order(self, subject: Subject) -> None:
        """Orders of different keys differ."""
        subject.require_shuffled()
        subject.require_indexed()
        size = min(_epoch(subject), 300)
        orders = {
            tuple(np.asarray(subject.source.record_indices_at(0, size, jax.random.key(k))).tolist()) for k in range(8)
        }
        require(
            len(orders) > 4 or subject.records < 4,
            f"{subject.title} promises another order for another key, but 8 keys gave {len(orders)}; draw the order from "
            "the key that is passed",
        )

    def test_another_seed_is_another_order(self, subject: Subject) -> None:
        """Sources that were built with different seeds serve different orders; with one, the same."""
        subject.require_shuffled()
        served = [_head(subject.build(seed), subject) for seed in (0, 1, 2, 3, 0)]
        require(
            served[0] == served[4],
            f"{subject.title} promises the same order for the same seed, but built twice with seed 0 it serves two; draw it "
            "from rngs alone",
        )
        require(
            len(set(served)) > 2 or (subject.length or 4) < 4,
            f"{subject.title} promises another order for another seed, but seeds 0 to 3 gave {len(set(served))}; hand the "
            "rngs on to super().__init__",
        )

    def test_an_epoch_serves_every_record_once(self, subject: Subject) -> None:
        """An epoch is a permutation, and a shuffled one is another in each epoch."""
        subject.require_indexed()
        if not subject.author.every_record_once:
            not_claimed(f"{subject.title} claims no epochs of every record once: every_record_once is False")
        length = _epoch(subject)
        if length > _LONGEST:
            not_claimed(f"{subject.title} has too many records to look at each; give it fewer")
        epochs = [_indices(subject, epoch * length, length) for epoch in range(3)]
        for number, epoch in enumerate(epochs):
            require(*_permutation(epoch, length, f"epoch {number} of {subject.title}", among=subject.records))
        require(
            not subject.is_shuffled or length < 8 or len({epoch.tobytes() for epoch in epochs}) == 3,
            f"{subject.title} promises a new order in each epoch, but its first three are not different; fold the epoch "
            "into the key",
        )

    @pytest.mark.parametrize("length", [1, 2, 65_537])
    def test_an_order_is_a_permutation_at_every_length(self, subject: Subject, length: int) -> None:
        """At lengths where other libraries' shuffles are none."""
        subject.require_indexed()
        source = subject.author.make_sized_source(length, subject.folder)
        if source is None:
            not_claimed("make_sized_source() is not defined; an order that is the core's own is proven already")
        epochs = [
            np.asarray(source.record_indices_at(epoch * length, length, source.order_key_data())) for epoch in range(2)
        ]
        for number, epoch in enumerate(epochs):
            require(
                *_permutation(epoch, length, f"epoch {number} of {source.title} with {length} records", among=length)
            )


def _epoch(subject: Subject) -> int:
    return subject.length or 1


def _indices(subject: Subject, start: int, size: int) -> np.ndarray:
    return subject.indices(start, size)


def _head(source: DataSourceModule, subject: Subject) -> bytes:
    """What tells the order of a source: its first records."""
    if subject.is_stream:
        batch = source.get_batch(min(subject.stretch, 64))
        return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(batch))
    return np.asarray(source.record_indices_at(0, min(_epoch(subject), 64), source.order_key_data())).tobytes()


def _permutation(epoch: np.ndarray, length: int, title: str, *, among: int) -> tuple[bool, str]:
    """(whether an epoch has no record twice, and none that is not there; the sentence if it has)."""
    counts = np.bincount(epoch.clip(0, among - 1), minlength=among)
    inside = bool(((epoch >= 0) & (epoch < among)).all())
    return inside and len(epoch) == length and int(counts.max()) == 1, (
        f"{title} promises every record once, but {int((counts > 1).sum())} come twice and more, and "
        f"{among - int((counts > 0).sum())} never; shuffle by `Order`, which is a permutation at every length, or say "
        "every_record_once = False"
    )
