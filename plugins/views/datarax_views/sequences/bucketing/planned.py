"""The plan of a bucket view: bounds, batches and their order, made of lengths when it is first asked for, and described."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from datarax_core.errors import SpecError
from datarax_views.sequences.lengths import others_too_long
from datarax_views.sequences.plan_once import checksum_of

from .bounds import best_bounds, bucket_of
from .order import BucketOrder

PLAN_RULE: Final = 1
"""Version of the arithmetic, a part of every saved state: batches of another version hold other records."""

TooLong: TypeAlias = Literal["refuse", "truncate", "drop"]
"""What becomes of a record that is longer than the last bound."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a plan depends on besides lengths; see `BucketViewConfig`."""

    bounds: tuple[int, ...] | None
    buckets: int
    multiple_of: int
    max_length: int | None
    batch_size: int | None
    tokens: int | None
    batch_multiple_of: int
    too_long: TooLong
    keep: bool

    @property
    def limit(self) -> int | None:
        """The length from which on records are too long; None if none is."""
        return self.bounds[-1] if self.bounds is not None else self.max_length

    def size_of(self, bound: int) -> int:
        """Return the records of a batch of a bucket; 0 if the tokens of a batch are too few."""
        if self.batch_size is not None:
            return self.batch_size
        return (self.tokens or 0) // bound // self.batch_multiple_of * self.batch_multiple_of


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan of buckets.

    Attributes:
        bounds: The bounds of the buckets that have records, ascending.
        order: The order of their batches.
        values: The number of values of each bucket's records, those that were cut without what is cut off.
        num_long: The number of records that are longer than the last bound.
        settings: What the plan was made of besides lengths.
        checksum: Tells the buckets of the records apart, for saved states.
    """

    bounds: tuple[int, ...]
    order: BucketOrder
    values: tuple[int, ...]
    num_long: int
    settings: Settings
    checksum: str

    @classmethod
    def of(cls, lengths: np.ndarray, settings: Settings, title: str, field: str) -> "Planned":
        """Return the plan of records of these lengths.

        Args:
            lengths: int64 (n,): the length of each record.
            settings: What else the plan depends on.
            title: The source of the records, in errors.
            field: The field, or fields, that have these lengths, in errors.

        Raises:
            SpecError: A record is too long, no record is left, or batches of a bucket cannot be made.
        """
        limit = settings.limit
        num_long = 0 if limit is None else int(np.count_nonzero(lengths > limit))
        if num_long and settings.too_long == "refuse":
            raise _too_long(lengths, limit or 0, title, field)
        if num_long and settings.too_long == "truncate":
            lengths = np.minimum(lengths, limit or 0)
        if not len(lengths) - (num_long if settings.too_long == "drop" else 0):
            why = (
                f"all {len(lengths):,} are longer than {limit}, and too_long='drop' leaves them out" if num_long else ""
            )
            raise SpecError(f"no record of {title} is left to be served: {why or 'it has none'}")
        bounds = settings.bounds or _found_bounds(lengths, settings)
        classes = bucket_of(lengths, bounds)
        counts = np.bincount(classes, minlength=len(bounds) + 1)
        used = np.flatnonzero(counts[:-1])
        bounds = tuple(bounds[bucket] for bucket in used.tolist())
        classes = bucket_of(lengths, bounds)
        sizes = tuple(map(settings.size_of, bounds))
        _require_batches(bounds, sizes, counts[used], settings, title)
        values = np.bincount(classes, weights=lengths, minlength=len(bounds))[: len(bounds)]
        return cls(
            bounds,
            BucketOrder(classes, sizes, keep=settings.keep),
            tuple(map(int, values)),
            num_long,
            settings,
            checksum_of(classes, "<u2"),
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return the entries of a saved state: bounds, sizes, the checksum of the buckets, and the rule of the arithmetic."""
        return {
            "buckets": {str(bound): size for bound, size in zip(self.bounds, self.order.sizes, strict=True)},
            "bucket_of_records": self.checksum,
            "plan": f"rule {PLAN_RULE}",
        }

    @property
    def padding(self) -> float:
        """The share of padding in the batches of all records."""
        padded = sum(count * bound for count, bound in zip(self.order.counts, self.bounds, strict=True))
        return 1 - sum(self.values) / padded

    @property
    def padding_of_one(self) -> float:
        """The share of padding if all records were padded to the last bound."""
        return 1 - sum(self.values) / (sum(self.order.counts) * self.bounds[-1])

    def describe(self, *, is_padded: bool) -> Iterator[str]:
        """Yield lines about the batches: how many, how much of them is padding, and the batches of each bucket."""
        order = self.order
        shares = f"{_percent(self.padding)} padding, {_percent(self.padding_of_one)} if all were as long as {self.bounds[-1]:,}"
        if not is_padded:
            shares = f"{shares}, once they are padded"
        many = len(self.bounds) > 1
        yield (
            f"{len(self.bounds):,} bucket{'s' if many else ''}: {order.num_records:,} records in {order.num_batches:,} batches "
            f"an epoch; {shares}"
        )
        below = -1
        for number, bound in enumerate(self.bounds):
            yield f"  {_lengths(below, bound)}: {self._of_bucket(number)}"
            below = bound
        if self.num_long and self.settings.too_long == "drop":
            yield f"  longer than {self.settings.limit:,}: {_records(self.num_long)}, left out"
        elif self.num_long:
            yield f"  {_records(self.num_long)} longer than {self.settings.limit:,}, cut"

    def _of_bucket(self, number: int) -> str:
        order = self.order
        count, size, batches = order.counts[number], order.sizes[number], order.batches[number]
        short, padded = order.short_sizes[number], count * self.bounds[number]
        last = (
            f", one of them of {short:,}" if short and batches > 1 else f", which is short: {short:,}" if short else ""
        )
        rest = 0 if self.settings.keep else count % size
        left_out = f"; {rest:,} left out each epoch" if rest else ""
        of = f"{batches:,} batch{'es' if batches > 1 else ''} of {size:,}"
        padding = _percent(1 - self.values[number] / padded)
        return f"{_records(count)} in {of}{last}, {padding} padding{left_out}"


