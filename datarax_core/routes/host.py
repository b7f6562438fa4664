"""The route from sources that the host reads by index, in this process or in worker processes."""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, ClassVar, Final

import jax
import numpy as np

from datarax_core.devices.callbacks import HostRecords, raising_original
from datarax_core.devices.layout import Layout
from datarax_core.records.intake import Intake
from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.workers.pool import Workers

from .base import Prepared, Readers, describe_reading_ahead, describe_stages_after_placing
from .definition import Definition
from .indexed import IndexedRoute

_LISTED: Final = 12  # record indices of a batch that an error lists


class HostRoute(IndexedRoute):
    """Reads records at concrete indices. Compiled code reaches the source by a callback to the host."""

    workers_refusal: ClassVar[str | None] = None
    threads_refusal: ClassVar[str | None] = None

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        super().__init__(definition, readers, is_loop=is_loop)
        self._fetch = self._record_reader.fetch if readers.workers is None else readers.workers.fetch

    @property
    def may_read_ahead(self) -> bool:
        """True: the host reads the records."""
        return True

    def prepare(self, wanted: tuple[int, int, int], *, ahead: bool = False) -> Prepared:
        """Read the records that this process holds, with `workers` if there are some."""
        start, size, _ = wanted
        indices, mask, record_ids = self._next(start, size)
        here = self._layout.rows_here(len(indices))
        own = indices if here is None else indices[here]
        to_read = self._record_reader.indices_to_read(start, indices)
        began = perf_counter()
        try:
            batch = self._fetch(to_read if here is None else to_read[here])
            read = perf_counter()
            batch, host_fields = self._placed(batch, len(indices), own, ahead=ahead)
        except Exception as error:
            error.add_note(
                f"while {self._source.title} read the records at positions {start} to {start + size - 1}: {_listed(own)}"
            )
            raise
        ended = perf_counter()
        self._stats.add_reading(source=read - began, transfer=ended - read)
        return Prepared(size, batch, None, record_ids, mask, host_fields, seconds=ended - began)

    @classmethod
    def compiled_reader(
        cls,
        reader: DataSourceModule | StagedReader,
        layout: Layout,  # noqa: ARG003 - of the base class
        intake: Intake,
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return a callback to the host."""
        return HostRecords.of(reader, intake)

    @classmethod
    def run_compiled(cls, run: Callable[..., Any], *arguments: Any) -> Any:
        """Wait for the program, to raise an exception of the source as it is: JAX loses its type."""
        return raising_original(run, *arguments)

    @classmethod
    def workers_for(cls, definition: Definition, workers: Workers | None) -> Workers | None:
        """Return the processes that read for the source, started with the first batch of a pipeline that asks for them."""
        reader, size = definition.reader, definition.rule.batch_size
        if not definition.workers or (workers is not None and workers.reads(reader)):
            return workers
        here = definition.layout.rows_here(size)
        own = size if here is None else len(here)
        ahead = 2 if definition.prefetch == "auto" else definition.prefetch
        return Workers(reader, definition.workers, batch_size=own, ahead=ahead)

    @classmethod
    def describe(cls, definition: Definition) -> Iterator[str]:
        """Yield the sentences of `Pipeline.explain` about reading on the host, and hints to make it faster."""
        source, stages = definition.source, describe_stages_after_placing(definition)
        yield f"host route: {source.title} reads records at concrete indices; each batch is then placed on the device{stages}."
        yield describe_reading_ahead(definition)
        if definition.workers:
            yield f"Each batch is read by {definition.workers} processes, a part each."
        yield "step() and scan() inside compiled code reach the source by a callback to the host."
        if type(source).traceable:
            yield "It could be gathered on the device: placement='device', if the memory allows."
        elif not source.config.cacheable:
            yield "If decoding takes long and memory allows, cacheable=True keeps each record once it is read;"
            yield "if decoding runs in Python, workers=2 reads in processes of their own."


def _listed(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:_LISTED].tolist()))
    return f"records {shown}{', ...' if len(indices) > _LISTED else ''}"
