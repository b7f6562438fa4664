"""The route from sources whose records lie on the device: a compiled step gathers them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from flax import nnx

from datarax_core.devices.layout import Layout
from datarax_core.records.intake import Intake
from datarax_core.records.spec import Batch, host_fields_after, split_host_fields
from datarax_core.sources.access import compiled_with
from datarax_core.sources.source import DataSourceModule

from .base import Prepared, Readers
from .definition import Definition
from .indexed import IndexedRoute


class DeviceRoute(IndexedRoute):
    """Gathers a batch and runs the stages in one compiled step. Steps are dispatched without waiting for them."""

    workers_refusal: ClassVar[str | None] = "on the device"
    threads_refusal: ClassVar[str | None] = "on the device"

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        self.gather, self._arrays = self.compiled_reader(definition.reader, definition.layout, definition.intake)
        super().__init__(definition, readers, is_loop=is_loop)
        served = host_fields_after(self._compiled_stages, split_host_fields(self._source.element_spec())[1])
        self._has_host_fields = bool(served)

    @property
    def may_read_ahead(self) -> bool:
        """False: the compiled step gathers the records."""
        return False

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:  # noqa: ARG002 - of the base class
        """Return the arrays and the indices with which the compiled step gathers the records, and read host fields."""
        start, size, _ = wanted
        indices, mask, record_ids = self._next(start, size)
        host_fields = None
        if self._has_host_fields:
            here = self._layout.rows_here(len(indices))
            host_fields = self._source.host_field_records(indices if here is None else indices[here])
        return Prepared(size, self._arrays, indices, record_ids, mask, host_fields)

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
        yield "Steps are dispatched without waiting for them; nothing is read ahead on a thread."

    @classmethod
    def describe_copies(cls, definition: Definition) -> Iterator[str]:
        """Yield that each device of a mesh holds all the data."""
        if hasattr(definition.layout, "sharding"):
            yield "Each device holds a copy of the data, and gathers its own rows."


@dataclass(frozen=True, slots=True)
class _FetchOverMesh:
    """Gathers records of a source that comes as an argument, on each device of a mesh."""

    graphdef: Any

    def __call__(self, state: Any, indices: jax.Array) -> Batch:
        batch: Batch = nnx.merge(self.graphdef, state).fetch_traced(indices, over_mesh=True)
        return batch
