"""The source protocol: records, and a position in their order that moves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, SourceConfig, StructuralConfig
from datarax_core.order.numbers import seed_number, whole_number
from datarax_core.order.order import ORDER_RULE
from datarax_core.order.reader import OrderReader
from datarax_core.order.selection import cut
from datarax_core.records.spec import Batch, describe

from .access import Capabilities, RecordAccess
from .host_state import HostState
from .state import Cursor, require_dict, require_keys, require_position, require_same, restore_variables, variable_state
from .verification import Verified, verified


class ElementBlock(HostState):
    """The elements that a loop fetched last, with the positions they are at; clones and pickles start without them."""

    def __init__(self) -> None:
        self._elements: list[Any] = []
        self._start = 0
        self._reader: OrderReader | None = None
        self._key_data: Any = None

    def at(self, source: "DataSourceModule", position: int, size: int) -> Any:
        """The element at ``position``; ``size`` of them are fetched if it is not among those held."""
        key_data = source.order_key_data()
        if self._reader is None or self._key_data is not key_data:
            self._reader, self._key_data, self._elements = source.order_reader(size), key_data, []
        if not 0 <= position - self._start < len(self._elements):
            indices: np.ndarray = self._reader.take(position, size)
            self._elements, self._start = source.get_elements(indices), position
        return self._elements[position - self._start]

    def held(self) -> dict[int, Any]:
        """The elements fetched and not asked for again yet, by position."""
        return dict(enumerate(self._elements, self._start))

    def __setstate__(
        self, state: dict[str, Any]
    ) -> None:  # only pickles of version 0.1.0 hold a dict, of an empty block
        vars(self).update(vars(ElementBlock()))


class ElementLoop:
    """One epoch of a source's elements. What is left of it can be iterated on: it is its own iterator."""

    def __init__(self, source: "DataSourceModule", run: int) -> None:
        self._source, self._run = source, run

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._source.cursor.is_current(self._run):
            title = self._source.title
            raise RuntimeError(f"this loop is over: {title} was iterated anew, reset or restored since it began")
        return next(self._source)


def _writable(element: Any) -> Any:
    """An element whose arrays are its reader's own: PyTorch warns of arrays that it could not write to."""
    if isinstance(element, np.ndarray):
        return element if element.flags.writeable else element.copy()
    if isinstance(element, Mapping):
        return {name: _writable(value) for name, value in element.items()}
    return tuple(map(_writable, element)) if type(element) is tuple else element


