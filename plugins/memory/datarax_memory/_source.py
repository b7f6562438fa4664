"""The memory source."""

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config import DataraxModuleConfig, SourceConfig
from datarax_core.errors import ConfigError, StateError
from datarax_core.order import Order
from datarax_core.records import Batch
from datarax_core.sources import DataSourceModule, EagerSourceBase, MetadataManager, RecordMetadata

from ._config import MemorySourceConfig
from ._kept_batches import KeptBatches
from ._records import records_of, unchangeable


class MemorySource(EagerSourceBase):
    """Records in memory.

    Args:
        config: Its settings.
        data: A dict of arrays of one length (not copied), or a list or other sequence of elements, which may be dicts,
            tuples, arrays, numbers, text or objects. None if the config names a ``path``.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``, and one that tracks metadata
            from the stream ``metadata``.
        name: What errors call this source.

    Raises:
        TypeError: ``data`` is a string, an iterator, a nested dict, or holds no records.
        ValueError: Columns differ in length, or are scalars; no ``rngs`` for a shuffle; no data, or two; a shard without
            records; a file that is damaged or foreign.
        FileNotFoundError: ``path`` is not there.
        PermissionError: ``path`` may not be read.
    """

    config_class: ClassVar[type[SourceConfig]] = MemorySourceConfig
    config: MemorySourceConfig

    def __init__(
        self, config: MemorySourceConfig, data: Any = None, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        if not isinstance(config, MemorySourceConfig):
            raise TypeError(f"{type(self).__name__} needs a MemorySourceConfig, not {config!r:.80}")
        records = records_of(config, data, type(self).__name__ + (f" {name!r}" if name else ""))
        super().__init__(
            config,
            records.columns,
            order=_shard(config, records.columns.length),
            shuffle=config.shuffle,
            placement=config.placement,
            rngs=rngs,
            name=name,
        )
        self.elements_ahead = 1 + config.prefetch_size
        self._records = records
        self._host_only = _HostOnly(config, rngs)

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """The source over the file or folder that the config's ``path`` names."""
        if not isinstance(config, MemorySourceConfig):
            raise TypeError(f"{cls.__name__} is built from a MemorySourceConfig, not {config!r:.80}")
        if config.path is None:
            raise ConfigError("a memory source in a config needs a 'path': an .npz file, or a folder of .npy files")
        return cls(config, rngs=getattr(build, "rngs", None))

    @property
    def data(self) -> Any:
        """The data as it was given: the dict of arrays or the sequence of elements; arrays by name if read from ``path``."""
        return self._records.data

    @property
    def prefetch_size(self) -> int:
        """Elements that a loop over this source prepares ahead."""
        return self.config.prefetch_size

    @property
    def metadata_manager(self) -> MetadataManager | None:
        """Makes the metadata of records; None unless the config tracks them."""
        return self._host_only.metadata

    @property
    def has_metadata(self) -> bool:
        """Whether `get_with_metadata` and `get_batch_with_metadata` are available."""
        return self.metadata_manager is not None

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The records, each by itself; of a list the elements that were given. Their arrays are read-only views."""
        elements = self._records.elements
        if elements is None:
            return super().get_elements(indices)
        return [unchangeable(elements[int(index)]) for index in indices]

    def fetch(self, indices: Any) -> Batch:
        """The records at concrete ``indices`` as a batch; the last ``cache_size`` of them are kept."""
        batches = self._host_only.batches
        if not batches.capacity or isinstance(indices, jax.core.Tracer) or np.asarray(indices).dtype.kind not in "iu":
            return super().fetch(indices)
        return batches.get(indices, super().fetch)

    def reset_cache(self) -> None:
        """Drop the batches kept for ``cache_size``. The records stay in memory: they are the source."""
        super().reset_cache()
        self._host_only.batches.clear()

    # -- metadata -------------------------------------------------------------------------------------------------------

    def get_with_metadata(self, index: int) -> tuple[Any, RecordMetadata]:
        """The record with this index, and what is known of it.

        Raises:
            RuntimeError: The config does not track metadata.
            IndexError: The index is out of range.
        """
        manager = self._require_metadata()
        element = self[index]
        return element, manager.record(int(index) % self.length, epoch=self.epoch, source_info=self._source_info())

    def get_batch_with_metadata(self, batch_size: int, key: Any = None) -> tuple[Batch, list[RecordMetadata]]:
        """`get_batch`, and the metadata of each of its records; with ``key`` nothing moves, and no batch is counted.

        Raises:
            RuntimeError: The config does not track metadata.
            TypeError, ValueError: ``batch_size`` is not a whole number from 1.
        """
        manager = self._require_metadata()
        start, words = (self.cursor.position, self.order_key_data()) if key is None else (0, key)
        batch = self.get_batch(batch_size, key)
        indices = np.asarray(self.record_indices_at(start, batch_size, words)).tolist()
        epochs = [(start + row) // self.order().epoch_length for row in range(batch_size)]
        if key is not None:
            manager = copy.copy(manager)
        return batch, manager.batch(indices, epochs, source_info=self._source_info())

    # -- progress -------------------------------------------------------------------------------------------------------

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """See `DataSourceModule.copy`; the records are shared, and so are their columns on the device."""
        twin = super().copy(config=config, rngs=rngs, name=name)
        if rngs is None and twin.metadata_manager is not None and self.metadata_manager is not None:
            twin.metadata_manager.key = self.metadata_manager.key
        return twin

    def reset(self, seed: int | None = None) -> None:
        """See `DataSourceModule.reset`; metadata counts from 0 again, with ``seed`` for its keys too."""
        super().reset(seed)
        if self.metadata_manager is None:
            return
        self.metadata_manager.reset()
        if seed is not None:
            rngs = nnx.Rngs(seed)
            if self.order_key is not None:
                self._drawn_key(rngs)  # the order's key is drawn first, as it is when a source is built
            self.metadata_manager.key = rngs.metadata()

    def get_state(self) -> dict[str, Any]:
        """See `DataSourceModule.get_state`; with what the metadata count, if they are tracked."""
        state = super().get_state()
        return state if self.metadata_manager is None else {**state, "metadata": self.metadata_manager.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `DataSourceModule.set_state`."""
        if self.metadata_manager is None or not isinstance(state, dict):
            super().set_state(state)
            return
        metadata = state.get("metadata")
        expected = self.metadata_manager.get_state().keys()
        if not isinstance(metadata, dict) or metadata.keys() != expected:
            raise StateError(
                f"this is no state of {self.title}: 'metadata' is a dict of {sorted(expected)}, not {metadata!r}"
            )
        copy.copy(self.metadata_manager).set_state(metadata)  # refused, if it is, before anything is changed
        super().set_state({name: value for name, value in state.items() if name != "metadata"})
        self.metadata_manager.set_state(metadata)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _require_metadata(self) -> MetadataManager:
        if self.metadata_manager is None:
            raise RuntimeError(
                f"{self.title} tracks no metadata; build it with MemorySourceConfig(track_metadata=True)"
            )
        return self.metadata_manager

    def _source_info(self) -> dict[str, Any]:
        return {"name": self.name or "memory", "length": self.length}

    def constructor_data(self) -> tuple[Any, ...]:
        return (self._records,)

    def _renew_host_state(self) -> None:
        super()._renew_host_state()
        self._host_only = self._host_only.renewed()


class _HostOnly:
    """What changes with every batch outside of the graph, so that ``nnx.jit`` need not compile anew for it."""

    def __init__(self, config: MemorySourceConfig, rngs: nnx.Rngs | None) -> None:
        self.batches = KeptBatches(config.cache_size)
        self.metadata = _metadata_manager(config, rngs) if config.track_metadata else None

    def renewed(self) -> "_HostOnly":
        """The same counts, counted on their own; no batch kept yet."""
        twin = copy.copy(self)
        twin.batches, twin.metadata = KeptBatches(self.batches.capacity), copy.copy(self.metadata)
        return twin


def _shard(config: MemorySourceConfig, length: int) -> Order | None:
    if config.num_workers == 1 or not length:
        return None
    return Order(length, config.shard_id or 0, config.num_workers)


def _metadata_manager(config: MemorySourceConfig, rngs: nnx.Rngs | None) -> MetadataManager:
    drawn = rngs if rngs is not None and ("metadata" in rngs or "default" in rngs) else None
    return MetadataManager(rngs=drawn, shard_id=config.shard_id)
