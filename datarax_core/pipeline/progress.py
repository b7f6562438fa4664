"""Where a pipeline stands: saved, restored, moved on batch by batch, and told to whoever listens."""

from copy import copy
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self, cast
from weakref import ref

from flax import nnx

from datarax_core.devices.layout import Layout
from datarax_core.extensions.hooks import Hooks
from datarax_core.extensions.hookspecs import ServingPipeline
from datarax_core.records.spec import Batch
from datarax_core.registry.sources import default_hooks
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.state import (
    Cursor,
    checked_variables,
    require_dict,
    require_keys,
    require_position,
    require_same,
    variable_state,
    write_variables,
)
from datarax_core.stages.cache import renew_caches
from datarax_core.workers.pool import Workers

from .definition import BatchRule, Definition
from .loop import BatchIterator, Ticket
from .multihost import require_on_all
from .route import Prepared, Route, Stats
from .stream_reader import StreamReader


class Events:
    """Counts what was told, so that each thing is told once. Outside of every graph; it holds no pipeline.

    Args:
        epoch_length: Records in an epoch; None for a stream without a length.
        is_copy: Whether the pipeline is a copy of another, which tells the epochs before the place where it is opened.
    """

    _closed = -1  # of the class, not of the module: a pipeline may be dropped while the interpreter clears modules
    _never = 1 << 200

    def __init__(self, epoch_length: int | None, *, is_copy: bool = False) -> None:
        self.hooks = default_hooks()
        self.due = self._closed
        """The position from which on there is something to tell: any, for a pipeline that is closed."""
        self._epoch_length = epoch_length
        self._is_copy = is_copy
        self._told = 0
        self._ended_at = 0
        self._owner = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy_of, (self._epoch_length,)

    @property
    def is_open(self) -> bool:
        """Whether the pipeline was opened, and not closed since."""
        return self.due != self._closed

    def catch_up(self, pipeline: ServingPipeline, position: int) -> None:
        """Open the pipeline, if it is closed, and tell the epochs that were served before ``position``."""
        if self._is_copy:
            self.stand_at(position)
        if not self.is_open:
            self._owner = id(pipeline)
            self.hooks.open_pipelines[id(pipeline)] = pipeline
            self.due = self._next_end
            self.hooks.call.datarax_pipeline_opened(pipeline=pipeline)
        if self._epoch_length and position >= self._next_end:
            self._tell_epochs(pipeline, position // self._epoch_length)

    def end_stream(self, pipeline: ServingPipeline, position: int) -> None:
        """Tell the end of a stream without a length as that of an epoch, if it was not told yet."""
        if self._epoch_length is None and position > self._ended_at:
            self._ended_at = position
            self._tell_epochs(pipeline, self._told + 1)

    def close(self, pipeline: ServingPipeline, position: int) -> None:
        """Tell the epochs that were served before ``position``, and close the pipeline, if it is open."""
        if self.is_open or (not self._is_copy and position >= self._next_end):
            self.catch_up(pipeline, position)
            self.due = self._closed
            self.hooks.open_pipelines.pop(id(pipeline), None)
            self.hooks.call.datarax_pipeline_closed(pipeline=pipeline)

    def drop(self, pipeline: ServingPipeline) -> None:
        """Close a pipeline that nobody holds any more, unless it is one of the copies that compiled code makes."""
        if self.is_open and self._owner == id(pipeline):
            self.close(pipeline, pipeline.cursor.position)

    def stand_at(self, position: int) -> None:
        """Go on from ``position``, as if all epochs before it had been told."""
        if self._epoch_length:
            self._told = position // self._epoch_length
        elif not position:
            self._told = 0
        self._is_copy, self._ended_at = False, position
        if self.is_open:
            self.due = self._next_end

    def _tell_epochs(self, pipeline: ServingPipeline, ended: int) -> None:
        """Tell each of the first ``ended`` epochs that was not told yet."""
        if not self.hooks.hears("datarax_epoch_finished"):
            self._told = ended
        while self._told < ended:
            epoch, self._told = self._told, self._told + 1  # first: once, whatever the hook does
            self.hooks.call.datarax_epoch_finished(pipeline=pipeline, epoch=epoch, stats=pipeline.stats())
        self.due = self._next_end

    @property
    def _next_end(self) -> int:
        return (self._told + 1) * self._epoch_length if self._epoch_length else self._never


def _copy_of(epoch_length: int | None) -> Events:
    return Events(epoch_length, is_copy=True)


@dataclass(eq=False)
class HostParts:
    """What a pipeline holds on the host, outside of its graph: counts, what it told, and what reads for it."""

    events: Events
    hooks: Hooks = field(init=False)
    stats: Stats = field(default_factory=Stats)
    stream: StreamReader | None = None
    workers: Workers | None = None
    step_route: "Route | None" = None
    loop: "ref[BatchIterator] | None" = None

    def __post_init__(self) -> None:
        self.hooks = self.events.hooks

    @classmethod
    def of(cls, plan: Definition) -> "HostParts":
        """Those of a new pipeline."""
        events = Events(plan.epoch_length)
        if plan.source.access != "stream":
            return cls(events)
        return cls(events, stream=StreamReader(plan.source, plan.rule, 1 if plan.part is None else plan.part[1]))

    def twin(self, source: DataSourceModule) -> "HostParts":
        """Those of a twin of the pipeline, over ``source``."""
        return HostParts(copy(self.events), stream=None if self.stream is None else self.stream.twin(source))

    def end(self) -> None:
        """Let go of what can be made again."""
        if self.workers is not None:
            self.workers.close()
        self.workers = self.step_route = self.loop = None

    def __reduce__(self) -> tuple[Any, ...]:
        return HostParts, (self.events, Stats(), self.stream)  # a pickle or deep copy makes its own of the rest


class Progress(nnx.Module):
    """The part of a `Pipeline` that knows where it stands; the routes are in the pipeline itself."""

    source: DataSourceModule
    stages: nnx.List[Any]
    rule: BatchRule
    cursor: Cursor
    prefetch: int
    _layout: Layout
    _host: HostParts

    def clone(self) -> Self:
        """An independent twin: its own position, variables and random streams; data that never changes is shared."""
        twin = nnx.clone(self)
        twin.cursor.renew()
        twin.source = twin.source.clone()
        renew_caches(twin.stages)
        twin._host = self._host.twin(twin.source)  # noqa: SLF001 - of this class
        return twin

    def reset(self) -> None:
        """Back to the first position; what stages learned stays, and random streams go on."""
        if not self.cursor.is_traced:
            self._end_run(self.cursor.position)
        if self._host.stream is not None:
            self._host.stream.rewind(0)
        self._stand_at(0, 0)

    def close(self) -> None:
        """End the run under way, and what works for it: loops, their threads, and worker processes.

        Nothing is lost by it. What is served next is what would have been served, by new ones, and the next loop goes on
        with the run.
        """
        self._require_no_trace("close")
        loop = None if self._host.loop is None else self._host.loop()
        if loop is not None:
            loop.close()
        self._end_run(self.cursor.position)
        self.cursor.restore(self.cursor.position, self.cursor.run_start)
        self._host.end()

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands: JSON-able, about a kilobyte, no data. Valid between any two batches, on any process.

        The state of a source that is read forward only is in it, as it stood behind the batch that was served last.
        Parameters and statistics of stages are not in it: save ``nnx.state(pipeline.stages)`` beside your model.
        """
        stream = {} if self._host.stream is None else {"stream": self._host.stream.get_state()}
        return {
            "position": self.cursor.position,
            "run_start": self.cursor.run_start,
            "rngs": variable_state(self, nnx.RngState),
            "fingerprint": self._definition().fingerprint(),
            **stream,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Stand where a state was saved: the next batch is the one that would have come then.

        The next loop goes on with the run that the state was saved in; a state saved at the end of a run is followed by
        the next run, as a second loop would have been.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: It was saved by another stream; everything that differs is named, and nothing is changed.
        """
        require_on_all(lambda: self._checked_place(state), self._layout)
        position, run_start = require_position(state, self.source.title)
        variables = checked_variables(self, state["rngs"], nnx.RngState)
        self._end_run(self.cursor.position)
        if self._host.stream is not None:
            self._host.stream.set_state(state["stream"])
        write_variables(self, variables, nnx.RngState)
        self._stand_at(position, run_start)

    def _checked_place(self, state: Any) -> dict[str, Any]:
        """Position and run start of a state that is one of this stream; else raise what `set_state` raises."""
        title, stream = f"the pipeline over {self.source.title}", self._host.stream
        require_dict(state, title)
        keys = {"position", "run_start", "rngs", "fingerprint"}
        require_keys(state, keys if stream is None else keys | {"stream"}, title)
        require_same(state["fingerprint"], self._definition().fingerprint(), title)
        position, run_start = require_position(state, title)
        checked_variables(self, state["rngs"], nnx.RngState)
        if stream is not None:
            stream.require_state(state["stream"], position)
        return {"position": position, "run_start": run_start}

    # -- runs and batches -----------------------------------------------------------------------------------------------

    def _begin_run(self) -> BatchIterator:
        """The loop that goes on from where the pipeline stands, or begins the next run."""
        epoch_length, position = self._definition().epoch_length, self.cursor.position
        run_length = self.rule.run_length(epoch_length)
        left = None if run_length is None else self.cursor.run_start + run_length - position
        is_over = not self.rule.next_size(left)
        if is_new := self.cursor.begins_anew(is_over=is_over):
            self._end_run(position)
        run = self.cursor.begin_run(epoch_length, is_over=is_over)
        if is_new:
            self._host.events.stand_at(self.cursor.position)
        self._standing()
        loop = BatchIterator(
            self._make_route(is_loop=True), self.rule, self._ticket(run, run_length), prefetch=self.prefetch
        )
        self._host.loop = ref(loop)
        return loop

    def _ticket(self, run: int, run_length: int | None) -> Ticket:
        cursor, events = self.cursor, self._host.events  # an attribute of a module takes 100 ns, on each batch
        end = None if run_length is None else cursor.run_start + run_length

        def standing() -> int:
            position = cursor.position
            if position >= events.due:
                events.catch_up(self._public, position)
            return position

        def give_back(*, is_exhausted: bool) -> None:
            if cursor.is_current(run):
                self._end_loop(end, is_exhausted=is_exhausted)

        return Ticket(lambda: cursor.is_current(run), standing, end, self._hand_over, self._move_past, give_back)

    def _end_loop(self, end: int | None, *, is_exhausted: bool) -> None:
        position = self.cursor.position
        if is_exhausted and end is None:
            self._host.events.end_stream(self._public, position)
        elif is_exhausted and end is not None and not self.rule.next_size(end - position):
            position = end  # what drop_last left out is over as well
        self._end_run(position)

    def _end_run(self, position: int) -> None:
        self._host.events.close(self._public, position)

    def _stand_at(self, position: int, run_start: int) -> None:
        self.cursor.restore(position, run_start)
        self._host.events.stand_at(position)

    def _standing(self) -> int:
        """The position, where something is about to be served."""
        position, events = self.cursor.position, self._host.events
        if position >= events.due:
            events.catch_up(self._public, position)
        return position

    def _hand_over(self, batch: Batch, position: int, prepared: Prepared, began: float) -> Batch:
        """Move the position, now that the batch is ready, and count it."""
        host = self._host
        if host.hooks.hears_batches:  # first: what fails here has lost no batch
            host.hooks.call.datarax_batch_ready(pipeline=self._public, step=host.stats.batches, batch=batch)
        self._move_past(position, prepared)
        self.source.note_served(1)
        host.stats.add_batch(prepared.size, perf_counter() - began)
        return batch

    def _move_past(self, position: int, prepared: Prepared) -> None:
        self.cursor.move(position + prepared.size)
        stream = self._host.stream
        if stream is not None:
            stream.hand_over(position + prepared.size, prepared.behind)

    @property
    def _public(self) -> ServingPipeline:
        return cast(ServingPipeline, self)

    def _require_no_trace(self, what: str) -> None:
        if self.cursor.is_traced:
            raise RuntimeError(f"cannot {what} a pipeline inside a compiled function; call pipeline.step() there")

    def __del__(self) -> None:
        host = vars(self).get("_host")
        if host is not None:
            host.events.drop(self)

    # -- what a pipeline knows of itself --------------------------------------------------------------------------------

    def _definition(self) -> Definition:
        raise NotImplementedError

    def _make_route(self, *, is_loop: bool) -> Route:
        raise NotImplementedError
