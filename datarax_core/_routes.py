"""How batches are made from positions: gathered by the compiled step, or read by the host and handed to it."""

import operator
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

import jax
import numpy as np
from flax import nnx

from ._events import Events
from ._host_calls import HostRecords
from ._layout import DEFAULT, Layout
from ._modules import Split
from ._narrow import narrow
from ._plan import Plan
from ._programs import Step, compiled, with_fields
from ._randomness import RecordNames
from ._stage_building import passed_beside
from ._stats import Stats
from ._streams import StreamReader
from ._workers import Workers
from .hooks import Hooks
from .source import DataSourceModule
from .spec import Batch, split_beside

if TYPE_CHECKING:
    from ._iterator import BatchIterator

_NAMED: Final = 12  # records of a batch that an error lists


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
    def of(cls, plan: Plan) -> "HostParts":
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


class Prepared(NamedTuple):
    """A batch before its stages: what the compiled step takes, and the fields that ride beside it."""

    size: int
    content: Any
    rows: np.ndarray | None = None
    keyed: RecordNames | None = None
    mask: np.ndarray | None = None
    beside: dict[str, Any] | None = None
    behind: Any = None
    """The state of a stream behind this batch."""
    seconds: float = 0.0
    """How long it took to read and place it."""


class Route:
    """Makes batches of one source through its stages, which are taken apart here, once for many batches.

    `prepare` reads records and may run on another thread, one at a time; `finish` runs the stages, and is for the thread
    that the batches are served on. The route of a loop may use threads, which end with it.
    """

    def __init__(self, plan: Plan, host: HostParts, *, is_loop: bool) -> None:
        source = plan.source
        self._source = source
        self._rule = plan.rule
        self._layout = plan.layout
        self._host = host
        self._randomness = plan.randomness
        self._stages = tuple(plan.stages)
        self._split = Split(self._stages)
        gather: Callable[[Any, jax.Array], Batch] | None = None
        if source.access == "device":
            gather, self._arrays = source.compiled_records(plan.layout.data_sharding)
        self._is_gathered = gather is not None
        beside = passed_beside(self._stages, split_beside(source.element_spec())[1])
        self._has_beside = bool(beside)
        self._is_plain = gather is None and not self._stages and plan.rule.pad_last is None
        self._run = compiled(Step(gather, self._split.structure, plan.rule.pad_last, plan.layout))
        self._is_loop = is_loop
        self._open_order()

    @property
    def may_read_ahead(self) -> bool:
        """Whether `prepare` does work that can be done ahead of the loop."""
        return not self._is_gathered and (self._host.stream is None or self._host.stream.is_resumable)

    def serves(self, source: DataSourceModule, stages: tuple[Any, ...]) -> bool:
        """Whether this is a route from ``source`` through these very stages, none of which can have changed since."""
        same = len(stages) == len(self._stages) and all(map(operator.is_, stages, self._stages))
        return self._source is source and same and not any(isinstance(stage, nnx.Module) for stage in stages)

    def version(self) -> int:
        """A number for what is read now: it moves on when the source is seeded or shuffled anew, or another route reads."""
        if self._host.stream is not None:
            return self._host.stream.claim(self)
        if self._source.order_words() is not self._words:
            self._version += 1
            self._open_order()
        return self._version

    def start_over(self, position: int) -> bool:
        """Begin a stream that has ended anew, its first record at ``position``; False if this is no stream."""
        if self._host.stream is None:
            return False
        self._host.stream.rewind(position)
        return True

    def prepare_ahead(self, wanted: tuple[int, int, int]) -> Prepared:
        """`prepare`, and place what was read on the device, while the loop does something else."""
        return self.prepare(wanted, ahead=True)

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:
        """Read the records of (start, size, version)."""
        if self._host.stream is not None:
            return self._next_of_stream(*wanted, ahead=ahead)
        start, size, _ = wanted
        indices, mask = self._rule.padded(self._window.take(start, size))
        keyed = self._randomness.names(self._source, start, indices)
        here = self._layout.rows_here(len(indices))
        own = indices if here is None else indices[here]
        if self._is_gathered:
            beside = self._source.beside_records(own) if self._has_beside else {}
            return Prepared(size, self._arrays, indices, keyed, mask, beside)
        fetch = self._source.fetch if self._host.workers is None else self._host.workers.fetch
        began = perf_counter()
        try:
            batch = fetch(own)
            read = perf_counter()
            batch, beside = self._handed(batch, len(indices), own, ahead=ahead)
        except Exception as error:
            error.add_note(
                f"while {self._source.title} read the records at positions {start} to {start + size - 1}: {_named(own)}"
            )
            raise
        ended = perf_counter()
        self._host.stats.add_reading(source=read - began, transfer=ended - read)
        return Prepared(size, batch, None, keyed, mask, beside, seconds=ended - began)

    def finish(self, prepared: Prepared) -> Batch:
        """The batch after its stages, whose variables are written."""
        batch = prepared.content
        if not self._is_plain:
            began = perf_counter()
            batch, values = self._run(self._split.read(), batch, prepared.rows, prepared.mask, prepared.keyed)
            self._split.write(values)
            self._host.stats.stages += perf_counter() - began
        if beside := passed_beside(self._stages, prepared.beside) if prepared.beside else {}:
            return with_fields(batch, beside, "text or object fields, which ride beside the batch,")
        return batch

    def _next_of_stream(self, start: int, size: int, turn: int, *, ahead: bool) -> Prepared:
        stream: Any = self._host.stream
        began = perf_counter()
        try:
            asked = size
            batch, size, behind = stream.read(start, asked, turn)
            read = perf_counter()
            if size < asked and self._rule.drop_last:
                return Prepared(size, None, behind=behind)  # nobody is handed it, and it need not divide
            rows, mask = stream.padded(size)
            own = stream.own(rows, self._layout.rows_here(len(rows)))
            batch, beside = self._handed(jax.tree.map(lambda leaf: leaf[own], batch), len(rows), None, ahead=ahead)
        except StopIteration:
            raise
        except Exception as error:
            error.add_note(f"while {self._source.title} read the next {size} records, from position {start} on")
            raise
        ended = perf_counter()
        self._host.stats.add_reading(source=read - began, transfer=ended - read)
        keyed = self._randomness.names_in_stream(self._source, start, rows, stream.num_parts)
        return Prepared(size, batch, None, keyed, mask, beside, behind, ended - began)

    def _handed(
        self, batch: Batch, size: int, records: np.ndarray | None, *, ahead: bool
    ) -> tuple[Batch, dict[str, Any]]:
        """(the batch as a device has it, the fields that ride beside it).

        What is not read ahead goes into the compiled step as it is, which is the shortest way onto the default device.
        """
        batch, beside = split_beside(batch)
        batch = narrow(batch, records=records, origin=self._source.title)
        if ahead or self._is_plain or self._layout != DEFAULT:
            batch = self._layout.place(batch, size)
        return batch, beside

    def _open_order(self) -> None:
        if self._host.stream is None:
            self._words = self._source.order_words()
            self._window = self._source.order_window(self._rule.batch_size, background=self._is_loop)

    _arrays: Any = None
    _version: int = 0


