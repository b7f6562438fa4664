"""The progress of a pipeline: runs that begin and end, batches that are handed over, states that are checked."""

import os
from copy import copy
from threading import RLock
from time import perf_counter
from typing import Any, NamedTuple, Protocol
from weakref import ref

from flax import nnx

from datarax_core.background import require_own_process
from datarax_core.errors import StateError
from datarax_core.extensions.hookspecs import ServingPipeline
from datarax_core.modules.cursor import Cursor
from datarax_core.modules.fingerprints import Names, changes_of, require_same
from datarax_core.modules.host_state import HostState
from datarax_core.modules.state import (
    checked_variables,
    require_dict,
    require_keys,
    require_position,
    saved_in_loop,
    write_variables,
)
from datarax_core.records.buffers import Buffers
from datarax_core.records.spec import Batch
from datarax_core.routes.base import Prepared, Route, Stats
from datarax_core.routes.definition import Definition
from datarax_core.routes.shared_programs import Programs
from datarax_core.routes.stream_reader import StreamReader
from datarax_core.routes.table import route_of
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.workers.pool import Workers
from datarax_core.workers.thread_count import ThreadCount

from .events import Events
from .multihost import agreed_on_all


class RunningPipeline(ServingPipeline, Protocol):
    """The part of a pipeline that its progress uses."""

    source: DataSourceModule


class ClosableLoop(Protocol):
    """A loop over a pipeline."""

    def close(self) -> None:
        """End the loop."""


class Run(NamedTuple):
    """A run that began.

    Its number among the pipeline's runs, the position where it ends (None: without end), and whether it begins with the next
    epoch of a stream if no batch is left of the present one; not so if a loop was under way there.
    """

    number: int
    end: int | None
    may_begin_later: bool


