"""Programs: sequences of calls on a source, or on a pipeline over it, with the positions that their records must be from."""

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from flax import nnx

from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import rows_of

from .places import Place
from .subject import Subject

_MOST_TWINS: Final = 3
_ALL: Final = 1 << 20  # batches
_OVER_AT_ONCE: Final = "  # over at once: the state was saved in a loop that had served all of its run"


class Call(NamedTuple):
    """One call of a program; what cannot be called is left out of it.

    Attributes:
        name: The method of `SourceProgram` or `PipelineProgram` that makes the call.
        on: Which of the sources or pipelines that exist it is made on, by number.
        number: A number of batches or records, or which state is restored.
    """

    name: str
    on: int
    number: int


class Deviation(Exception):  # noqa: N818 - it is no error of the kit
    """Records, or an error, that are not what a program promises."""


@dataclass
class Twin:
    """A source or a pipeline of a program, and where the program says that it stands."""

    name: str
    made: Any
    place: Place = field(default_factory=Place)


@dataclass(frozen=True)
class Saved:
    """A state, as JSON, and the place at which it was saved."""

    name: str
    text: str
    place: Place


class Program:
    """A sequence of calls that is made, and written down, one after another. After it, each twin serves its next records."""

    calls: tuple[str, ...] = ()
    """The names of the calls, the simplest first."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.lines: list[str] = []
        self.twins: list[Twin] = []
        self.states: list[Saved] = []
        self.epoch = subject.length

    def run(self, calls: Sequence[Call]) -> None:
        """Make the calls that can be made.

        Raises:
            Deviation: Other records were served than the order says, or a call raised an error.
        """
        try:
            self._run(calls)
        finally:
            for twin in self.twins:
                twin.made.close()

    def _run(self, calls: Sequence[Call]) -> None:
        self._made("a", self.opening, self.new())
        for call in calls:
            self._make(getattr(self, call.name), self.twins[call.on % len(self.twins)], call.number)
        for twin in list(self.twins):
            self._make(self.serve, twin, 1)

    def _make(self, call: Callable[[Twin, int], None], twin: Twin, number: int) -> None:
        written = len(self.lines)
        try:
            call(twin, number)
        except Deviation:
            raise
        except Exception as error:  # an author's code may raise anything
            if len(self.lines) == written:
                self.lines.append(f"{call.__name__}() of {twin.name}")
            raise Deviation(f"it raises {type(error).__name__}: {error}") from error

    # -- for subclasses -------------------------------------------------------------------------------------------------

    opening: str = ""
    """The line that makes the first twin."""

    def new(self) -> Any:
        """Return a new source or pipeline at position 0."""
        raise NotImplementedError

    def serve(self, twin: Twin, number: int) -> None:
        """Have a twin serve its next records."""
        raise NotImplementedError

    # -- records --------------------------------------------------------------------------------------------------------

    def can_serve(self, place: Place, records: int) -> bool:
        """Return whether the records that must be served from a place on are known."""
        return records > 0 and place.position + records <= self.subject.num_compared

    def hold(self, start: int, found: Batch, records: int, line: str) -> None:
        """Write a call down, and compare the records that it served with those of the order from ``start`` on."""
        self.lines.append(f"{line}  # {self._title(start, records)}")
        rows = rows_of(found)
        if rows != records:
            raise Deviation(f"it served {rows} records where {records} are expected")
        text = self.subject.deviation(start, found)
        if text:
            at = self._position_of(found)
            raise Deviation(f"{text}{at}")

    def _position_of(self, found: Batch) -> str:
        """Return at which positions the records of a batch are found instead, in brackets; "" if nowhere."""
        rows = rows_of(found)
        for start in range(self.subject.num_compared - rows + 1):
            if not self.subject.deviation(start, found):
                return f" (it served {self._title(start, rows)})"
        return ""

    @staticmethod
    def _title(start: int, records: int) -> str:
        return f"position {start}" if records == 1 else f"positions {start} to {start + records - 1}"

    # -- twins and states -----------------------------------------------------------------------------------------------

    def _made(self, name: str, line: str, made: Any, place: Place | None = None) -> None:
        self.lines.append(f"{name} = {line}")
        self.twins.append(Twin(name, made, place or Place()))

    def _next_name(self) -> str | None:
        return None if len(self.twins) >= _MOST_TWINS else "abc"[len(self.twins)]

    def clone(self, twin: Twin, number: int) -> None:  # noqa: ARG002 - all calls are alike
        """Clone a twin where it stands."""
        if name := self._next_name():
            self._made(name, f"{twin.name}.clone()", twin.made.clone(), twin.place.saved(in_loop=False))

    def pickle(self, twin: Twin, number: int) -> None:  # noqa: ARG002
        """Pickle a twin where it stands."""
        if name := self._next_name():
            made = pickle.loads(pickle.dumps(twin.made))  # noqa: S301 - made in this line
            self._made(name, f"pickle.loads(pickle.dumps({twin.name}))", made, twin.place.saved(in_loop=False))

    def save(self, twin: Twin, number: int) -> None:  # noqa: ARG002
        """Save the state of a twin, between loops."""
        self.save_here(twin, in_loop=False)

    def save_here(self, twin: Twin, *, in_loop: bool, indent: str = "") -> None:
        """Save the state of a twin, and check that what reads JSON can read it."""
        name = f"state_{len(self.states)}"
        text = json.dumps(twin.made.get_state())
        self.lines.append(f"{indent}{name} = {twin.name}.get_state()")
        self.states.append(Saved(name, text, twin.place.saved(in_loop=in_loop)))

    def restore(self, twin: Twin, number: int) -> None:
        """Restore a state that was saved, of any twin; save one if there is none."""
        if not self.states:
            self.save(twin, number)
            return
        state = self.states[-1 - number % len(self.states)]
        self.lines.append(f"{twin.name}.set_state({state.name})")
        twin.made.set_state(json.loads(state.text))
        twin.place = state.place

    def restore_into_another(self, twin: Twin, number: int) -> None:
        """Restore a state into a new source or pipeline."""
        if not self.states:
            self.save(twin, number)
        if name := self._next_name():
            self._made(name, self.opening, self.new())
            self.restore(self.twins[-1], number)

    def reset(self, twin: Twin, number: int) -> None:  # noqa: ARG002
        """Reset a twin."""
        self.lines.append(f"{twin.name}.reset()")
        twin.made.reset()
        twin.place = Place()


class SourceProgram(Program):
    """Calls of the methods of a source."""

    opening = "make_source()"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.calls = tuple(_calls_of_source(subject))

    def new(self) -> DataSourceModule:
        """Return a new source."""
        return self.subject.build()

    def serve(self, twin: Twin, number: int) -> None:
        """Have a source serve a batch."""
        size = (1, 3, 14, 5)[number % 4]
        if not self.can_serve(twin.place, size):
            return
        start, twin.place = twin.place.position, twin.place.after(size)
        found = twin.made.get_batch(size)
        self.hold(start, found, size, f"{twin.name}.get_batch({size})")

    def loop(self, twin: Twin, number: int) -> None:
        """Loop over a source, and break after some records."""
        self._loop(twin, number, saves=False)

    def loop_and_save(self, twin: Twin, number: int) -> None:
        """Loop over a source, save its state within the loop after some records, and break."""
        self._loop(twin, number, saves=True)

    def _loop(self, twin: Twin, number: int, *, saves: bool) -> None:
        left = twin.place.left(self.epoch)
        place = twin.place.in_next_loop(self.epoch, is_over=left is not None and left <= 0)
        if self.epoch is None and not twin.place.goes_on:
            return  # the epoch after this one, whose records are not known
        left = place.left(self.epoch)
        wanted = (2, 1, 5, 40)[number % 4]
        records = wanted if left is None else min(wanted, max(left, 0))
        if records and not self.can_serve(place, records):
            return
        header = f"for record in islice({twin.name}, {wanted}):"
        loop = iter(twin.made)
        found = [*islice(loop, records)]
        start, twin.place = place.position, place.after(records)
        line = f"{header} ..."
        if not records:
            self.lines.append(f"{header} ...{_OVER_AT_ONCE}")
            if next(loop, None) is not None:
                raise Deviation("the loop goes on")
            return
        if len(found) != records:
            self.lines.append(line)
            raise Deviation(f"it served {len(found)} records where {records} are expected")
        self.hold(start, self.subject.batch_of(found), records, line)
        if saves:
            self.save_here(twin, in_loop=True, indent="    ")
        del loop

    def skip(self, twin: Twin, number: int) -> None:
        """Skip records of a stream."""
        records = number + 1
        if self.can_serve(twin.place, records + 1):
            twin.made.skip(records)
            self.lines.append(f"{twin.name}.skip({records})")
            twin.place = twin.place.after(records)

    def batch_at(self, twin: Twin, number: int) -> None:
        """Read a batch somewhere else, which moves nothing."""
        start = number * 5
        if self.can_serve(Place(start), 3):
            found = twin.made.get_batch_at(start, 3, twin.made.order_key_data())
            self.hold(start, found, 3, f"{twin.name}.get_batch_at({start}, 3, {twin.name}.order_key_data())")

    def copy(self, twin: Twin, number: int) -> None:  # noqa: ARG002
        """Copy a source, which starts over."""
        if name := self._next_name():
            self._made(name, f"{twin.name}.copy()", twin.made.copy())


class PipelineProgram(Program):
    """Calls of a pipeline over the source, without stages.

    Args:
        subject: The source under test.
        num_epochs: The number of epochs of a loop; None is endless.
        prefetch: How many batches a loop reads ahead.
        workers: The number of processes that read.
    """

    def __init__(self, subject: Subject, *, num_epochs: int | None = None, prefetch: int = 2, workers: int = 0) -> None:
        super().__init__(subject)
        source, length = subject.source, subject.length
        size = None if source.batch_sizes is not None else _size_of(length)
        self._options: dict[str, Any] = {
            "batch_size": size,
            "num_epochs": num_epochs,
            "prefetch": prefetch,
            "workers": workers,
        }
        self._run_length = None if num_epochs is None or length is None else num_epochs * length
        named = [
            f"{name}={value}" for name, value in self._options.items() if value or name in ("num_epochs", "prefetch")
        ]
        self.opening = f"Pipeline(source=make_source(), {', '.join(named)})"
        self._size_at: Callable[[int], int] = (lambda _: size) if size else source.batch_sizes.at  # type: ignore[union-attr]
        self.calls = tuple(_calls_of_pipeline(subject, workers))

    def new(self) -> Pipeline:
        """Return a new pipeline over a new source."""
        return Pipeline(source=self.subject.build(), rngs=nnx.Rngs(0), **self._options)

    def serve(self, twin: Twin, number: int) -> None:
        """Have a pipeline serve full batches, one after another, by `step`."""
        for _ in range(1 + number % 2):
            size = self._size_at(twin.place.position)
            if not self.can_serve(twin.place, size):
                return
            start, twin.place = twin.place.position, twin.place.after(size)
            self.hold(start, twin.made.step(), size, f"{twin.name}.step()")

    def scan(self, twin: Twin, number: int) -> None:  # noqa: ARG002
        """Have a pipeline serve two batches by `scan`."""
        size = self._size_at(twin.place.position)
        if self.can_serve(twin.place, 2 * size):
            start, twin.place = twin.place.position, twin.place.after(2 * size)
            found = twin.made.scan(_batch, length=2)
            flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(2 * size, *leaf.shape[2:]), found)
            self.hold(start, flat, 2 * size, f"{twin.name}.scan(lambda batch: batch, length=2)")

    def loop(self, twin: Twin, number: int) -> None:
        """Loop over a pipeline, and break after some batches."""
        self._loop(twin, 1 + number % 3, saves=False)

    def loop_and_save(self, twin: Twin, number: int) -> None:
        """Loop over a pipeline, save its state within the loop after some batches, and break."""
        self._loop(twin, 1 + number % 3, saves=True)

    def loop_to_the_end(self, twin: Twin, number: int) -> None:  # noqa: ARG002
        """Loop over a pipeline until its run is over."""
        if self._run_length is not None:
            self._loop(twin, _ALL, saves=False)

    def _loop(self, twin: Twin, batches: int, *, saves: bool) -> None:
        if self.epoch is None and not twin.place.goes_on:
            return  # the epoch after this one, whose records are not known
        left = twin.place.left(self._run_length)
        place = twin.place.in_next_loop(self.epoch, is_over=left is not None and left <= 0)
        sizes = self._sizes(place, batches)
        if sizes is None:
            return
        loop, twin.place = iter(twin.made), place
        self.lines.append(
            f"for batch in {twin.name}:" if batches == _ALL else f"for batch in islice({twin.name}, {batches}):"
        )
        for size in sizes:
            batch = next(loop, None)
            if batch is None:
                raise Deviation(
                    f"the loop is over at position {twin.place.position}, where {size} more records are expected"
                )
            self.hold(twin.place.position, batch, size, "    ...")
            twin.place = twin.place.after(size)
        if not sizes:
            self.lines[-1] += _OVER_AT_ONCE
        if (batches == _ALL or not sizes) and (more := next(loop, None)) is not None:
            raise Deviation(f"the loop goes on with {rows_of(more)} records after the end of its run")
        if saves and sizes:
            self.save_here(twin, in_loop=True, indent="    ")
        loop.close()

    def _sizes(self, place: Place, batches: int) -> list[int] | None:
        """Return the sizes of the next batches of a loop, of which the last may be short; None if not all are known."""
        sizes: list[int] = []
        while len(sizes) < batches:
            here = place.after(sum(sizes))
            left = here.left(self._run_length)
            if left is not None and left <= 0:
                break
            sizes.append(self._size_at(here.position) if left is None else min(self._size_at(here.position), left))
            if not self.can_serve(here, sizes[-1]):
                return None
        return sizes


def _calls_of_source(subject: Subject) -> Iterator[str]:
    """Yield the calls that a source can bear, the simplest first."""
    yield "serve"
    if subject.has_loops:
        yield "loop"
    if subject.source.is_live:
        return
    yield from _twins_and_states(subject)
    if subject.source.capabilities.resumable and subject.has_loops:
        yield "loop_and_save"
    yield "copy"
    yield "skip" if subject.is_stream else "batch_at"


def _calls_of_pipeline(subject: Subject, workers: int) -> Iterator[str]:
    """Yield the calls that a pipeline over the source can bear, the simplest first."""
    yield "serve"
    yield "loop"
    if subject.source.is_live:
        return
    if not workers:
        yield "loop_to_the_end"
    yield from _twins_and_states(subject)
    if subject.source.capabilities.resumable:
        yield "loop_and_save"
    may_compile = not subject.is_stream and not subject.host_fields and subject.records <= DEVICE_LIMIT
    if may_compile and subject.source.batch_sizes is None and not workers:
        yield "scan"


def _twins_and_states(subject: Subject) -> Iterator[str]:
    if subject.can_restart:
        yield "reset"
    if subject.source.capabilities.resumable:
        yield "save"
        yield "restore"
        yield "restore_into_another"
        yield "clone"
        yield "pickle"


def _size_of(length: int | None) -> int:
    """Return a batch size of which some four and a half make an epoch, so that short programs cross its end."""
    return 14 if length is None else max(1, min(64, 2 * length // 9))


def _batch(batch: Any) -> Any:
    return batch