class DataSourceModule(RecordAccess):
    """A source of records.

    An author writes ``__len__``, `element_spec` and `get_records`; everything else follows from them. An author whose order
    is neither sequential nor the core's shuffle writes `record_indices_at` as well. A forward-only stream writes
    `get_batch`, `reset`, `get_state` and `set_state` instead. One with a length goes on with its next epoch by itself; one
    without may end, and then gives what is left, and after that raises ``StopIteration``.

    A source draws its order's key once, from the random stream that its config names, when it is built.

    A batch that was given away is never written to again: on a CPU its memory may be that of the batch on the device.
    """

    not_saved: ClassVar[tuple[str, ...]] = ("cursor.",)
    """Beginnings of the names of variables that no state holds: those saved in another form, or by another source."""

    elements_ahead: int = 32
    """How many elements a loop over the source fetches at once."""

    subset_class: ClassVar[Callable[..., "DataSourceModule"]]
    """What makes the parts of a source: `Subset.of`, which its module puts here."""

    def __init__(self, config: StructuralConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.cursor = Cursor()
        self._block = ElementBlock()

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], "DataSourceModule"]) -> Self:
        """The source that a config describes.

        Args:
            config: Of this class's `config_class`.
            build: Makes the sources that ``config`` nests; its ``rngs`` are the random streams meant for this one.
        """
        return cls(config, rngs=getattr(build, "rngs", None))

    @property
    def capabilities(self) -> Capabilities:
        """What this source can do, derived from what its class defines."""
        indexed = self.access != "stream"
        return Capabilities(
            random_access=indexed,
            batched_reads=True,
            traceable=self.access == "device",
            resumable=indexed or type(self).set_state is not DataSourceModule.set_state,
            sized=hasattr(type(self), "__len__"),
        )

    # -- where it stands -----------------------------------------------------------------------------------------------------

    @property
    def index(self) -> int:
        """How many records of the current epoch were served; of all records, if the length of an epoch is unknown."""
        return self._epoch_and_index()[1]

    @property
    def epoch(self) -> int:
        """How many epochs were served in full; 0 if the length of an epoch is unknown."""
        return self._epoch_and_index()[0]

    def _epoch_and_index(self) -> tuple[int, int]:
        position = self.cursor.position
        if not position:
            return 0, 0  # also of a source without records, which has no epochs to count in
        length = self.epoch_length
        return (0, position) if length is None else divmod(position, length)

    # -- files ---------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close open files and end threads; the next read opens them again. A source that has such overrides it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- batches -------------------------------------------------------------------------------------------------------------

    def get_batch(self, batch_size: int) -> Batch:
        """The next ``batch_size`` records of this source's own order; the one method that a stream must write."""
        self.require_random_access()
        batch_size = whole_number("batch_size", batch_size, at_least=1)
        batch = self.get_batch_at(self.cursor.here, batch_size, self.order_key_data())
        self.cursor.advance(batch_size)
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """The next records of a stream for a pipeline, which counts what it serves itself; `get_batch`, unless that counts."""
        return self.get_batch(batch_size)

    def skip(self, count: int) -> None:
        """Leave out the next ``count`` records of a stream, by reading them; one that can do better overrides it."""
        self.read_batch(count)

    def process_part(self, part: int, num_parts: int) -> Self | None:  # noqa: ARG002 - what a subclass needs
        """The stream of the ``part``-th of ``num_parts`` disjoint parts of the records, each of one length, if it has such.

        Asked for when several processes share a pipeline. None: each process reads every record and keeps its rows.
        """
        return None

    def note_served(self, batches: int) -> None:
        """Count batches of this source's records that were handed over; see `get_operation_stats`."""
        self._ledger.applied += batches

    def note_substituted(self, records: int) -> None:
        """Count records in whose place others were read; see `get_operation_stats`."""
        self._ledger.skipped += records

    # -- elements, by index --------------------------------------------------------------------------------------------------

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The records at concrete ``indices``, each by itself, as NumPy values."""
        batch = jax.tree.map(np.asarray, self.fetch(indices))
        return [jax.tree.map(lambda column: column[row], batch) for row in range(len(indices))]  # noqa: B023

    def __getitem__(self, index: int | slice) -> Any:
        """The record with this index, whatever the order, negative ones counted from the end; for a slice, a `Subset`."""
        self.require_random_access()
        if isinstance(index, slice):
            return self.subset_class(self, range(self.num_records)[index])
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"{self.title} is indexed by an integer or a slice, not {index!r}")
        length = self.num_records
        if not -length <= index < length:
            raise IndexError(f"record {index} is out of range: {self.title} has {length} records")
        return self.get_elements(np.asarray([int(index) % length]))[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The records with these indices, as ``source[i]`` gives each, in one fetch; their arrays may be written to.

        This is what a PyTorch ``DataLoader`` reads a batch with.
        """
        self.require_random_access()
        rows = np.asarray(indices)
        if not rows.size:
            return []
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"the records of {self.title} are named by a list of integers, not {indices!r:.80}")
        length = self.num_records
        outside = (rows < -length) | (rows >= length)
        if outside.any():
            raise IndexError(f"record {rows[outside][0]} is out of range: {self.title} has {length} records")
        return [_writable(element) for element in self.get_elements(rows.astype(np.int64) % length)]

    def _getitems(self, indices: Sequence[int]) -> list[Any]:
        """`__getitems__`, by the name that Grain knows."""
        return self.__getitems__(indices)

    # -- elements, in order --------------------------------------------------------------------------------------------------

    @property
    def run_length(self) -> int | None:
        """How many elements a loop over this source serves: one epoch; None in a subclass whose loops have no end."""
        return self.epoch_length

    def __iter__(self) -> Iterator[Any]:
        """One epoch of elements in this source's order; a second loop is the next epoch. See `run_length`.

        A loop ends with `RuntimeError` if another one, `set_state` or `reset` came between.
        """
        self.require_random_access()
        return self.loop_over(self.cursor.begin_run(self.epoch_length, is_over=self.left_of_run() <= 0))

    def loop_over(self, run: int) -> Iterator[Any]:
        """The elements of the run with this number, which ``self.cursor.begin_run`` gave; a later run ends it."""
        return ElementLoop(self, run)

    def __next__(self) -> Any:
        """The next element of the loop that is under way."""
        left = self.left_of_run()
        if left <= 0:
            raise StopIteration
        position = self.cursor.position
        element = self._block.at(self, position, min(self.elements_ahead, left))
        self.cursor.advance(1)
        return element

    def left_of_run(self) -> int:
        """Return how many elements the loop under way still serves; for a loop without an end, `elements_ahead`."""
        length = self.run_length
        return self.elements_ahead if length is None else self.cursor.run_start + length - self.cursor.position

    def _left_of_run(self) -> int:  # until plugins call it by its public name
        return self.left_of_run()

    def elements_read_ahead(self) -> dict[int, Any]:
        """Return the elements that a loop has fetched and not served yet, by position."""
        return {position: e for position, e in self._block.held().items() if position >= self.cursor.position}

    # -- parts, and all records ----------------------------------------------------------------------------------------------

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, "DataSourceModule"]:
        """Disjoint parts of the records by name, drawn at random: ``split(train=0.9, test=0.1, seed=0)``.

        Each is a fixed set of record indices, which the seed, the number of records and the shares up to its own decide,
        whatever order this source serves. Floats are parts of one, integers numbers of records; what they leave is in no part.

        Raises:
            TypeError, ValueError: ``seed`` is no seed, or the shares cannot work; says which and why.
        """
        self.require_random_access()
        seed = seed_number(seed)
        parts = cut(shares, self.num_records, self.title)
        return {name: self.subset_class(self, rows, seed=seed, name=name) for name, rows in parts.items()}

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Which of the records at int (k,) ``indices`` cannot be read, and why. Nothing is served, or kept.

        Strict: a source that puts up with bad records, and serves others for them, overrides it and reads them all the same.

        Raises:
            DataFileError: A whole file is damaged, or changed since the source was built.
        """
        self.require_random_access()
        return verified(self._checked_records, np.asarray(indices), self.title)

    # -- progress ------------------------------------------------------------------------------------------------------------

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """A new source over the same records, from position 0, with what is given in place of its own.

        Without ``rngs`` a shuffled copy serves the order that this source serves, and draws nothing from its streams.
        """
        twin = super().copy(config=config, rngs=nnx.clone(self.rngs) if rngs is None else rngs, name=name)
        if rngs is None and twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        return twin

    def reset(self, seed: int | None = None) -> None:
        """Back to the start of the first epoch; with ``seed``, of the order that building with ``nnx.Rngs(seed)`` gives."""
        if seed is not None:
            self._reseed(seed_number(seed))
        self.cursor.restore(0, 0)

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again, as JSON: class, length, element spec, order and its key."""
        words = self.order_key_data()
        is_stream = self.access == "stream"
        return {
            "source": type(self).__name__,
            "length": self.epoch_length if is_stream else self._length(),
            "element_spec": describe(self.element_spec()),
            "order": "stream"
            if is_stream
            else f"{'shuffled' if words is not None else 'sequential'}, rule {ORDER_RULE}",
            "seed": None if words is None else np.asarray(words).tolist(),
        }

    def get_state(self) -> dict[str, Any]:
        """Where this source stands, and what it is: a few hundred bytes of JSON, no data but variables of its own."""
        progress = {"position": self.cursor.position, "run_start": self.cursor.run_start}
        return {**progress, "variables": self.saved_variables(), "fingerprint": self.fingerprint()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: Names all that differs between the source that the state is of and this one.
        """
        require_dict(state, self.title)
        require_keys(state, {"position", "run_start", "variables", "fingerprint"}, self.title)
        require_same(state["fingerprint"], self.fingerprint(), self.title)
        position, run_start = require_position(state, self.title)
        self.restore_saved_variables(state["variables"])
        self.cursor.restore(position, run_start)

    def saved_variables(self) -> dict[str, Any]:
        """Return the variables of a state by dotted name: all but those that `not_saved` leaves out."""
        variables = {n: v for n, v in variable_state(self).items() if not n.startswith(self._left_out)}
        if self.order_key is not None:
            variables["order_key"] = np.asarray(variables["order_key"]).tolist()
        return variables

    def restore_saved_variables(self, variables: Any) -> None:
        """Give the variables the values that `saved_variables` returned; those in `not_saved` keep theirs.

        Raises:
            StateError: Names every variable that is missing or unknown, or whose value does not fit.
        """
        if isinstance(variables, dict):
            variables = variables | {n: v for n, v in variable_state(self).items() if n.startswith(self._left_out)}
        restore_variables(self, variables)

    # -- inside --------------------------------------------------------------------------------------------------------------

    @property
    def _left_out(self) -> tuple[str, ...]:
        return (*self.not_saved, *getattr(self, "_not_saved", ()))  # the second until plugins set the public name

    def _reseed(self, seed: int) -> None:
        if self.order_key is not None:
            self.order_key.set_raw_value(self._drawn_key(nnx.Rngs(seed)))
