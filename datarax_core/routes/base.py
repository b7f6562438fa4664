"""The base of all routes: the questions of a pipeline to its route, and the stages that every batch goes through."""

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
from flax import nnx

from datarax_core.devices.callbacks import raising_original
from datarax_core.devices.layout import DEFAULT, Layout
from datarax_core.modules.cursor import Cursor
from datarax_core.records.buffers import Buffers
from datarax_core.records.intake import Intake
from datarax_core.records.narrowing import is_as_on_device, narrow
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, host_fields_after, split_host_fields, with_host_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.field_paths import telling_of_host_fields
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.stages.randomness import RecordIds
from datarax_core.stages.split_modules import SplitModules
from datarax_core.workers.pool import Workers
from datarax_core.workers.thread_count import ThreadCount

from .definition import BatchRule, Definition
from .programs import Step
from .shared_programs import Programs
from .stream_reader import StreamReader


@dataclass(slots=True)
class Stats:
    """Counts of the batches and records that were served, and the seconds that reading, placing, stages and waiting took.

    ``source`` and ``transfer`` pass on a background thread while batches are read ahead.
    """

    batches: int = 0
    records: int = 0
    waiting: float = 0.0
    source: float = 0.0
    transfer: float = 0.0
    stages: float = 0.0
    compiling: float = 0.0
    ragged_bytes: int = 0
    measured_records: int = 0
    measured_bytes: int = 0

    def __getattr__(self, name: str) -> float:
        if name in ("compiling", "ragged_bytes", "measured_records", "measured_bytes"):  # earlier pickles lack them
            return 0.0
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def add_batch(
        self, records: int, waiting: float, host_fields: dict[str, Any] | None = None, nbytes: int | None = None
    ) -> None:
        """Count a batch that was handed over, and the seconds that its user waited for it.

        ``nbytes`` are those of its fields on devices, if batches differ in shape.
        """
        if nbytes is not None:
            self.measured_records += records
            self.measured_bytes += nbytes
        if host_fields:
            self.ragged_bytes += sum(leaf.nbytes for leaf in jax.tree.leaves(host_fields) if isinstance(leaf, Ragged))
        self.batches += 1
        self.records += records
        self.waiting += waiting

    def add_reading(self, *, source: float, transfer: float) -> None:
        """Count the seconds of reading a batch, and of transferring it to the device."""
        self.source += source
        self.transfer += transfer

    def as_dict(self, record_bytes: int) -> dict[str, Any]:
        """Return the counts as `Pipeline.stats` names them, for records of ``record_bytes`` bytes without ragged fields."""
        return {
            "batches": self.batches,
            "records": self.records,
            "bytes": (self.records - int(self.measured_records)) * record_bytes
            + int(self.measured_bytes)
            + int(self.ragged_bytes),
            "seconds_waiting": self.waiting,
            "seconds_in_source": self.source,
            "seconds_in_transfer": self.transfer,
            "seconds_in_stages": self.stages,
            "seconds_compiling": self.compiling,
        }


class Prepared(NamedTuple):
    """A batch before its stages: the arguments of the compiled step, and the host fields.

    Of a source on the device, ``content`` is the arrays, of which ``rows`` are gathered; without ``rows``, the whole batch.
    """

    size: int
    content: Any
    rows: Any = None
    record_ids: RecordIds | None = None
    mask: np.ndarray | None = None
    host_fields: dict[str, Any] | None = None
    stream_state: Any = None
    """The place of a stream after this batch, `stream_reader.Served`."""
    seconds: float = 0.0
    """The time it took to read the batch and to place it."""
    epochs_ended: int = 0
    """Of a stream without a length: number of epochs that had ended before the batch."""
    nbytes: int | None = None
    """Bytes of the fields on devices, if batches differ in shape; else None."""


class Readers(Protocol):
    """The counts and readers of a pipeline, which all of its routes use. No route holds this object: it holds a route."""

    stats: Stats
    programs: Programs
    stream: StreamReader | None
    """Made by `Route.new_reader`."""
    workers: Workers | None
    """Made by `Route.workers_for`."""
    threads: ThreadCount | None
    """Made by `Route.threads_for`."""
    buffers: dict[Any, Buffers]
    """Memory of batches, by field and shape, which one loop leaves to the next."""


