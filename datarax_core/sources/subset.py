"""Parts of a source: fixed sets of its record indices, disjoint whatever is shuffled, repeated or resumed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, StructuralConfig
from datarax_core.order.order import Order
from datarax_core.order.selection import Selection, TracedSelection
from datarax_core.records.intake import Changes
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec

from .access import Access, compiled_with, warn_of_one_epoch
from .source import DataSourceModule
from .verification import Verified

_OWN_ENTRIES: Final = {"order", "seed", "element_spec"}  # the order of the parent changes nothing in a subset


class Subset(DataSourceModule):
    """Some of the records of another source, its parent; ``source[a:b]`` and ``source.split(...)`` return subsets.

    A record index of a subset always refers to the same record of the parent. Arithmetic maps the index; there is no table,
    and the parent keeps the data. A subset has the access and the capabilities of its parent, and does not change the
    parent's order, position and counts.

    A subset has an order of its own. The order is shuffled, with the parent's key, if the parent is shuffled when the subset
    is made; else the records are served in sequence. (An order that the parent's author wrote is an order of all records,
    and is not followed.) If the parent serves one shard, the subset serves that shard of its own order.

    Args:
        config: The settings. A stochastic config shuffles the subset with a key of its own, whatever the parent does.
        parent: Holds the records; stays usable.
        selection: The record indices of the parent, in their sequence.
        rngs: Random streams from which another key than the parent's is drawn.
        name: Name of the subset in errors, before the parent's title.

    Raises:
        NotImplementedError: The parent is a stream.
        ValueError: The subset, or the shard of it that the parent serves, is empty.
    """

    not_saved: ClassVar[tuple[str, ...]] = ("cursor.", "parent.")
    config_in_fingerprint: ClassVar[bool] = False

    def __init__(
        self,
        config: StructuralConfig,
        parent: DataSourceModule,
        selection: Selection,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        parent.require_record_indices()
        parent.require_no_batches(f"{type(self).__name__} {name or selection}")
        if not len(selection.rows):
            raise ValueError(
                f"{selection} of {parent.title} holds none of its {selection.population} records; a subset has one at least"
            )
        self.parent = parent
        self._selection = selection
        super().__init__(config, rngs=rngs, name=name)
        self.elements_ahead = parent.elements_ahead
        self._order = replace(parent.order(), length=len(selection.rows))
        if not self.stochastic:
            self.is_random_order = parent.is_random_order
        if parent.varies_by_epoch and not self.varies_by_epoch:
            reason = (
                "cacheable=True keeps them"
                if self._keeps_records
                else "in the next, its parent orders all records anew"
            )
            warn_of_one_epoch(self.title, reason)

    @classmethod
    def of(cls, parent: DataSourceModule, rows: range, *, seed: int | None = None, name: str | None = None) -> Self:
        """Return the records ``rows`` of a source; with ``seed``, the records at positions ``rows`` of the seed's shuffle."""
        config = StructuralConfig(cacheable=parent.config.cacheable, batch_stats_fn=parent.config.batch_stats_fn)
        return cls(config, parent, Selection(parent.num_records, rows, seed), name=name)

    @property
    def title(self) -> str:
        """Name in errors and reports: ``Subset 'train' of MemorySource 'digits'``."""
        return f"{type(self).__name__} {repr(self.name) if self.name else self._selection} of {self.parent.title}"

    def describe_data(self) -> str:
        """Return the data of the parent."""
        return self.parent.describe_data()

    @property
    def length(self) -> int:
        """Number of records."""
        return len(self._selection.rows)

    def __len__(self) -> int:
        return self.length

    # -- records --------------------------------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """The access of the parent."""
        return self.parent.access

    @property
    def reads_neighbours_together(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether the parent reads neighbours faster together."""
        return self.parent.reads_neighbours_together

    @property
    def releases_gil(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether reading the parent releases the interpreter lock."""
        return self.parent.releases_gil

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may read from the parent."""
        return self.parent.is_thread_safe

    def order(self) -> Order:
        """Return the order of the positions that this subset serves."""
        return self._order

    def element_spec(self) -> ElementSpec:
        """Return the element spec of the parent."""
        return self.parent.element_spec()

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the parent's records differ from epoch to epoch, and this subset can follow; the constructor warns if not."""
        return self.parent.varies_by_epoch and not self.parent.reorders_by_epoch and not self._keeps_records

    def parent_indices(self, indices: Any) -> np.ndarray:
        """Return int64 (k,): the indices by which the parent reads this subset's records ``indices``.

        Raises:
            IndexError: An index is out of range.
        """
        indices, epochs = np.asarray(indices), 0
        if self.varies_by_epoch:
            epochs, indices = np.divmod(indices, self.length)
        if indices.size and (indices.min() < 0 or indices.max() >= self.length):
            wrong = indices[(indices < 0) | (indices >= self.length)][0]
            raise IndexError(f"record {wrong} is out of range: {self.title} has {self.length} records")
        return np.asarray(self._selection.parent_indices(indices)) + self.parent.num_records * epochs

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices`` from the parent; traced ``indices`` if the parent is traceable."""
        if isinstance(indices, jax.core.Tracer):
            select, arguments = self._selection.traced(self.title)
            return self.parent.get_records(select(arguments, indices))
        rows, parent = self.parent_indices(indices), self.parent
        before = parent.substituted_here
        batch = parent.fetch(rows)
        self.note_substituted(parent.substituted_here - before)
        return batch

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, checked and cached by the parent.

        If only this subset's config is ``cacheable``, they are cached here.
        """
        return super().fetch(indices) if self._keeps_records else self.get_records(indices)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at concrete ``indices`` one by one, as the parent returns them."""
        if self._keeps_records:
            return super().get_elements(indices)
        return self.parent.get_elements(self.parent_indices(indices))

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the records at traced ``indices``, as the parent's `fetch_traced` does."""
        is_mapped_by_host = self.access == "host" and not self._selection.fits_device
        if self._keeps_records or is_mapped_by_host or self.varies_by_epoch:
            return super().fetch_traced(indices, over_mesh=over_mesh)
        select, arguments = self._selection.traced(self.title)
        return self.parent.fetch_traced(select(arguments, indices), over_mesh=over_mesh)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, as the parent's `fetch_on_host` does."""
        return self.fetch(indices) if self._keeps_records else self.parent.fetch_on_host(self.parent_indices(indices))

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which records at ``indices`` cannot be read; errors name the parent's record indices."""
        return self.parent.verify_records(self.parent_indices(indices))

    @property
    def changes_columns(self) -> bool:
        """Whether the parent changes columns before they are narrowed."""
        return self.parent.changes_columns

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None, changes: Changes | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return (function of arrays and indices, arrays) with which a compiled step reads this subset.

        All parts of a split, and all slices of one length, share one program.
        """
        read, arrays = compiled_with(self.parent, sharding, changes)
        select, arguments = self._selection.traced(self.title)
        return SelectedRecords(select, read), (arrays, arguments)

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``."""
        return self.parent.host_field_records(self.parent_indices(indices))

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field, without a copy, if this is a slice of a parent that has it in one piece; else None."""
        rows = self._selection.as_slice if isinstance(self._selection, Selection) else None
        column = None if rows is None else self.parent.whole_column(field)
        is_copied = column is None or (isinstance(column, Ragged) and self._selection.rows.step != 1)
        return None if is_copied else column[rows]

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (k,): the parent's lengths of these records; None if the parent does not know them."""
        lengths = self.parent.record_lengths(field)
        if lengths is None or not lengths.strides[0]:  # of one value for all records
            return None if lengths is None else lengths[: self.length]
        return np.asarray(lengths[self.parent_indices(np.arange(self.length))])

    def reset_cache(self) -> None:
        """Drop the records cached here, and the parent's cache, which all its subsets share."""
        super().reset_cache()
        self.parent.reset_cache()

    # -- copies and states ----------------------------------------------------------------------------------------------

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """Return a copy as `DataSourceModule.copy` does: the same records, shuffled as this subset or as ``config`` says."""
        twin = super().copy(config=config, rngs=rngs, name=name)
        if config is None:
            twin.is_random_order = self.is_random_order
        return twin

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the parent and the selection."""
        return (self.parent, self._selection)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with the selection and the parent's fingerprint."""
        own = super().fingerprint()
        of_parent = {name: value for name, value in self.parent.fingerprint().items() if name not in _OWN_ENTRIES}
        return {
            **own,
            "subset": self._selection.fingerprint(),
            **{f"parent.{name}": value for name, value in of_parent.items()},
        }

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _first_key(self, rngs: nnx.Rngs | None) -> np.ndarray | None:
        if self.stochastic or self.parent.order_key is None:
            return super()._first_key(rngs)
        self.stream_name = self.parent.stream_name
        return np.array(self.parent.order_key.get_raw_value()) if rngs is None else self.draw_order_key(rngs)

    @property
    def _keeps_records(self) -> bool:
        return self.access == "host" and self.config.cacheable and not self.parent.config.cacheable


@dataclass(frozen=True)
class SelectedRecords:
    """Reads a subset of a device source in a compiled step: maps the indices to the parent's, and reads the parent."""

    select: TracedSelection
    read: Callable[[Any, jax.Array], Batch]

    def __call__(self, arrays: tuple[Any, Any], indices: jax.Array) -> Batch:
        """Return the subset's records at ``indices``; ``arrays`` are (arrays of the parent, arrays of the selection)."""
        return self.read(arrays[0], self.select(arrays[1], indices))


DataSourceModule.subset_class = Subset.of
