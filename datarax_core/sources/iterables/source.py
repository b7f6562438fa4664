"""Streams over iterables of other libraries: generators, data sets and loaders that are read from their start only."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Final

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import StructuralConfig
from datarax_core.errors import StateError
from datarax_core.order.numbers import whole_number
from datarax_core.records.elements import batch_of
from datarax_core.records.ragged import Ragged
from datarax_core.records.reused import Watch
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.sources.epoch_reader import EpochReader, StreamPlace
from datarax_core.sources.streaming import StreamingSourceBase

from .epochs import SAVING, Iterables, Reading, Saved, as_batch, columns_in, num_rows, rows_of
from .own_states import Replayed

_ENTRIES: Final = {"kind", "index", "state"}


class IterableSource(StreamingSourceBase):
    """A stream over what a function returns anew for each epoch: a generator, or a data set or loader of another library.

    An element is one record: dicts and tuples are structure, every other value is a field, as `from_sequence` reads them.
    `from_iterable` makes one.

    Args:
        config: The settings.
        make: A function that returns the iterable of an epoch, which it gets as its argument if it has one; or an object that
            can be iterated again and again. It gives the same elements each time that it is asked for the same epoch.
        element_spec: The spec of one record, with None for each axis that varies; None looks at the first elements, for which
            ``make`` is called once more.
        length: Number of records in each epoch, for a class that has a length, such as `SizedIterableSource`.
        own_state: Whether the own state of the iterable is saved, if it has one. If not, elements are read again.
        rngs: Not used.
        name: Name of this source in errors.

    Raises:
        TypeError: ``make`` is neither a function nor iterable, or can be read once only; says what to do.
    """

    def __init__(
        self,
        config: StructuralConfig,
        make: Any,
        *,
        element_spec: ElementSpec | None = None,
        length: int | None = None,
        own_state: bool = True,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        if not isinstance(make, Iterables):
            make = Iterables(make, element_spec, own_state=own_state, is_live=self.is_live, title=self.title)
            make.length = None if length is None else whole_number("length", length, at_least=1)
            make.batched = isinstance(self, BatchedIterableSource)
        self._iterables: Iterables = make
        self._reading = Reading()

    length_given_by: ClassVar[str] = "length"

    def element_spec(self) -> ElementSpec:
        """Return the spec of one record: the spec that was passed, or that of the first elements.

        Raises:
            ValueError: No spec was passed, and there are no elements.
        """
        return self._iterables.spec(self.title)

    @property
    def elements_ahead(self) -> int:  # type: ignore[override]  # an attribute of other sources
        """1 if the iterable has a state of its own, which says where it stands itself, not where a loop does."""
        return StreamingSourceBase.elements_ahead if self._iterables.kind in (None, Replayed.kind) else 1

    @property
    def resumes_by(self) -> str:
        """How this stream goes back to a place: ``state_dict``, ``get_state``, ``save``, ``replay``, or ``nothing`` if live.

        The iterable of the first epoch is opened to see that.
        """
        return "nothing" if self.is_live else self._iterables.known_kind(self.title)

    @property
    def resume_note(self) -> str:
        """How this stream resumes and at what cost, in a sentence."""
        by, made = self.resumes_by, self._iterables.made
        if by == "nothing":
            return ""
        if by == Replayed.kind:
            return (
                f"It resumes by replay: all elements of the epoch before the place are read again and left out, since "
                f"{self._iterables.reason}."
            )
        buffers = ", with its buffers" if by == "save" else ""
        return (
            f"It resumes by the own state of its {made} ({by}{buffers}). The state is taken so often that it costs 1/{SAVING} "
            "of the time of reading at most, and the few elements since then are read again."
        )

    def describe_data(self) -> str:
        """Return what is iterated, and how it resumes, as far as that is known without reading."""
        kind = self._iterables.kind
        return self._iterables.described + ("" if kind is None or self.is_live else f", resumes by {kind}")

    def plan(self, num_epochs: int | None = 1) -> str:
        """Describe what a run of ``num_epochs`` epochs serves, and how it resumes."""
        return "\n".join(filter(None, [super().plan(num_epochs), self.resume_note]))

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        """Yield the elements of an epoch from the ``start``-th on, as the iterable gives them; those before are left out."""
        for index, element in self._elements(epoch, start, self.title):
            self._reading.passed(1)
            if index >= start:
                yield element

    def new_reader(self, place: StreamPlace, key_data: Any) -> EpochReader:
        """Return a reader that makes batches of the elements from ``place`` on, by the rules of `from_sequence`."""
        spec, title, number = self.element_spec(), self.title, place.index
        elements = self.records_from(place.epoch, place.index)

        def pull(size: int) -> Batch | None:
            nonlocal number
            found, first = list(islice(elements, size)), number
            number += len(found)
            origin = f"of epoch {place.epoch} of {title}"
            return batch_of(found, spec, lambda row: f"element {first + row} {origin}") if found else None

        return EpochReader(pull, elements, place, key_data)

    def constructor_data(self) -> tuple[Any, ...]:
        """Return what is iterated, with its element spec."""
        return (self._iterables,)

    def get_state(self) -> dict[str, Any]:
        """Return place, variables and fingerprint as JSON, with the latest state of the iterable up to that place."""
        state, place = super().get_state(), self._stream.place
        self._reading.save_at(place.epoch, place.index)
        saved = self._reading.saved_before(place.epoch, place.index)
        entry = None if saved is None else {"kind": saved.kind, "index": saved.index, "state": saved.state}
        return {**state, "iterable": entry}

    def set_state(self, state: dict[str, Any], but: Collection[str] = ()) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits, or is named in ``but``.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is of another stream; names every difference.
        """
        if not isinstance(state, dict):
            super().set_state(state, but)
            return
        own, entry = {name: value for name, value in state.items() if name != "iterable"}, state.get("iterable")
        if entry is not None and not (isinstance(entry, dict) and entry.keys() == _ENTRIES):
            raise StateError(
                f"this is no state of {self.title}: 'iterable' is a dict of {sorted(_ENTRIES)}, not {entry!r:.80}"
            )
        super().set_state(own, but)
        self._reading.saved = None if entry is None else Saved(epoch=int(own["epoch"]), **entry)

    def fingerprint(self) -> dict[str, Any]:
        """Return the entries that a saved state must match: those of every stream, and a checksum of the first elements."""
        return {**super().fingerprint(), "iterable": self._iterables.fingerprint(self.title)}

    def _elements(self, epoch: int, start: int, title: str) -> Iterator[tuple[int, Any]]:
        """Yield (index of its first record, element) from the latest known state before ``start`` on."""
        reading = self._reading
        opened = reading.open(self._iterables, epoch, start, title)
        watch = Watch(is_reused=self._iterables.is_reused)
        try:
            while True:
                number = reading.index
                try:
                    element = next(opened.iterator)
                except StopIteration:
                    return
                except Exception as error:
                    error.add_note(
                        f"while {title} read {self._element_title(number)} of epoch {epoch} of {self._iterables.made}"
                    )
                    raise
                yield number, watch.seen(element)
        finally:
            reading.close(opened, keep=self.is_live)

    def _element_title(self, number: int) -> str:
        return f"element {number}"


