"""The progress of a pipeline: runs that begin and end, batches that are handed over, states that are checked."""

import os
from copy import copy
from threading import RLock
from time import perf_counter
from typing import Any, NamedTuple, Protocol
from weakref import ref

from flax import nnx

from datarax_core.background import require_own_process
from datarax_core.extensions.hookspecs import ServingPipeline
from datarax_core.records.spec import Batch
from datarax_core.routes.base import Prepared, Route, Stats
from datarax_core.routes.definition import Definition
from datarax_core.routes.stream_reader import StreamReader
from datarax_core.routes.table import route_class
from datarax_core.sources.host_state import HostState
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.state import checked_variables, require_dict, require_keys, require_position, require_same
from datarax_core.workers.pool import Workers

from .events import Events


class RunningPipeline(ServingPipeline, Protocol):
    """The part of a pipeline that its progress uses."""

    source: DataSourceModule


class ClosableLoop(Protocol):
    """A loop over a pipeline."""

    def close(self) -> None:
        """End the loop."""


class Run(NamedTuple):
    """A run that began: its number among the pipeline's runs, and the position where it ends (None: without end)."""

    number: int
    end: int | None


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
        self.stream = stream
        self.process = os.getpid()
        self.lock = RLock()
        """Held while a batch is served at the position of the pipeline."""
        self.workers: Workers | None = None
        self.step_route: Route | None = None
        self.loop: ref[ClosableLoop] | None = None

    def require_own_process(self) -> None:
        """Raise `RuntimeError` in a fork of the process in which the pipeline was built: JAX hangs there."""
        require_own_process(self.process, "a pipeline")

    @classmethod
    def of(cls, definition: Definition) -> "Progress":
        """Return the progress of a new pipeline."""
        return cls(Events(definition.epoch_length), stream=route_class(definition.source).new_reader(definition))

    def twin(self, source: DataSourceModule) -> "Progress":
        """Return the progress of a copy of the pipeline, over ``source``, which is a copy as well."""
        return Progress(copy(self.events), stream=None if self.stream is None else self.stream.twin(source))

    def constructor_data(self) -> tuple[Any, ...]:
        """Return events, counts from 0, and the stream's reader: a pickle or deep copy makes its own of the rest."""
        return self.events, Stats(), self.stream

    # -- runs -----------------------------------------------------------------------------------------------------------

    def begin_run(self, pipeline: RunningPipeline, definition: Definition) -> Run:
        """Go on with the run that the pipeline stands in, or begin the next one."""
        cursor, rule, epoch_length = pipeline.cursor, definition.rule, definition.epoch_length
        position, run_length = cursor.position, rule.run_length(epoch_length)
        left = None if run_length is None else cursor.run_start + run_length - position
        is_over = not rule.next_size(left)
        if is_new := cursor.begins_anew(is_over=is_over):
            self.end_run(pipeline, position)
        number = cursor.begin_run(epoch_length, is_over=is_over)
        if is_new:
            self.events.stand_at(cursor.position)
        self.catch_up(pipeline)
        return Run(number, None if run_length is None else cursor.run_start + run_length)

    def end_run(self, pipeline: RunningPipeline, position: int) -> None:
        """Announce that the run is over, which served the records before ``position``."""
        self.events.close(pipeline, position)

    def stand_at(self, pipeline: RunningPipeline, position: int, run_start: int) -> None:
        """Stand at ``position`` of the run that began at ``run_start``; a loop that is under way ends."""
        pipeline.cursor.restore(position, run_start)
        self.events.stand_at(position)

    def close(self) -> None:
        """Drop workers, route and loop; they are made again when they are needed."""
        if self.workers is not None:
            self.workers.close()
        self.workers = self.step_route = self.loop = None

    # -- batches --------------------------------------------------------------------------------------------------------

    def catch_up(self, pipeline: RunningPipeline) -> int:
        """Announce the events that are due before the next record is served, and return its position."""
        position: int = pipeline.cursor.position
        if position >= self.events.due:
            self.events.catch_up(pipeline, position)
        return position

    def hand_over(
        self, pipeline: RunningPipeline, batch: Batch, position: int, prepared: Prepared, began: float
    ) -> Batch:
        """Return the batch at ``position``, which is ready: announce it, move the position past it, and count it.

        ``began`` is the time, of ``perf_counter``, at which its user began to wait for it.
        """
        stats = self.stats
        if self.hooks.hears_batches:  # first: if a hook raises, no batch is lost
            self.hooks.call.datarax_batch_ready(pipeline=pipeline, step=stats.batches, batch=batch)
        self.move_past(pipeline, position, prepared)
        pipeline.source.note_served(1)
        stats.add_batch(prepared.size, perf_counter() - began)
        return batch

    def move_past(self, pipeline: RunningPipeline, position: int, prepared: Prepared) -> None:
        """Move the position past the batch at ``position``."""
        end = position + prepared.size
        pipeline.cursor.move(end)
        if self.stream is not None:
            self.stream.hand_over(end, prepared.stream_state)

    # -- states ---------------------------------------------------------------------------------------------------------

    def checked_place(self, pipeline: RunningPipeline, definition: Definition, state: Any) -> dict[str, Any]:
        """Return the position and run start of a state; nothing is changed.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is not one of this pipeline's stream; names all that differs.
        """
        title = f"the pipeline over {pipeline.source.title}"
        require_dict(state, title)
        keys = {"position", "run_start", "rngs", "fingerprint"}
        require_keys(state, keys if self.stream is None else keys | {"stream"}, title)
        require_same(state["fingerprint"], definition.fingerprint(), title)
        position, run_start = require_position(state, title)
        checked_variables(pipeline, state["rngs"], nnx.RngState)
        if self.stream is not None:
            self.stream.require_state(state["stream"], position)
        return {"position": position, "run_start": run_start}