def _named(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:_NAMED].tolist()))
    return f"records {shown}{', ...' if len(indices) > _NAMED else ''}"


def require_carried(source: DataSourceModule, stages: Sequence[Any]) -> None:
    """Refuse to compile a pipeline whole if a field that no device has would be in its batches.

    Raises:
        SpecError: Names the fields.
    """
    if passed_beside(stages, split_beside(source.element_spec())[1]):
        source.require_no_beside()


def scan_reader(source: DataSourceModule, layout: Layout) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
    """(gather, arrays) for traced indices: the source's own, or a callback to the host. See `require_carried`."""
    if source.access == "device":
        return source.compiled_records(layout.data_sharding)
    return HostRecords.of(source)


def traced_records(source: DataSourceModule, layout: Layout, indices: jax.Array) -> Batch:
    """The records at traced ``indices`` in anybody's trace, who may hand in the source, but not its data.

    See `require_carried`.
    """
    if split_beside(source.element_spec())[1]:
        return layout.gathered(lambda _, own: source.fetch_by_callback(own), (), indices)
    if source.access == "device" and layout.data_sharding is not None:
        graphdef, state = nnx.split(source)
        return layout.gathered(_FetchOverMesh(graphdef), state, indices)  # a map over devices cannot close over tracers
    return layout.gathered(lambda _, own: source.fetch_traced(own), (), indices)


@dataclass(frozen=True, slots=True)
class _FetchOverMesh:
    graphdef: Any

    def __call__(self, state: Any, indices: jax.Array) -> Batch:
        batch: Batch = nnx.merge(self.graphdef, state).fetch_traced(indices, over_mesh=True)
        return batch
