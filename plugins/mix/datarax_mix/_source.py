"""The mixture, as a source."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.errors import ConfigError
from datarax_core.order import Order, key_data
from datarax_core.records import Batch, ElementSpec
from datarax_core.sources import Access, Capabilities, DataSourceModule, Verified

from ._children import Mixed, checked_children, fingerprint_of
from ._config import MixDataSourcesConfig
from ._fields import Fields
from ._joined import Joined
from ._order import Drawn, Proportional
from ._plan import plan_of
from ._streaming import StreamAccess
from ._timeline import Timeline

if TYPE_CHECKING:
    import grain

_CHILDREN_AHEAD: Final = 8


class MixDataSourcesNode(StreamAccess):
    """Several sources as one, in exact proportions.

    After any number of records each child's count is within one of its share. A child is served in its own order, shuffled if
    it is, with a key of its own from that of the mixture, epoch after epoch of its own: none of its records comes twice
    before all have come. With ``sampling="categorical"`` children and records are drawn with replacement instead.

    The mixture is reached as its children are: on the device if all of them are, and all of their records fit there; by the
    host if one of them is; as a stream if one of them is, whose records then come in the order that it has by itself.

    Its records are the children's, one child after another: ``mix[len(first)]`` is the first of the second. An epoch has
    ``len(mix)`` of them, which is what the children have together, or what ``stop`` says.

    Args:
        config: Its settings.
        sources: The children, in the order of the weights, or by name. They stay usable: their positions are not moved,
            unless they are streams.
        rngs: Random streams; the key is drawn from the stream ``mix``.
        name: What errors call it.

    Raises:
        TypeError: ``sources`` are no sources.
        ValueError: There is another number of them, one with a weight is empty, or the config cannot work with them.
        SpecError: Their element specs differ; names child, field and both specs.
    """

    config_class: ClassVar[type[SourceConfig]] = MixDataSourcesConfig
    config: MixDataSourcesConfig
    _not_saved: ClassVar[tuple[str, ...]] = ("cursor.", "children.")

    def __init__(
        self,
        config: MixDataSourcesConfig,
        sources: Sequence[DataSourceModule] | Mapping[str, DataSourceModule],
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, MixDataSourcesConfig):
            raise TypeError(f"{type(self).__name__} needs a MixDataSourcesConfig, not {config!r:.80}")
        if isinstance(sources, Mapping):
            config = config.with_names(list(sources))
        super().__init__(config, rngs=rngs, name=name)
        children = checked_children(sources, config, self.title)
        self.children = nnx.List(children)
        self._mixed = Mixed.of(children, config, self.title)

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """The mixture of the sources that the config nests."""
        if not isinstance(config, MixDataSourcesConfig):
            raise TypeError(f"{cls.__name__} is built from a MixDataSourcesConfig, not {config!r:.80}")
        if config.sources is None:
            raise ConfigError("a mix in a config needs its 'sources': a list of sources, or a mapping of them by name")
        rngs = getattr(build, "rngs", None)
        return cls(config, [build(source) for source in config.sources], rngs=rngs)

    # -- what it is -----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """What the children are called."""
        return self.config.child_names

    @property
    def weights(self) -> tuple[float, ...]:
        """The exact shares that are served, as floats; see `plan` for how far they are from the config's."""
        return tuple(map(float, self.timeline.shares.fractions))

    @property
    def timeline(self) -> Timeline:
        """Which child serves a position."""
        return self._mixed.timeline

    @property
    def mixing(self) -> Proportional | Drawn:
        """The arithmetic from positions to records."""
        return self._mixed.mixing

    @property
    def draws(self) -> Drawn:
        """How a record of this mixture is drawn at random."""
        return self._mixed.draws

    @property
    def fields(self) -> Fields:
        """What is added to the children's records."""
        return self._mixed.fields

    @property
    def joined(self) -> Joined | None:
        """The children's records as one table on the device; None if there is one child, which has that itself."""
        return self._mixed.joined

    @property
    def access(self) -> Access:
        """How the children are reached, all together."""
        return self._mixed.access(self.children)

    @property
    def capabilities(self) -> Capabilities:
        """What the children can do, all together."""
        is_stream = self.access == "stream"
        return Capabilities(
            random_access=not is_stream,
            batched_reads=True,
            traceable=self.access == "device",
            resumable=all(child.capabilities.resumable for child in self.children),
            sized=self.epoch_length is not None,
        )

    def __len__(self) -> int:
        length = self.epoch_length
        if length is None:
            raise TypeError(f"{self.title} has no length: one of its children is a stream without one")
        return length

    @property
    def epoch_length(self) -> int | None:
        """Records in an epoch: as many as the children have, or what ``stop`` says; None if nobody knows."""
        return self.mixing.epoch_length

    @property
    def positions_ahead(self) -> int:  # type: ignore[override]  # an attribute of other sources
        """More than of one source: each child's part of a stretch is one call, which should be of many positions."""
        one = DataSourceModule.positions_ahead
        return min(one * min(len(self.children), _CHILDREN_AHEAD), max(one, self.epoch_length or 0))

    @property
    def num_records(self) -> int:
        """Record indices: those of the children, one child after another."""
        return int(self._mixed.offsets[-1])

    @property
    def index(self) -> int:
        """How many records of the current epoch were served."""
        length = self.epoch_length
        return self.cursor.position if length is None else self.cursor.position % length

    @property
    def epoch(self) -> int:
        """How many epochs were served in full."""
        length = self.epoch_length
        return 0 if length is None else self.cursor.position // length

    def element_spec(self) -> ElementSpec:
        """The children's, with the fields that are added."""
        return self.fields.spec

    # -- order ----------------------------------------------------------------------------------------------------------

    def order(self) -> Order:
        """A mixture has none: its order is made of its children's."""
        raise NotImplementedError(f"{self.title} has no order of its own, but its children's; see record_indices_at()")

    @property
    def order_title(self) -> str:
        """What reports call the order."""
        return f"from {len(self.children)} sources, {self.config.sampling}"

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """int (size,): the records at positions ``start .. start + size`` of the mixture that ``key`` selects.

        Raises:
            ValueError: ``key`` is None.
        """
        self._require_random_access()
        if key is None:
            raise ValueError(
                f"{self.title} draws the orders of its children from a key: pass one, such as jax.random.key(0), or "
                "source.order_words() for its own"
            )
        return self._mixed.record_indices(self.children, start, size, key_data(key))

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """int (size,): the epochs of their children that the records at these positions are served in."""
        return self._mixed.epochs(self.children, start, size)

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Of a mixture the children are shuffled, or not.

        Raises:
            ValueError: Always, unless nothing would change.
        """
        if enabled is not True:
            raise ValueError(
                f"the order of {self.title} is that of its children; call their set_random_order() instead"
            )

    def counts_at(self, position: int) -> dict[str, int]:
        """How many of the records before ``position`` are of each child, by name."""
        counts = self.mixing.counts(self.children, position, self.order_key_data())
        return dict(zip(self.names, map(int, counts), strict=True))

    def stats_at(self, position: int) -> dict[str, Any]:
        """``records_by_child``: `counts_at`."""
        return {"records_by_child": self.counts_at(position)}

    def stats(self) -> dict[str, Any]:
        """``records`` served so far by the mixture itself, and ``records_by_child``; see `Pipeline.stats` for a pipeline's."""
        return {"records": self.cursor.position, **self.stats_at(self.cursor.position)}

    def plan(self, num_epochs: int | None = 1) -> str:
        """Records and epochs by child in a run, when each child ends, and what ends the mixture; nothing is read."""
        return plan_of(self, num_epochs)

    # -- records --------------------------------------------------------------------------------------------------------

    def get_records(self, indices: Any) -> Batch:
        """The records at ``indices``, traced or not; from the device if the children are there, else NumPy arrays."""
        if isinstance(indices, jax.core.Tracer):
            return self.fetch_traced(indices)
        return self._mixed.on_device(self, indices) if self.access == "device" else self._mixed.on_host(self, indices)

    def fetch(self, indices: np.ndarray) -> Batch:
        """The records at concrete ``indices``; kept, if the config says ``cacheable``."""
        return super().fetch(indices) if self.config.cacheable else self.get_records(indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """The records at concrete ``indices``, read by the host, each child's in one call."""
        if self.config.cacheable:
            return self.fetch(indices)
        return self._mixed.on_host(self, indices, may_compile=False)

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """See `DataSourceModule.fetch_traced`."""
        self.require_no_host_fields()
        if self.access != "device" or over_mesh:
            return self.fetch_by_callback(indices)
        joined = self.joined
        return self.children[0].fetch_traced(indices) if joined is None else joined.traced(indices, self.title)

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """A gather from the table of all records, placed at the first call; of one child, what that child says."""
        joined = self.joined
        return self.children[0].compiled_records(sharding) if joined is None else joined.compiled(sharding, self.title)

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The text and object fields at concrete ``indices``."""
        return self._mixed.host_fields(self, indices)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The records, each by itself, as its child gives it, with the fields that are added."""
        return self._mixed.elements(self.children, indices)

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Which of the records at ``indices`` cannot be read, as their children say it, whose record indices it names."""
        self._require_random_access()
        return self._mixed.verify(self.children, indices)

    # -- parts and copies -----------------------------------------------------------------------------------------------

    def __getitem__(self, index: int | slice) -> Any:
        """The record with this index, counted through the children; slice the children, not the mixture."""
        if isinstance(index, slice):
            raise NotImplementedError(
                f"a slice of {self.title} would have other proportions; mix slices of the children, or split() it"
            )
        return super().__getitem__(index)

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, "MixDataSourcesNode"]:  # type: ignore[override]
        """Disjoint mixtures by name, of the same proportions: each child is split with the same seed and shares.

        Raises:
            TypeError, ValueError: See `DataSourceModule.split`; a share that counts records, which children do not share.
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

    def constructor_data(self) -> tuple[Any, ...]:
        """The children; those that are streams copied, since only one can read each."""
        return ([child.copy() if child.access == "stream" else child for child in self.children],)

    def to_grain_iter_dataset(self, num_epochs: int | None = 1) -> "grain.IterDataset[Any]":
        """The same sequence, record by record, as a data set of Grain's; from the start, ``None`` without end.

        Raises:
            NotImplementedError: A child is a stream.
        """
        self._require_random_access()
        from ._grain import iter_dataset  # noqa: PLC0415 - Grain takes a second to import, and nothing else here needs it

        return iter_dataset(self, num_epochs)

    # -- progress -------------------------------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again: the shares, what ends what, and each child's own fingerprint."""
        return fingerprint_of(self, super().fingerprint() | {"order": self.mixing.title})

    def _renew_host_state(self) -> None:
        super()._renew_host_state()
        self._mixed = self._mixed.renewed()
