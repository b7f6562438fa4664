"""The reader of a forward-only source: it reads ahead of the loop, and goes back to the batch served last."""

import copy
import threading
from typing import Any, Final, NamedTuple

import jax
import numpy as np

from datarax_core.errors import SpecError, StateError
from datarax_core.modules.fingerprints import Names, set_state_but
from datarax_core.modules.state import is_count, plain
from datarax_core.moved import rename_attributes
from datarax_core.records.joining import joined_batches
from datarax_core.records.spec import Batch, check_batch
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.streaming import no_state_of_live

from .definition import BatchRule

_SKIPPED_AT_ONCE: Final = 1024
"""Records that are skipped in one call."""

_EPOCHS: Final = ("epoch", "epoch_start", "has_ended", "run_epoch")
"""Entries of a state that only streams without a length have."""


class SupersededError(Exception):
    """Raised when a loop that is over reads on. No user sees it: batches that such a loop reads ahead are dropped."""


class EndOfStream(Exception):  # noqa: N818 - the end of a run, as StopIteration, which any code might raise, is not
    """Raised when a stream without a length has no more epochs to serve in a run; no user sees it."""


class Served(NamedTuple):
    """The position up to which a stream was handed over, and the state of its source there.

    One value, because two threads read it. Of a stream with a length, epochs follow from the position, and are not noted.
    """

    position: int
    state: Any

    epoch: int = 0
    """Number of the epoch that the position is in."""
    epoch_start: int = 0
    """The position at which that epoch began."""
    has_ended: bool = False
    """Whether that epoch is known to have no more records."""


class Read(NamedTuple):
    """Records of a stream that were read for one batch."""

    batch: Batch
    """The rows that this process reads."""
    size: int
    """Number of records of the whole stream in the batch; fewer than asked for at the end of a run."""
    served: Served
    """The place after the batch."""
    ended: int
    """Number of epochs that had ended before the first of the records; 0 for a stream with a length."""
    epochs: np.ndarray | None
    """The epoch of each record of this part; None for a stream with a length."""
    places: np.ndarray | None
    """The place of each record of this part in its epoch; None for a stream with a length."""


