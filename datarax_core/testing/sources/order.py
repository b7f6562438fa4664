"""Promises about the order: record indices are computed from positions, and depend on the key and on nothing else."""

from typing import Any, Final

import jax
import numpy as np
import pytest

from datarax_core.order.permutation import key_data
from datarax_core.records.joining import host_column
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import BATCH, not_claimed, require, rows_of

from .subject import Subject

_LONGEST: Final = 1 << 17  # records of an epoch that is checked as a whole
_FAR: Final = 2**40
_BATCHES: Final = 40


class OrderPromises:
    """`record_indices_at` and `get_batch_at`."""

    def test_a_batch_has_the_size_that_was_asked_for(self, subject: Subject) -> None:
        """``get_batch_at`` returns batches of any size, from one record to several epochs."""
        subject.require_indexed()
        length = min(_epoch(subject), 256)
        for size in (1, BATCH, length, 2 * length + 1):
            rows = rows_of(subject.source.get_batch_at(0, size, subject.source.order_key_data()))
            require(
                rows == size,
                f"{subject.title} promises batches of the size asked for, but get_batch_at(0, {size}) has {rows} records; "
                "continue with the next epoch at the end of one",
            )

    def test_a_range_is_the_same_however_it_is_cut(self, subject: Subject) -> None:
        """Batches of any size are pieces of one sequence."""
        subject.require_indexed()
        total = min(_epoch(subject) + 2 * BATCH, 300)
        whole = subject.indices(0, total)
        for size in (1, 7, 32):
            cuts = [subject.indices(start, min(size, total - start)) for start in range(0, total, size)]
            at = np.flatnonzero(np.concatenate(cuts) != whole)
            require(
                not at.size,
                f"{subject.title} promises the same sequence in pieces of any size, but in pieces of {size} the record at "
                f"position {at[:1]} is another than in a single piece; let a record depend on its position alone, not on the "
                "start of a call",
            )

    def test_positions_go_on_epoch_after_epoch(self, subject: Subject) -> None:
        """The position after the last of an epoch is the first of the next; positions have no end."""
        subject.require_indexed()
        length = _epoch(subject)
        if length > _LONGEST:
            not_claimed(f"{subject.title} has too many records to check a whole epoch; declare a config with fewer")
        for start in (max(0, length - 3), 2 * length, _FAR):
            epoch, offset = divmod(start, length)
            several = [
                subject.indices((epoch + number) * length, length) for number in range(-(-(offset + 7) // length))
            ]
            wanted, found = np.concatenate(several)[offset : offset + 7], subject.indices(start, 7)
            require(
                np.array_equal(found, wanted) and found.min() >= 0 and found.max() < subject.records,
                f"{subject.title} promises an endless order, but the record indices at positions {start} to {start + 6} are "
                f"{found.tolist()}, where {wanted.tolist()} are expected: the rest of an epoch of {length}, and the head of "
                "the next. Compute record_indices_at() with `Order`, and accept positions of any size",
            )

    def test_the_batch_sizes_of_a_source_agree(self, subject: Subject) -> None:
        """The ``batch_sizes`` of a source that decides its batches agree with one another: sizes, positions and numbers."""
        sizes = subject.source.batch_sizes
        if sizes is None:
            not_claimed(f"{subject.title} leaves the sizes of batches to pipelines")
        position = 0
        for step in range(_BATCHES):
            size = sizes.at(position)
            facts = {
                f"position_of({step})": (sizes.position_of(step), position),
                f"batches_before({position})": (sizes.batches_before(position), step),
                f"batches_before({position + 1})": (sizes.batches_before(position + 1), step + 1),
                f"whether at({position}) is one of distinct or short": (size in (*sizes.distinct, *sizes.short), True),
                f"whether at({position}) is at most largest": (0 < size <= sizes.largest, True),
            }
            for name, (found, expected) in facts.items():
                require(
                    found == expected,
                    f"{subject.title} promises batch_sizes that agree with one another, but by at() the batch number {step} "
                    f"begins at position {position} and has {size} records, where {name} is {found}, not {expected}; correct "
                    f"{type(sizes).__name__}",
                )
            position += size

    def test_an_order_is_a_function_of_its_key(self, subject: Subject) -> None:
        """A key and its key data give the same order, in every call, and in every source of the same config."""
        subject.require_shuffled()
        subject.require_indexed()
        key, size = jax.random.key(7), min(_epoch(subject) + 3, 300)
        source, other = subject.source, subject.build(seed=1)
        ways: dict[str, Any] = {
            "in a second call": source.record_indices_at(0, size, key),
            "from the key data of the key": source.record_indices_at(0, size, np.asarray(key_data(key))),
            "in another source of the same config": other.record_indices_at(0, size, key),
        }
        first = np.asarray(source.record_indices_at(0, size, key))
        for way, found in ways.items():
            require(
                np.array_equal(first, np.asarray(found)),
                f"{subject.title} promises an order that depends on the key alone, but {way} it is another order; compute it "
                "from the key only, which datarax_core.order.key_data converts",
            )

    def test_another_key_is_another_order(self, subject: Subject) -> None:
        """Different keys give different orders."""
        subject.require_shuffled()
        subject.require_indexed()
        size = min(_epoch(subject), 300)
        orders = {
            tuple(np.asarray(subject.source.record_indices_at(0, size, jax.random.key(k))).tolist()) for k in range(8)
        }
        require(
            len(orders) > 4 or subject.records < 4,
            f"{subject.title} promises different orders for different keys, but 8 keys gave {len(orders)}; compute the "
            "order from the key that is passed",
        )

    def test_another_seed_is_another_order(self, subject: Subject) -> None:
        """Sources built with different seeds serve different orders, and with the same seed the same order."""
        if not subject.is_shuffled and subject.config.stochastic and (subject.length or 8) > 4:
            several = [repr(_comparable(subject.build(seed).get_batch(subject.few))) for seed in range(4)]
            require(
                len(set(several)) > 1,
                f"{subject.title} has a stochastic config, as one with shuffle=True is, and promises another order for another "
                "seed, but seeds 0 to 3 serve the same records in sequence; leave the order to the base class, and pass it "
                "config and rngs (EagerSourceBase takes shuffle=, a stream draws its order from order_key_data())",
            )
        subject.require_shuffled()
        served = [_head(subject.build(seed), subject) for seed in (0, 1, 2, 3, 0)]
        require(
            served[0] == served[4],
            f"{subject.title} promises the same order for the same seed, but two sources built with seed 0 serve different "
            "orders; draw the key from rngs alone",
        )
        require(
            len(set(served)) > 2 or (subject.length or 4) < 4,
            f"{subject.title} promises different orders for different seeds, but seeds 0 to 3 gave {len(set(served))}; pass "
            "rngs to super().__init__",
        )

    def test_an_epoch_serves_every_record_once(self, subject: Subject) -> None:
        """Each epoch is a permutation of the records, and a shuffled source has another in each epoch."""
        subject.require_indexed()
        if not subject.author.every_record_once:
            not_claimed(f"{subject.title} does not claim to serve every record once: every_record_once is False")
        length = _epoch(subject)
        if length > _LONGEST:
            not_claimed(f"{subject.title} has too many records to check each; declare a config with fewer")
        epochs = [subject.indices(epoch * length, length) for epoch in range(3)]
        for number, epoch in enumerate(epochs):
            require(*_permutation(epoch, length, f"epoch {number} of {subject.title}", among=subject.records))
        require(
            not subject.is_shuffled or length < 8 or len({epoch.tobytes() for epoch in epochs}) == 3,
            f"{subject.title} promises a new order in each epoch, but two of its first three epochs are equal; fold the "
            "epoch into the key",
        )

    def test_each_serving_has_an_id_of_its_own(self, subject: Subject) -> None:
        """Epoch and record index tell each serving apart, also if a record comes twice: random stages draw by both."""
        subject.require_indexed()
        size = min(3 * _epoch(subject), _LONGEST)
        epochs = np.broadcast_to(np.asarray(subject.source.epochs_at(0, size)), (size,))
        pairs = np.stack([epochs, subject.indices(0, size)])
        number = size - np.unique(pairs, axis=1).shape[1]
        require(
            not number,
            f"{subject.title} promises each serving of a record another epoch and index, from which random stages draw, but "
            f"{number} of the first {size} servings repeat a pair, and would be augmented alike; write epochs_at() so that it "
            "counts how often the record was served before",
        )

    @pytest.mark.parametrize("length", [1, 2, 65_537])
    def test_an_order_is_a_permutation_at_every_length(self, subject: Subject, length: int) -> None:
        """An order of the source's own is a permutation at lengths 1, 2 and 65,537, where other libraries' shuffles are not."""
        subject.require_indexed()
        source = subject.author.make_sized_source(length, subject.folder)
        if source is None:
            not_claimed(
                "make_sized_source() is not defined, so the order is core's own, which is proven for every length"
            )
        epochs = [
            np.asarray(source.record_indices_at(epoch * length, length, source.order_key_data())) for epoch in range(2)
        ]
        for number, epoch in enumerate(epochs):
            require(
                *_permutation(epoch, length, f"epoch {number} of {source.title} with {length} records", among=length)
            )


def _comparable(batch: Any) -> list[Any]:
    return [host_column(leaf).tolist() for leaf in jax.tree.leaves(batch)]


def _epoch(subject: Subject) -> int:
    """Return the number of positions of an epoch."""
    return subject.length or 1


def _head(source: DataSourceModule, subject: Subject) -> bytes:
    """Return the first records, or record indices, of a source as bytes: equal for equal orders."""
    if subject.is_stream:
        batch = source.get_batch(min(subject.num_compared, 64))
        return repr([host_column(leaf).tolist() for leaf in jax.tree.leaves(batch)]).encode()
    return np.asarray(source.record_indices_at(0, min(_epoch(subject), 64), source.order_key_data())).tobytes()


def _permutation(epoch: np.ndarray, length: int, title: str, *, among: int) -> tuple[bool, str]:
    """Return (whether an epoch has each of the ``among`` record indices at most once, the sentence if not)."""
    counts = np.bincount(epoch.clip(0, among - 1), minlength=among)
    inside = bool(((epoch >= 0) & (epoch < among)).all())
    return inside and len(epoch) == length and int(counts.max()) == 1, (
        f"{title} promises every record once, but {int((counts > 1).sum())} records come twice or more, and "
        f"{among - int((counts > 0).sum())} never; shuffle with `Order`, which is a permutation at every length, or declare "
        "every_record_once = False"
    )
