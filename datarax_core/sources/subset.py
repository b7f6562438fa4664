"""Parts of a source: fixed sets of its record indices, disjoint whatever is shuffled, repeated or resumed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np
from flax import nnx

from datarax_core.config.models import StructuralConfig
from datarax_core.order.selection import Selection
from datarax_core.order.tables import TableSelection
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch

from .access import Access
from .source import DataSourceModule
from .views.condition_words import conditions_in_words, name_of_function
from .views.conditions import Condition, Length, conditions_of, kept_by, key_of
from .views.kept_tables import kept_table
from .views.mapping import PlacedTables, TracedMap, require_within
from .views.view import SourceView

_OWN_ENTRIES: Final = {"order", "seed", "element_spec"}  # the order of the parent changes nothing in a subset


class Subset(SourceView):
    """Some of the records of another source, its parent.

    ``source[a:b]`` and ``source.split(...)`` return subsets by arithmetic; ``source[indices]``, ``source[mask]``,
    ``source.where(...)`` and ``source.filter(...)`` such by a table: 8 bytes a record, 4 on a device, placed once.

    A record index of a subset always refers to the same record of the parent, which keeps the data. A subset has the access and
    the capabilities of its parent, and does not change the parent's order, position and counts.

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
        ValueError: The subset, or the shard of it that the parent serves, is empty; or the parent is a mixture, whose
            proportions it would lose.
    """

    renumbers: ClassVar[bool] = True
    config_in_fingerprint: ClassVar[bool] = False

    def __init__(
        self,
        config: StructuralConfig,
        parent: DataSourceModule,
        selection: Selection | TableSelection,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not len(selection):
            raise ValueError(
                f"{selection} of {parent.title} holds none of its {selection.population} records; a subset has one at least"
            )
        self._selection = selection
        super().__init__(config, parent, rngs=rngs, name=name)
        self.order()  # raises if the shard is empty

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "parent" in vars(self):  # the parent's place in pickles of version 0.1.0
            self.parents = nnx.List([vars(self).pop("parent")])
            vars(self).pop("_order", None)
            self._tables = PlacedTables()

    @classmethod
    def of(cls, parent: DataSourceModule, rows: Any, *, seed: int | None = None, name: str | None = None) -> Self:
        """Return some records of a source.

        Args:
            parent: The source.
            rows: A range or an array of record indices, or a mask; with ``seed`` a range of positions of the seed's shuffle.
            seed: Selects a fixed shuffle of the records.
            name: Name of the subset.

        Called: by ``source[indices]`` and `split`.
        """
        parent.require_record_indices()
        if isinstance(rows, range):
            selection: Selection | TableSelection = Selection(parent.num_records, rows, seed)
        else:
            selection = TableSelection.of(rows, parent.num_records, parent.title)
        return cls(config_of_part(parent), parent, selection, name=name)

    @classmethod
    def kept(
        cls,
        parent: DataSourceModule,
        keep: Mapping[str, Any] | Callable[[Batch], Any],
        *,
        fields: Sequence[str] | None = None,
        key: str | None = None,
        name: str | None = None,
    ) -> DataSourceModule:
        """Return the records that conditions (see `DataSourceModule.where`) or a function (see `filter` there) keep.

        Called: by `where` and `filter`.
        """
        if not parent.serves_each_once:
            mixed = parent.over_children(lambda child: cls.kept(child, keep, fields=fields, key=key, name=name))
            if mixed is not None:
                return mixed  # type: ignore[no-any-return]  # a mixture
        if parent.access == "stream":
            raise NotImplementedError(
                f"{'where' if isinstance(keep, Mapping) else 'filter'}() needs records by index, and {parent.title} is a "
                "stream, which is read forward only; write its records to files, and choose among these"
            )
        parent.require_record_indices()
        if isinstance(keep, Mapping):
            mask = fulfilling(parent, conditions_of(keep, parent))
        elif callable(keep):
            mask = kept_table(
                parent, lambda batch, _: keep(batch), key=key and ["filter", key], dtype=bool, fields=fields
            )
        else:
            raise TypeError(
                f"filter() of {parent.title} takes a function of a batch that returns one boolean a record, not {keep!r:.80}; "
                "conditions on fields go to where()"
            )
        if not mask.any():
            by = f"where({_listed(keep)})" if isinstance(keep, Mapping) else "the function of filter()"
            raise ValueError(
                f"{by} keeps none of the {len(mask):,} records of {parent.title}; a subset has one at least: look at the "
                "values that there are, such as by drx peek, and keep some of them"
            )
        reason = (
            f"where {conditions_in_words(keep)}"
            if isinstance(keep, Mapping)
            else f"that {name_of_function(keep)} keeps"
        )
        selection = TableSelection(parent.num_records, np.flatnonzero(mask), reason)
        return cls(config_of_part(parent), parent, selection, name=name)

    @property
    def title(self) -> str:
        """Name in errors and reports: ``Subset 'train' of MemorySource 'digits'``."""
        return f"{type(self).__name__} {repr(self.name) if self.name else self._selection} of {self.parent.title}"

    @property
    def selection(self) -> Selection | TableSelection:
        """The record indices of the parent, in their sequence.

        Called: by users, and views of parts.
        """
        return self._selection

    @property
    def length(self) -> int:
        """Number of records.

        Called: by users.
        """
        return len(self._selection)

    def __len__(self) -> int:
        return self.length

    @property
    def access(self) -> Access:
        """The access of the parent."""
        return self.parent.access

    def parent_indices(self, indices: Any) -> np.ndarray:
        """Return int64 (k,): the parent's record indices of this subset's records ``indices``."""
        return np.asarray(self._selection.parent_indices(np.asarray(indices)))

    def _rows_of_parent(self, indices: Any, *, epochs: bool = True) -> np.ndarray:
        """Return as every view does; what a selection names is in range, and is not checked again for each batch."""
        if epochs and self.varies_by_epoch:
            return super()._rows_of_parent(indices, epochs=epochs)
        rows = np.asarray(indices)
        require_within(self, rows)
        return np.asarray(self._selection.parent_indices(rows))

    def fetch_of_order(self) -> Callable[[np.ndarray], Batch]:
        """Return the parent's, after a look into the selection, unless a subclass reads in a way of its own."""
        methods = ("fetch", "get_records", "parent_indices", "_rows_of_parent")
        if (
            not self._passes_on
            or self.varies_by_epoch
            or any(getattr(type(self), m) is not getattr(Subset, m) for m in methods)
        ):
            return self.fetch
        parent, note, mapped, fetch = (
            self.parent,
            self.note_substituted,
            self._selection.parent_indices,
            self.parent.fetch_of_order(),
        )

        def fetch_mapped(indices: np.ndarray) -> Batch:
            before = parent.substituted_here
            batch = fetch(mapped(indices))
            note(parent.substituted_here - before)
            return batch

        return fetch_mapped

    def traced_map(self) -> TracedMap:
        """Return `parent_indices` for compiled code. All parts of a split, and all slices of one length, share one program.

        Raises:
            ValueError: The parent has more records than 32-bit indices address.
        """
        return self._selection.traced(self.title)

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field if the parent has it: of a slice without a copy, else one of 256 MiB at most."""
        rows = self._selection.as_slice if isinstance(self._selection, Selection) else None
        column = None if rows is None or self._hooks_reads else self.parent.whole_column(field)
        if column is None or rows is None or (isinstance(column, Ragged) and rows.step not in (None, 1)):
            return super().whole_column(field)
        return column[rows]

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the parent and the selection."""
        return (self.parent, self._selection)

    def over_parents(self, *parents: DataSourceModule) -> Self:
        """Return these records of another source, which has as many."""
        (parent,) = parents
        return type(self)(self.config, parent, self._selection, rngs=nnx.clone(self.rngs), name=self.name)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with the selection and the parent's fingerprint."""
        own = DataSourceModule.fingerprint(self)
        of_parent = {name: value for name, value in self.parent.fingerprint().items() if name not in _OWN_ENTRIES}
        return {
            **own,
            "subset": self._selection.fingerprint(),
            **{f"parent.{name}": value for name, value in of_parent.items()},
        }

    def entries_of_places(self) -> frozenset[str]:
        """Return the names of the entry of the selection, and of those of the parent."""
        return frozenset({"subset"} | {f"parent.{name}" for name in self.parent.entries_of_places()})

    def describe_view(self) -> str:
        """Return how many of the parent's records this subset has."""
        reason = getattr(self._selection, "reason", "")
        return f"keeps {self.length:,} of {self._selection.population:,} records{reason and f' {reason}'}"


def config_of_part(parent: DataSourceModule) -> StructuralConfig:
    """Return the config of a part of a source: kept records and statistics as the source's."""
    return StructuralConfig(cacheable=parent.config.cacheable, batch_stats_fn=parent.config.batch_stats_fn)


def fulfilling(source: DataSourceModule, conditions: Mapping[str, Condition]) -> np.ndarray:
    """Return bool (num_records,): which records of a source fulfil all conditions, as `conditions_of` returns them.

    Lengths that the source knows are not read; of other fields, see `kept_table`.
    """
    kept = np.ones(source.num_records, bool)
    left: dict[str, Condition] = {}
    for field, condition in conditions.items():
        lengths = source.record_lengths(field) if isinstance(condition, Length) else None
        if lengths is None or not isinstance(condition, Length):
            left[field] = condition
        else:
            kept &= condition.of.keeps(lengths)
    if left:
        key = key_of(left)
        kept &= kept_table(
            source,
            lambda batch, _: kept_by(left, batch),
            key=None if key is None else ["where", key],
            dtype=bool,
            fields=list(left),
            what="filter",
        )
    return kept


def _listed(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{field}={condition!r:.80}" for field, condition in conditions.items())
