"""Reading one epoch of a stream forward: records or batches as its author has them, in pieces as they are wanted."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records.spec import Batch, ElementSpec, check_batch, named_fields
from datarax_core.records.stacking import ValuePath, array_of


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream stands. ``run_epoch`` is the epoch of the loop under way, ``has_ended`` that its epoch had no more."""

    epoch: int = 0
    index: int = 0
    run_epoch: int = 0
    has_ended: bool = False

    @property
    def run_is_over(self) -> bool:
        """Whether the loop under way has served its epoch."""
        return self.has_ended or self.epoch != self.run_epoch

    def behind(self, rows: int, length: int | None) -> "StreamPlace":
        """The place after ``rows`` more records; 0 of them mean that there are no more."""
        if self.index + rows == length:
            return replace(self, epoch=self.epoch + 1, index=0)
        return replace(self, index=self.index + rows, has_ended=not rows)

    def next_run(self) -> "StreamPlace":
        """The start of the next epoch that nothing was served of."""
        epoch = self.epoch + (self.index > 0 or self.has_ended)
        return replace(self, epoch=epoch, index=0, run_epoch=epoch, has_ended=False)

    @classmethod
    def from_state(cls, state: dict[str, Any], length: int | None) -> "StreamPlace | None":
        """The place that a state notes; None if there is no such place."""
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


class EpochReading:
    """An epoch that is being read: what gives its next records, and those that were given and not taken yet."""

    def __init__(
        self, pull: Callable[[int], Batch | None], source: Iterator[Any], place: StreamPlace, words: Any
    ) -> None:
        self._pull = pull
        self._source = source
        self._epoch, self._index, self._words = place.epoch, place.index, words
        self._held: Batch = None
        self._taken = self._rows = 0

    @classmethod
    def of_records(
        cls, records: Iterator[Any], place: StreamPlace, words: Any, spec: ElementSpec, title: str
    ) -> "EpochReading":
        """One that stacks records as they are wanted."""
        return cls(_Stacker(iter(records), place.index, spec, title), records, place, words)

    @classmethod
    def of_batches(
        cls, batches: Iterator[Batch], place: StreamPlace, words: Any, spec: ElementSpec, title: str
    ) -> "EpochReading":
        """One that cuts batches as they are wanted."""
        iterator = iter(batches)

        def pull(_: int) -> Batch | None:
            batch = next(iterator, None)
            if batch is not None:
                check_batch(batch, spec, _num_rows(batch), origin=title)
            return batch

        return cls(pull, batches, place, words)

    def stands_at(self, place: StreamPlace, words: Any) -> bool:
        """Whether the record at ``place``, in the order of the key ``words``, comes next."""
        return (self._epoch, self._index) == (place.epoch, place.index) and self._words is words

    def take(self, wanted: int, *, at_once: int) -> tuple[Batch, int]:
        """(the next records, up to ``wanted``, how many); 0 if there are no more. ``at_once`` are read if none are held."""
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

    def close(self) -> None:
        """Close the author's generator, so that it lets go of its files now."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class _Stacker:
    """Batches of the records that come next."""

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
            _as_declared(array_of(values, ValuePath(name, self._title, self._index)), struct.dtype)
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


def _as_declared(column: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Text of one batch is as long as its longest: the same as the spec has it, where that changes nothing."""
    is_text = column.dtype.kind in "US"
    fits = dtype.kind == column.dtype.kind and column.dtype.itemsize <= dtype.itemsize
    return column.astype(dtype) if is_text and (fits or dtype.kind == "O") else column


def _num_rows(batch: Batch) -> int:
    leaves = jax.tree.leaves(batch)
    return leaves[0].shape[0] if leaves and np.ndim(leaves[0]) else 0
