"""The route from sources that the host reads by index, in this process or in worker processes."""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, ClassVar, Final, NamedTuple

import jax
import numpy as np

from datarax_core.background import usable_cores
from datarax_core.devices.callbacks import HostRecords, raising_original
from datarax_core.devices.layout import Layout
from datarax_core.records.intake import Intake
from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.stages.randomness import RecordIds
from datarax_core.workers.pool import Workers
from datarax_core.workers.thread_count import ThreadCount

from .base import Prepared, Readers, describe_host_stages, describe_reading_ahead, describe_stages_after_placing
from .definition import Definition
from .indexed import IndexedRoute
from .row_reader import Begun, RowReader, RowsAhead

_LISTED: Final = 12  # record indices of a batch that an error lists


class _BegunBatch(NamedTuple):
    """A batch that is read or going to be read: what the route knows of it before, and how its rows are read."""

    indices: np.ndarray
    mask: np.ndarray | None
    record_ids: RecordIds | None
    own: np.ndarray
    to_read: np.ndarray
    rows: Begun


class HostRoute(IndexedRoute):
    """Reads records at concrete indices. Compiled code reaches the source by a callback to the host."""

    workers_refusal: ClassVar[str | None] = None
    threads_refusal: ClassVar[str | None] = None

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        super().__init__(definition, readers, is_loop=is_loop)
        self._count = readers.threads or ThreadCount(1)
        self._differs_in_shape = self._record_reader.differs_in_shape
        by_index = self._source.reads_neighbours_together
        self._reader = RowReader(self._record_reader, readers.workers, self._count, by_index=by_index)
        self._varies_by_epoch = self._record_reader.varies_by_epoch
        self._ahead: RowsAhead[_BegunBatch] = RowsAhead(self._reader)

    @property
    def may_read_ahead(self) -> bool:
        """True: the host reads the records."""
        return True

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:
        """Read the records that this process holds, with `workers` if there are some."""
        start, size, _ = wanted
        began = perf_counter()
        begun = self._ahead.take(wanted) if ahead else None
        if not ahead:
            self._count.note_wait()
        indices, mask, record_ids, own, to_read, rows = begun or self._begin(wanted, 0)
        try:
            batch = self._reader.result(rows, to_read)
            read = perf_counter()
            batch, host_fields = self._placed(batch, len(indices), own, ahead=ahead)
        except Exception as error:
            error.add_note(
                f"while {self._source.title} read the records at positions {start} to {start + size - 1}: {_listed(own)}"
            )
            raise
        ended = perf_counter()
        self._stats.add_reading(source=read - began, transfer=ended - read)
        nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(batch)) if self._differs_in_shape else None
        return Prepared(size, batch, None, record_ids, mask, host_fields, seconds=ended - began, nbytes=nbytes)

    def look_ahead(self, wanted: Sequence[tuple[int, int, int]]) -> None:
        """Begin to read the batches of (start, size, version) that `prepare_ahead` will be asked for."""
        if self._reader.begins_ahead:
            self._ahead.begin_all(wanted, self._begin)

    @property
    def begins_ahead(self) -> bool:
        """Whether several threads, or worker processes, read."""
        return self._reader.begins_ahead

    def note_wait(self) -> None:
        """Note that the loop waited for a batch."""
        self._count.note_wait()

    def close(self) -> None:
        """End the threads that read; worker processes are the pipeline's, and leave what they have not begun."""
        self._reader.close()
        self._ahead.clear()

    def _begin(self, asked: tuple[int, int, int], wanted: int = 1) -> "_BegunBatch":
        start, size, _ = asked
        indices, mask, record_ids = self._next(start, size)
        here = self._layout.rows_here(len(indices))
        own = indices if here is None else indices[here]
        to_read = self._record_reader.indices_to_read(start, indices) if self._varies_by_epoch else indices
        to_read = to_read if here is None else to_read[here]
        return _BegunBatch(indices, mask, record_ids, own, to_read, self._reader.begin(to_read, wanted=wanted))

    @classmethod
    def compiled_reader(
        cls,
        reader: DataSourceModule | StagedReader,
        layout: Layout,  # noqa: ARG003 - of the base class
        intake: Intake,
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return a callback to the host."""
        return HostRecords.of(reader, intake)

    @classmethod
    def run_compiled(cls, run: Callable[..., Any], *arguments: Any) -> Any:
        """Wait for the program, to raise an exception of the source as it is: JAX loses its type."""
        return raising_original(run, *arguments)

    @classmethod
    def workers_for(cls, definition: Definition, workers: Workers | None) -> Workers | None:
        """Return the processes that read for the source, started with the first batch of a pipeline that asks for them."""
        reader, sizes = definition.reader, definition.rule.sizes.distinct
        reader = reader.for_workers if isinstance(reader, StagedReader) else reader
        if not definition.workers or (workers is not None and workers.reads(reader)):
            return workers
        here = [definition.layout.rows_here(size) for size in sizes]
        own = max(size if rows is None else len(rows) for size, rows in zip(sizes, here, strict=True))
        ahead = 2 if definition.prefetch == "auto" else definition.prefetch
        threads = definition.threads if definition.reader.is_thread_safe else 1
        return Workers(reader, definition.workers, batch_size=own, ahead=ahead, threads=threads)

    @classmethod
    def threads_for(cls, definition: Definition, threads: ThreadCount | None) -> ThreadCount | None:
        """Return the number of threads that read: what was found so far, unless another number is asked for now."""
        asked = definition.threads if definition.reader.is_thread_safe else 1
        cores = usable_cores() if definition.reader.releases_gil else 1
        is_same = threads is not None and (threads.asked, threads.cores) == (asked, cores)
        return threads if is_same else ThreadCount(asked, cores)

    @classmethod
    def describe(cls, definition: Definition) -> Iterator[str]:
        """Yield the sentences of `Pipeline.explain` about reading on the host, and hints to make it faster."""
        source, stages = definition.source, describe_stages_after_placing(definition)
        yield f"host route: {source.title} reads records at concrete indices; each batch is then placed on the device{stages}."
        yield from describe_host_stages(definition)
        if source.differs_in_shape:
            yield "Batches differ in shape, as the source makes them; stages in compiled code are compiled once for each."
        yield describe_reading_ahead(definition)
        if definition.workers:
            by = "" if definition.threads in (1, "auto") else f", by {definition.threads} threads in each"
            yield f"Each batch is read by {definition.workers} processes, a part each{by}."
        elif not definition.reader.is_thread_safe:
            reader = definition.reader
            stage = reader.stage_of_one_thread if isinstance(reader, StagedReader) else None
            yield f"{stage or source.title} says that it is not thread-safe: one thread reads it at a time."
        elif definition.threads == "auto":
            where = (
                "Where reading waits or can use several cores"
                if definition.reader.releases_gil
                else "Where reading waits"
            )
            yield f"{where}, several threads read parts of a batch, and batches ahead, as many threads as pay."
        elif definition.threads > 1:
            yield f"{definition.threads} threads read parts of a batch, and batches ahead."
        yield _in_compiled_code(definition)
        if definition.on_host:
            yield from _hints_for_host_stages(definition)
            return
        if type(source).traceable:
            yield "It could be gathered on the device: placement='device', if the memory allows."
        elif not source.config.cacheable and not source.differs_in_shape and _decodes(source):
            yield "If decoding takes long and memory allows, cacheable=True keeps each record once it is read;"
            yield "if decoding runs in Python, workers=2 reads in processes of their own."


def _decodes(source: DataSourceModule) -> bool:
    """Return whether a source makes its records of files, or one below it does: those of columns are at hand."""
    below = source.sources_below().values()
    return any(map(_decodes, below)) if below else not type(source).traceable


def _listed(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:_LISTED].tolist()))
    return f"records {shown}{', ...' if len(indices) > _LISTED else ''}"


def _in_compiled_code(definition: Definition) -> str:
    if definition.reader.differs_in_shape:
        return "step() and scan() inside compiled code, which have one shape for all batches, are refused."
    if isinstance(definition.rule.batch_size, int):
        return "step() and scan() inside compiled code reach the source by a callback to the host."
    return "scan() reaches the source by a callback to the host."


def _hints_for_host_stages(definition: Definition) -> Iterator[str]:
    """Yield what makes host stages faster that take long; nothing where worker processes call them."""
    if definition.workers:
        return
    if definition.threads == "auto" and definition.reader.is_thread_safe:
        yield "If a host stage takes long, threads=2 calls it twice at once, if its library releases Python's lock;"
        yield "workers=2 calls it in processes of their own;"
    else:
        yield "If a host stage takes long, workers=2 calls it in processes of their own;"
    yield "Cache(stage, source) keeps what one without random numbers makes of each record."
