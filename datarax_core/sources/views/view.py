"""The base class of views: sources over sources, which need no memory but their parents' and tables made once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, SourceConfig, StructuralConfig
from datarax_core.devices.aside import Aside
from datarax_core.errors import ConfigError
from datarax_core.modules.fingerprints import Names, set_state_but
from datarax_core.records.intake import Changes
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.sources.access import Access, Capabilities, compiled_with, warn_of_one_epoch
from datarax_core.sources.identity import config_paths, files_of
from datarax_core.sources.reading_ahead import MappedAhead, ReadingAhead, Watch
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.verification import Verified

from .following import FollowsParent
from .mapping import MappedRecords, PlacedTables, TracedMap, checked_parent_indices
from .parents import checked_parents, entries_of_parents, names_of, titles_of

_MAPPED_BYTES: Final = 1 << 28


class SourceView(FollowsParent):
    """A source over other sources, its parents: what it serves is theirs, chosen, put together or read in another way.

    A class without methods of its own is a *wrapper*: it serves the records of one parent, of any access, streams included, in
    the parent's order and by the parent's record indices. What a subclass defines makes more of it:

    - `read_parent`: how the host reads the records of a parent, for wrappers that retry, log or measure. The view is then read
      by the host, also over a parent on the device.
    - `parent_indices` and ``__len__``, with ``renumbers = True``: an *index view*, each record of which is one record of the
      parent. With `traced_map`, it is gathered on the device where the parent is.
    - `get_records`, `element_spec` and ``__len__``: a view that *makes records*, and reads by `read_parent`.

    `view_fingerprint` adds to what a saved state must match, `describe_view` to what ``plan()`` shows. Access, order, copies,
    pickles, worker processes, threads, counts and states follow, without a line of the author's.

    A view whose indices are its own (``renumbers = True``) has an order of its own: shuffled, with the parent's key, if the
    first parent is shuffled when the view is made, else in sequence. ``shuffle`` in its config decides otherwise. (An order
    that the parent's author wrote is an order of the parent's records, and is not followed.)

    Args:
        config: The settings. A stochastic config shuffles the view with a key of its own, whatever the parents do.
        parents: The sources that are read; they stay usable, and keep their positions unless they are streams.
        rngs: Random streams from which another key than the parent's is drawn.
        name: Name of the view in errors, before the titles of the parents.

    Raises:
        TypeError: A parent is no source, or there is another number of them than the class reads.
        NotImplementedError: A parent is a stream, and the view needs records by index.
        ValueError: The view has an order of its own, and a parent serves some records more often than others; says what to do.
            Or the config says ``cacheable``, and the host never reads the records.
    """

    not_saved: ClassVar[tuple[str, ...]] = ("cursor.", "parents.")

    _tables = Aside[PlacedTables]()

    def __init__(
        self,
        config: StructuralConfig,
        *parents: DataSourceModule,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        kind = type(self)
        needs_indices = self._is_ordered_here or self._maps_indices or self._makes_records
        checked_parents(
            parents,
            kind.__name__ + (f" {name!r}" if name else ""),
            one_only=not self._makes_records,
            needs_indices=needs_indices,
            each_once=kind.renumbers,
        )
        self.parents = nnx.List(parents)
        self._tables = PlacedTables()
        super().__init__(config, rngs=rngs, name=name)
        first = parents[0]
        if kind.elements_ahead == DataSourceModule.elements_ahead:
            self.elements_ahead = first.elements_ahead
        if not self._is_ordered_here:
            self.stream_name = first.stream_name
        elif not self.stochastic:
            shuffle = getattr(config, "shuffle", None)
            self.is_random_order = first.is_random_order if shuffle is None else bool(shuffle)
        if config.cacheable and not self._makes_records and first.differs_in_shape:
            raise ValueError(
                f"cacheable=True keeps records of one shape, and batches of {first.title} differ in shape; set it for the "
                "source below that"
            )
        if config.cacheable and self._is_never_read_by_host:
            raise ValueError(
                f"cacheable=True has no use in {self.title}, whose records are not read by the host at given indices; leave it "
                "out, or set it in the config of the source below"
            )
        # in this sequence: `access` may ask a subclass for what its constructor has not made yet
        if any(parent.varies_by_epoch for parent in parents) and not self.varies_by_epoch:
            warn_of_one_epoch(self.title, self._reason_of_one_epoch)

    # -- methods that an author writes ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if type(self).renumbers:
            raise TypeError(f"{self.title} has no length: it does not define __len__()")
        length = self.epoch_length
        if length is None:
            raise TypeError(f"{self.title} has no length: {self.parent.title} has none")
        return length

    def element_spec(self) -> ElementSpec:
        """Return the element spec of the first parent, or what a view that makes records says."""
        if self._makes_records and len(self.parents) > 1:
            raise NotImplementedError(f"{type(self).__name__} does not define element_spec()")
        return self.parent.element_spec()

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return int (k,): the record index of the parent for each record index, int64 (k,), of this view; O(k).

        All ``indices`` are in range. By default they are the parent's.

        Called: for each batch on the host, on any thread that reads, and once for all records where a table or column is
            made.
        Default: the indices: records have the parent's indices.
        """
        return indices

    def traced_map(self) -> TracedMap | None:
        """Return (hashable function of arguments and traced int32 (k,) indices, arguments): `parent_indices` in compiled code.

        Arguments are a pytree of NumPy arrays, the same objects at each call: they are placed on each device once, and never
        are constants of a program. Equal functions share compiled programs. None if there is none: the host then maps the
        indices, and reads the records.

        Called: when the access is decided, and while compiled code is traced.
        Default: None: the host maps the indices.
        """
        return None

    def read_parent(self, indices: np.ndarray, parent: int = 0) -> Batch:
        """Return the records of a parent at concrete ``indices`` of its own, int64 (k,); the host calls it for every read.

        Of a parent whose records vary by epoch, indices are as its `indices_to_read` returns them.

        Called: for each batch of a view that the host reads, on any thread that reads; ask it only for indices of the
            parent.
        Default: fetches from the parent, and counts its substitutes.
        """
        source = self.parents[parent]
        before = source.substituted_here
        by_host = source.access == "device" and self.access != "device"
        batch: Batch = source.fetch_on_host(indices) if by_host else source.fetch(indices)
        self.note_substituted(source.substituted_here - before)
        return batch

    def view_fingerprint(self) -> dict[str, Any]:
        """Return entries, as JSON, that a saved state must match besides config and parents, such as a table's checksum.

        Called: by `fingerprint` and `entries_of_places`, when a state is saved or restored.
        Default: an empty dict.
        """
        return {}

    def describe_view(self) -> str:
        """Return one or more lines for ``plan()``, ``drx plan`` and ``drx peek``: "keeps 4,012 of 60,000 records".

        Called: by ``plan()``, ``drx plan`` and ``drx peek``.
        Default: "".
        """
        return ""

    # -- making views --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Any:
        """Return the view of the source, or sources, that the config nests; over a mixture, see `over`."""
        rngs = getattr(build, "rngs", None)
        nested = getattr(config, "sources", None) or getattr(config, "source", None)
        if nested is None:
            field = "sources" if "sources" in type(config).model_fields else "source"
            raise ConfigError(f"{config.type} in a config needs its {field!r}: the source that it is a view of")
        if isinstance(nested, SourceConfig):
            return cls.over(config, build(nested), rngs=rngs)
        return cls(config, *(build(each) for each in nested), rngs=rngs)

    @classmethod
    def over(
        cls,
        config: StructuralConfig,
        parent: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> DataSourceModule:
        """Return the view of one source; a view that `renumbers`, of a mixture, is the mixture of the view of each child.

        So that proportions stay as the mixture's config says.

        Called: by `from_config`, and by users in place of the constructor.
        Default: the view, or a mixture of views.
        """
        if cls.renumbers and not parent.serves_each_once:
            mixed = parent.over_children(lambda child: cls.over(config, child, rngs=nnx.clone(rngs), name=name))
            if mixed is not None:
                return mixed  # type: ignore[no-any-return]  # a mixture
        return cls(config, parent, rngs=rngs, name=name)

    def over_parents(self, *parents: DataSourceModule) -> Self:
        """Return this view over other parents; a class whose constructor takes other arguments overrides it.

        Called: by `process_part`, `split` and `over_children`, which need this view of other sources.
        Default: calls the constructor with the config and the parents.
        """
        twin = type(self)(self.config, *parents, rngs=nnx.clone(self.rngs), name=self.name)
        if twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        return twin

    def over_children(self, make: Callable[[DataSourceModule], DataSourceModule]) -> DataSourceModule | None:
        """Return this view of the parent's mixture of ``make(child)``, if it passes on the records of a mixture."""
        if self._is_ordered_here or self._makes_records:
            return None
        mixed = self.parent.over_children(make)
        return None if mixed is None else self.over_parents(mixed)

    # -- description ---------------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Name in errors and reports: ``WindowView 'train' of MemorySource 'tokens'``."""
        return f"{super().title} of {titles_of(self.parents)}"

    def sources_below(self) -> Mapping[str, Any]:
        """Return the parents, by number."""
        return {str(number): parent for number, parent in enumerate(self.parents)}

    def plan(self, num_epochs: int | None = 1) -> str:
        """Describe a run, and below it what this view and those in it do; a wrapper of a mixture serves the mixture's."""
        if self._is_ordered_here or self.parent.serves_each_once:
            return super().plan(num_epochs)
        own = self.describe_view().splitlines()
        return "\n".join(
            [self.parent.plan(num_epochs), *([f"{type(self).__name__}: {own[0]}", *own[1:]] if own else [])]
        )

    def describe_data(self) -> str:
        """Return the data of the parents."""
        return names_of(self.parents)

    @property
    def access(self) -> Access:
        """How the records are reached: as the parent's, if compiled code can map the indices; else by the host."""
        of_parent = self.parent.access
        if of_parent != "device":
            return of_parent
        by_host = self._makes_records or self._hooks_reads or (self._maps_indices and self.traced_map() is None)
        return "host" if by_host else "device"

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of this source; of a wrapper of a stream, those of the stream."""
        return self.parent.capabilities if self.access == "stream" else super().capabilities

    @property
    def reads_neighbours_together(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether a parent reads neighbours faster together."""
        return any(parent.reads_neighbours_together for parent in self.parents)

    @property
    def releases_gil(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether reading some parent releases the interpreter lock."""
        return any(parent.releases_gil for parent in self.parents)

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may read: `thread_safe`, also of all parents."""
        return self.thread_safe and all(parent.is_thread_safe for parent in self.parents)

    # -- records -------------------------------------------------------------------------------------------------------------

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the parent's records differ from epoch to epoch, and this view can follow; the constructor warns if not.

        A view that makes records overrides this if its records do.
        """
        if self._makes_records or self._keeps_records or not self.parent.varies_by_epoch:
            return False
        return not (self._is_ordered_here and self.parent.reorders_by_epoch)

    @property
    def reorders_by_epoch(self) -> bool:
        """Whether a record index stands for another record in another epoch."""
        return not self._makes_records and self.parent.reorders_by_epoch

    def indices_to_read(self, start: int | jax.Array, indices: Any) -> Any:
        """Return the indices by which to `fetch` the records ``indices`` at positions from ``start`` on."""
        if self._is_ordered_here or not self.varies_by_epoch:
            return super().indices_to_read(start, indices)
        return self.parent.indices_to_read(start, indices)

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices`` from the parent; traced ``indices`` if the view is on the device."""
        if isinstance(indices, jax.core.Tracer) and self.access == "device":
            return self.parent.get_records(self._mapped(indices))
        return self.read_parent(self._rows_of_parent(indices))

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, checked and cached by the parent.

        Records of a subclass that makes or reads them itself are checked here, and cached if its config is ``cacheable``.
        """
        return self.get_records(indices) if self._passes_on else super().fetch(indices)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at concrete ``indices`` one by one, as the parent returns them."""
        if not self._passes_on:
            return super().get_elements(indices)
        return self.parent.get_elements(self._rows_of_parent(indices))

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the records at traced ``indices``, as the parent's `fetch_traced` does."""
        if self.access != "device" or self.varies_by_epoch:
            self.require_no_host_fields()
            return self.fetch_by_callback(indices)
        if over_mesh and self._maps_indices:
            self.require_no_host_fields()
            return self.fetch_by_callback(indices)
        return self.parent.fetch_traced(self._mapped(indices), over_mesh=over_mesh)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, as the parent's `fetch_on_host` does."""
        return self.parent.fetch_on_host(self._rows_of_parent(indices)) if self._passes_on else self.fetch(indices)

    def reading_ahead(self, watch: Watch) -> ReadingAhead | None:
        """Return what reads the parent's records before one loop fetches them; None for a view that makes records of them."""
        ahead = self.parent.reading_ahead(watch) if self._passes_on and self.parent.access == "host" else None
        return MappedAhead(ahead, self._rows_of_parent) if ahead is not None and self._maps_indices else ahead

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which records at ``indices`` cannot be read; errors name the parent's record indices."""
        if self._makes_records:
            return super().verify_records(indices)
        return self.parent.verify_records(self._rows_of_parent(np.asarray(indices), epochs=False))

    @property
    def differs_in_shape(self) -> bool:
        """Whether batches differ in shape; of a view that passes records on, whether the parent's do."""
        return not self._makes_records and self.parent.differs_in_shape

    @property
    def largest_record(self) -> int:
        """Index of a record whose arrays are as large as the element spec says."""
        return self.parent.largest_record if self.differs_in_shape else super().largest_record

    @property
    def changes_columns(self) -> bool:
        """Whether the parent changes columns before they are narrowed."""
        return self.access == "device" and self.parent.changes_columns

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None, changes: Changes | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return (function of arrays and indices, arrays) with which a compiled step reads this view."""
        read, arrays = compiled_with(self.parent, sharding, changes)
        traced_map = self.traced_map()
        if traced_map is None:
            return read, arrays
        mapping, arguments = traced_map
        return MappedRecords(mapping, read), (arrays, self._tables.placed(arguments, sharding))

    def table_rows(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows of the parent's arrays that hold the records at concrete ``indices``."""
        return self.parent.table_rows(self._rows_of_parent(indices, epochs=False))

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``."""
        return self.parent.host_field_records(self._rows_of_parent(indices))

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field over all records, if the parent has it; an index view makes one of 256 MiB at most.

        None if `read_parent` is overridden, so that nothing is read past it.
        """
        if self._makes_records or self._hooks_reads:
            return None
        column = self.parent.whole_column(field)
        if column is None or not self._maps_indices:
            return column
        if column.nbytes // max(len(column), 1) * self.num_records > _MAPPED_BYTES:
            return None
        gathered: np.ndarray | Ragged = column[self._all_rows()]
        return gathered

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the size of the first axis of a field in each record; None if nothing knows them."""
        if self._makes_records:
            return super().record_lengths(field)
        lengths = self.parent.record_lengths(field)
        if lengths is None or not self._maps_indices:
            return lengths
        if not lengths.strides[0]:  # one length of all records
            return np.broadcast_to(lengths[:1], (self.num_records,)) if len(lengths) else None
        return np.asarray(lengths[self._all_rows()])

    def data_files(self) -> Sequence[str] | None:
        """Return the files of all parents, and those that the config names; None if a parent's data are not from files."""
        of_parents = [parent.data_files() for parent in self.parents]
        if any(files is None for files in of_parents):
            return None
        own = files_of(config_paths(self.config))
        return [*own, *(path for files in of_parents for path in files or ())]

    def reset_cache(self) -> None:
        """Drop the records cached here, and the parents' caches, which all their views share."""
        super().reset_cache()
        for parent in self.parents:
            parent.reset_cache()

    def close(self) -> None:
        """Close the parents: their open files and threads; the next read opens them again."""
        for parent in self.parents:
            parent.close()

    # -- inside --------------------------------------------------------------------------------------------------------------

    @property
    def _makes_records(self) -> bool:
        return type(self).get_records is not SourceView.get_records

    @property
    def _maps_indices(self) -> bool:
        return type(self).parent_indices is not SourceView.parent_indices

    @property
    def _hooks_reads(self) -> bool:
        return type(self).read_parent is not SourceView.read_parent

    @property
    def _keeps_records(self) -> bool:
        """Whether ``cacheable`` keeps records here, and not the parent's."""
        if not self.config.cacheable or self.access != "host":
            return False
        return self._makes_records or not self.parent.config.cacheable

    @property
    def _is_never_read_by_host(self) -> bool:
        """Whether records are on the device or a stream, as far as the class alone tells."""
        if type(self).access is not SourceView.access or self._makes_records or self.parent.access == "host":
            return False
        if self._hooks_reads:
            return self.parent.access == "stream"
        return not self._maps_indices or type(self).traced_map is not SourceView.traced_map

    @property
    def _passes_on(self) -> bool:
        """Whether records are passed on as the parent returns them."""
        return not (self._makes_records or self._hooks_reads or self._keeps_records)

    @property
    def _reason_of_one_epoch(self) -> str:
        if self._makes_records:
            return "it makes records of them by record index alone"
        return "cacheable=True keeps them" if self._keeps_records else "in the next, its parent orders all records anew"

    def _rows_of_parent(self, indices: Any, *, epochs: bool = True) -> np.ndarray:
        """Return int64 (k,): the indices by which the parent reads the records ``indices``."""
        if not self._maps_indices:
            return indices  # type: ignore[no-any-return]  # the parent checks them
        rows = np.asarray(indices)
        if not (epochs and self.varies_by_epoch):
            return checked_parent_indices(self, rows, self.parent.num_records)
        passed, rows = np.divmod(rows.astype(np.int64), self.num_records)
        of_epoch = self.parent.num_records * passed
        return np.asarray(checked_parent_indices(self, rows, self.parent.num_records) + of_epoch)

    def _all_rows(self) -> np.ndarray:
        return self._rows_of_parent(np.arange(self.num_records), epochs=False)

    def _mapped(self, indices: jax.Array) -> jax.Array:
        traced_map = self.traced_map()
        return indices if traced_map is None else self._tables.mapped(traced_map, indices)

    # -- copies and states -----------------------------------------------------------------------------------------------------

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, DataSourceModule]:
        """Return disjoint parts of the records by name; of a wrapper of a mixture, wrapped parts of the mixture."""
        if self.serves_each_once or self._is_ordered_here:
            return super().split(seed=seed, **shares)
        parts = self.parent.split(seed=seed, **shares)
        return {name: self.over_parents(part) for name, part in parts.items()}

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """Return a copy as `DataSourceModule.copy` does: of the same parents, shuffled as this view or as ``config`` says."""
        twin = super().copy(config=config, rngs=rngs, name=name)
        if config is None and self._is_ordered_here:
            twin.is_random_order = self.is_random_order
        return twin

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the parents; a stream is copied, since only one reader can read a stream."""
        return tuple(parent.copy() if parent.access == "stream" else parent for parent in self.parents)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with `view_fingerprint` and the fingerprint of each parent."""
        return {
            **super().fingerprint(),
            **self.view_fingerprint(),
            **entries_of_parents(self.parents, with_order=not self._is_ordered_here),
        }

    def entries_of_places(self) -> frozenset[str]:
        """Return the names of what says what a record of the view is, and those of the parents.

        They are those of `view_fingerprint`, and the config of a view that renumbers: a stride or a strategy need not change
        the number of its records.
        """
        own = {*self.view_fingerprint(), *(("config",) if self.renumbers else ())}
        of_parents = {f"parents.{k}.{name}" for k, one in enumerate(self.parents) for name in one.entries_of_places()}
        return frozenset(own | of_parents)

    def get_state(self) -> dict[str, Any]:
        """Return position, variables and fingerprint as JSON; of a wrapper of a stream, with the stream's state."""
        if self.access != "stream":
            return super().get_state()
        return {**super().get_state(), "parent": self.parent.get_state()}

    def set_state(self, state: dict[str, Any], but: Names = ()) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        ``but`` names what was changed on purpose; see `DataSourceModule.set_state`.
        """
        if self.access != "stream" or not isinstance(state, dict):
            super().set_state(state, but)
            return
        own = {name: value for name, value in state.items() if name != "parent"}
        before = super().get_state()
        super().set_state(own, but)
        try:
            set_state_but(self.parent, state.get("parent"), but, prefix="parents.0.")
        except BaseException:  # an interruption by the user must not leave half of a state restored either
            super().set_state(before)
            raise
