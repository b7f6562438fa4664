"""Sources that are read forward only: what a stream over files, sockets or generators stands on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import StructuralConfig
from datarax_core.errors import SpecError, StateError
from datarax_core.order.numbers import whole_number
from datarax_core.records.spec import Batch

from .epoch_reader import EpochReading, StreamPlace
from .host_state import HostState
from .source import DataSourceModule
from .state import require_dict, require_keys, require_same

_PLACE = tuple(field.name for field in fields(StreamPlace))


class StreamingSourceBase(DataSourceModule):
    """A source without random access: its records come in the order in which they are read, epoch after epoch.

    An author writes `element_spec`, and `records_from` or, where many records are read at once, `batches_from`. If the number
    of records in an epoch is known, ``__len__`` says it: then a batch that crosses an epoch is completed from the next
    one. Without it an epoch ends where its records end: `get_batch` gives what is left, and after that raises
    ``StopIteration`` until `reset` or a loop begins a new one.

    What is read has to be a function of epoch, start and `order_key_data`, and of nothing else. Then a state is a few numbers,
    and resuming is exact, at the cost of what it takes to come to the start.
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
        """The records of an epoch, from the ``start``-th on, each a pytree of NumPy values as `element_spec` says.

        A shuffled source draws the order of an epoch from `order_key_data` and ``epoch``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define records_from(); yield the records of an epoch from `start` on, or "
            "batches of them in batches_from()"
        )

    def batches_from(self, epoch: int, start: int) -> Iterator[Batch]:
        """The same in batches of any size, for authors who read many records at once; they are cut where they need be."""
        raise NotImplementedError

    # -- batches --------------------------------------------------------------------------------------------------------

    def get_batch(self, batch_size: int) -> Batch:
        """The next ``batch_size`` records; if nobody knows the length of an epoch, at its end those that are left.

        Raises:
            StopIteration: None are left of an epoch whose length nobody knows.
            SpecError: Records are not as the element spec says, or fewer than ``__len__`` says; names the record.
        """
        batch = self.read_batch(batch_size)
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """See `get_batch`; nothing is counted as served."""
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
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    # -- one element at a time ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """One epoch of elements; the first loop goes on where the source stands, a further one is the next epoch.

        A loop ends with `RuntimeError` if another one, `set_state` or `reset` came between.
        """
        self._stream.begin_run()
        return self.loop_over(self.cursor.begin_run(None, is_over=False))

    def __next__(self) -> Any:
        """The next element of the epoch that is under way."""
        place = self._stream.place
        if not place.run_is_over:
            place, part, rows = self._read(place, 1, at_once=self.elements_ahead)
            self._stream.place = place
            if rows:
                return jax.tree.map(lambda column: column[0], part)
        raise StopIteration

    # -- progress -------------------------------------------------------------------------------------------------------

    @property
    def length(self) -> int | None:
        """Number of records in an epoch; None if nobody knows."""
        return self.epoch_length

    @property
    def index(self) -> int:
        """How many records of the current epoch were served."""
        return self._stream.place.index

    @property
    def epoch(self) -> int:
        """The current epoch: how many were served before it."""
        return self._stream.place.epoch

    @property
    def is_reading(self) -> bool:
        """Whether a reader is open; if not, the next read opens one."""
        return self._stream.reading is not None

    def close(self) -> None:
        """Close the open reader, with its files and generators; the next read opens one at the same place."""
        self._stream.close()

    def get_dataset_info(self) -> dict[str, Any]:
        """Name, number of records in an epoch (None if nobody knows) and element spec."""
        name = self.name or type(self).__name__
        return {"name": name, "num_records": self.length, "element_spec": self.element_spec()}

    def reset(self, seed: int | None = None) -> None:
        """Back to the start of the first epoch; with ``seed``, of the order that building with ``nnx.Rngs(seed)`` gives."""
        super().reset(seed)
        self._stream.stand_at(StreamPlace())

    def get_state(self) -> dict[str, Any]:
        """Where this stream stands, and what it is: a few hundred bytes of JSON, no records."""
        place = asdict(self._stream.place)
        return {**place, "variables": self.saved_variables(), "fingerprint": self.fingerprint()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: Names all that differs between the stream that the state is of and this one.
        """
        require_dict(state, self.title)
        require_keys(state, {*_PLACE, "variables", "fingerprint"}, self.title)
        require_same(state["fingerprint"], self.fingerprint(), self.title)
        noted = {name: state[name] for name in _PLACE}
        place = StreamPlace.from_state(noted, self.length)
        if place is None:
            raise StateError(f"the state of {self.title} stands at no place in its stream: {noted}")
        self.restore_saved_variables(state["variables"])
        self.cursor.restore(0, 0)
        self._stream.stand_at(place)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _read(self, place: StreamPlace, wanted: int, *, at_once: int) -> tuple[StreamPlace, Batch, int]:
        """(the place behind, up to ``wanted`` records of one epoch, how many). What fails is read again next time."""
        length = self.length
        if length == 0:
            raise ValueError(f"{self.title} is empty: it has no records to serve")
        left = wanted if length is None else length - place.index
        try:
            batch, rows = self._reading(place).take(min(wanted, left), at_once=max(1, min(at_once, left)))
        except BaseException:  # an interruption, too, may come halfway through a record
            self._stream.close()
            raise
        if not rows and length is not None:
            self._stream.close()
            raise SpecError(
                f"epoch {place.epoch} of {self.title} ended after {place.index} records, where __len__() says {length}; "
                "leave __len__ out if nobody knows"
            )
        return place.behind(rows, length), batch, rows

    def _reading(self, place: StreamPlace) -> EpochReading:
        """What goes on reading at ``place``: opened anew unless the last read ended there, in the same order."""
        words, last = self.order_key_data(), self._stream.reading
        if last is None or not last.stands_at(place, words):
            self._stream.close()
            spec = self.element_spec()
            if type(self).batches_from is not StreamingSourceBase.batches_from:
                last = EpochReading.of_batches(
                    self.batches_from(place.epoch, place.index), place, words, spec, self.title
                )
            else:
                last = EpochReading.of_records(
                    self.records_from(place.epoch, place.index), place, words, spec, self.title
                )
            self._stream.reading = last
        return last


@dataclass(eq=False)
class StreamState(HostState):
    """The place of a stream and its open reader; a clone stands at the same place and opens a reader of its own."""

    place: StreamPlace = field(default_factory=StreamPlace)
    """The next record."""

    is_resumed: bool = True
    """Whether the next loop goes on from `place`: True at the very start, and after a restore."""

    reading: EpochReading | None = None
    """The open reader; None if the next read opens one."""

    def constructor_data(self) -> tuple[Any, ...]:
        """Return `place` and `is_resumed`."""
        return self.place, self.is_resumed

    def __setstate__(self, state: dict[str, Any]) -> None:  # only pickles of version 0.1.0 hold a dict
        self.place, self.is_resumed, self.reading = state["place"], state["_is_resumed"], None

    def begin_run(self) -> None:
        """Have the next element be the first of a new run, or of what a restored one has left."""
        if not self.is_resumed or self.place.run_is_over:
            self.place = self.place.next_run()
        self.is_resumed = False

    def stand_at(self, place: StreamPlace) -> None:
        """Forget what is under way."""
        self.close()
        self.place, self.is_resumed = place, True

    def close(self) -> None:
        """End what reads; files and generators behind it are closed."""
        if self.reading is not None:
            self.reading.close()
            self.reading = None
