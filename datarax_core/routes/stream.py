"""The route from sources that are read forward only, by one reader that all routes of a pipeline share."""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, ClassVar, cast

import jax

from datarax_core.devices.layout import Layout
from datarax_core.modules.cursor import Cursor
from datarax_core.records.intake import Intake
from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.stages.randomness import RecordIds, stream_ids

from .base import Prepared, Readers, Route, describe_host_stages, describe_reading_ahead, describe_stages_after_placing
from .definition import Definition
from .stream_reader import EndOfStream, StreamReader


class StreamRoute(Route):
    """Reads the next records of a stream. Compiled code cannot reach it, and workers cannot share it."""

    scan_refusal: ClassVar[str | None] = (
        "is a stream, which compiled code cannot reach; iterate the pipeline, or call step()"
    )
    workers_refusal: ClassVar[str | None] = "a stream, which only one can read"
    threads_refusal: ClassVar[str | None] = "a stream, which only one can read"

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        super().__init__(definition, readers, is_loop=is_loop)
        self._stream = cast(StreamReader, readers.stream)  # made by `new_reader`

    @property
    def may_read_ahead(self) -> bool:
        """Whether the source can be taken back to the batch that was served last."""
        return self._stream.is_resumable

    def version(self) -> int:
        """Return the generation of this route's reads: it moves on when another route reads the stream."""
        return self._stream.take_over(self)

    def begin_next_epoch(self) -> bool:
        """Let a run whose first epoch had no more batch begin with the next epoch; False for a stream with a length."""
        if self._stream.has_epochs:
            self._stream.begin_next_epoch()
        return self._stream.has_epochs

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:
        """Read the next records: (position of the first, how many, generation).

        Raises:
            EndOfStream: The run is over.
        """
        start, size, generation = wanted
        stream, began = self._stream, perf_counter()
        try:
            asked = size
            batch, size, served, ended, epochs, places = stream.read(start, asked, generation, is_loop=self._is_loop)
            read = perf_counter()
            if size < asked and self._rule.drop_last:  # it is not handed over, so it need not divide
                return Prepared(size, None, stream_state=served, epochs_ended=ended)
            rows, mask = stream.padded(size, self._rule.size_at(start))
            here = self._layout.rows_here(len(rows))
            own = stream.own(rows, here)
            batch = jax.tree.map(lambda leaf: leaf[own], batch)
            by_epoch = None if epochs is None or places is None else (epochs, places)
            if isinstance(self._record_reader, StagedReader):
                ids = stream_ids(self._source, start, rows, stream.num_parts, by_epoch)
                epochs_here, indices_here = ids if here is None else (each[here] for each in ids)
                batch = self._record_reader.staged(batch, epochs_here, indices_here)
                read = perf_counter()
            batch, host_fields = self._placed(batch, len(rows), None, ahead=ahead)
        except EndOfStream:
            raise
        except Exception as error:
            error.add_note(f"while {self._source.title} read the next {size} records, from position {start} on")
            raise
        done = perf_counter()
        self._stats.add_reading(source=read - began, transfer=done - read)
        record_ids = self._stage_keys.stream_record_ids(self._source, start, rows, stream.num_parts, by_epoch)
        return Prepared(size, batch, None, record_ids, mask, host_fields, served, done - began, ended)

    @classmethod
    def record_ids(cls, definition: Definition, start: Any, rows: Any) -> RecordIds | None:
        """Return ids made of the place in the epoch of each record; ``rows`` are the rows of the batch."""
        return definition.stage_keys.stream_record_ids(definition.source, start, rows, definition.num_parts)

    @classmethod
    def traced_batch(cls, definition: Definition, cursor: Cursor) -> Batch:  # noqa: ARG003 - of the base class
        """Raise `NotImplementedError`: compiled code cannot read a stream."""
        title = definition.source.title
        raise NotImplementedError(f"{title} is a stream, which compiled code cannot reach; call step() outside of it")

    @classmethod
    def compiled_reader(
        cls,
        reader: DataSourceModule | StagedReader,
        layout: Layout,
        intake: Intake,
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Raise `NotImplementedError`: compiled code cannot read a stream."""
        raise NotImplementedError(f"{reader.title} {cls.scan_refusal}")

    @classmethod
    def new_reader(cls, definition: Definition) -> StreamReader | None:
        """Return the reader of the stream, from position 0."""
        return StreamReader(definition.source, definition.rule, definition.num_parts)

    @classmethod
    def part_of(cls, source: DataSourceModule, layout: Layout) -> tuple[DataSourceModule, tuple[int, int] | None]:
        """Return the part of a stream that this process reads, if the stream can be split over the processes."""
        if layout.num_processes == 1:
            return source, None
        part = layout.part_here()
        if part is None or part[1] == 1 or (split := source.process_part(*part)) is None:
            return source, None
        return split, part

    @classmethod
    def describe_records(cls, source: DataSourceModule) -> str:
        """Return that the source is a stream, and its length if it has one."""
        length = source.epoch_length
        return "a stream" if length is None else f"a stream of {length} records an epoch"

    @classmethod
    def describe(cls, definition: Definition) -> Iterator[str]:
        """Yield the sentences of `Pipeline.explain` about reading forward."""
        title, stages = definition.source.title, describe_stages_after_placing(definition)
        yield f"stream route: {title} is read forward only; each batch is then placed on the device{stages}."
        yield from describe_host_stages(definition)
        if definition.source.capabilities.resumable:
            yield describe_reading_ahead(definition)
            yield from filter(None, [definition.source.resume_note])
        elif definition.source.is_live:
            yield (
                f"Nothing is read ahead, and there is no state to save: {title} is live, and what it gave is gone. "
                "Each loop goes on where the one before ended."
            )
        else:
            yield (
                f"Nothing is read ahead, and there is no state to save: {title} cannot say where it stands. With get_state() "
                "and set_state() it could."
            )
        yield "Compiled code cannot reach it: scan(), and step() under jit, need random access."

    @classmethod
    def describe_sharing(cls, definition: Definition) -> str:
        """Return which part of the stream this process reads, or that it cannot be split."""
        if definition.part is None:
            title = definition.source.title
            return f"{title} cannot be split: each process reads every record, and keeps the rows of its devices."
        part, num_parts = definition.part
        return f"The stream is split by process: this one reads part {part} of {num_parts}, from 0."
