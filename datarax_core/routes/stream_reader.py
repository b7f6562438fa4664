"""The reader of a forward-only source: it reads ahead of the loop, and goes back to the batch served last."""

import copy
import threading
from dataclasses import replace
from typing import Any, Final, NamedTuple

import jax
import numpy as np

from datarax_core.errors import SpecError, StateError
from datarax_core.moved import rename_attributes
from datarax_core.records.spec import Batch, check_batch
from datarax_core.sources.source import DataSourceModule

from .definition import BatchRule

_SKIPPED_AT_ONCE: Final = 1024
"""Records that are skipped in one call."""


class SupersededError(Exception):
    """Raised when a loop that is over reads on. No user sees it: batches that such a loop reads ahead are dropped."""


class Served(NamedTuple):
    """The position up to which a stream was handed over, and the state of its source there.

    One value, because two threads read it.
    """

    position: int
    state: Any


class StreamReader:
    """Reader of a stream, which knows two positions in it: up to which it was read, and up to which it was handed over.

    Positions are those of the whole stream, also where this process reads one of ``num_parts`` parts of it.
    """

    def __init__(self, source: DataSourceModule, rule: BatchRule, num_parts: int = 1, *, position: int = 0) -> None:
        self._source = source
        self._batch_rule = rule
        self._rule = replace(rule, batch_size=rule.batch_size // num_parts)
        self._num_parts = num_parts
        self._lock = threading.Lock()  # a loop that is over may be reading yet
        self._owner: object = None
        self._generation = 0
        self._read: int | None = position  # None: a read failed halfway
        self._served = Served(position, None)
        self._is_fresh = True

    def __getstate__(self) -> dict[str, Any]:
        # batches that were read ahead are not pickled: the copy of the source stands after them, and is taken back first
        read = None if self.is_resumable and not self._is_fresh else self._read
        return {**vars(self), "_lock": None, "_owner": None, "_read": read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_lock": threading.Lock()})
        rename_attributes(self, {"_turn": "_generation"})  # of version 0.1.0

    @property
    def num_parts(self) -> int:
        """Number of parts that the stream is split into, of which this is one."""
        return self._num_parts

    @property
    def is_resumable(self) -> bool:
        """Whether the source has a state to go back to; if not, nothing can be read ahead."""
        return self._source.capabilities.resumable

    def take_over(self, owner: object) -> int:
        """Return the generation of reads that ``owner``, a route, makes from now on; reads of others before are dropped."""
        if self._owner is not owner:
            with self._lock:
                self._owner, self._generation = owner, self._generation + 1
                if self._is_fresh:
                    self._note(self._served.position)
        return self._generation

    def read(self, start: int, size: int, generation: int) -> tuple[Batch, int, Any]:
        """Return (the rows that this process reads, records of the stream in the batch, the source's state after it).

        Args:
            start: Position of the first record.
            size: Records of the stream to read; at the end of a stream without a length, fewer are read.
            generation: The number that `take_over` gave.

        Raises:
            StopIteration: The stream has ended.
            SpecError: A stream with a length has ended, or the batch does not fit the element spec.
            SupersededError: Another route has taken over.
        """
        with self._lock:
            if generation != self._generation:
                raise SupersededError
            asked = size // self._num_parts
            try:
                self._go_to(start)
                self._read = None
                batch = self._source.read_batch(asked)
            except StopIteration:
                if self._is_sized:
                    raise SpecError(
                        f"{self._source.title} ended, but has {self._source.epoch_length} records an epoch; a stream with a "
                        "length goes on with its next epoch by itself"
                    ) from None
                self._read = start
                raise
            rows = self._checked(batch, asked)
            self._read = start + rows * self._num_parts
            return batch, rows * self._num_parts, self._source_state()

    def padded(self, size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (rows, mask) of a batch of ``size`` records, each part by itself completed under ``pad_last``."""
        rows, mask = self._rule.padded(np.arange(size // self._num_parts))
        starts = np.arange(self._num_parts)[:, None] * (size // self._num_parts)
        return (starts + rows).ravel(), None if mask is None else np.tile(mask, self._num_parts)

    def own(self, rows: np.ndarray, here: np.ndarray | None) -> Any:
        """Return an index of the rows that were read for the rows of this process, which are ``here`` in the batch."""
        if self._num_parts > 1:
            return rows[: len(rows) // self._num_parts]
        if here is not None:
            return rows[here]
        return ... if rows[-1] == len(rows) - 1 else rows

    def hand_over(self, position: int, state: Any) -> None:
        """Note that the batch which ends at ``position`` was handed over; ``state`` is the source's state after it."""
        self._served = Served(position, state)

    def get_state(self) -> dict[str, Any]:
        """Return the state of the source after the batch that was handed over last, and the position there.

        It does not wait for batches that are read ahead. The position of the pipeline may be further on, if a loop left the
        rest of an epoch.

        Raises:
            StateError: The source has no state.
        """
        if not self.is_resumable:
            raise StateError(
                f"{self._source.title} cannot say where it stands, so that its pipeline has no state to save; "
                "define get_state() and set_state()"
            )
        position, state = self._served
        return {"position": position, "source": self._source_state() if self._is_fresh else copy.deepcopy(state)}

    def require_state(self, state: Any, position: int) -> None:
        """Raise if ``state`` is not a state of this stream, for a pipeline at ``position``.

        Raises:
            StateError: Says why.
        """
        if not isinstance(state, dict) or state.keys() != {"position", "source"}:
            raise StateError(
                f"this is no state of the pipeline over {self._source.title}: 'stream' is a dict of 'position' and 'source', "
                f"not {state!r:.80}"
            )
        served = state["position"]
        if isinstance(served, bool) or not isinstance(served, int) or not 0 <= served <= position:
            raise StateError(
                f"the state of the pipeline over {self._source.title} stands at no place: its stream is at {served!r}, where "
                f"an integer from 0 to its position, {position}, is expected"
            )

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`. If the source refuses it, reading goes on after the batch handed over last."""
        with self._lock:
            if self._is_fresh:
                self._note(self._served.position)
            self._read = None
            self._source.set_state(copy.deepcopy(state["source"]))
            self._begin(state["position"])

    def rewind(self, position: int) -> None:
        """Start the stream over; its first record is at ``position``.

        Raises:
            NotImplementedError: The source has no `reset`.
        """
        if type(self._source).reset is DataSourceModule.reset:
            raise NotImplementedError(f"{self._source.title} is a stream that cannot start over; define reset()")
        with self._lock:
            self._source.reset()
            self._begin(position)

    def twin(self, source: DataSourceModule) -> "StreamReader":
        """Return a reader of ``source``, a copy of this reader's source, at the position that was handed over last."""
        if self.is_resumable:
            source.set_state(self.get_state()["source"])
        return StreamReader(source, self._batch_rule, self._num_parts, position=self._served.position)

    @property
    def _is_sized(self) -> bool:
        return self._source.capabilities.sized

    # -- under the lock -------------------------------------------------------------------------------------------------

    def _begin(self, position: int) -> None:
        self._owner, self._generation = None, self._generation + 1
        self._note(position)

    def _note(self, position: int) -> None:
        self._read, self._served, self._is_fresh = position, Served(position, self._source_state()), False

    def _source_state(self) -> Any:
        """Return a copy of the source's state: an author may return an object that the next batch changes."""
        return copy.deepcopy(self._source.get_state()) if self.is_resumable else None

    def _go_to(self, start: int) -> None:
        """Go back to the batch handed over last, if more was read or a read failed; then skip records up to ``start``."""
        if self._read is None or self._read > start:
            if not self.is_resumable:
                raise StateError(
                    f"{self._source.title} failed at position {start} and cannot go back to it; define get_state() and "
                    "set_state(), or reset the pipeline"
                )
            position, state = self._served
            self._source.set_state(copy.deepcopy(state))
            self._read = position
        left = start - self._read
        self._read = None
        while left > 0:
            count = min(left, _SKIPPED_AT_ONCE * self._num_parts)
            self._source.skip(count // self._num_parts)
            left -= count
        self._read = start

    def _checked(self, batch: Batch, asked: int) -> int:
        """Return the number of rows: as many as were asked for, or fewer at the end of a stream without a length."""
        leaves = jax.tree.leaves(batch)
        rows = leaves[0].shape[0] if leaves and np.ndim(leaves[0]) else asked
        if not 0 < rows < asked or self._is_sized:
            rows = asked
        check_batch(batch, self._source.element_spec(), rows, origin=self._source.title)
        return rows
