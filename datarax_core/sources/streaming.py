"""Base class of streams: sources over files, sockets or generators that are read forward only."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import jax
from flax import nnx

from datarax_core.background import leave_to_parent, renew_in_forks
from datarax_core.config.models import StructuralConfig
from datarax_core.errors import SpecError, StateError
from datarax_core.modules.counts import CountValue
from datarax_core.modules.fingerprints import Names, changes_of, noted, require_same
from datarax_core.modules.host_state import HostState
from datarax_core.modules.state import require_dict, require_keys, saved_in_loop
from datarax_core.order.numbers import whole_number
from datarax_core.records.joining import joined_batches
from datarax_core.records.spec import Batch

from .data_set_info import DataSetInfo
from .epoch_reader import EpochReader, StreamPlace
from .source import DataSourceModule

_PLACE = tuple(field.name for field in fields(StreamPlace))


class StreamingSourceBase(DataSourceModule):
    """A source without random access: records are served in the order in which they are read, epoch after epoch.

    An author writes `element_spec`, and `records_from` or, to read many records at once, `batches_from`. ``__len__`` returns
    the number of records in an epoch if it is known: then a batch at the end of an epoch is completed with records of the
    next one. Without ``__len__`` an epoch ends where its records end: `get_batch` returns the records that are left, and
    after that raises ``StopIteration`` until `reset` or a loop begins a new epoch.

    The records must depend on epoch, start and `order_key_data` only. Then a state is a few numbers, and resuming is exact;
    it costs as much as `records_from` needs to reach ``start``.

    A stream that cannot be read from ``start``, since what was read is gone, says ``is_live = True``. Then one iterator is read
    to its end, by all loops one after another, and nothing is read ahead.
    """

    length_given_by: ClassVar[str] = "__len__()"
    """Where the number of records in an epoch was said, in errors.

    Called: by errors.
    Default: "__len__()".
    """

    def __init__(self, config: StructuralConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        if config.cacheable:
            raise ValueError(
                f"{self.title} is read forward only and keeps no records, which leaves cacheable nothing to do; leave it out"
            )
        self._stream = StreamState()

    # -- what an author writes ------------------------------------------------------------------------------------------

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        """Yield the records of an epoch from the ``start``-th on, each a pytree of NumPy values that `element_spec` describes.

        A shuffled source draws the order of an epoch from `order_key_data` and ``epoch``. Each record has arrays of its own:
        several are read before they are put together.

        Called: when a run begins, resumes or goes back, and for each epoch after that; the iterator is advanced by one
            thread at a time: that of the loop, or the one that reads ahead. It is closed if the stream is closed or moved.
        Default: none; a stream writes it, or `batches_from`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define records_from(); yield the records of an epoch from `start` on, or "
            "batches of them in batches_from()"
        )

    def batches_from(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the records of an epoch from the ``start``-th on in batches of any size; core cuts the batches as needed.

        Each batch has arrays of its own, into which the source writes no more.

        Called: as `records_from` is, in its place.
        Default: records are taken from `records_from`, one by one.
        """
        raise NotImplementedError

    def new_reader(self, place: StreamPlace, key_data: Any) -> EpochReader:
        """Return a reader of `batches_from`, or of `records_from`, from ``place`` on.

        Called: whenever a place is read at which no reader stands; on the thread that reads.
        Default: a reader of `batches_from` or `records_from`.
        """
        spec = self.element_spec()
        if type(self).batches_from is not StreamingSourceBase.batches_from:
            batches = self.batches_from(place.epoch, place.index)
            return EpochReader.of_batches(batches, place, key_data, spec, self.title)
        records = self.records_from(place.epoch, place.index)
        return EpochReader.of_records(records, place, key_data, spec, self.title)

    # -- batches --------------------------------------------------------------------------------------------------------

    def get_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records; at the end of an epoch of unknown length, the records that are left.

        Raises:
            StopIteration: No records are left of an epoch of unknown length.
            SpecError: Records differ from the element spec, or are fewer than ``__len__`` says; names the record.
        """
        batch = self.read_batch(batch_size)
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """Return the batch that `get_batch` returns, without counting it as served."""
        missing = whole_number("batch_size", batch_size, at_least=1)
        place, parts = self._stream.place, []
        while missing and not place.has_ended:
            place, part, rows = self._read(place, missing, at_once=missing)
            missing -= rows
            if rows:
                parts.append(part)
        self._stream.place = place
        if not parts:
            raise StopIteration
        return joined_batches(parts)

    # -- one element at a time ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """Iterate over one epoch of elements; the first loop starts at the source's place, each later one at the next epoch.

        A loop raises ``RuntimeError`` once another loop, `set_state` or `reset` moved the place.
        """
        if not self.is_live:
            self._stream.begin_run(in_loop=self.cursor.in_loop)
        return self.loop_over(self.cursor.begin_run(None, is_over=False))

    def __next__(self) -> Any:
        """Return the next element of the epoch that is under way."""
        place = self._stream.place
        if not place.run_is_over:
            place, part, rows = self._read(place, 1, at_once=1 if self.is_live else self.elements_ahead)
            self._stream.place = place
            if rows:
                return jax.tree.map(lambda column: column[0], part)
        self.cursor.end_loop()
        raise StopIteration

    # -- place ----------------------------------------------------------------------------------------------------------

    @property
    def length(self) -> int | None:
        """Number of records in an epoch; None if unknown.

        Called: by users, and at ends of epochs.
        Default: `epoch_length`.
        """
        return self.epoch_length

    @property
    def index(self) -> CountValue:
        """How many records of the current epoch were served."""
        return CountValue(self._stream.place.index)

    @property
    def epoch(self) -> CountValue:
        """How many epochs were served before the current one."""
        return CountValue(self._stream.place.epoch)

    @property
    def is_reading(self) -> bool:
        """Whether a reader is open; if not, the next read opens one.

        Called: by users and tests.
        """
        return self._stream.reader is not None

    def close(self) -> None:
        """Close the open reader with its files and generators; the next read opens a reader at the same place."""
        self._stream.close()

    def begin_epoch(self) -> None:
        """Begin the next epoch; if no record of the present one was served, and it has not ended, stay at its start."""
        self.require_restart()
        self._stream.stand_at(self._stream.place.next_run())

    def get_dataset_info(self) -> DataSetInfo:
        """Return name, number of records in an epoch (None if unknown) and element spec.

        Called: by users.
        Default: name, number of records and element spec.
        """
        name = self.name or type(self).__name__
        return DataSetInfo({"name": name, "num_records": self.length, "element_spec": self.element_spec()})

    def reset(self, seed: int | None = None) -> None:
        """Return to the start of the first epoch; with ``seed``, in the order of a source built with ``nnx.Rngs(seed)``."""
        self.require_restart()
        super().reset(seed)
        self._stream.stand_at(StreamPlace())

    def get_state(self) -> dict[str, Any]:
        """Return place, variables and fingerprint as JSON: some hundred bytes, no records.

        Raises:
            StateError: The stream is live.
        """
        self._require_rewinding()
        place = {**asdict(self._stream.place), "in_loop": self.cursor.in_loop}
        saved = {"variables": self.saved_variables(), "fingerprint": self.fingerprint()}
        return {**place, **saved, **noted(self.cursor.changes)}

    def set_state(self, state: dict[str, Any], but: Names = ()) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        Args:
            state: The state.
            but: Names of what was changed on purpose; see `DataSourceModule.set_state`.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is of another stream; names every difference.
            ValueError: ``but`` names what is no entry, or decides which record a position means.
        """
        self._require_rewinding()
        require_dict(state, self.title)
        require_keys(state, {*_PLACE, "variables", "fingerprint"}, self.title, optional={"in_loop", "changed"})
        changed = require_same(state["fingerprint"], self.fingerprint(), self.title, but, self.entries_of_places)
        saved = {name: state[name] for name in _PLACE}
        place = StreamPlace.from_state(saved, self.length)
        if place is None:
            raise StateError(f"the state of {self.title} stands at no place in its stream: {saved}")
        in_loop, changes = saved_in_loop(state, self.title), changes_of(state, self.title)
        at = {"epoch": place.epoch, "index": place.index}
        self.restore_saved_variables(state["variables"])
        self.cursor.restore(0, 0, in_loop=in_loop)
        self.cursor.note_changes((*changes, {"at": at, **changed}) if changed else changes)
        self._stream.stand_at(place)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _require_rewinding(self) -> None:
        if self.is_live:
            raise StateError(no_state_of_live(self.title))

    def _read(self, place: StreamPlace, wanted: int, *, at_once: int) -> tuple[StreamPlace, Batch, int]:
        """Return (next place, batch of up to ``wanted`` records of one epoch, number of its rows).

        After an error the place is unchanged, so that the same records are read again.

        Raises:
            SpecError: The epoch has fewer or more records than its length says.
            RuntimeError: The author's code raised ``StopIteration`` elsewhere than at the end of an iterator.
        """
        length = self.length
        if length == 0:
            raise ValueError(f"{self.title} is empty: it has no records to serve")
        left = wanted if length is None else length - place.index
        try:
            reader = self._reader_at(place)
            batch, rows = reader.take(min(wanted, left), at_once=max(1, min(at_once, left)))
            has_more = length is not None and place.index + rows == length and reader.has_more()
        except StopIteration as error:  # a pipeline would take it for the end of the epoch
            self._stream.close()
            raise RuntimeError(f"{self.title} raised StopIteration before its records ended") from error
        except BaseException:  # also after an interruption, the reader may be in the middle of a record
            self._stream.close()
            raise
        if not rows and length is not None:
            self._stream.close()
            raise SpecError(
                f"epoch {place.epoch} of {self.title} ended after {place.index} records, where {self.length_given_by} says "
                f"{length}; leave that out if the number is unknown"
            )
        if has_more:
            self._stream.close()
            raise SpecError(
                f"epoch {place.epoch} of {self.title} goes on after {length} records, where {self.length_given_by} says that "
                "it ends; give the number of all records there, or leave that out if it is unknown"
            )
        return place.behind(rows, length), batch, rows

    def _reader_at(self, place: StreamPlace) -> EpochReader:
        """Return the open reader if it is at ``place`` in the current order, else open a reader there."""
        key_data, reader = self.order_key_data(), self._stream.reader
        if reader is None or not reader.stands_at(place, key_data):
            self._stream.close()
            reader = self._stream.reader = self.new_reader(place, key_data)
        return reader


def no_state_of_live(title: str) -> str:
    """Return the message of an error about the state of a live stream."""
    return (
        f"{title} is live (is_live = True): what it gave cannot be read again, so that there is no state to save or restore; "
        "record the stream to files, and read these, where a run has to be resumed"
    )


@dataclass(eq=False)
class StreamState(HostState):
    """The place of a stream and its open reader; a clone starts at the same place and opens a reader of its own."""

    place: StreamPlace = field(default_factory=StreamPlace)
    """The next record."""

    is_resumed: bool = True
    """Whether the next loop continues at `place`: True at the very start, and after a restore."""

    reader: EpochReader | None = None
    """The open reader; None if the next read opens one."""

    def __post_init__(self) -> None:
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave the open reader to the parent, which shares the positions of its files; the next read opens another."""
        if self.reader is not None:
            leave_to_parent(self.reader)
            self.reader = None

    def constructor_data(self) -> tuple[Any, ...]:
        """Return `place`, where the first loop of a copy goes on."""
        return self.place, True

    def __setstate__(self, state: dict[str, Any]) -> None:  # only pickles of version 0.1.0 hold a dict
        self.place, self.is_resumed, self.reader = state["place"], state["_is_resumed"], None
        renew_in_forks(self)

    def begin_run(self, *, in_loop: bool) -> None:
        """Start a new run at the next epoch, or continue a restored run that is not over, or that no loop knew to be over."""
        if not self.is_resumed or (self.place.run_is_over and not in_loop):
            self.place = self.place.next_run()
        self.is_resumed = False

    def stand_at(self, place: StreamPlace) -> None:
        """Move to ``place``, and close the open reader."""
        self.close()
        self.place, self.is_resumed = place, True

    def close(self) -> None:
        """Close the open reader with its files and generators."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None
