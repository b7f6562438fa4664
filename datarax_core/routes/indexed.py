"""The base of the routes from sources that are read by index: order, record ids, and steps in a user's trace."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.devices.callbacks import records_by_callback
from datarax_core.devices.layout import Layout
from datarax_core.modules.cursor import Cursor
from datarax_core.records.spec import Batch, split_host_fields
from datarax_core.sources.access import compiled_with
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.on_host.reader import StagedReader
from datarax_core.stages.randomness import RecordIds

from .base import Readers, Route
from .definition import Definition, require_one_size
from .programs import require_no_served_host_fields, served


class IndexedRoute(Route):
    """A route from a source that serves any position of its order."""

    _reads_order_ahead: bool = True
    """Whether a thread computes record indices ahead of a loop."""

    def __init__(self, definition: Definition, readers: Readers, *, is_loop: bool) -> None:
        super().__init__(definition, readers, is_loop=is_loop)
        self._version = 0
        self._open_order()

    def _open_order(self) -> None:
        self._key_data = self._source.order_key_data()
        if self._source.batch_sizes is not None:  # they depend on the order
            self._rule = replace(self._rule, batch_size=None).over(self._source)
        rule = self._rule
        size = rule.largest_size(self._source.epoch_length) if self._is_loop else rule.sizes.largest
        ahead = self._is_loop and self._reads_order_ahead
        self._order = self._source.order_reader(size, background=ahead)
        self._order.end = self.end_of_run

    def end_at(self, position: int | None) -> None:
        """Note where the run ends: no record behind it is looked for."""
        super().end_at(position)
        self._order.end = position

    def version(self) -> int:
        """Return a number that moves on when the source is seeded or shuffled anew."""
        if self._source.order_key_data() is not self._key_data:
            self._version += 1
            self._open_order()
        return self._version

    def _next(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray | None, RecordIds | None]:
        """Return (record indices, mask, record ids) of the batch at position ``start``."""
        indices, mask = self._order.take(start, size), None
        if self._rule.pad_last is not None:
            indices, mask = self._rule.padded(indices, self._rule.full_size_at(start))
        return indices, mask, self._stage_keys.record_ids(self._source, start, indices)

    @classmethod
    def record_ids(cls, definition: Definition, start: Any, rows: Any) -> RecordIds | None:
        """Return the ids of the records with the indices ``rows``."""
        return definition.stage_keys.record_ids(definition.source, start, rows)

    @classmethod
    def traced_batch(cls, definition: Definition, cursor: Cursor) -> Batch:
        """Return the full batch at the traced position of ``cursor``, after its stages.

        Raises:
            SpecError: The batch would have host fields; names them.
        """
        source, rule, layout = definition.source, definition.rule, definition.layout
        require_no_served_host_fields(definition)
        position, size = cursor.here, require_one_size(definition, "step() in compiled code")
        indices = source.record_indices_at(position, size, source.order_key_data())
        mask = None if rule.pad_last is None else jnp.ones(size, jnp.bool_)
        record_ids = cls.record_ids(definition, position, indices)
        intake, reader = definition.intake, definition.reader
        indices = reader.indices_to_read(position, indices)
        if isinstance(reader, StagedReader):
            source.require_callback()
            keys = definition.stage_keys.raw_key_data if reader.draws else ()
            batch = layout.gathered(
                lambda keys, own: records_by_callback(reader, own, intake, keys if reader.draws else None),
                keys,
                indices,
            )
        elif not intake or (source.access == "device" and not (intake.wide and source.changes_columns)):
            batch = cls._traced_records(source, layout, indices)
        elif source.access == "device" and layout.data_sharding is None:
            gather, arrays = compiled_with(source, None, intake.wide.for_trace())
            batch = gather(arrays, indices)
        else:
            batch = layout.gathered(lambda _, own: records_by_callback(source, own, intake), (), indices)
        return served(definition.applied, batch, rule.pad_last, mask, record_ids, layout=layout)

    @classmethod
    def _traced_records(cls, source: DataSourceModule, layout: Layout, indices: jax.Array) -> Batch:
        """Return the records at traced ``indices``, without host fields.

        The trace is a user's, who may hand in the source as an argument, but not its data.
        """
        if split_host_fields(source.element_spec())[1]:
            return layout.gathered(lambda _, own: source.fetch_by_callback(own), (), indices)
        return layout.gathered(lambda _, own: source.fetch_traced(own), (), indices)

    @classmethod
    def describe_records(cls, source: DataSourceModule) -> str:
        """Return how many records the source has, and in which order."""
        return f"{source.epoch_length} records {source.order_title}"