def _found_bounds(lengths: np.ndarray, settings: Settings) -> tuple[int, ...]:
    limit = settings.limit
    fitting = lengths if limit is None or settings.too_long != "drop" else lengths[lengths <= limit]
    return best_bounds(fitting, settings.buckets, settings.multiple_of)


def _require_batches(
    bounds: tuple[int, ...], sizes: tuple[int, ...], counts: np.ndarray, settings: Settings, title: str
) -> None:
    """Raise if a bucket has no batch: its records are longer than a batch has tokens, or too few."""
    for bound, size, count in zip(bounds, sizes, counts.tolist(), strict=True):
        if not size:
            least = bound * settings.batch_multiple_of
            records = f"{settings.batch_multiple_of} records" if settings.batch_multiple_of > 1 else "a record"
            raise SpecError(
                f"tokens={settings.tokens} of a batch are fewer than {records} of the bucket up to {bound} of {title}; give "
                f"{least} at least, or smaller buckets"
            )
        if not settings.keep and count < size:
            raise SpecError(
                f"the bucket up to {bound} of {title} has {_records(count)}, fewer than a batch of {size}, and "
                "remainder='drop' would never serve them; keep them, remainder='keep', choose fewer bounds, or smaller batches"
            )


def _too_long(lengths: np.ndarray, limit: int, title: str, field: str) -> SpecError:
    record, others = int(np.argmax(lengths > limit)), others_too_long(lengths, limit)
    return SpecError(
        f"record {record} of {title} has {int(lengths[record]):,} values in {field} and is longer than the last bound, "
        f"{limit:,}{others}. Add a bound, or say what to do: too_long='truncate' keeps the first {limit:,} values, 'drop' "
        "leaves such records out"
    )


def _lengths(below: int, bound: int) -> str:
    return f"{below + 1:,} to {bound:,}" if below >= 0 else f"up to {bound:,}"


def _records(count: int) -> str:
    return f"{count:,} record{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}%"
