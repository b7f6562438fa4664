"""Forward-only sources: read one batch after another, possibly ahead, and taken back to what was handed over last."""

import copy
import threading
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from datarax_core.errors import SpecError, StateError
from datarax_core.moved import rename_attributes
from datarax_core.records.spec import Batch, check_batch
from datarax_core.sources.source import DataSourceModule

from .definition import BatchRule

_SKIPPED_AT_ONCE = 1024


class SupersededError(Exception):
    """A loop that is over asked for more. Nobody sees it: what that loop reads ahead is dropped."""


class Served(NamedTuple):
    """How far a stream was handed over, and the state of its source there: one value, for two threads read it."""

    position: int
    state: Any


class StreamReader:
    """A stream, and two places in it: how far it was read, and how far that was handed over.

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
        # what was read ahead stays here: a copy of the source stands wherever that left it, and is taken back first
        read = None if self.is_resumable and not self._is_fresh else self._read
        return {**vars(self), "_lock": None, "_owner": None, "_read": read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_lock": threading.Lock()})
        rename_attributes(self, {"_turn": "_generation"})  # of version 0.1.0

    @property
    def num_parts(self) -> int:
        """How many parts the stream is split into, of which this is one."""
        return self._num_parts

    @property
    def is_resumable(self) -> bool:
        """Whether the source says where it stands; if not, nothing can be read ahead."""
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
        """(the rows that this process reads, records of the stream in the batch, the state behind it).

        Raises:
            StopIteration: The stream has ended.
            SpecError: It has ended, but says how long an epoch is; or the batch is not what its element spec describes.
            SupersededError: Another route reads by now.
        """
        with self._lock:
            if generation != self._generation:
                raise SupersededError
            asked = size // self._num_parts
            try:
                self._stand_at(start)
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
        """(rows, mask) of a batch of ``size`` records of the stream, completed if the rule says so: each part by itself."""
        rows, mask = self._rule.padded(np.arange(size // self._num_parts))
        starts = np.arange(self._num_parts)[:, None] * (size // self._num_parts)
        return (starts + rows).ravel(), None if mask is None else np.tile(mask, self._num_parts)

    def own(self, rows: np.ndarray, here: np.ndarray | None) -> Any:
        """Which of the rows that were read are those of this process, ``here`` in the batch."""
        if self._num_parts > 1:
            return rows[: len(rows) // self._num_parts]
        if here is not None:
            return rows[here]
        return ... if rows[-1] == len(rows) - 1 else rows

    def hand_over(self, position: int, state: Any) -> None:
        """The batch that ends at ``position`` belongs to the loop now."""
        self._served = Served(position, state)

    def get_state(self) -> dict[str, Any]:
        """The state of the source behind the batch that was handed over last, and the position there.

        It waits for nothing that is read ahead. The pipeline may stand further on: where a loop left the rest of an epoch.

        Raises:
            StateError: The source has none.
        """
        if not self.is_resumable:
            raise StateError(
                f"{self._source.title} cannot say where it stands, so that its pipeline has no state to save; "
                "define get_state() and set_state()"
            )
        position, state = self._served
        return {"position": position, "source": self._source_state() if self._is_fresh else copy.deepcopy(state)}

    def require_state(self, state: Any, position: int) -> None:
        """Raise the `StateError` for what is no state of a stream whose pipeline stands at ``position``."""
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
        """Stand where `get_state` said. If the source refuses its state, what was handed over last holds."""
        with self._lock:
            if self._is_fresh:
                self._note(self._served.position)
            self._read = None
            self._source.set_state(copy.deepcopy(state["source"]))
            self._begin(state["position"])

    def rewind(self, position: int) -> None:
        """Start the stream over, and call its first record ``position``.

        Raises:
            NotImplementedError: The source cannot.
        """
        if type(self._source).reset is DataSourceModule.reset:
            raise NotImplementedError(f"{self._source.title} is a stream that cannot start over; define reset()")
        with self._lock:
            self._source.reset()
            self._begin(position)

    def twin(self, source: DataSourceModule) -> "StreamReader":
        """A reader of a copy of the source, which stands where this one handed over last."""
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
        """A copy: an author may hand out what the next batch writes to."""
        return copy.deepcopy(self._source.get_state()) if self.is_resumable else None

    def _stand_at(self, start: int) -> None:
        """Go back to what was handed over, if more was read or a read failed; and forward past records that are left out."""
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
        """How many rows there are: as many as were asked for, or less at the end of a stream without a length."""
        leaves = jax.tree.leaves(batch)
        rows = leaves[0].shape[0] if leaves and np.ndim(leaves[0]) else asked
        if not 0 < rows < asked or self._is_sized:
            rows = asked
        check_batch(batch, self._source.element_spec(), rows, origin=self._source.title)
        return rows
