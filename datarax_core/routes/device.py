"""The route from sources whose records lie on the device: a compiled step gathers them, or NumPy if that is a CPU."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from datarax_core.devices.layout import Layout, OneDevice
from datarax_core.records.intake import Intake
from datarax_core.records.spec import Batch, host_fields_after, split_host_fields
from datarax_core.sources.access import compiled_with
from datarax_core.sources.source import DataSourceModule

from .base import Prepared, Readers
from .definition import Definition
from .host_gather import HostGather, host_gather
from .indexed import IndexedRoute


class DeviceRoute(IndexedRoute):
    """Gathers a batch and runs the stages in one compiled step. Steps are dispatched without waiting for them.

    On a CPU, a loop without stages needs no step: `HostGather` makes its batches.
    """

    workers_refusal: ClassVar[str | None] = "on the device"
    threads_refusal: ClassVar[str | None] = "on the device"

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        self.gather, self._arrays = self.compiled_reader(definition.reader, definition.layout, definition.intake)
        super().__init__(definition, readers, is_loop=is_loop)
        served = host_fields_after(self._compiled_stages, split_host_fields(self._source.element_spec())[1])
        self._has_host_fields = bool(served)
        self._gatherer = self._gather_on_host(definition, readers) if is_loop else None
        if self._gatherer is not None:
            self._open_order()

    @property
    def may_read_ahead(self) -> bool:
        """False: the compiled step gathers the records."""
        return False

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:  # noqa: ARG002 - of the base class
        """Return the arrays and the indices with which the compiled step gathers the records, and read host fields."""
        start, size, _ = wanted
        began = perf_counter()
        if (
            self._gatherer is not None
            and (made := self._gatherer.batch(wanted, self._order, self._size_at)) is not None
        ):
            batch, indices = made
            prepared = Prepared(size, batch, None, None, None, self._host_fields(indices))
            self._stats.source += perf_counter() - began
            return prepared
        indices, mask, record_ids = self._next(start, size)
        rows = self._layout.indices_here(indices)
        return Prepared(size, self._arrays, rows, record_ids, mask, self._host_fields(indices))

    def _open_order(self) -> None:
        # computed by this thread: a third one would keep the other two waiting for the interpreter's lock
        self._reads_order_ahead = getattr(self, "_gatherer", None) is None
        super()._open_order()

    def close(self) -> None:
        """End the thread that gathers."""
        if self._gatherer is not None:
            self._gatherer.close()

    def _host_fields(self, indices: np.ndarray) -> dict[str, Any] | None:
        if not self._has_host_fields:
            return None
        here = self._layout.rows_here(len(indices))
        return self._source.host_field_records(indices if here is None else indices[here])

    def _size_at(self, position: int) -> int:
        end = self.end_of_run
        return self._rule.next_size(position, None if end is None else end - position)

    def _gather_on_host(self, definition: Definition, readers: Readers) -> HostGather | None:
        """Return how NumPy gathers whole batches; None where compiled code makes them, or nothing may be read ahead."""
        if not _serves_rows(definition):
            return None
        ahead = definition.prefetch
        return host_gather(
            self.gather,
            self._arrays,
            readers.buffers,
            rows_of=definition.source.table_rows,
            ahead=2 if ahead == "auto" else ahead,
            size=definition.rule.sizes.largest,
            default=definition.layout.data_sharding is None,
        )

    @classmethod
    def compiled_reader(
        cls, reader: Any, layout: Layout, intake: Intake
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return the source's own reader; its arrays lie where the batches lie."""
        return compiled_with(reader, layout.data_sharding, intake.wide)

    @classmethod
    def _traced_records(cls, source: DataSourceModule, layout: Layout, indices: jax.Array) -> Batch:
        if layout.data_sharding is None or split_host_fields(source.element_spec())[1]:
            return super()._traced_records(source, layout, indices)
        graphdef, state = nnx.split(source)
        return layout.gathered(_FetchOverMesh(graphdef), state, indices)  # a map over devices cannot close over tracers

    @classmethod
    def describe(cls, definition: Definition) -> Iterator[str]:
        """Yield the sentences of `Pipeline.explain` about the compiled step."""
        title, count = definition.source.title, len(definition.applied)
        stages = f"the {count} stages" if count > 1 else "the stage" if count else "no stages"
        yield f"device route: {title} is traceable: one compiled step gathers a batch and runs {stages}."
        if _serves_rows(definition) and jax.default_backend() == "cpu":
            yield "Without stages, NumPy gathers the batches of a loop from columns that lie on a CPU, some ahead on a thread."
        else:
            yield "Steps are dispatched without waiting for them; nothing is read ahead on a thread."

    @classmethod
    def describe_copies(cls, definition: Definition) -> Iterator[str]:
        """Yield that each device of a mesh holds all the data."""
        if hasattr(definition.layout, "sharding"):
            yield "Each device holds a copy of the data, and gathers its own rows."


def _serves_rows(definition: Definition) -> bool:
    """Return whether batches are rows of the source as they are, on one device, and some may be read ahead."""
    source, is_plain = definition.source, not definition.has_compiled_stages and definition.rule.pad_last is None
    is_on_one = isinstance(definition.layout, OneDevice) and bool(definition.prefetch)
    return is_plain and is_on_one and source.batch_sizes is None and not source.varies_by_epoch


@dataclass(frozen=True, slots=True)
class _FetchOverMesh:
    """Gathers records of a source that comes as an argument, on each device of a mesh."""

    graphdef: Any

    def __call__(self, state: Any, indices: jax.Array) -> Batch:
        batch: Batch = nnx.merge(self.graphdef, state).fetch_traced(indices, over_mesh=True)
        return batch
