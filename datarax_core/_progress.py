"""Where a pipeline stands: saved, restored, moved on batch by batch, and told to whoever listens."""

from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, cast
from weakref import ref

from flax import nnx

from ._batch_rule import BatchRule
from ._cursor import Cursor
from ._iterator import BatchIterator, Ticket
from ._layout import Layout
from ._plan import Plan
from ._processes import require_on_all
from ._routes import HostParts, Prepared, Route
from ._state import (
    checked_variables,
    require_dict,
    require_keys,
    require_position,
    require_same,
    variable_state,
    write_variables,
)
from .cache import renew_caches
from .source import DataSourceModule
from .spec import Batch

if TYPE_CHECKING:
    from .pipeline import Pipeline


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
            "fingerprint": self._plan().fingerprint(),
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
        require_same(state["fingerprint"], self._plan().fingerprint(), title)
        position, run_start = require_position(state, title)
        checked_variables(self, state["rngs"], nnx.RngState)
        if stream is not None:
            stream.require_state(state["stream"], position)
        return {"position": position, "run_start": run_start}

    # -- runs and batches -----------------------------------------------------------------------------------------------

    def _begin_run(self) -> BatchIterator:
        """The loop that goes on from where the pipeline stands, or begins the next run."""
        epoch_length, position = self._plan().epoch_length, self.cursor.position
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
    def _public(self) -> "Pipeline":
        return cast("Pipeline", self)

    def _require_no_trace(self, what: str) -> None:
        if self.cursor.is_traced:
            raise RuntimeError(f"cannot {what} a pipeline inside a compiled function; call pipeline.step() there")

    def __del__(self) -> None:
        host = vars(self).get("_host")
        if host is not None:
            host.events.drop(self)

    # -- what a pipeline knows of itself --------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        raise NotImplementedError

    def _make_route(self, *, is_loop: bool) -> Route:
        raise NotImplementedError