class BatchedIterableSource(IterableSource):
    """An `IterableSource` whose elements are batches of records, of any sizes: a field has an axis of rows, or lists them."""

    def new_reader(self, place: StreamPlace, key_data: Any) -> EpochReader:
        """Return a reader that cuts the batches of the iterable from ``place`` on."""
        return StreamingSourceBase.new_reader(self, place, key_data)

    def batches_from(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the records of an epoch from the ``start``-th on, as the iterable gives them in batches."""
        spec, title = self.element_spec(), self.title
        for index, given in self._elements(epoch, start, title):
            element = as_batch(given)
            rows = num_rows(element, f"the batch from record {index} of epoch {epoch} of {title}")
            if index + rows > start:
                batch = _converted(element, spec, index, rows, f"epoch {epoch} of {title}")
                self._reading.passed(rows)
                skipped = max(0, start - index)
                yield jax.tree.map(lambda column: column[skipped:], batch) if skipped else batch  # noqa: B023
            else:
                self._reading.passed(rows)
            self._reading.save_now()

    def _element_title(self, number: int) -> str:
        return f"the batch from record {number}"


class _Sized:
    """Adds a length to a stream."""

    _iterables: "Iterables"

    def __len__(self) -> int:
        return self._iterables.length or 0


class SizedIterableSource(_Sized, IterableSource):
    """An `IterableSource` with a known number of records an epoch, to which it is held."""


class SizedBatchedIterableSource(_Sized, BatchedIterableSource):
    """A `BatchedIterableSource` with a known number of records an epoch, to which it is held."""


class LiveIterableSource(IterableSource):
    """An `IterableSource` over an iterator that is read once, to its end: nothing is read ahead, and it has no state."""

    is_live: ClassVar[bool] = True


class LiveBatchedIterableSource(BatchedIterableSource):
    """A `LiveIterableSource` whose elements are batches of records."""

    is_live: ClassVar[bool] = True


_CLASSES: Final[Mapping[tuple[bool, bool, bool], type[IterableSource]]] = {
    (False, False, False): IterableSource,
    (True, False, False): BatchedIterableSource,
    (False, True, False): SizedIterableSource,
    (True, True, False): SizedBatchedIterableSource,
    (False, False, True): LiveIterableSource,
    (True, False, True): LiveBatchedIterableSource,
}
"""By whether elements are batches, a length is given, and the stream is live."""


def from_iterable(
    make: Any,
    *,
    element_spec: ElementSpec | None = None,
    length: int | None = None,
    batched: bool = False,
    own_state: bool = True,
    is_live: bool = False,
    name: str | None = None,
) -> IterableSource:
    """Return a stream over what ``make`` returns anew for each epoch, for data that have no index.

    It takes generators, streaming data sets of Hugging Face, Grain's ``IterDataset``, ``tf.data``, PyTorch's
    ``IterableDataset`` and loaders, and any other iterable. A state holds the iterable's own state where it has one that is
    exact (``state_dict``, ``get_state``, ``save``); else resuming reads the elements before the place again.
    ``pipeline.explain()`` and ``source.resumes_by`` say which.

    Args:
        make: A function that returns the iterable of an epoch, which it gets as its argument if it has one; or an object that
            can be iterated again and again. A data set with ``set_epoch`` is told the epoch. The elements must depend on the
            epoch alone: shuffle with a seed.
        element_spec: The spec of one record, with None for each axis that varies; None looks at the first elements, for which
            ``make`` is called once more.
        length: Number of records in each epoch, if it is known. Then batches go on from epoch to epoch.
        batched: Whether an element is a batch of records, of any size: this saves the work of putting batches together.
        own_state: False to read elements again also where the iterable has a state of its own.
        is_live: Whether what was read is gone, as of a socket or a generator that was begun: ``make`` is then read once.
        name: Name of this source in errors.

    Raises:
        TypeError: ``make`` is neither a function nor iterable, or can be read once only; says what to do.
        ValueError: A live stream is given a length.
    """
    if is_live and length is not None:
        raise ValueError("a live stream has no epochs, and so no length; leave length out, or is_live")
    made = _CLASSES[bool(batched), length is not None, bool(is_live)]
    return made(StructuralConfig(), make, element_spec=element_spec, length=length, own_state=own_state, name=name)


def _converted(batch: Any, spec: ElementSpec, index: int, rows: int, origin: str) -> Batch:
    """Return a batch in the dtypes of the spec: arrays as they are, lists and other columns row by row."""
    structs, form = jax.tree.flatten(spec)
    columns = columns_in(batch)
    are_arrays = len(columns) == len(structs) and all(
        isinstance(column, Ragged) or (isinstance(column, np.ndarray) and column.dtype == struct.dtype)
        for column, struct in zip(columns, structs, strict=True)
    )
    if are_arrays and jax.tree.structure(batch) == form:  # type: ignore[operator]  # jaxlib's stubs leave it out
        return batch
    return batch_of(rows_of(batch, range(rows)), spec, lambda row: f"record {index + row} of {origin}")
