"""The mixture, as a source."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig, StructuralConfig
from datarax_core.devices import Aside
from datarax_core.errors import ConfigError
from datarax_core.order import Order, key_data, whole_number
from datarax_core.records import Batch, Changes, ElementSpec
from datarax_core.sources import (
    Access,
    Capabilities,
    DataSourceModule,
    Verified,
    compiled_with,
    field_struct,
    view_lines,
)

from .child_view import MixedChildView
from .children import HasParts, MixedChildren, checked_children, fingerprint_of, parts_of
from .config import MixDataSourcesConfig
from .device_table import DeviceTable
from .fields import Fields
from .order import CategoricalOrder, ProportionalOrder
from .plan import plan_of
from .reading import IndexedReading, StreamReading, reading_of, start_over
from .stages import StagedTimeline
from .timeline import Timeline

if TYPE_CHECKING:
    import grain

_CHILDREN_AHEAD: Final = 8


class MixDataSourcesNode(DataSourceModule):
    """A weighted mixture: several sources as one, in exact proportions.

    After any number of records each child's count is within one of its share. Each child is served in its own order (shuffled
    if the child is) with a key derived from the mixture's key, epoch after epoch of the child: none of its records comes twice
    before all have come. With ``sampling="categorical"`` children and records are drawn with replacement instead.

    Weights may change at positions, in stages and ramps; see `counts_at`, `weights_at` and `plan`.

    The mixture is on the device if all children are and all their records fit there; it is a stream if any child is, and the
    records of that child then come in the child's own sequence; otherwise the host reads it.

    Its records are the children's, one child after another: ``mix[len(first)]`` is the first record of the second child. An
    epoch has ``len(mix)`` records: as many as the children have together, or as ``stop`` says.

    Args:
        config: Settings of the mixture.
        sources: The children, in the order of the weights, or by name; or one source that has ``parts()``, such as groups,
            whose parts are the children. They stay usable: the mixture moves their positions only if they are streams.
        rngs: Random streams; the key is drawn from the stream ``mix``.
        name: Name of the mixture in errors.

    Raises:
        TypeError: ``sources`` are no sources.
        ValueError: Their number differs from the config's, a child with a weight is empty, or the config cannot be applied
            to them.
        SpecError: Their element specs differ; names child, field and both specs.
    """

    config_class: ClassVar[type[SourceConfig]] = MixDataSourcesConfig
    config: MixDataSourcesConfig
    not_saved: ClassVar[tuple[str, ...]] = ("cursor.", "children.")
    config_in_fingerprint: ClassVar[bool] = False
    counts_are_fixed: ClassVar[bool] = True
    _mixed = Aside[MixedChildren]()

    def __init__(
        self,
        config: MixDataSourcesConfig,
        sources: Sequence[DataSourceModule] | Mapping[str, DataSourceModule] | HasParts,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, MixDataSourcesConfig):
            raise TypeError(f"{type(self).__name__} needs a MixDataSourcesConfig, not {config!r:.80}")
        if (parts := parts_of(sources, config)) is not None:
            sources = parts
        if isinstance(sources, Mapping):
            config = config.with_names(list(sources))
        super().__init__(config, rngs=rngs, name=name)
        children = checked_children(sources, config, self.title)
        self.children = nnx.List(children)
        self._mixed = MixedChildren.of(children, config, self.title)
        self._reading: IndexedReading | StreamReading = reading_of(children, self._mixed)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        earlier = vars(self._mixed).pop("stream", None)  # in pickles of version 0.1.0, also of mixtures without streams
        if earlier is not None:
            reading = reading_of(self.children, self._mixed)
            self._reading = (
                reading if isinstance(reading, IndexedReading) else StreamReading.restored(self._mixed, earlier)
            )

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """Return the mixture of the sources that the config nests."""
        if not isinstance(config, MixDataSourcesConfig):
            raise TypeError(f"{cls.__name__} is built from a MixDataSourcesConfig, not {config!r:.80}")
        if config.sources is None:
            raise ConfigError("a mix in a config needs its 'sources': a list of sources, or a mapping of them by name")
        rngs = getattr(build, "rngs", None)
        if isinstance(config.sources, SourceConfig):
            whole = build(config.sources)
            if not callable(getattr(whole, "parts", None)):
                raise ConfigError(
                    f"the sources of a mix are one of type {config.sources.type!r}, which has no parts; give a list of "
                    "sources, a mapping of them by name, or one source that has parts, such as {type: groups, ...}"
                )
            return cls(config, whole, rngs=rngs)  # type: ignore[arg-type]  # it has parts
        return cls(config, list(map(build, config.sources)), rngs=rngs)

    # -- description ----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the children; their numbers if they have none."""
        return self.config.child_names

    @property
    def weights(self) -> tuple[float, ...]:
        """The exact shares that are served, as floats, of weights in stages those at the start; see `weights_at`.

        `plan` reports how far they are from the config's weights.
        """
        return self.weights_at(0)

    def weights_at(self, position: int) -> tuple[float, ...]:
        """Return the shares that are served at ``position``; on a ramp, those of its straight line."""
        return self.timeline.weights_at(whole_number("position", position, at_least=0))

    @property
    def mixed(self) -> MixedChildren:
        """The children as one set of records."""
        return self._mixed

    @property
    def timeline(self) -> Timeline | StagedTimeline:
        """The mapping between positions and (child, position in the child's own order)."""
        return self._mixed.timeline

    @property
    def mixing(self) -> ProportionalOrder | CategoricalOrder:
        """The arithmetic from positions to records."""
        return self._mixed.mixing

    @property
    def draws(self) -> CategoricalOrder:
        """The arithmetic by which a record of this mixture is drawn at random."""
        return self._mixed.draws

    @property
    def fields(self) -> Fields:
        """The element spec, and the fields that are added to the children's records."""
        return self._mixed.fields

    @property
    def device_table(self) -> DeviceTable | None:
        """All records in one table; None if the only child has a table of its own, or if a child is a stream."""
        return self._mixed.table

    @property
    def access(self) -> Access:
        """How the children are reached, all together."""
        return self._mixed.access(self.children)

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the children, all together."""
        is_stream = self.access == "stream"
        return Capabilities(
            random_access=not is_stream,
            batched_reads=True,
            traceable=self.access == "device",
            resumable=all(child.capabilities.resumable for child in self.children),
            sized=self.epoch_length is not None,
        )

    @property
    def reads_neighbours_together(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether a child reads neighbours faster together; the records of a child are neighbours, too."""
        return any(child.reads_neighbours_together for child in self.children)

    @property
    def releases_gil(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether reading some child releases the interpreter lock."""
        return any(child.releases_gil for child in self.children)

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may read from all children at once."""
        return all(child.is_thread_safe for child in self.children)

    def __len__(self) -> int:
        length = self.epoch_length
        if length is None:
            raise TypeError(f"{self.title} has no length: one of its children is a stream without one")
        return length

    @property
    def epoch_length(self) -> int | None:
        """Records in an epoch: as many as the children have, or as ``stop`` says; None if a child has no length."""
        return self.mixing.epoch_length

    @property
    def positions_ahead(self) -> int:  # type: ignore[override]  # an attribute of other sources
        """Positions computed at once: more than for one source, since each child's positions of a chunk cost one call."""
        one = DataSourceModule.positions_ahead
        return min(one * min(len(self.children), _CHILDREN_AHEAD), max(one, self.epoch_length or 0))

    @property
    def serves_each_once(self) -> bool:
        """False: an epoch serves records of some children again, and may leave out records of others."""
        return False

    @property
    def num_records(self) -> int:
        """Number of record indices: those of the children, one child after another."""
        return int(self._mixed.offsets[-1])

    def element_spec(self) -> ElementSpec:
        """Return the children's element spec with the fields that are added."""
        return self.fields.spec

    # -- order ----------------------------------------------------------------------------------------------------------

    def order(self) -> Order:
        """Raise NotImplementedError: the order of a mixture is made of its children's orders."""
        raise NotImplementedError(f"{self.title} has no order of its own, but its children's; see record_indices_at()")

    @property
    def order_title(self) -> str:
        """Name of the order in reports."""
        return f"from {len(self.children)} sources, {self.config.sampling}"

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects.

        Raises:
            ValueError: ``key`` is None.
        """
        self.require_random_access()
        if key is None:
            raise ValueError(
                f"{self.title} draws the orders of its children from a key: pass one, such as jax.random.key(0), or "
                "source.order_key_data() for its own"
            )
        return self._mixed.record_indices(self.children, start, size, key_data(key))

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """Return int (size,): for each record at these positions, the epoch of its child in which it is served."""
        return self._mixed.epochs(self.children, start, size)

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Do nothing if ``enabled`` is True: the children are shuffled or not, never the mixture.

        Raises:
            ValueError: ``enabled`` is not True.
        """
        if enabled is not True:
            raise ValueError(
                f"the order of {self.title} is that of its children; call their set_random_order() instead"
            )

    def counts_at(self, position: int) -> dict[str, int]:
        """Return, by name of the child, the number of its records before ``position``."""
        position = whole_number("position", position, at_least=0)
        counts = self.mixing.counts(self.children, position, self.order_key_data())
        return dict(zip(self.names, map(int, counts), strict=True))

    def stats_at(self, position: int) -> dict[str, Any]:
        """Return ``records_by_child``: the result of `counts_at`."""
        return {"records_by_child": self.counts_at(position)}

    def stats(self) -> dict[str, Any]:
        """Return ``records`` served so far by the mixture itself (not by a pipeline), and ``records_by_child``."""
        return {"records": self.cursor.position, **self.stats_at(self.cursor.position)}

    def describe_data(self) -> str:
        """Return the titles of the children."""
        return " and ".join(child.title for child in self.children)

    @property
    def resume_note(self) -> str:
        """How children that are streams of other libraries resume, and at what cost."""
        notes = zip(self.names, (child.resume_note for child in self.children), strict=True)
        return "\n".join(f"Child {name!r}: {note}" for name, note in notes if note)

    def plan(self, num_epochs: int | None = 1) -> str:
        """Describe a run: records and epochs by child, the end of each child, the end of the mixture; reads no record."""
        return "\n".join([plan_of(self, num_epochs), *view_lines(self)])

    def sources_below(self) -> Mapping[str, DataSourceModule]:
        """Return the children by name."""
        return dict(zip(self.names, self.children, strict=True))

    # -- records --------------------------------------------------------------------------------------------------------

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the records of a child differ from epoch to epoch, and are not kept by ``cacheable``."""
        return not self.config.cacheable and any(child.varies_by_epoch for child in self.children)

    @property
    def reorders_by_epoch(self) -> bool:
        """Whether a record index of a child stands for another record in another epoch."""
        return any(child.reorders_by_epoch for child in self.children)

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices``, traced or not; on the device if the children are, else as NumPy arrays."""
        if isinstance(indices, jax.core.Tracer):
            return self.fetch_traced(indices)
        return self._mixed.on_device(self, indices) if self.access == "device" else self._mixed.on_host(self, indices)

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``; they are kept if the config says ``cacheable``."""
        return super().fetch(indices) if self.config.cacheable else self.get_records(indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, read by the host in one call for each child."""
        if self.config.cacheable:
            return self.fetch(indices)
        return self._mixed.on_host(self, indices, may_compile=False)

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the records at traced ``indices``; read by a callback unless the mixture is on the devices of the trace."""
        self.require_no_host_fields()
        if self.access != "device" or over_mesh:
            return self.fetch_by_callback(indices)
        table = self.device_table
        return self.children[0].fetch_traced(indices) if table is None else table.traced(indices, self.title)

    @property
    def changes_columns(self) -> bool:
        """Whether columns can be changed before they are narrowed: those of the table can, or those of the single child."""
        return self.access == "device" and (self.device_table is not None or self.children[0].changes_columns)

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None, changes: Changes | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return a gather from the table of all records, placed at the first call; for a single child, that child's."""
        table = self.device_table
        if table is None:
            return compiled_with(self.children[0], sharding, changes)
        return table.compiled(sharding, self.title, changes)

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``."""
        return self._mixed.host_fields(self, indices)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records as single elements, as each child returns them, with the fields that are added."""
        return self._mixed.elements(self.children, indices)

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the lengths of the children's records, one child after another; None if one has none."""
        if self.access == "stream" or not field_struct(self, field).shape:
            return None
        return self._mixed.record_lengths(self.children, field)

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records at ``indices`` cannot be read; errors name the children's record indices."""
        self.require_random_access()
        return self._mixed.verify(self.children, indices)

    def __getitem__(self, index: int | slice) -> Any:
        """Return the record with this index, counted through the children.

        Raises:
            NotImplementedError: ``index`` is a slice; slice the children, not the mixture.
        """
        if isinstance(index, slice):
            raise NotImplementedError(
                f"a slice of {self.title} would have other proportions; mix slices of the children, or split() it"
            )
        return super().__getitem__(index)

    # -- reading on from the position -----------------------------------------------------------------------------------

    def get_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records; fewer at the end of a mixture without a length.

        Raises:
            StopIteration: A mixture without a length has ended.
        """
        return self._reading.get_batch(self, batch_size)

    def read_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records without counting the batch."""
        return self._reading.read_batch(self, batch_size)

    def begin_epoch(self) -> None:
        """Begin the next epoch of a mixture without a length: the child that ended begins its next one, the others go on.

        Raises:
            NotImplementedError: That child cannot start over.
        """
        self._reading.begin_epoch(self)

    def skip(self, count: int) -> None:
        """Leave out the next ``count`` records; children with random access are not read."""
        self._reading.skip(self, count)

    def __iter__(self) -> Iterator[Any]:
        """Return a loop over one epoch of elements in this mixture's order; a second loop is the next epoch.

        A loop raises `RuntimeError` if another loop, `set_state` or `reset` came between.
        """
        return self._reading.begin_loop(self)

    def __next__(self) -> Any:
        """Return the next element of the loop under way."""
        return self._reading.next_element(self)

    def close(self) -> None:
        """Close the children: their open files and threads; the next read opens them again."""
        for child in self.children:
            child.close()

    # -- progress -------------------------------------------------------------------------------------------------------

    def reset(self, seed: int | None = None) -> None:
        """Go back to the start, with the children; with ``seed``, to the start of the mixture that ``nnx.Rngs(seed)`` gives.

        Raises:
            NotImplementedError: A child is a stream that cannot start over.
        """
        for child in self.children:
            start_over(child, seed if child.access == "stream" else None)
        super().reset(seed)
        self._reading.restart()

    def fingerprint(self) -> dict[str, Any]:
        """Return the entries that a saved state must match: shares, rules, and each child's fingerprint."""
        return fingerprint_of(self, super().fingerprint() | {"order": self.mixing.title})

    def entries_of_places(self) -> frozenset[str]:
        """Return the names of the entries that decide which child a position is of, and of those of the children."""
        children = zip(self.mixed.names, self.children, strict=True)
        of_children = {f"{child}.{name}" for child, source in children for name in source.entries_of_places()}
        return frozenset({"names", "shares", "stop", "rounds"} | of_children)

    def get_state(self) -> dict[str, Any]:
        """Return position and fingerprint of the mixture, with the states of children that are streams, at every depth.

        Raises:
            StateError: A child that is a stream cannot be resumed, or failed halfway through a batch.
        """
        return self._reading.get_state(self)

    def set_state(self, state: dict[str, Any], but: Collection[str] = ()) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        ``but`` names what was changed on purpose; see `DataSourceModule.set_state`.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is of another mixture; names each difference.
        """
        self._reading.set_state(self, state, but)

    # -- parts and copies -----------------------------------------------------------------------------------------------

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, "MixDataSourcesNode"]:  # type: ignore[override]
        """Return disjoint mixtures by name, of the same proportions: each child is split with the same seed and shares.

        Raises:
            TypeError, ValueError: `DataSourceModule.split` refuses the arguments, or a share is a number of records, which
                children do not share.
        """
        for part, share in shares.items():
            if isinstance(share, int | np.integer) and not isinstance(share, bool):
                raise TypeError(
                    f"part {part!r} of {self.title} is {share!r} records, which its children cannot share; give parts of one, "
                    "such as 0.9"
                )
        parts = [child.split(seed=seed, **shares) for child in self.children]
        return {
            part: type(self)(self.config, [of_child[part] for of_child in parts], rngs=nnx.clone(self.rngs), name=part)
            for part in shares
        }

    def over_children(self, make: Callable[[DataSourceModule], DataSourceModule]) -> "MixDataSourcesNode":
        """Return the mixture of ``make(child)`` for each child: the same weights, rules, key and name, at position 0.

        Children have the fields there that they have in the mixture. Weights that ``temperature`` makes are made anew, from the
        lengths of the new children. An error of ``make`` gets a note that names the child.
        """
        made, config, changes = [], self.config, self.fields.changes
        for number, (name, child) in enumerate(zip(self.names, self.children, strict=True)):
            try:
                made.append(make(self._with_fields(child, number) if changes else child))
            except Exception as error:
                error.add_note(f"for child {name!r} of {self.title}")
                raise
        if changes:
            config = config.model_copy(update={"select": {}, "rename": {}, "fill": {}, "source_field": None})
        twin = type(self)(config, made, rngs=nnx.clone(self.rngs), name=self.name)
        if twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        return twin

    def data_files(self) -> Sequence[str] | None:
        """Return the files of all children; None if the data of one are not from files."""
        files = [child.data_files() for child in self.children]
        return None if None in files else [path for of_child in files for path in of_child or ()]

    def _with_fields(self, child: DataSourceModule, number: int) -> DataSourceModule:
        return MixedChildView(StructuralConfig(), child, self.fields, number, name=self.names[number])

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the children; streams are copied, since only one reader can read a stream."""
        return ([child.copy() if child.access == "stream" else child for child in self.children],)

    def to_grain_iter_dataset(self, num_epochs: int | None = 1) -> "grain.IterDataset[Any]":
        """Return the same sequence, record by record from the start, as a Grain data set; ``None`` epochs have no end.

        Raises:
            NotImplementedError: A child is a stream.
        """
        self.require_random_access()
        # Grain takes a second to import, and nothing else here needs it.
        from .grain_dataset import iter_dataset  # noqa: PLC0415

        return iter_dataset(self, num_epochs)