class StreamReader:
    """Reader of a stream, which knows two positions in it: up to which it was read, and up to which it was handed over.

    Positions are those of the whole stream, also where this process reads one of ``num_parts`` parts of it.
    """

    def __init__(self, source: DataSourceModule, rule: BatchRule, num_parts: int = 1, *, position: int = 0) -> None:
        self._source = source
        self._batch_rule = rule
        self._num_parts = num_parts
        self._lock = threading.Lock()  # a loop that is over may be reading yet
        self._owner: object = None
        self._generation = 0
        self._read: int | None = position  # None: a read failed halfway
        self._served = Served(position, None)
        self._is_fresh = True
        self._epoch, self._epoch_start, self._has_ended = 0, 0, False  # where `_read` is, as in `Served`
        self._run_epoch = 0  # the first epoch of the run under way
        self._num_epochs: int | None = 1  # of the run under way
        self._run_from: int | None = None  # where the run began, if it may begin with the next epoch

    def __getstate__(self) -> dict[str, Any]:
        # batches that were read ahead are not pickled: the copy of the source stands after them, and is taken back first
        read = None if self.is_resumable and not self._is_fresh else self._read
        return {**vars(self), "_lock": None, "_owner": None, "_read": read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_lock": threading.Lock()})
        rename_attributes(self, {"_turn": "_generation"})  # of version 0.1.0, which has no epochs either
        for name, value in (
            ("_epoch", 0),
            ("_epoch_start", 0),
            ("_has_ended", False),
            ("_run_epoch", 0),
            ("_num_epochs", 1),
        ):
            vars(self).setdefault(name, value)
        self._run_from = None

    @property
    def num_parts(self) -> int:
        """Number of parts that the stream is split into, of which this is one."""
        return self._num_parts

    @property
    def is_resumable(self) -> bool:
        """Whether the source has a state to go back to; if not, nothing can be read ahead."""
        return self._source.capabilities.resumable

    # -- epochs of a stream without a length ------------------------------------------------------------------------------

    @property
    def has_epochs(self) -> bool:
        """Whether epochs are counted here, as they end: the stream has no length."""
        return not self._is_sized

    def epochs_ended(self, *, in_loop: bool) -> int:
        """Return the number of epochs that have ended, as far as a loop, if one is under way, was told."""
        served = self._served
        return served.epoch + (served.has_ended and not in_loop)

    def run_is_over(self, num_epochs: int | None) -> bool:
        """Return whether a run of ``num_epochs`` epochs has ended where the stream was handed over."""
        return num_epochs is not None and self.epochs_ended(in_loop=False) - self._run_epoch >= num_epochs

    def begin_run(self, num_epochs: int | None, *, is_new: bool, may_begin_later: bool) -> None:
        """Begin a run of ``num_epochs`` epochs (None: endless), or go on with the run that a state was saved in.

        A new run begins where the stream stands: in the middle of an epoch, with the rest of it. If nothing is left of that,
        which only reading shows, a run that ``may_begin_later`` begins with the next epoch.
        """
        if is_new:
            self._run_epoch = self.epochs_ended(in_loop=False)
        self._num_epochs, self._run_from = num_epochs, self._served.position if may_begin_later else None

    def end_run(self) -> None:
        """Note that a loop was told that its run is over: its last epoch has ended, unless a step has gone on from there."""
        if self._end_epoch is not None and self._served.epoch < self._end_epoch:
            self._served = self._served._replace(has_ended=True)

    def begin_next_epoch(self) -> None:
        """Let a run begin with the next epoch: no batch was left of the one in which the stream stood."""
        with self._lock:
            self._owner, self._generation = None, self._generation + 1
            self._run_epoch = self._served.epoch + 1

    @property
    def _end_epoch(self) -> int | None:
        """The first epoch after the run under way."""
        return None if self._num_epochs is None else self._run_epoch + self._num_epochs

    # -- reading ----------------------------------------------------------------------------------------------------------

    def take_over(self, owner: object) -> int:
        """Return the generation of reads that ``owner``, a route, makes from now on; reads of others before are dropped."""
        if self._owner is not owner:
            with self._lock:
                self._owner, self._generation = owner, self._generation + 1
                if self._is_fresh:
                    self._note(self._served.position)
        return self._generation

    def read(self, start: int, size: int, generation: int, *, is_loop: bool) -> Read:
        """Return the next records.

        Args:
            start: Position of the first record.
            size: Records of the stream to read; at the end of a run over a stream without a length, fewer are read.
            generation: The number that `take_over` gave.
            is_loop: Whether reading ends with the run of the loop under way; if not, it goes on from epoch to epoch.

        Raises:
            EndOfStream: The run is over.
            SpecError: A stream with a length has ended, or the batch does not fit the element spec.
            NotImplementedError: Another epoch is needed, and the stream cannot start over.
            SupersededError: Another route has taken over.
        """
        with self._lock:
            if generation != self._generation:
                raise SupersededError
            asked = size // self._num_parts
            if self._has_ended and self._read is not None and self._read < start:  # requested ahead, beyond the end
                raise EndOfStream
            self._go_to(start)
            self._read = None
            ended = self._epoch
            if self._is_sized:
                batch, epochs, places = self._rest_of_batch(asked), None, None
                rows = asked
            else:
                batch, epochs, places = self._over_epochs(start, asked, is_loop=is_loop)
                rows = len(epochs)
                ended = int(epochs[0])
            end = self._read = start + rows * self._num_parts
            served = Served(end, self._source_state(), self._epoch, self._epoch_start, self._has_ended)
            return Read(batch, rows * self._num_parts, served, ended, epochs, places)

    def padded(self, size: int, full_size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (rows, mask) of a batch of ``size`` records, under ``pad_last`` each part completed to that of a full one."""
        rows, mask = self._batch_rule.padded(np.arange(size // self._num_parts), full_size // self._num_parts)
        starts = np.arange(self._num_parts)[:, None] * (size // self._num_parts)
        return (starts + rows).ravel(), None if mask is None else np.tile(mask, self._num_parts)

    def own(self, rows: np.ndarray, here: np.ndarray | None) -> Any:
        """Return an index of the rows that were read for the rows of this process, which are ``here`` in the batch."""
        if self._num_parts > 1:
            return rows[: len(rows) // self._num_parts]
        if here is not None:
            return rows[here]
        return ... if rows[-1] == len(rows) - 1 else rows

    def hand_over(self, served: Served) -> None:
        """Note that the batch after which the stream is at ``served`` was handed over."""
        self._served = served

    def get_state(self) -> dict[str, Any]:
        """Return the state of the source after the batch that was handed over last, and the position there.

        It does not wait for batches that are read ahead. The position of the pipeline may be further on, if a loop left the
        rest of an epoch.

        Raises:
            StateError: The source has no state.
        """
        if self._source.is_live:
            raise StateError(no_state_of_live(self._source.title))
        if not self.is_resumable:
            raise StateError(
                f"{self._source.title} cannot say where it stands, so that its pipeline has no state to save; "
                "define get_state() and set_state()"
            )
        position, state, *epochs = self._served
        saved = {"position": position, "source": self._source_state() if self._is_fresh else copy.deepcopy(state)}
        return saved | dict(zip(_EPOCHS, (*epochs, self._run_epoch), strict=True)) if self.has_epochs else saved

    def require_state(self, state: Any, position: int) -> None:
        """Raise if ``state`` is not a state of this stream, for a pipeline at ``position``.

        Raises:
            StateError: Says why.
        """
        keys = state.keys() - set(_EPOCHS) if isinstance(state, dict) and self.has_epochs else state
        if not isinstance(state, dict) or set(keys) != {"position", "source"}:
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
        epoch, start, has_ended, run_epoch = (plain(state.get(name, 0)) for name in _EPOCHS)
        is_place = is_count(epoch) and is_count(start) and is_count(run_epoch) and start <= served
        if not is_place or run_epoch > epoch + 1 or has_ended not in (0, 1):
            raise StateError(
                f"the state of the pipeline over {self._source.title} stands at no place: its stream is in epoch {epoch!r}, "
                f"which began at {start!r}, of a run from epoch {run_epoch!r}"
            )

    def set_state(self, state: dict[str, Any], but: Names = ()) -> None:
        """Restore a state from `get_state`. If the source refuses it, reading goes on after the batch handed over last."""
        with self._lock:
            if self._is_fresh:
                self._note(self._served.position)
            self._read = None
            set_state_but(self._source, copy.deepcopy(state["source"]), but)
            self._epoch, self._epoch_start, has_ended, self._run_epoch = (int(state.get(name, 0)) for name in _EPOCHS)
            self._has_ended = bool(has_ended)
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
            self._epoch, self._epoch_start, self._has_ended, self._run_epoch = 0, position, False, 0
            self._begin(position)

    def can_reach(self, position: int) -> bool:
        """Return whether a copy can go on at ``position``: where the stream was handed over, or further on in its epochs."""
        served = self._served.position
        return served == position or (served < position and self._is_sized)

    def twin(self, source: DataSourceModule) -> "StreamReader":
        """Return a reader of ``source``, a copy of this reader's source, at the position that was handed over last."""
        if self.is_resumable:
            source.set_state(self.get_state()["source"])
        twin = StreamReader(source, self._batch_rule, self._num_parts, position=self._served.position)
        twin._served = self._served._replace(state=None)
        twin._run_epoch, twin._num_epochs = self._run_epoch, self._num_epochs
        twin._stand_where_served()
        return twin

    @property
    def _is_sized(self) -> bool:
        return self._source.capabilities.sized

    # -- under the lock -------------------------------------------------------------------------------------------------

    def _begin(self, position: int) -> None:
        self._owner, self._generation = None, self._generation + 1
        self._note(position)

    def _note(self, position: int) -> None:
        self._read, self._is_fresh = position, False
        self._served = Served(position, self._source_state(), self._epoch, self._epoch_start, self._has_ended)

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
            self._source.set_state(copy.deepcopy(self._served.state))
            self._stand_where_served()
        left = start - (self._served.position if self._read is None else self._read)
        self._read = None
        while left > 0:
            count = min(left, _SKIPPED_AT_ONCE * self._num_parts)
            try:
                self._source.skip(count // self._num_parts)
            except StopIteration:
                raise SpecError(f"{self._source.title} ended before position {start}, which it has served") from None
            left -= count
        self._read = start

    def _stand_where_served(self) -> None:
        self._read, _, self._epoch, self._epoch_start, self._has_ended = self._served

    def _rest_of_batch(self, asked: int) -> Batch:
        """Return the next records of a stream with a length.

        Raises:
            SpecError: It has ended.
        """
        try:
            batch = self._source.read_batch(asked)
        except StopIteration:
            raise SpecError(
                f"{self._source.title} ended, but has {self._source.epoch_length} records an epoch; a stream with a "
                "length goes on with its next epoch by itself"
            ) from None
        check_batch(batch, self._source.element_spec(), asked, origin=self._source.title)
        return batch

    def _over_epochs(self, start: int, asked: int, *, is_loop: bool) -> tuple[Batch, np.ndarray, np.ndarray]:
        """Return (batch, epochs, places) of the next records of a stream without a length, in a loop up to its run's end.

        An epoch is over when the stream raises ``StopIteration``; a batch goes on with the next one.

        Raises:
            EndOfStream: No records are left.
            NotImplementedError: No records are left, and the stream cannot begin the next epoch.
            ValueError: Two epochs have no records, and no end is known.
        """
        parts: list[tuple[Batch, np.ndarray, np.ndarray]] = []
        rows = num_empty = 0
        end_epoch = self._end_epoch if is_loop else None
        while rows < asked and (end_epoch is None or self._epoch < end_epoch):
            batch = None if self._has_ended else self._next_of_epoch(asked - rows)
            at = start + rows * self._num_parts
            if batch is not None:
                count = self._checked(batch, asked - rows)
                first = (at - self._epoch_start) // self._num_parts
                parts.append((batch, np.full(count, self._epoch), np.arange(first, first + count)))
                rows += count
                continue
            num_empty += at == self._epoch_start
            if is_loop and self._epoch_start < at == self._run_from and self._run_epoch == self._epoch:
                self._run_epoch += 1
                end_epoch = self._end_epoch
            if end_epoch is not None and self._epoch + 1 >= end_epoch:
                break
            if parts and not self._can_restart:
                break
            if num_empty > 1 and end_epoch is None:
                raise ValueError(f"{self._source.title} is empty: it has no records to serve")
            self._read = None if parts else start
            self._source.require_restart()
            self._read = None
            self._source.begin_epoch()
            self._epoch, self._epoch_start, self._has_ended = self._epoch + 1, at, False
        if not parts:
            self._read = start
            raise EndOfStream
        if len(parts) == 1:
            return parts[0]
        joined: tuple[Batch, np.ndarray, np.ndarray] = joined_batches(parts)
        return joined

    def _next_of_epoch(self, asked: int) -> Batch | None:
        try:
            return self._source.read_batch(asked)
        except StopIteration:
            self._has_ended = True
            return None

    @property
    def _can_restart(self) -> bool:
        try:
            self._source.require_restart()
        except NotImplementedError:
            return False
        return True

    def _checked(self, batch: Batch, asked: int) -> int:
        """Return the number of rows: as many as were asked for, or fewer at the end of an epoch."""
        leaves = jax.tree.leaves(batch)
        rows = leaves[0].shape[0] if leaves and np.ndim(leaves[0]) else asked
        if not 0 < rows < asked:
            rows = asked
        check_batch(batch, self._source.element_spec(), rows, origin=self._source.title)
        return rows
