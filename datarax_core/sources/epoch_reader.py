"""The position of a stream, and the reader of one of its epochs, which returns as many records as are asked for."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records.spec import Batch, ElementSpec, check_batch, named_fields
from datarax_core.records.stacking import ValuePath, column_of, text_as


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """The position of a stream."""

    epoch: int = 0
    index: int = 0
    """Index of the next record within the epoch."""

    run_epoch: int = 0
    """The epoch of the loop under way."""

    has_ended: bool = False
    """Whether the epoch had no more records at the last read."""

    @property
    def run_is_over(self) -> bool:
        """Whether the loop under way has served its epoch."""
        return self.has_ended or self.epoch != self.run_epoch

    def behind(self, rows: int, length: int | None) -> "StreamPlace":
        """Return the place after ``rows`` more records; with 0 rows, the end of the epoch."""
        if self.index + rows == length:
            return replace(self, epoch=self.epoch + 1, index=0)
        return replace(self, index=self.index + rows, has_ended=not rows)

    def next_run(self) -> "StreamPlace":
        """Return the start of the next epoch of which no record was served."""
        epoch = self.epoch + (self.index > 0 or self.has_ended)
        return replace(self, epoch=epoch, index=0, run_epoch=epoch, has_ended=False)

    @classmethod
    def from_state(cls, state: dict[str, Any], length: int | None) -> "StreamPlace | None":
        """Return the place in a saved state; None if a stream with this ``length`` has no such place."""
        try:
            epoch, index, run_epoch = (operator.index(state[name]) for name in ("epoch", "index", "run_epoch"))
        except TypeError:
            return None
        has_ended = np.asarray(state["has_ended"])
        if (
            has_ended.shape
            or has_ended.dtype != np.bool_
            or any(isinstance(state[name], bool) for name in ("epoch", "index", "run_epoch"))
        ):
            return None
        is_within = index >= 0 and (length is None or index < max(length, 1))
        return cls(epoch, index, run_epoch, bool(has_ended)) if is_within and 0 <= run_epoch <= epoch else None


class EpochReader:
    """Reads the records of one epoch forward, and holds records that were read and not taken yet."""

    def __init__(
        self, pull: Callable[[int], Batch | None], iterator: Iterator[Any], place: StreamPlace, key_data: Any
    ) -> None:
        self._pull = pull
        self._iterator = iterator
        self._epoch, self._index, self._key_data = place.epoch, place.index, key_data
        self._held: Batch = None
        self._taken = self._rows = 0

    @classmethod
    def of_records(
        cls, records: Iterator[Any], place: StreamPlace, key_data: Any, spec: ElementSpec, title: str
    ) -> "EpochReader":
        """Return a reader that stacks single records to batches."""
        return cls(_Stacker(iter(records), place.index, spec, title), records, place, key_data)

    @classmethod
    def of_batches(
        cls, batches: Iterator[Batch], place: StreamPlace, key_data: Any, spec: ElementSpec, title: str
    ) -> "EpochReader":
        """Return a reader that cuts batches of any size."""
        iterator = iter(batches)

        def pull(_: int) -> Batch | None:
            batch = next(iterator, None)
            if batch is not None:
                check_batch(batch, spec, _num_rows(batch), origin=title)
            return batch

        return cls(pull, batches, place, key_data)

    def stands_at(self, place: StreamPlace, key_data: Any) -> bool:
        """Return whether the next record is that at ``place``, in the order that ``key_data`` selects."""
        return (self._epoch, self._index) == (place.epoch, place.index) and self._key_data is key_data

    def take(self, wanted: int, *, at_once: int) -> tuple[Batch, int]:
        """Return (batch of up to ``wanted`` next records, number of its rows); 0 rows if the epoch has no more records.

        If no records are held, ``at_once`` records are read first.
        """
        while self._taken == self._rows:
            self._held = self._pull(at_once)
            if self._held is None:
                return None, 0
            self._taken, self._rows = 0, _num_rows(self._held)
        rows = min(wanted, self._rows - self._taken)
        start, self._taken = self._taken, self._taken + rows
        self._index += rows
        if (start, rows) == (0, self._rows):
            return self._held, rows
        return jax.tree.map(lambda column: column[start : start + rows], self._held), rows

    def has_more(self) -> bool:
        """Return whether the epoch has records after those that were taken; if none is held, the next is read to see that."""
        while self._taken == self._rows:
            self._held = self._pull(1)
            if self._held is None:
                return False
            self._taken, self._rows = 0, _num_rows(self._held)
        return True

    def close(self) -> None:
        """Close the author's generator, which then closes its files."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class _Stacker:
    """Returns batches of the next records of an iterator."""

    def __init__(self, records: Iterator[Any], index: int, spec: ElementSpec, title: str) -> None:
        self._records = records
        self._index = index
        self._spec = spec
        self._structs, self._form = jax.tree.flatten(spec)
        self._names = list(named_fields(spec))
        self._title = title

    def __call__(self, size: int) -> Batch | None:
        records = list(islice(self._records, size))
        if not records:
            return None
        rows = [self._leaves(record, self._index + row) for row, record in enumerate(records)]
        columns = [
            text_as(column_of(values, ValuePath(name, self._title, self._index), struct.shape), struct.dtype)
            for name, struct, values in zip(self._names, self._structs, zip(*rows, strict=True), strict=True)
        ]
        batch = jax.tree.unflatten(self._form, columns)
        check_batch(batch, self._spec, len(records), origin=self._title)
        self._index += len(records)
        return batch

    def _leaves(self, record: Any, index: int) -> list[Any]:
        try:
            leaves: list[Any] = self._form.flatten_up_to(record)  # type: ignore[attr-defined]  # jaxlib's stubs leave it out
        except ValueError as cause:
            raise SpecError(
                f"element {index} of {self._title} does not have the fields {self._names} that element_spec() says: "
                f"{record!r:.80}"
            ) from cause
        return leaves


def _num_rows(batch: Batch) -> int:
    leaves = jax.tree.leaves(batch)
    return leaves[0].shape[0] if leaves and np.ndim(leaves[0]) else 0