class Route(ABC):
    """A way from one source through stages, which are taken apart here, once for many batches.

    `prepare` reads records and may run on another thread, one at a time; `finish` runs the stages, on the thread that the
    batches are served on. The route of a loop may use threads, which end with it.

    The class methods decide all that depends on the way of access alone: they take a source or a definition, and no route.

    Args:
        definition: The pipeline's.
        readers: The counts and readers of the pipeline, which outlive the route.
        is_loop: Whether the route is that of a loop, or of single steps.
    """

    gather: Callable[[Any, jax.Array], Batch] | None = None
    """The function with which the compiled step gathers records; None if the host reads them."""

    end_of_run: int | None = None
    """The position at which the run of a loop ends; None if it has no end that is known."""

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        self._source = definition.source
        self._title = self._source.title  # of a view it takes a while, and each batch needs it
        self._record_reader = definition.reader
        self._on_host = definition.on_host
        self._rule = definition.rule
        self._layout = definition.layout
        self._stage_keys = definition.stage_keys
        self._stats = readers.stats
        self._stages = tuple(definition.stages)
        self._compiled_stages = tuple(definition.compiled)
        self._is_fixed = definition.call is None and not any(isinstance(s, nnx.Module) for s in definition.stages)
        self._intake = definition.intake
        self._split = SplitModules(tuple(definition.applied))
        self._is_plain = self.gather is None and not definition.has_compiled_stages and self._rule.pad_last is None
        step = Step(self.gather, self._split.structure, self._rule.pad_last, self._layout)
        run = readers.programs.compiled(step, self._split.structure)
        self._num_compiled: Callable[[], int] = getattr(run, "_cache_size", int)  # of jax, for the shapes met so far
        self._run = functools.partial(raising_original, run) if self._split.structure.moves_positions else run
        self._compiled = self._num_compiled()
        self._is_loop = is_loop

    # -- batches --------------------------------------------------------------------------------------------------------

    @property
    def rule(self) -> BatchRule:
        """The rule of the batches, with the sizes that hold for the order that is read now."""
        return self._rule

    @property
    @abstractmethod
    def may_read_ahead(self) -> bool:
        """Whether `prepare` does work that can be done ahead of the loop."""

    def end_at(self, position: int | None) -> None:
        """Note the position at which the run of the loop ends; None if it has no end, or that is not known."""
        self.end_of_run = position

    @abstractmethod
    def version(self) -> int:
        """Return a number for the order that is read now.

        It moves on when the source is seeded or shuffled anew, or another route reads a stream.
        """

    @abstractmethod
    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:
        """Read the records of (start, size, version)."""

    def prepare_ahead(self, wanted: tuple[int, int, int]) -> Prepared:
        """Read the records of (start, size, version), and place them on the device, while the loop does something else."""
        return self.prepare(wanted, ahead=True)

    def look_ahead(self, wanted: Sequence[tuple[int, int, int]]) -> None:  # noqa: B027 - where one thread reads
        """Begin to read what `prepare_ahead` will be asked for next; called on its thread, before each call of it."""

    @property
    def begins_ahead(self) -> bool:
        """Whether `look_ahead` begins to read batches."""
        return False

    def note_wait(self) -> None:  # noqa: B027 - where one thread reads
        """Note that the loop waited for a batch that was asked for before."""

    def close(self) -> None:  # noqa: B027 - of a route without threads
        """End threads of this route; `prepare` starts them again."""

    def finish(self, prepared: Prepared, *, keeps_values: bool = True) -> Batch:
        """Return the batch after its stages, whose variables are written, unless a caller only looks at the batch."""
        batch = prepared.content
        if not self._is_plain and (prepared.rows is not None or self.gather is None):
            began = perf_counter()
            try:
                batch, values = self._run(self._split.read(), batch, prepared.rows, prepared.mask, prepared.record_ids)
            except (
                Exception
            ):  # of a stage, raised again with a note; asked for here, since a block around each step costs more
                with telling_of_host_fields(self._record_reader.element_spec()):
                    raise
            if keeps_values:
                self._split.write(values)
            self._count_seconds(perf_counter() - began)
        if (
            host_fields := host_fields_after(self._compiled_stages, prepared.host_fields)
            if prepared.host_fields
            else {}
        ):
            return with_host_fields(batch, host_fields)
        return batch

    def begin_next_epoch(self) -> bool:
        """Let a run whose first epoch had no more batch begin with the next epoch of a stream; False for other sources."""
        return False

    def serves(
        self, source: DataSourceModule, stages: tuple[Any, ...], reader: DataSourceModule | StagedReader
    ) -> bool:
        """Return whether this is a route from ``source`` through these very stages, none of which can have changed since."""
        return (
            self._is_fixed
            and self._source is source
            and self._record_reader is reader
            and len(stages) == len(self._stages)
            and all(map(operator.is_, stages, self._stages))
        )

    def _count_seconds(self, seconds: float) -> None:
        """Count the seconds of a compiled step: as compilation, if the program was compiled for this batch."""
        known = self._num_compiled()
        if known == self._compiled:
            self._stats.stages += seconds
        else:
            self._stats.compiling += seconds
            self._compiled = known

    def _placed(
        self, batch: Batch, size: int, records: np.ndarray | None, *, ahead: bool
    ) -> tuple[Batch, dict[str, Any]]:
        """Return (the batch in device dtypes, its host fields).

        A batch that is not read ahead goes into the compiled step from the host: the shortest way onto the default device.
        """
        host_fields: dict[str, Any] = {}
        if self._intake.changes or not is_as_on_device(batch):
            batch, host_fields = split_host_fields(batch)
            batch = narrow(self._intake.taken(batch), records=records, origin=self._title)
        if ahead or self._is_plain or self._layout != DEFAULT:
            batch = self._layout.place(batch, size)
        return batch, host_fields

    # -- compiled code --------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def record_ids(cls, definition: Definition, start: Any, rows: Any) -> RecordIds | None:
        """Return the ids of the records of a batch from position ``start`` on; None if no stage needs them.

        ``rows`` are record indices, or of a stream rows of the batch.
        """

    @classmethod
    @abstractmethod
    def traced_batch(cls, definition: Definition, cursor: Cursor) -> Batch:
        """Return the full batch at the traced position of ``cursor``, after its stages.

        Raises:
            NotImplementedError: Compiled code cannot reach the source.
        """

    scan_refusal: ClassVar[str | None] = None
    """The end of the error for `Pipeline.scan` over a source that compiled code cannot reach; None if it can."""

    @classmethod
    def require_scan(cls, source: DataSourceModule) -> None:
        """Raise if `Pipeline.scan` cannot reach the source.

        Raises:
            NotImplementedError: Names the source.
        """
        if cls.scan_refusal is not None:
            raise NotImplementedError(f"{source.title} {cls.scan_refusal}")

    @classmethod
    @abstractmethod
    def compiled_reader(
        cls, reader: DataSourceModule | StagedReader, layout: Layout, intake: Intake
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return (gather, arrays): a function of the arrays and traced indices, which gives the records to `Pipeline.scan`.

        Raises:
            NotImplementedError: Compiled code cannot reach the source.
        """

    @classmethod
    def run_compiled(cls, run: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a compiled program that reads with `compiled_reader`."""
        return run(*arguments)

    # -- readers that outlive a route -----------------------------------------------------------------------------------

    @classmethod
    def new_reader(cls, definition: Definition) -> StreamReader | None:  # noqa: ARG003 - for subclasses
        """Return the reader that all routes of a pipeline share; None where each route reads by itself."""
        return None

    workers_refusal: ClassVar[str | None]
    """The reason in the error for worker processes that cannot read for such a source; None if they can."""

    @classmethod
    def require_workers(cls, definition: Definition) -> None:
        """Raise if worker processes are asked for that cannot read for the source.

        Raises:
            ValueError: Names the source.
        """
        if definition.workers and cls.workers_refusal is not None:
            raise ValueError(
                f"workers={definition.workers} read records for a source on the host, but {definition.source.title} is "
                f"{cls.workers_refusal}"
            )

    threads_refusal: ClassVar[str | None]
    """The reason in the error for several threads that cannot read for such a source; None if they can."""

    @classmethod
    def require_threads(cls, definition: Definition) -> None:
        """Raise if several threads are asked for that cannot read for the source.

        Raises:
            ValueError: Names the source.
        """
        if definition.threads in (1, "auto"):
            return
        asked, source = f"threads={definition.threads} read records for a source on the host", definition.source
        if cls.threads_refusal is not None:
            raise ValueError(f"{asked}, but {source.title} is {cls.threads_refusal}; leave threads out")
        if not source.is_thread_safe:
            raise ValueError(
                f"{asked} at once, but {source.title} says that it may be read by one thread only (thread_safe = False); "
                "leave threads out, or read with workers, each of which has a source of its own"
            )
        reader = definition.reader
        if isinstance(reader, StagedReader) and (stage := reader.stage_of_one_thread) is not None:
            raise ValueError(
                f"{asked} at once, but {stage} says that it may be called by one thread only (thread_safe = False); leave "
                "threads out, or use workers, each of which has a stage of its own"
            )

    @classmethod
    def workers_for(cls, definition: Definition, workers: Workers | None) -> Workers | None:  # noqa: ARG003 - for subclasses
        """Return the processes that read for the source: ``workers``, or new ones if these read for another source."""
        return workers

    @classmethod
    def threads_for(cls, definition: Definition, threads: ThreadCount | None) -> ThreadCount | None:  # noqa: ARG003 - for subclasses
        """Return the number of threads that read for the source: ``threads``, or another; None where one reads."""
        return None

    # -- several processes ----------------------------------------------------------------------------------------------

    @classmethod
    def part_of(
        cls,
        source: DataSourceModule,
        layout: Layout,  # noqa: ARG003 - for subclasses
    ) -> tuple[DataSourceModule, tuple[int, int] | None]:
        """Return (the source that this process reads, its (part, num_parts) or None if it is whole)."""
        return source, None

    # -- reports --------------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def describe_records(cls, source: DataSourceModule) -> str:
        """Return how many records the source has, and in which order."""

    @classmethod
    @abstractmethod
    def describe(cls, definition: Definition) -> Iterator[str]:
        """Yield the sentences of `Pipeline.explain` about the route."""

    @classmethod
    def describe_copies(cls, definition: Definition) -> Iterator[str]:  # noqa: ARG003 - for subclasses
        """Yield a sentence on data that each of several devices holds besides its rows, if there is any."""
        yield from ()

    @classmethod
    def describe_sharing(cls, definition: Definition) -> str:
        """Return a sentence on the records that each of several processes reads."""
        return f"Each of {definition.layout.num_processes} processes reads the rows that its devices hold."


def describe_reading_ahead(definition: Definition) -> str:
    """Return a sentence on whether batches are read ahead."""
    if definition.prefetch == "auto":
        return (
            "A background thread reads batches ahead of the loop, as many as fit 256 MiB or a tenth of the free memory, once "
            "reading one takes long enough to be worth it."
        )
    if not definition.prefetch:
        return "Nothing is read ahead: prefetch=0; with prefetch=2, reading would overlap with the work of the loop."
    return (
        f"A background thread reads {definition.prefetch} batches ahead of the loop, once reading one takes long enough to be "
        "worth it."
    )


def describe_host_stages(definition: Definition) -> Iterator[str]:
    """Yield sentences on the stages that are called on the host, if there are any."""
    reader = definition.reader
    if not isinstance(reader, StagedReader):
        return
    names = [stage_name(stage) for stage in reader.stages]
    many = len(names) > 1
    stages = f"{', '.join(names[:-1])} and {names[-1]}" if many else names[0]
    yield f"{stages} run{'' if many else 's'} on the host, where records are read, before a batch is placed."
    if definition.source.access == "device":
        yield f"{definition.source.title} could be gathered on the device, but host stages are called with its records."
    called = definition.workers and [*names[len(reader.for_workers.stages) :]]
    if called:
        yield f"Worker processes call the stages before {called[0]}; this process calls {', '.join(called)}."
    elif whole := reader.first_of_whole_batch:
        yield f"{stage_name(whole[1])} is called with whole batches, the stages before it with parts of them."
    if reader.first_of_whole_batch:
        yield "Batches may differ in shape; stages in compiled code are compiled once for each."


def describe_stages_after_placing(definition: Definition) -> str:
    """Return the end of a sentence on batches that are placed on the device: where their stages run, if there are any."""
    return ", where one compiled step runs the stages" if definition.has_compiled_stages else ""
