"""How batches are made from positions: gathered by the compiled step, or read by the host and handed to it."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from flax import nnx

from datarax_core.devices.layout import DEFAULT
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import Batch, host_fields_after, split_host_fields, with_host_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.randomness import RecordIds
from datarax_core.stages.split_modules import SplitModules
from datarax_core.workers.pool import Workers

from .definition import Definition
from .programs import Step, compiled
from .stream_reader import StreamReader


@dataclass(slots=True)
class Stats:
    """Batches, records, and where the seconds went. `source` and `transfer` pass on a background thread, if one reads ahead."""

    batches: int = 0
    records: int = 0
    waiting: float = 0.0
    source: float = 0.0
    transfer: float = 0.0
    stages: float = 0.0

    def add_batch(self, records: int, waiting: float) -> None:
        """Count a batch that was handed over, and how long its user waited for it."""
        self.batches += 1
        self.records += records
        self.waiting += waiting

    def add_reading(self, *, source: float, transfer: float) -> None:
        """Count the seconds that reading a batch took, and handing it to the device."""
        self.source += source
        self.transfer += transfer

    def as_dict(self, record_bytes: int) -> dict[str, Any]:
        """What ``Pipeline.stats()`` gives."""
        return {
            "batches": self.batches,
            "records": self.records,
            "bytes": self.records * record_bytes,
            "seconds_waiting": self.waiting,
            "seconds_in_source": self.source,
            "seconds_in_transfer": self.transfer,
            "seconds_in_stages": self.stages,
        }


_NAMED: Final = 12  # records of a batch that an error lists


class Prepared(NamedTuple):
    """A batch before its stages: what the compiled step takes, and the fields that ride beside it."""

    size: int
    content: Any
    rows: np.ndarray | None = None
    record_ids: RecordIds | None = None
    mask: np.ndarray | None = None
    host_fields: dict[str, Any] | None = None
    behind: Any = None
    """The state of a stream behind this batch."""
    seconds: float = 0.0
    """How long it took to read and place it."""


class Route:
    """Makes batches of one source through its stages, which are taken apart here, once for many batches.

    `prepare` reads records and may run on another thread, one at a time; `finish` runs the stages, and is for the thread
    that the batches are served on. The route of a loop may use threads, which end with it.
    """

    def __init__(
        self, plan: Definition, stream: StreamReader | None, workers: Workers | None, stats: Stats, *, is_loop: bool
    ) -> None:
        source = plan.source
        self._source = source
        self._rule = plan.rule
        self._layout = plan.layout
        self._stream = stream
        self._workers = workers
        self._stats = stats
        self._randomness = plan.randomness
        self._stages = tuple(plan.stages)
        self._split = SplitModules(self._stages)
        gather: Callable[[Any, jax.Array], Batch] | None = None
        if source.access == "device":
            gather, self._arrays = source.compiled_records(plan.layout.data_sharding)
        self._is_gathered = gather is not None
        host_fields = host_fields_after(self._stages, split_host_fields(source.element_spec())[1])
        self._has_host_fields = bool(host_fields)
        self._is_plain = gather is None and not self._stages and plan.rule.pad_last is None
        self._run = compiled(Step(gather, self._split.structure, plan.rule.pad_last, plan.layout))
        self._is_loop = is_loop
        self._open_order()

    @property
    def may_read_ahead(self) -> bool:
        """Whether `prepare` does work that can be done ahead of the loop."""
        return not self._is_gathered and (self._stream is None or self._stream.is_resumable)

    def serves(self, source: DataSourceModule, stages: tuple[Any, ...]) -> bool:
        """Whether this is a route from ``source`` through these very stages, none of which can have changed since."""
        same = len(stages) == len(self._stages) and all(map(operator.is_, stages, self._stages))
        return self._source is source and same and not any(isinstance(stage, nnx.Module) for stage in stages)

    def version(self) -> int:
        """A number for what is read now: it moves on when the source is seeded or shuffled anew, or another route reads."""
        if self._stream is not None:
            return self._stream.claim(self)
        if self._source.order_key_data() is not self._words:
            self._version += 1
            self._open_order()
        return self._version

    def start_over(self, position: int) -> bool:
        """Begin a stream that has ended anew, its first record at ``position``; False if this is no stream."""
        if self._stream is None:
            return False
        self._stream.rewind(position)
        return True

    def prepare_ahead(self, wanted: tuple[int, int, int]) -> Prepared:
        """`prepare`, and place what was read on the device, while the loop does something else."""
        return self.prepare(wanted, ahead=True)

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:
        """Read the records of (start, size, version)."""
        if self._stream is not None:
            return self._next_of_stream(*wanted, ahead=ahead)
        start, size, _ = wanted
        indices, mask = self._rule.padded(self._window.take(start, size))
        record_ids = self._randomness.record_ids(self._source, start, indices)
        here = self._layout.rows_here(len(indices))
        own = indices if here is None else indices[here]
        if self._is_gathered:
            host_fields = self._source.host_field_records(own) if self._has_host_fields else {}
            return Prepared(size, self._arrays, indices, record_ids, mask, host_fields)
        fetch = self._source.fetch if self._workers is None else self._workers.fetch
        began = perf_counter()
        try:
            batch = fetch(own)
            read = perf_counter()
            batch, host_fields = self._handed(batch, len(indices), own, ahead=ahead)
        except Exception as error:
            error.add_note(
                f"while {self._source.title} read the records at positions {start} to {start + size - 1}: {_named(own)}"
            )
            raise
        ended = perf_counter()
        self._stats.add_reading(source=read - began, transfer=ended - read)
        return Prepared(size, batch, None, record_ids, mask, host_fields, seconds=ended - began)

    def finish(self, prepared: Prepared) -> Batch:
        """The batch after its stages, whose variables are written."""
        batch = prepared.content
        if not self._is_plain:
            began = perf_counter()
            batch, values = self._run(self._split.read(), batch, prepared.rows, prepared.mask, prepared.record_ids)
            self._split.write(values)
            self._stats.stages += perf_counter() - began
        if host_fields := host_fields_after(self._stages, prepared.host_fields) if prepared.host_fields else {}:
            return with_host_fields(batch, host_fields)
        return batch

    def _next_of_stream(self, start: int, size: int, turn: int, *, ahead: bool) -> Prepared:
        stream: Any = self._stream
        began = perf_counter()
        try:
            asked = size
            batch, size, behind = stream.read(start, asked, turn)
            read = perf_counter()
            if size < asked and self._rule.drop_last:
                return Prepared(size, None, behind=behind)  # nobody is handed it, and it need not divide
            rows, mask = stream.padded(size)
            own = stream.own(rows, self._layout.rows_here(len(rows)))
            batch, host_fields = self._handed(jax.tree.map(lambda leaf: leaf[own], batch), len(rows), None, ahead=ahead)
        except StopIteration:
            raise
        except Exception as error:
            error.add_note(f"while {self._source.title} read the next {size} records, from position {start} on")
            raise
        ended = perf_counter()
        self._stats.add_reading(source=read - began, transfer=ended - read)
        record_ids = self._randomness.stream_record_ids(self._source, start, rows, stream.num_parts)
        return Prepared(size, batch, None, record_ids, mask, host_fields, behind, ended - began)

    def _handed(
        self, batch: Batch, size: int, records: np.ndarray | None, *, ahead: bool
    ) -> tuple[Batch, dict[str, Any]]:
        """(the batch as a device has it, the fields that ride beside it).

        What is not read ahead goes into the compiled step as it is, which is the shortest way onto the default device.
        """
        batch, host_fields = split_host_fields(batch)
        batch = narrow(batch, records=records, origin=self._source.title)
        if ahead or self._is_plain or self._layout != DEFAULT:
            batch = self._layout.place(batch, size)
        return batch, host_fields

    def _open_order(self) -> None:
        if self._stream is None:
            self._words = self._source.order_key_data()
            self._window = self._source.order_reader(self._rule.batch_size, background=self._is_loop)

    _arrays: Any = None
    _version: int = 0


def _named(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:_NAMED].tolist()))
    return f"records {shown}{', ...' if len(indices) > _NAMED else ''}"