class Progress(HostState):
    """The host state of a pipeline: counts, events, readers, and the loop that is under way.

    It holds neither the pipeline nor its cursor, of which a trace has copies: its methods take the pipeline.

    Args:
        events: The events of the pipeline.
        stats: The counts of the pipeline; None begins at 0.
        stream: The reader of its source, if that is a stream.
    """

    def __init__(self, events: Events, stats: Stats | None = None, stream: StreamReader | None = None) -> None:
        self.events = events
        self.hooks = events.hooks
        self.stats = Stats() if stats is None else stats
        self.programs = Programs()
        self.stream = stream
        self.reader: StagedReader | None = None
        """The reader of a pipeline with host stages."""
        self.process = os.getpid()
        self.lock = RLock()
        """Held while a batch is served at the position of the pipeline."""
        self.workers: Workers | None = None
        self.threads: ThreadCount | None = None
        self.buffers: dict[Any, Buffers] = {}
        self.step_route: Route | None = None
        self.loop: ref[ClosableLoop] | None = None
        self.owner: ref[RunningPipeline] | None = None
        """The pipeline whose progress this is; None in a copy that was not used yet."""
        self._heir: tuple[Progress, DataSourceModule] | None = None
        self._restored = 0  # how often the position was reset or restored
        self._run = 0  # the run that the events are about

    def require_own_process(self) -> None:
        """Raise `RuntimeError` in a fork of the process in which the pipeline was built: JAX hangs there."""
        require_own_process(self.process, "a pipeline")

    @classmethod
    def of(cls, definition: Definition) -> "Progress":
        """Return the progress of a new pipeline."""
        progress = cls(Events(definition.epoch_length), stream=route_of(definition).new_reader(definition))
        progress.reader = definition.reader if isinstance(definition.reader, StagedReader) else None
        return progress

    def own(self, pipeline: RunningPipeline) -> None:
        """Become the progress of ``pipeline``, at its position; another pipeline announces the epochs before that."""
        self.owner = ref(pipeline)
        self._follow(pipeline)

    def drop(self, pipeline: RunningPipeline) -> None:
        """Close the pipeline, which is being deleted; hooks may still ask for its counts."""
        if self.events.is_open_for(pipeline):
            self.end_run(pipeline, pipeline.cursor.position)

    def _follow(self, pipeline: RunningPipeline) -> None:
        """Let the events go on from the position, where the pipeline was moved."""
        cursor = pipeline.cursor
        self._run = cursor.number
        self.events.stand_at(cursor.position, epochs=self._epochs_of_stream(in_loop=cursor.in_loop))

    def twin(self, source: DataSourceModule, position: int | None) -> "Progress":
        """Return the progress of a copy of the pipeline at ``position``, over ``source``, which is a copy as well.

        ``position`` is None if the copy is going to be moved.

        Raises:
            StateError: The pipeline has read on over a stream since it was copied.
        """
        stream = self.stream
        if stream is not None and position is not None and not stream.can_reach(position):
            raise StateError(
                f"this copy of a pipeline over {source.title} was made by nnx.clone, which leaves out the place of "
                "a stream, and the original has moved on since; copy it by pipeline.clone()"
            )
        twin = Progress(copy(self.events), stream=None if stream is None else stream.twin(source))
        # A copy may be that of an eager nnx.grad, which is gone before flax writes its graph to the original.
        self._heir = twin, source
        return twin

    def constructor_data(self) -> tuple[Any, ...]:
        """Return events, counts from 0, and the stream's reader: a pickle or deep copy makes its own of the rest."""
        return self.events, Stats(), self.stream

    # -- runs -----------------------------------------------------------------------------------------------------------

    def begin_run(self, pipeline: RunningPipeline, definition: Definition) -> Run:
        """Go on with the run that the pipeline stands in, or begin the next one."""
        cursor, rule, epoch_length = pipeline.cursor, definition.rule, definition.epoch_length
        position, run_length = cursor.position, rule.run_length(epoch_length)
        left = None if run_length is None else cursor.run_start + run_length - position
        stream = self.stream if epoch_length is None else None
        is_over = not rule.next_size(position, left) if stream is None else stream.run_is_over(rule.num_epochs)
        is_left = not cursor.in_loop
        if is_new := cursor.begins_anew(is_over=is_over):
            self.end_run(pipeline, position)
        elif cursor.number != self._run:  # moved by nnx.update
            self._follow(pipeline)
        if is_over and not is_new and position:  # its loop had not been told, so nobody has announced its last epoch
            self.events.stand_at(position - 1, epochs=self._epochs_of_stream(in_loop=True))
        number = self._run = cursor.begin_run(epoch_length, is_over=is_over)
        if stream is not None:
            stream.begin_run(rule.num_epochs, is_new=is_new, may_begin_later=is_new or is_left)
        if is_new:
            self.events.stand_at(cursor.position, epochs=self._epochs_of_stream(in_loop=False))
        self.catch_up(pipeline)
        return Run(number, None if run_length is None else cursor.run_start + run_length, is_new or is_left)

    def start_of_run(self, pipeline: RunningPipeline, definition: Definition) -> int:
        """Return where the run begins that a loop is serving, or that the next loop serves; of a source with a length."""
        cursor: Cursor = pipeline.cursor
        rule, epoch_length = definition.rule, definition.epoch_length
        run_length = rule.run_length(epoch_length)
        if cursor.in_loop or epoch_length is None or run_length is None:
            return cursor.run_start
        position = cursor.position
        is_over = not rule.next_size(position, cursor.run_start + run_length - position)
        return cursor.start_of_next(epoch_length) if cursor.begins_anew(is_over=is_over) else cursor.run_start

    def end_run(self, pipeline: RunningPipeline, position: int) -> None:
        """Announce that the run is over, which served the records before ``position``; hooks may ask for counts."""
        if self.owner is not None and self.owner() is None:  # cleared before a cycle that holds the pipeline is deleted
            self.owner = ref(pipeline)
        self.events.close(pipeline, position)

    def end_stream(self, pipeline: RunningPipeline) -> None:
        """Note that a loop over a stream without a length was told that its last epoch has ended, and announce that."""
        if self.stream is not None:
            self.stream.end_run()
        self.events.end_epochs(pipeline, self._epochs_of_stream(in_loop=False))

    def stand_at(self, pipeline: RunningPipeline, position: int, run_start: int, *, in_loop: bool = False) -> None:
        """Stand at ``position`` of the run that began at ``run_start``; a loop that is under way ends."""
        self._restored += 1
        pipeline.cursor.restore(position, run_start, in_loop=in_loop)
        if not pipeline.cursor.is_traced:
            self._follow(pipeline)

    def _epochs_of_stream(self, *, in_loop: bool) -> int:
        """Return the number of epochs of a stream without a length that have ended, as far as a loop was told."""
        return 0 if self.stream is None else self.stream.epochs_ended(in_loop=in_loop)

    def close(self, pipeline: RunningPipeline) -> None:
        """Drop workers, route and loop; they are made again when they are needed."""
        self._run = pipeline.cursor.number
        if self.workers is not None:
            self.workers.close()
        if self.step_route is not None:
            self.step_route.close()
        self.workers = self.step_route = self.loop = None
        self.buffers.clear()

    # -- batches --------------------------------------------------------------------------------------------------------

    def catch_up(self, pipeline: RunningPipeline) -> int:
        """Announce the events that are due before the next record is served, and return its position."""
        cursor = pipeline.cursor
        position: int = cursor.position
        if cursor.number != self._run:  # moved by nnx.update
            self._follow(pipeline)
        if position >= self.events.due:
            self.events.catch_up(pipeline, position)
        return position

    def hand_over(
        self, pipeline: RunningPipeline, batch: Batch, position: int, prepared: Prepared, began: float
    ) -> Batch:
        """Return the batch at ``position``, which is ready: announce it, move the position past it, and count it.

        ``began`` is the time, of ``perf_counter``, at which its user began to wait for it.
        """
        stats, restored, is_moved = self.stats, self._restored, False
        if self.stream is not None:
            self.events.end_epochs(pipeline, prepared.epochs_ended)
        if self.hooks.hears_batches:  # first: if a hook raises, no batch is lost
            self.hooks.call.datarax_batch_ready(pipeline=pipeline, step=stats.batches, batch=batch)
            is_moved = restored != self._restored or pipeline.cursor.position != position  # the latter by nnx.update
        if not is_moved:
            self.move_past(pipeline, position, prepared)
        pipeline.source.note_served(1)
        stats.add_batch(prepared.size, perf_counter() - began, prepared.host_fields, prepared.nbytes)
        return batch

    def move_past(self, pipeline: RunningPipeline, position: int, prepared: Prepared) -> None:
        """Move the position past the batch at ``position``."""
        end = position + prepared.size
        pipeline.cursor.move(end)
        if self.stream is not None:
            self.stream.hand_over(prepared.stream_state)
            self.events.note_epochs(prepared.stream_state.epoch)

    # -- states ---------------------------------------------------------------------------------------------------------

    def restore(self, pipeline: RunningPipeline, definition: Definition, state: Any, but: Names) -> None:
        """Restore a state, on all processes or on none; ``but`` names what was changed on purpose.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is not one of this pipeline's stream; names all that differs, and nothing is changed.
        """
        place, changes = agreed_on_all(
            lambda: self._checked_place(pipeline, definition, state, but),
            lambda found: {**found[0], "changed": found[1]},
            definition.layout,
        )
        variables = checked_variables(pipeline, state["rngs"], nnx.RngState)
        self.end_run(pipeline, pipeline.cursor.last_position)
        if self.stream is not None:
            self.stream.set_state(state["stream"], but)
        write_variables(pipeline, variables, nnx.RngState)
        self.stand_at(pipeline, **place)
        pipeline.cursor.note_changes(changes)

    def _checked_place(
        self, pipeline: RunningPipeline, definition: Definition, state: Any, but: Names
    ) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
        """Return (the position of a state, the run start, and whether it was saved in a loop; what was changed on purpose).

        Nothing is changed.
        """
        title = f"the pipeline over {pipeline.source.title}"
        require_dict(state, title)
        keys = {"position", "run_start", "rngs", "fingerprint"}
        require_keys(state, keys if self.stream is None else keys | {"stream"}, title, optional={"in_loop", "changed"})
        changed = require_same(
            state["fingerprint"], definition.fingerprint(), title, but, pipeline.source.entries_of_places
        )
        position, run_start = require_position(state, title)
        in_loop, changes = saved_in_loop(state, title), changes_of(state, title)
        checked_variables(pipeline, state["rngs"], nnx.RngState)
        if self.stream is not None:
            self.stream.require_state(state["stream"], position)
        place = {"position": position, "run_start": run_start, "in_loop": in_loop}
        return place, (*changes, {"at": position, **changed}) if changed else changes
