"""The source protocol: records, and a position in their order that moves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx
from flax.errors import TraceContextError

from datarax_core.config.models import SourceConfig, StructuralConfig
from datarax_core.devices.traces import closed_over, require_updates_kept
from datarax_core.modules.counts import count_of_cursor
from datarax_core.modules.cursor import Cursor
from datarax_core.order.batch_sizes import BatchSizes
from datarax_core.order.numbers import seed_number, whole_number
from datarax_core.order.selection import cut
from datarax_core.records.joining import host_column
from datarax_core.records.spec import Batch

from .access import Capabilities
from .elements import ElementBlock, ElementLoop, writable
from .other_contracts import contract_of
from .protocol.states import SourceStates
from .reading_ahead import ReadingAhead, Watch
from .verification import Verified, verified


def _subset_of(*args: Any, **options: Any) -> "DataSourceModule":
    """Call `Subset.of`, whose module derives from this one, and is imported when the first part of a source is made."""
    return import_module("datarax_core.sources.subset").Subset.of(*args, **options)  # type: ignore[no-any-return]


def _kept_of(*args: Any, **options: Any) -> "DataSourceModule":
    """Call `Subset.kept`."""
    return import_module("datarax_core.sources.subset").Subset.kept(*args, **options)  # type: ignore[no-any-return]


class DataSourceModule(SourceStates):
    """A source of records.

    An author writes ``__len__``, `element_spec` and `get_records`; all other methods follow from these three. An author whose
    order is neither sequential nor core's shuffle also writes `record_indices_at`. A class that comes with
    ``get_batch_at(start, size, key)``, or with PyTorch's ``__getitem__``, works as it is; see `other_contracts`.

    The author of a forward-only stream writes `get_batch`, `reset`, `get_state` and `set_state` instead (or derives from
    `StreamingSourceBase`). A stream with a length continues with its next epoch by itself. A stream without a length may end:
    it returns the records that are left, and after that raises ``StopIteration``.

    A source draws the key of its order once, when it is built, from the random stream that its config names.

    A source never writes to a batch that it returned: on a CPU, the batch on the device may use the same memory.
    """

    is_live: ClassVar[bool] = False
    """Whether a stream cannot be rewound: what was read from a socket, a queue or a generator is gone.

    Nothing is read ahead of such a stream, it has no state, and it does not start over: each loop goes on where it stands.

    Called: by routes when a run begins, and by states.
    Default: False: the stream begins anew when it is reset.
    """

    counts_are_fixed: ClassVar[bool] = False
    """Whether assigning `index` or `epoch` is an error; False lets an author's class keep counts of its own by these names.

    Called: where a subclass or a user assigns `index` or `epoch`.
    Default: False.
    """

    elements_ahead: int = 32
    """How many elements a loop over the source fetches at once.

    Called: by loops over the source itself, at each fetch; a view takes it from its parent.
    Default: 32 elements.
    """

    subset_class: ClassVar[Callable[..., "DataSourceModule"]] = staticmethod(_subset_of)
    """Makes a part of a source: `Subset.of`.

    Called: by ``source[slice]``, ``source[indices]`` and `split`.
    Default: `Subset.of`, which returns a part of a mixture for mixtures.
    """

    kept_class: ClassVar[Callable[..., "DataSourceModule"]] = staticmethod(_kept_of)
    """Makes the part of a source that conditions or a function keep: `Subset.kept`.

    Called: by `where` and `filter`.
    Default: `Subset.kept`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.other_contract = contract_of(cls, DataSourceModule)

    def __init__(self, config: StructuralConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.cursor = Cursor()
        self._block = ElementBlock()

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], "DataSourceModule"]) -> Self:
        """Return the source that a config describes.

        Args:
            config: An instance of `config_class`.
            build: Builds the sources that ``config`` nests; its attribute ``rngs`` holds the random streams for this source.

        Called: by `build_source`, ``Pipeline.from_config`` and the commands, once for each config, nested ones included; on
            the thread that builds.
        Default: ``cls(config, rngs=...)``; override it if the constructor takes data that the config names, or nested
            sources.
        """
        return cls(config, rngs=getattr(build, "rngs", None))

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:  # noqa: ARG003 - an override uses it
        """Return the fields of a config, without ``type``, with which this source opens the file or folder ``path``; else None.

        The default is None: the source reads no files, or does not say which. ``drx peek FILE`` and other commands that read
        records call it in a process of its own. It is cheap: it looks at the name, and at most at the first bytes of a file of
        this machine::

            @classmethod
            def guess(cls, path):
                return {"paths": path} if path.endswith(".parquet") else None

        Called: by ``drx peek FILE`` and other commands that read records, in a process of its own, and by errors about
            files.
        Default: None: the source reads no files, or does not say which.
        """
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Raises:
            AttributeError: It is what the source was built with, such as its data; says to build another source.
        """
        own = getattr(type(self), name, None)
        if isinstance(own, property) and own.fset is None:
            kind = type(self).__name__
            raise AttributeError(
                f"property {name!r} of {kind!r} object has no setter: a source keeps what it was built with; for other data, "
                f"build another {kind}"
            )
        super().__setattr__(name, value)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this source, which follow from the methods that its class defines.

        Called: by pipelines when a run begins and before each batch of a stream, by caches and the testing kit; on any
            thread.
        Default: what the methods of the class show; override it if a class restores its state in another way.
        """
        indexed = self.access != "stream"
        return Capabilities(
            random_access=indexed,
            batched_reads=True,
            traceable=self.access == "device",
            resumable=indexed or (type(self).set_state is not DataSourceModule.set_state and not self.is_live),
            sized=hasattr(type(self), "__len__"),
        )

    @property
    def is_copy_in_trace(self) -> bool:
        """Whether this is a copy that flax made of an argument of the trace under way.

        Called: by what must not be used under a trace of ``nnx.jit``.
        """
        cursor = vars(self).get("cursor")
        return cursor is not None and cursor.is_traced

    # -- position and files --------------------------------------------------------------------------------------------------

    @count_of_cursor
    def index(self) -> int:
        """Number of records of the current epoch that were served; of all records, if the length of an epoch is unknown.

        Called: by users and reports, between batches.
        Default: follows from the position and `epoch_length`.
        """
        return self._epoch_and_index()[1]

    @count_of_cursor
    def epoch(self) -> int:
        """Number of epochs that were served in full; 0 if the length of an epoch is unknown.

        Called: by users and reports, between batches; by the reader of a stream.
        Default: follows from the position and `epoch_length`.
        """
        return self._epoch_and_index()[0]

    def _epoch_and_index(self) -> tuple[int, int]:
        position = self.cursor.position
        if not position:
            return 0, 0  # also of a source without records, which has no epochs to count in
        length = self.epoch_length
        return (0, position) if length is None else divmod(position, length)

    def close(self) -> None:
        """Close files and end threads; the next read opens them again. A source with files or threads overrides this.

        Called: by users, at the end of a ``with`` block, and by views over this source; pipelines never close a source.
            Other threads may be reading.
        Default: nothing.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- batches -------------------------------------------------------------------------------------------------------------

    @property
    def batch_sizes(self) -> BatchSizes | None:
        """The sizes of the batches, if the source decides them: then a pipeline takes no ``batch_size``. None by default.

        Called: by pipelines when they are made, and when a loop begins or the order changes; on the thread that uses the
            pipeline.
        Default: None: the pipeline's ``batch_size`` decides.
        """
        return None

    def require_no_batches(self, title: str) -> None:
        """Raise ``ValueError`` if this source decides its batches, which one that reads it by index would tear apart.

        ``title`` names the reader.

        Called: by views and mixtures in their constructor, for each parent.
        """
        if self.batch_sizes is not None:
            raise ValueError(
                f"{title} reads records by index, and {self.title} decides which of them make a batch: make the "
                f"{title.partition(' ')[0]} first, and the {type(self).__name__} of it"
            )

    @property
    def largest_record(self) -> int:
        """Index of a record whose arrays are as large as the element spec says; any where all are alike, so 0 by default.

        Called: once, when a pipeline is made with a host stage that does not say what comes out of it, and is run on one
            record for that; on the thread that makes it.
        Default: 0, the first record.
        """
        return 0

    def get_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records in the order of this source; a stream defines this method itself.

        Called: by users who read the source without a pipeline, and by `read_batch` of streams; on the thread that uses the
            pipeline, or the one that reads ahead.
        Default: reads `get_batch_at` the source's position, and moves it; a stream must write it, or derive from
            `StreamingSourceBase`.
        """
        if self.access == "stream":
            raise NotImplementedError(
                f"{type(self).__name__} defines no method that reads records: define __len__() and get_records(indices), or as "
                "a stream get_batch(batch_size)"
            )
        batch_size = whole_number("batch_size", batch_size, at_least=1)
        if self.cursor.is_traced:
            require_updates_kept(self, self.title, "get_batch()")
        # get_batch_at() of another contract may go only to the end of an epoch
        batch_at = self.get_batch_at if self.other_contract is None else super().get_batch_at
        try:
            batch = batch_at(self.cursor.here, batch_size, self.order_key_data())
            self.cursor.advance(batch_size)
        except TraceContextError as cause:
            raise closed_over(cause, self.cursor, self.title, "get_batch() of") from None
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """Return the next records of a stream without counting the batch as served, for pipelines, which count by themselves.

        It calls `get_batch`; a stream whose `get_batch` counts batches overrides this.

        Called: for streams, by pipelines, mixtures and ``drx``: for each batch, by one thread at a time, that of the loop
            or the one that reads ahead.
        Default: `get_batch`.
        """
        return self.get_batch(batch_size)

    def skip(self, count: int) -> None:
        """Skip the next ``count`` records of a stream by reading them; a stream with a cheaper way overrides this.

        Called: for streams, where a resumed or reset run leaves records out; by one thread at a time.
        Default: reads the records, and drops them.
        """
        self.read_batch(count)

    def begin_epoch(self) -> None:
        """Begin the next epoch of a stream without a length, after the present one has ended; by default by `reset`.

        A stream whose epochs differ from one another overrides this.

        Raises:
            NotImplementedError: The stream defines neither this method nor `reset`.

        Called: for streams without a length, at the end of each epoch of a run but the last; by one thread at a time.
        Default: `reset`.
        """
        self.require_restart()
        self.reset()

    def require_restart(self) -> None:
        """Raise ``NotImplementedError`` if this is a stream that can begin only one epoch.

        Called: before a stream is reset or begins an epoch.
        Default: refuses live streams, and streams without `reset`.
        """
        if self.is_live and self.access == "stream":
            raise NotImplementedError(
                f"{self.title} is live (is_live = True): what it gave is gone, and it cannot start over"
            )
        own = type(self)
        is_fixed = own.reset is DataSourceModule.reset and own.begin_epoch is DataSourceModule.begin_epoch
        if self.access == "stream" and is_fixed:
            raise NotImplementedError(f"{self.title} is a stream that cannot start over; define reset()")

    @property
    def resume_note(self) -> str:
        """How a stream of another library resumes and at what cost, in a sentence for `Pipeline.explain`; "" for others.

        Called: by `Pipeline.explain`.
        Default: "".
        """
        return ""

    def process_part(self, part: int, num_parts: int) -> Self | None:  # noqa: ARG002 - an override uses them
        """Return a stream over one of ``num_parts`` disjoint parts of one length that make up an epoch; None if there are none.

        A pipeline on several processes calls this. If it returns None, each process reads every record, and keeps the rows of
        its devices.

        Called: for streams, once, when a pipeline is made in a run of several processes; on the thread that makes it.
        Default: None: every process reads the whole stream.
        """
        return None

    def reading_ahead(self, watch: Watch) -> ReadingAhead | None:  # noqa: ARG002 - an override uses it
        """Return what reads records before one loop fetches them; None if it makes nothing faster, or not yet.

        Called: up to four times, before a batch of a loop is fetched while one thread reads; on that thread, and never with
            worker processes or a class that is not thread-safe.
        Default: None: batches are read when they are fetched.
        """
        return None

    def note_served(self, batches: int) -> None:
        """Count batches of this source that were served; see `get_operation_stats`.

        Called: by pipelines, for each batch that is handed over, and by `get_batch`.
        Default: adds to `get_operation_stats`.
        """
        self._ledger.applied += batches

    def note_substituted(self, records: int) -> None:
        """Count records that were replaced by others; see `get_operation_stats`.

        Called: by sources, in `get_records`, on the thread that reads; for worker processes by the pipeline.
        Default: adds to `get_operation_stats`.
        """
        self._ledger.skipped_here += records

    @property
    def substituted_here(self) -> int:
        """Number of records that were replaced by others in reads of the thread that asks, to count what one read replaced.

        Called: by views, before and after they read a parent; on the thread that reads.
        """
        return self._ledger.skipped_here

    # -- elements, by index --------------------------------------------------------------------------------------------------

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at concrete ``indices`` one by one, as NumPy values.

        Called: by ``source[index]``, loops over the source and PyTorch's and Grain's loaders; on their threads.
        Default: `fetch`, taken apart row by row; override it if records are no batches of arrays, such as bytes.
        """
        batch = jax.tree.map(host_column, self.fetch(indices))
        return [jax.tree.map(lambda column: column[row], batch) for row in range(len(indices))]  # noqa: B023

    def __getitem__(self, index: Any) -> Any:
        """Return the record with this index, or a `Subset` for a slice, an array of indices, or a mask.

        Negative indices count from the end. The index is independent of the order that the source serves.

        Args:
            index: An integer; a slice; a list or array of integers, each of which is in it once; or one boolean a record.

        Raises:
            IndexError: An index is out of range, or a mask has another length than the source.
            TypeError: The index is none of these, of floats for example.
            ValueError: Nothing is selected, or a record is selected twice.

        Called: by users, and by libraries that index data sets.
        Default: one record by `get_elements`, or a part by `subset_class`.
        """
        self.require_record_indices()
        if isinstance(index, slice):
            return self.subset_class(self, range(self.num_records)[index])
        if isinstance(index, list) or getattr(index, "ndim", 0) == 1:
            return self.subset_class(self, index)
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(
                f"{self.title} is indexed by an integer, a slice, or an array of integers or booleans, not {index!r:.80}"
            )
        length = self.num_records
        if not -length <= index < length:
            raise IndexError(f"record {index} is out of range: {self.title} has {length} records")
        return self.get_elements(np.asarray([int(index) % length]))[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the records with these indices in one fetch, as ``source[i]`` returns each, in writable arrays.

        PyTorch's ``DataLoader`` reads a batch by this method.
        """
        self.require_record_indices()
        rows = np.asarray(indices)
        if not rows.size:
            return []
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"the records of {self.title} are indexed by a list of integers, not {indices!r:.80}")
        length = self.num_records
        outside = (rows < -length) | (rows >= length)
        if outside.any():
            raise IndexError(f"record {rows[outside][0]} is out of range: {self.title} has {length} records")
        return [writable(element) for element in self.get_elements(rows.astype(np.int64) % length)]

    def _getitems(self, indices: Sequence[int]) -> list[Any]:
        """Call `__getitems__`; Grain reads a batch by this method."""
        return self.__getitems__(indices)

    # -- elements, in order --------------------------------------------------------------------------------------------------

    @property
    def run_length(self) -> int | None:
        """Number of elements in a loop over this source: one epoch; None in a subclass whose loops have no end.

        Called: by `left_of_run`, in loops over the source itself; a pipeline counts by its own ``num_epochs``.
        Default: `epoch_length`.
        """
        return self.epoch_length

    def __iter__(self) -> Iterator[Any]:
        """Iterate over one epoch of elements in this source's order; a second loop is the next epoch. See `run_length`.

        A loop raises ``RuntimeError`` once another loop, `set_state` or `reset` moved the position.

        Called: by users who loop over the source itself; a pipeline does not.
        Default: an iterator by `loop_over`.
        """
        self.require_random_access()
        return self.loop_over(self.cursor.begin_run(self.epoch_length, is_over=self.left_of_run() <= 0))

    def loop_over(self, run: int) -> Iterator[Any]:
        """Return an iterator over the elements of run number ``run``, from ``self.cursor.begin_run``; a later run ends it.

        Called: by ``__iter__``, once for each loop.
        Default: an iterator that calls ``__next__`` of the source.
        """
        return ElementLoop(self, run)

    def __next__(self) -> Any:
        """Return the next element of the loop that is under way.

        Called: by loops over the source itself, for each element.
        Default: takes the element from a block of `elements_ahead`, which `get_elements` returned.
        """
        left = self.left_of_run()
        if left <= 0:
            self.cursor.end_loop()
            raise StopIteration
        position = self.cursor.position
        try:
            element = self._block.at(self, position, min(self.elements_ahead, left))
        except StopIteration as error:  # a loop would end on it as if all records were served
            raise RuntimeError(f"{self.title} raised StopIteration for a record that its length says it has") from error
        self.cursor.advance(1)
        return element

    def left_of_run(self) -> int:
        """Return how many elements the loop under way still serves; for a loop without an end, `elements_ahead`.

        Called: by ``__next__``, for each element.
        Default: follows from `run_length`.
        """
        length = self.run_length
        return self.elements_ahead if length is None else self.cursor.run_start + length - self.cursor.position

    def elements_read_ahead(self) -> dict[int, Any]:
        """Return the elements that a loop has fetched and not served yet, by position.

        Called: by subclasses and users.
        Default: those of the block that was fetched last.
        """
        return {position: e for position, e in self._block.held().items() if position >= self.cursor.position}

    # -- parts, and all records ----------------------------------------------------------------------------------------------

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, "DataSourceModule"]:
        """Return disjoint parts of the records by name, drawn at random: ``split(train=0.9, test=0.1, seed=0)``.

        Each part is a fixed set of record indices. It depends on the seed, the number of records, its own share and the shares
        before it, not on the order that this source serves. A float is a fraction of the records, an integer a number of
        records; records that no share covers are in no part.

        Raises:
            TypeError, ValueError: ``seed`` is no seed, or the shares cannot work; the message says why.

        Called: by users, and by views of mixtures.
        Default: parts of core's shuffle, cut by shares.
        """
        self.require_record_indices()
        seed = seed_number(seed)
        parts = cut(shares, self.num_records, self.title)
        return {name: self.subset_class(self, rows, seed=seed, name=name) for name, rows in parts.items()}

    def where(self, conditions: Mapping[str, Any] | None = None, /, **fields: Any) -> "DataSourceModule":
        """Return the records that fulfil conditions on their fields: ``where(label=[3, 5], tokens={"length": (10, 100)})``.

        A condition is a value; a list of values, one of which it is; a ``range``, or a tuple ``(low, high)``, both inclusive,
        with None for no bound; a function of the column that returns booleans; or a mapping of rules that all hold: ``min``,
        ``max``, ``in``, ``not`` and ``length`` with a condition, ``missing`` with True or False (NaN or None).

        Columns and lengths that the source holds, maps or knows are compared at once; else all records are read once. What that
        pass found is kept in the cache folder for later processes, if the records come from files. Of a mixture, this is the
        mixture of each child's.

        Args:
            conditions: Conditions by dotted name of the field, for names that are no Python names.
            fields: Conditions by name of the field.

        Raises:
            SpecError: There is no such field, or it cannot fulfil the condition; says why.
            TypeError: What is given is no condition, or a function gives no booleans.
            ValueError: No record fulfils them.
            NotImplementedError: This is a stream.

        Called: by users; reads on the thread that calls.
        """
        return self.kept_class(self, {**(conditions or {}), **fields})

    def filter(
        self,
        keep: Callable[[Batch], Any],
        *,
        fields: Sequence[str] | None = None,
        key: str | None = None,
        name: str | None = None,
    ) -> "DataSourceModule":
        """Return the records that a function keeps. All are read once, at this call; of a mixture, each child is filtered.

        Args:
            keep: Function of a batch of NumPy columns that returns one boolean a record, bool (k,).
            fields: Dotted names of the fields that it needs; it is then called with a dict of these. A source that holds or
                maps them is not read otherwise.
            key: A name for what the function computes. With it, the result is kept in the cache folder for later processes, if
                the records come from files; choose another one when the function changes.
            name: Name of the result in errors.

        Raises:
            TypeError: The function gave something else than booleans; names the records.
            ValueError: No record is kept.
            Exception: Whatever the function raises; a note names the record.
            NotImplementedError: This is a stream.

        Called: by users; reads on the thread that calls.
        """
        return self.kept_class(self, keep, fields=fields, key=key, name=name)

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records at int (k,) ``indices`` cannot be read, and why. Nothing is served or kept.

        The check is strict: a source that serves other records in place of bad ones overrides this to report the bad ones.

        Raises:
            DataFileError: A whole file is damaged, or changed since the source was built.

        Called: by ``drx verify`` and ``drx peek``, block after block; on one thread.
        Default: reads by `get_records`, and where that fails, ever smaller parts, until the bad records are found.
        """
        self.require_random_access()
        return verified(self._checked_records, np.asarray(indices), self.title)

    # -- copies and state ----------------------------------------------------------------------------------------------------

    # -- inside --------------------------------------------------------------------------------------------------------------
