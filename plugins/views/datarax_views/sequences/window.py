"""View of windows: runs of one length, over records that follow one another or inside records of varying length."""

import functools
import os
from collections.abc import Callable
from typing import Any, ClassVar, Final

import jax
import numpy as np
from flax import nnx

from datarax_core.devices import Aside
from datarax_core.order import DEVICE_LIMIT
from datarax_core.records import Batch, Changes, ElementSpec, named_fields, split_host_fields
from datarax_core.sources import Access, DataSourceModule, SourceView, compiled_with

from .held_columns import HeldColumns
from .windows.config import WindowViewConfig
from .windows.fields import WindowFields
from .windows.gather import window_rows
from .windows.laid_out import layout_of
from .windows.layout import Found, Layout, RowLayout
from .windows.plan import Cut
from .windows.traced import TracedWindows, traced_windows

__all__ = ["WindowView", "WindowViewConfig"]

WINDOW_RULE: Final = 1
"""Version of the arithmetic, a part of every saved state."""

_FIRST_EPOCH: Final = np.zeros((), np.int64)


class WindowView(SourceView):
    """Windows of one length over the records of a source, or inside each of them.

    Where no field varies in length, a window is ``length`` records that follow one another, of a token file or a time series:
    each field becomes an array (length, ...). Where fields vary in length, windows are cut inside each record, of these fields,
    and never go on to the next record unless the config says ``cross``; other fields are those of the record that the window
    begins in. With a ``shift`` there is a field of targets besides, the same elements further on.

    Windows are arithmetic: of records that follow one another nothing is held, of records of varying length one number each. A
    window is found in O(log n). Lengths come from `lengths_of`: offsets in memory, notes beside files, ``length_field``, or one
    pass that is kept. Columns that the source holds or maps in one piece are read in one gather, without copies of records; of
    other sources the records that windows cover are read, each once a batch. Over a source on the device, windows of records
    that follow one another are gathered on the device.

    Args:
        config: The settings.
        parent: The records.
        rngs: Random streams from which another key than the parent's is drawn, for the order of the windows.
        name: Name of the view in errors.

    Raises:
        SpecError: A field is missing or cannot be cut; or a window is longer than what it is cut from: says which record, and
            how many there are.
        RecordError: Two fields that are cut together differ in length.
        NotImplementedError: The parent is a stream.
    """

    config: WindowViewConfig
    config_class: ClassVar = WindowViewConfig
    renumbers: ClassVar[bool] = True

    _layout = Aside[Layout]()

    def __init__(
        self,
        config: WindowViewConfig,
        parent: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, parent, rngs=rngs, name=name)
        self._held = HeldColumns()
        self._fields = WindowFields.of(config, parent, self.title)
        self._layout = layout_of(config, self._fields, parent, self.title)

    def __len__(self) -> int:
        return self._layout.windows.num_windows

    @property
    def cut(self) -> Cut:
        """The way in which windows are cut."""
        return self._layout.windows.cut

    def element_spec(self) -> ElementSpec:
        """Return the spec of a window: fields that are cut as (length, ...), others as they are, targets and mask."""
        return self._fields.spec(self.parent.element_spec())

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the rule of the arithmetic, and the checksum of what is held of records of varying length."""
        checksum = self._layout.checksum
        return {"windows": f"rule {WINDOW_RULE}", **({} if checksum is None else {"lengths": checksum})}

    def describe_view(self) -> str:
        """Return how many windows there are, over what, and what is left over."""
        return self._layout.summary

    # -- access --------------------------------------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """``"device"`` over a source on the device, for windows of records that follow one another; else ``"host"``."""
        layout = self._layout if "_layout" in vars(self) else None
        is_placed = self.parent.access == "device" and not self._hooks_reads and not self.parent.varies_by_epoch
        fits = isinstance(layout, RowLayout) and layout.num_records + layout.windows.cut.span <= DEVICE_LIMIT
        return "device" if is_placed and fits else "host"

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the records of the parent differ from epoch to epoch, each under its own index."""
        return self.parent.varies_by_epoch and not self.parent.reorders_by_epoch and not self._keeps_records

    @property
    def changes_columns(self) -> bool:
        """False: fields are narrowed as the parent narrows them."""
        return False

    # -- records -------------------------------------------------------------------------------------------------------------

    def get_records(self, indices: Any) -> Batch:
        """Return the windows at ``indices``, traced or not; on the device if the source is."""
        if isinstance(indices, jax.core.Tracer):
            return self.fetch_traced(indices)
        if self.access == "host" or os.getpid() != self._saved_work.process:  # in a fork, JAX would wait without end
            return self._on_host(indices)
        self._checked(indices)
        read, arrays = self.compiled_records()
        batch = _gathered(read, arrays, np.asarray(indices, np.int32))
        host_fields = named_fields(self.host_field_records(indices))
        return self._fields.arranged({**named_fields(batch), **host_fields}) if host_fields else batch

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the windows at concrete ``indices``, through the cache if the config is ``cacheable``.

        They are made of records that the parent has checked, and by arithmetic: they are not checked again.
        """
        is_cached = self.config.cacheable and self.access == "host"
        return super().fetch(indices) if is_cached else self.get_records(indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the windows at concrete ``indices`` as NumPy arrays, without running compiled code."""
        return self._on_host(indices) if self.access == "device" else self.fetch(indices)

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the windows at traced ``indices``; a callback reads them unless the source is on the devices of the trace."""
        self.require_no_host_fields()
        left_out = jax.tree.leaves(split_host_fields(self.parent.element_spec())[1])  # which the parent would refuse
        if self.access != "device" or over_mesh or left_out:
            return self.fetch_by_callback(indices)
        num_rows = np.int32(self._layout.num_records)
        return traced_windows(self._fields, self.cut, num_rows, indices, self.parent.fetch_traced)

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None, changes: Changes | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return (function of arrays and indices, arrays) with which a compiled step reads windows."""
        read, arrays = compiled_with(self.parent, sharding, changes)
        return TracedWindows(self._fields, self.cut, read), (arrays, np.int32(self._layout.num_records))

    def host_field_records(self, indices: np.ndarray) -> Batch:
        """Return the host fields at concrete ``indices``, over a source on the device."""
        if not jax.tree.leaves(split_host_fields(self.element_spec())[1]):
            return {}
        layout, span = self._layout, self.cut.span
        starts = layout.windows.places(self._checked(indices)[0]).starts
        rows = window_rows(starts, span, layout.num_records)
        columns = named_fields(self.parent.host_field_records(rows.ravel()))
        firsts = dict.fromkeys(columns, np.arange(len(starts)) * span)
        windows = Found(columns, firsts, layout.num_records - starts, {}).windows(self._fields, self.cut)
        made = (*columns, self._fields.target_field)
        return self._fields.arranged({name: column for name, column in windows.items() if name in made})

    # -- reading, for the layout ---------------------------------------------------------------------------------------------

    def whole_columns(self, fields: tuple[str, ...], others: tuple[str, ...] = ()) -> dict[str, Any] | None:
        """Return columns that the parent has in one piece, unless reads are hooked: runs of numbers, and others of any kind."""
        if self._hooks_reads or self.parent.varies_by_epoch:
            return None
        return self._held.get(fields, self.parent, others)

    def parent_title(self) -> str:
        """Return the title of the parent."""
        return self.parent.title

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _checked(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return (windows, epochs) of concrete indices.

        Raises:
            IndexError: An index is out of range.
        """
        windows, epochs = np.asarray(indices, np.int64), _FIRST_EPOCH
        if self.varies_by_epoch:
            epochs, windows = np.divmod(windows, len(self))
        length = len(self)
        if windows.size and windows.view(np.uint64).max() >= length:  # negative ones are large without a sign
            wrong = windows[(windows < 0) | (windows >= length)][0]
            raise IndexError(f"record {wrong} is out of range: {self.title} has {length} records")
        return windows, epochs

    def _on_host(self, indices: Any) -> Batch:
        windows, epochs = self._checked(indices)
        found = self._layout.found(self._fields, windows, epochs, self)
        return self._fields.arranged(found.windows(self._fields, self.cut))


@functools.partial(jax.jit, static_argnums=0)
def _gathered(read: Callable[[Any, jax.Array], Batch], arrays: Any, indices: Any) -> Batch:
    return read(arrays, indices)
