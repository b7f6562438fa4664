"""The memory source."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.columns import Columns, columns_of
from datarax_core.config import SourceConfig
from datarax_core.eager import EagerSourceBase
from datarax_core.metadata import MetadataManager, RecordMetadata
from datarax_core.order import Order
from datarax_core.source import DataSourceModule
from datarax_core.spec import Batch

from ._config import MemorySourceConfig
from ._files import load_columns


class MemorySource(EagerSourceBase):
    """Records in memory.

    Args:
        config: Its settings.
        data: A dict of arrays of one length (not copied), or a list or other sequence of elements, which may be dicts,
            tuples, arrays, numbers or text. None if the config names a ``path``.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        name: What errors call this source.

    Raises:
        TypeError: ``data`` is a string, an iterator, a nested dict, or holds no records.
        ValueError: Columns differ in length, or are scalars; no ``rngs`` for a shuffle; no data, or two.
        FileNotFoundError: ``path`` is not there.
    """

    config_class: ClassVar[type[SourceConfig]] = MemorySourceConfig
    config: MemorySourceConfig

    def __init__(
        self, config: MemorySourceConfig, data: Any = None, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        title = f"MemorySource {name!r}" if name else "MemorySource"
        if (data is None) == (config.path is None):
            given = "both data and a path" if data is not None else "neither data nor a path"
            raise ValueError(f"{title} was given {given}; pass data, or name a path in its config")
        if data is None and config.path is not None:
            data = load_columns(config.path, keep_in_memory=config.cacheable)
        columns = data if isinstance(data, Columns) else columns_of(data, title)
        super().__init__(
            config,
            columns,
            order=_shard(config, columns.length),
            shuffle=config.shuffle,
            placement=config.placement,
            rngs=rngs,
            name=name,
        )
        self.elements_ahead = max(1, config.prefetch_size)
        self._elements = _Elements(data)
        self._batches = _Batches(config.cache_size)
        self._metadata = _Metadata(_metadata_manager(config, rngs) if config.track_metadata else None)

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """The source over the file or folder that the config's ``path`` names."""
        if not isinstance(config, MemorySourceConfig):
            raise TypeError(f"{cls.__name__} is built from a MemorySourceConfig, not {config!r}")
        if config.path is None:
            raise ValueError("a memory source in a config needs a 'path': an .npz file, or a folder of .npy files")
        return cls(config, rngs=getattr(build, "rngs", None))

    @property
    def data(self) -> Any:
        """The data as it was given: the dict of arrays or the sequence of elements; arrays by name if read from ``path``."""
        return self._elements.data

    @property
    def prefetch_size(self) -> int:
        """Elements that a loop over this source prepares ahead."""
        return self.config.prefetch_size

    @property
    def metadata_manager(self) -> MetadataManager | None:
        """Makes the metadata of records; None unless the config tracks them."""
        return self._metadata.manager

    @property
    def has_metadata(self) -> bool:
        """Whether `get_with_metadata` and `get_batch_with_metadata` are available."""
        return self._metadata.manager is not None

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The records, each by itself; of a list the very elements that were given."""
        if self._elements.is_sequence:
            return [self._elements.data[int(index)] for index in indices]
        return super().get_elements(indices)

    def get_batch_at(self, start: int | jax.Array, size: int, key: Any = None) -> Batch:
        """See `DataSourceModule.get_batch_at`; the last ``cache_size`` batches are kept."""
        if not self._batches.capacity or isinstance(start, jax.core.Tracer) or isinstance(key, jax.core.Tracer):
            return super().get_batch_at(start, size, key)
        indices = self.record_indices_at(start, size, key)
        return self._batches.get(indices, lambda: super(MemorySource, self).get_batch_at(start, size, key))

    def reset_cache(self) -> None:
        """Drop the batches kept for ``cache_size``."""
        super().reset_cache()
        self._batches.clear()

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
        """`get_batch`, and the metadata of each of its records."""
        manager = self._require_metadata()
        start = self.cursor.position if key is None else 0
        words = self.order_words() if key is None else key
        batch = self.get_batch(batch_size, key)
        indices = np.asarray(self.record_indices_at(start, batch_size, words)).tolist()
        epochs = [(start + row) // self.order().epoch_length for row in range(batch_size)]
        return batch, manager.batch(indices, epochs, source_info=self._source_info())

    def reset(self, seed: int | None = None) -> None:
        """See `DataSourceModule.reset`; metadata counts from 0 again."""
        super().reset(seed)
        if self._metadata.manager is not None:
            self._metadata.manager.reset()

    def _require_metadata(self) -> MetadataManager:
        if self._metadata.manager is None:
            raise RuntimeError(
                f"{self.title} tracks no metadata; build it with MemorySourceConfig(track_metadata=True)"
            )
        return self._metadata.manager

    def _source_info(self) -> dict[str, Any]:
        return {"name": self.name or "memory", "length": self.length}

    def _constructor_data(self) -> tuple[Any, ...]:
        return () if self.config.path is not None else (self._elements.data,)


class _Elements:
    """The data as given; compared by identity, outside of the graph."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.is_sequence = isinstance(data, list | tuple)


class _Metadata:
    """Holds the manager outside of the graph: its counts move with every batch."""

    def __init__(self, manager: MetadataManager | None) -> None:
        self.manager = manager


class _Batches:
    """The batches used last, by the records in them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[bytes, Batch] = OrderedDict()

    def get(self, indices: np.ndarray, make: Callable[[], Batch]) -> Batch:
        key = indices.tobytes()
        batch = self._kept.pop(key) if key in self._kept else make()
        self._kept[key] = batch
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return batch

    def clear(self) -> None:
        self._kept.clear()


def _shard(config: MemorySourceConfig, length: int) -> Order | None:
    if config.num_workers == 1 or not length:
        return None
    return Order(length, config.shard_id or 0, config.num_workers)


def _metadata_manager(config: MemorySourceConfig, rngs: nnx.Rngs | None) -> MetadataManager:
    drawn = rngs if rngs is not None and ("metadata" in rngs or "default" in rngs) else None
    return MetadataManager(rngs=drawn, shard_id=config.shard_id)
