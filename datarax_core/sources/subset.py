"""Parts of a source: fixed sets of its record indices, which no shuffle, epoch or resume leaks one into another."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, StructuralConfig
from datarax_core.order.order import Order
from datarax_core.order.selection import Selection, TracedSelection
from datarax_core.records.spec import Batch, ElementSpec

from .access import Access
from .source import DataSourceModule
from .verification import Verified


@dataclass(frozen=True)
class SelectedRecords:
    """How a compiled step reads a subset of a device source: the indices are mapped, then the parent is read."""

    select: TracedSelection
    read: Callable[[Any, jax.Array], Batch]

    def __call__(self, arrays: tuple[Any, Any], indices: jax.Array) -> Batch:
        """The batch of the subset's records ``indices``; ``arrays`` are (the parent's, those of the selection)."""
        return self.read(arrays[0], self.select(arrays[1], indices))


class Subset(DataSourceModule):
    """Some records of another source, as ``source[a:b]`` and ``source.split(...)`` make it.

    Record i of a subset is the same record of its parent for ever, found by arithmetic: there is no table, and the data
    stays the parent's. What the parent can do the subset can, at its access; the parent's order, position and counts
    are not touched.

    The order is the subset's own: shuffled if the parent is when the subset is made, with the parent's key, else in the
    sequence of the records. (An order that the parent's author wrote is not followed: it is one of other records.) Of a
    parent that serves one shard, the subset serves that shard of its own order.

    Args:
        config: Its settings. One that is stochastic shuffles the subset with a key of its own, whatever the parent does.
        parent: Holds the records; stays usable.
        selection: Which of them, in which sequence.
        rngs: Random streams, to draw another key than the parent's from.
        name: What errors call it, before the parent's title.

    Raises:
        NotImplementedError: The parent is a stream.
        ValueError: The subset, or the shard of it that the parent serves, is empty.
    """

    not_saved: ClassVar[tuple[str, ...]] = ("cursor.", "parent.")

    def __init__(
        self,
        config: StructuralConfig,
        parent: DataSourceModule,
        selection: Selection,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
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

    @classmethod
    def of(cls, parent: DataSourceModule, rows: range, *, seed: int | None = None, name: str | None = None) -> Self:
        """The records ``rows`` of a source; with ``seed``, those at these places of the shuffle it selects."""
        config = StructuralConfig(cacheable=parent.config.cacheable, batch_stats_fn=parent.config.batch_stats_fn)
        return cls(config, parent, Selection(parent.num_records, rows, seed), name=name)

    @property
    def title(self) -> str:
        """What errors call it: ``Subset 'train' of MemorySource 'digits'``."""
        return f"{type(self).__name__} {repr(self.name) if self.name else self._selection} of {self.parent.title}"

    @property
    def length(self) -> int:
        """Number of records."""
        return len(self._selection.rows)

    def __len__(self) -> int:
        return self.length

    # -- records --------------------------------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """The parent's."""
        return self.parent.access

    def order(self) -> Order:
        """The positions this subset serves, as arithmetic."""
        return self._order

    def element_spec(self) -> ElementSpec:
        """The parent's."""
        return self.parent.element_spec()

    def parent_indices(self, indices: Any) -> np.ndarray:
        """int64 (k,): the parent's record indices of this subset's records ``indices``.

        Raises:
            IndexError: An index is out of range.
        """
        indices = np.asarray(indices)
        if indices.size and (indices.min() < 0 or indices.max() >= self.length):
            wrong = indices[(indices < 0) | (indices >= self.length)][0]
            raise IndexError(f"record {wrong} is out of range: {self.title} has {self.length} records")
        return np.asarray(self._selection.parent_indices(indices))

    def get_records(self, indices: Any) -> Batch:
        """The records at ``indices``, as the parent gives them: traced indices if it takes those, else concrete ones."""
        if isinstance(indices, jax.core.Tracer):
            select, arguments = self._selection.traced()
            return self.parent.get_records(select(arguments, indices))
        rows, parent = self.parent_indices(indices), self.parent
        skipped = parent.get_operation_stats()["skipped_count"]
        batch = parent.fetch(rows)
        self.note_substituted(parent.get_operation_stats()["skipped_count"] - skipped)
        return batch

    def fetch(self, indices: np.ndarray) -> Batch:
        """The parent's records, checked and kept there; kept here if only this subset's config says ``cacheable``."""
        return super().fetch(indices) if self._keeps_records else self.get_records(indices)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The parent's elements."""
        if self._keeps_records:
            return super().get_elements(indices)
        return self.parent.get_elements(self.parent_indices(indices))

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """The parent's, with the indices mapped before."""
        if self._keeps_records:
            return super().fetch_traced(indices, over_mesh=over_mesh)
        select, arguments = self._selection.traced()
        return self.parent.fetch_traced(select(arguments, indices), over_mesh=over_mesh)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """The parent's, at concrete ``indices``."""
        return self.fetch(indices) if self._keeps_records else self.parent.fetch_on_host(self.parent_indices(indices))

    def verify_records(self, indices: np.ndarray) -> Verified:
        """The parent's, whose record indices the errors name."""
        return self.parent.verify_records(self.parent_indices(indices))

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """The parent's, with the indices mapped before: all parts of one split or of like slices share one program."""
        read, arrays = self.parent.compiled_records(sharding)
        select, arguments = self._selection.traced()
        return SelectedRecords(select, read), (arrays, arguments)

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The parent's."""
        return self.parent.host_field_records(self.parent_indices(indices))

    def reset_cache(self) -> None:
        """Drop the records kept here, and those that the parent keeps for all its subsets."""
        super().reset_cache()
        self.parent.reset_cache()

    # -- copies and states ----------------------------------------------------------------------------------------------

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """See `DataSourceModule.copy`: the same records of the same parent, shuffled if this one is or ``config`` says so."""
        twin = super().copy(config=config, rngs=rngs, name=name)
        if config is None:
            twin.is_random_order = self.is_random_order
        return twin

    def constructor_data(self) -> tuple[Any, ...]:
        """The parent and the selection."""
        return (self.parent, self._selection)

    def fingerprint(self) -> dict[str, Any]:
        """That of every source, with the selection, and what the parent's records are known by."""
        own = super().fingerprint()
        of_parent = {name: value for name, value in self.parent.fingerprint().items() if name not in _OF_THE_SUBSET}
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


_OF_THE_SUBSET = {"order", "seed", "element_spec"}  # the parent's own order changes nothing in a subset

DataSourceModule.subset_class = Subset.of
