"""The memory source."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from glob import has_magic
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config import DataraxModuleConfig, SourceConfig
from datarax_core.errors import ConfigError, StateError
from datarax_core.files import is_remote
from datarax_core.order import Order
from datarax_core.records import Batch
from datarax_core.sources import (
    DataSourceModule,
    EagerSourceBase,
    HostState,
    MetadataManager,
    Placement,
    RecordMetadata,
    Verified,
    lengths_of_column,
)
from datarax_core.storage import redacted

from .config import MemorySourceConfig
from .file_columns import FileColumns, StoredColumns
from .records import Records, records_of, unchangeable
from .stored import StoredRagged


class MemorySource(EagerSourceBase):
    """A source of records in memory, or in files that are mapped into memory.

    Args:
        config: Config of the source.
        data: A dict of arrays or ragged columns of one length (not copied), or a list or other sequence of elements, which may
            be dicts, tuples, arrays, numbers, text or objects; lists whose arrays differ in length become ragged columns. None
            if the config names a ``path``.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``, a source that tracks metadata draws
            theirs from the stream ``metadata``.
        name: Name of the source in errors.

    Raises:
        TypeError: ``data`` is a string, an iterator, a nested dict, or holds no records.
        ValueError: Columns differ in length, or are scalars; no ``rngs`` for a shuffle; neither data nor a path, or
            both; a shard without records; a file that is damaged or foreign.
        FileNotFoundError: ``path`` does not exist.
        PermissionError: ``path`` may not be read.
    """

    config_class: ClassVar[type[SourceConfig]] = MemorySourceConfig
    config_in_fingerprint: ClassVar[bool] = False
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
            placement=_placement(config, records),
            rngs=rngs,
            name=name,
        )
        self.elements_ahead = 1 + config.prefetch_size
        self._records = records
        self._host_only = KeptWork(config.cache_size, _metadata_manager(config, rngs))

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """Return the source over the file or folder that the config's ``path`` names."""
        if not isinstance(config, MemorySourceConfig):
            raise TypeError(f"{cls.__name__} is built from a MemorySourceConfig, not {config!r:.80}")
        if config.path is None:
            raise ConfigError("a memory source in a config needs a 'path': an .npz file, or a folder of .npy files")
        return cls(config, rngs=getattr(build, "rngs", None))

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:
        """Return the config of an ``.npz`` file, or of a folder with ``.npy`` files; None for other paths."""
        if Path(path).is_dir():
            return {"path": path} if any(Path(path).glob("*.npy")) else None
        is_pattern = has_magic(path) and not Path(path).exists()  # it would name several files
        return {"path": path} if path.lower().endswith(".npz") and not is_pattern else None

    @property
    def data(self) -> Any:
        """The data as it was given: the dict of arrays or the sequence of elements; arrays by name if read from ``path``."""
        return self._records.data

    @property
    def prefetch_size(self) -> int:
        """Elements that a loop over this source reads ahead."""
        return self.config.prefetch_size

    @property
    def metadata_manager(self) -> MetadataManager | None:
        """The maker of records' metadata; None if the config does not track metadata."""
        return self._host_only.metadata

    @property
    def has_metadata(self) -> bool:
        """Whether `get_with_metadata` and `get_batch_with_metadata` are available."""
        return self.metadata_manager is not None

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records as single elements: of a list, the elements that were given, with arrays as read-only views."""
        elements = self._records.elements
        if elements is None and isinstance(self.columns, StoredColumns):  # all by the requests of one batch
            batch = self.columns.rows(np.asarray(indices))
            return [{name: column[row] for name, column in batch.items()} for row in range(len(indices))]
        if elements is None:
            return super().get_elements(indices)
        return [unchangeable(elements[int(index)]) for index in indices]

    def fetch(self, indices: Any) -> Batch:
        """Return the records at concrete ``indices`` as a batch; the last ``cache_size`` batches are kept."""
        if (
            not self.config.cache_size
            or isinstance(indices, jax.core.Tracer)
            or np.asarray(indices).dtype.kind not in "iu"
        ):
            return super().fetch(indices)
        return self._host_only.batches.get(indices, super().fetch)

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the size of the first axis of a field in each record; None if that takes reading them.

        Raises:
            SpecError: The records have no such field.
        """
        columns = self.columns
        column = columns.stored_columns.get(field) if isinstance(columns, StoredColumns) else None
        return lengths_of_column(column.frame) if isinstance(column, StoredRagged) else super().record_lengths(field)

    def describe_reading(self) -> str:
        """Return a sentence on columns at an address: whether they are in memory, or read whenever they are asked for."""
        path = self.config.path
        if path is None or not is_remote(path):
            return ""
        shown = redacted(path)
        if not isinstance(self.columns, StoredColumns):
            return f"All columns were read from {shown} when the source was built ({_size(self.columns.nbytes)})."
        stored = self.columns.stored_columns
        total = sum(column.nbytes for column in stored.values())
        return (
            f"Rows of {', '.join(stored)} ({_size(total)}) are read from {shown} whenever they are asked for"
            f"{_kept(self.config)}; cacheable=True reads all into memory at first."
        )

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records at ``indices`` cannot be read, after a look at the checksums of an ``.npz``.

        Cost: the first call in a process reads all of a mapped archive, whatever the indices.

        Raises:
            DataFileError: What an archive holds differs from its checksums; names the file and the field.
        """
        if isinstance(self.columns, FileColumns):
            self.columns.require_checksums()
        return super().verify_records(indices)

    def reset_cache(self) -> None:
        """Drop the batches kept for ``cache_size``; the records themselves stay in memory."""
        super().reset_cache()
        self._host_only.batches.clear()

    # -- metadata -------------------------------------------------------------------------------------------------------

    def get_with_metadata(self, index: int) -> tuple[Any, RecordMetadata]:
        """Return the record with this index, and its metadata.

        Raises:
            RuntimeError: The config does not track metadata.
            IndexError: The index is out of range.
        """
        manager = self._require_metadata()
        element = self[index]
        return element, manager.record(int(index) % self.length, epoch=self.epoch, source_info=self._source_info())

    def get_batch_with_metadata(self, batch_size: int, key: Any = None) -> tuple[Batch, list[RecordMetadata]]:
        """Return `get_batch` and the metadata of each record; with ``key`` no position moves and nothing is counted.

        Raises:
            RuntimeError: The config does not track metadata.
            TypeError, ValueError: ``batch_size`` is not a whole number from 1.
        """
        manager = self._require_metadata()
        start, order_key = (self.cursor.position, self.order_key_data()) if key is None else (0, key)
        batch = self.get_batch(batch_size, key)
        indices = np.asarray(self.record_indices_at(start, batch_size, order_key)).tolist()
        epochs = [(start + row) // self.order().epoch_length for row in range(batch_size)]
        if key is not None:
            manager = copy.copy(manager)
        return batch, manager.batch(indices, epochs, source_info=self._source_info())

    # -- copies and progress --------------------------------------------------------------------------------------------

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the records, which a copy shares."""
        return (self._records,)

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """Return a new source over the same records from position 0; the copies share the columns on the device."""
        twin = super().copy(config=config, rngs=rngs, name=name)
        if rngs is None and twin.metadata_manager is not None and self.metadata_manager is not None:
            twin.metadata_manager.key = self.metadata_manager.key
        return twin

    def reset(self, seed: int | None = None) -> None:
        """Go back to the start of the first epoch, and of the metadata's counts; ``seed`` selects order and keys anew."""
        super().reset(seed)
        if self.metadata_manager is None:
            return
        self.metadata_manager.reset()
        if seed is not None:
            rngs = nnx.Rngs(seed)
            if self.order_key is not None:
                self.draw_order_key(rngs)  # the order's key is drawn first, as it is when a source is built
            self.metadata_manager.key = rngs.metadata()

    def get_state(self) -> dict[str, Any]:
        """Return position, fingerprint and variables; with counts and key of the metadata, if they are tracked."""
        state = super().get_state()
        return state if self.metadata_manager is None else {**state, "metadata": self.metadata_manager.get_state()}

    def set_state(self, state: dict[str, Any], but: Collection[str] = ()) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        ``but`` names what was changed on purpose; see `DataSourceModule.set_state`.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is of another source, or lacks the metadata's part.
        """
        if self.metadata_manager is None or not isinstance(state, dict):
            super().set_state(state, but)
            return
        metadata = state.get("metadata")
        expected = self.metadata_manager.get_state().keys()
        if not isinstance(metadata, dict) or metadata.keys() != expected:
            raise StateError(
                f"this is no state of {self.title}: 'metadata' is a dict of {sorted(expected)}, not {metadata!r}"
            )
        copy.copy(self.metadata_manager).set_state(metadata)  # raises before anything is changed
        super().set_state({name: value for name, value in state.items() if name != "metadata"}, but)
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


class KeptWork(HostState):
    """Kept batches and metadata counts; on the host, so that ``nnx.jit`` does not compile anew for each batch."""

    def __init__(self, cache_size: int, metadata: MetadataManager | None) -> None:
        self.batches = KeptBatches(cache_size)
        self.metadata = metadata

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the arguments for a copy of the source: equal counts that go their own way, and no kept batches."""
        return self.batches.capacity, copy.copy(self.metadata)


class KeptBatches:
    """Up to ``capacity`` batches by their record indices; the batch that was not used for the longest time is dropped first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[bytes, Batch] = OrderedDict()

    def get(self, indices: np.ndarray, make: Callable[[np.ndarray], Batch]) -> Batch:
        """Return the batch of these records, kept or made by ``make``; the caller may change its NumPy arrays."""
        key = np.asarray(indices, np.int64).tobytes()
        batch = self._kept.pop(key, None)  # one operation, since several threads may read parts of one source
        if batch is None:
            batch = make(indices)
        self._kept[key] = batch
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return jax.tree.map(_own, batch)

    def clear(self) -> None:
        """Drop all batches."""
        self._kept.clear()


def _own(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _placement(config: MemorySourceConfig, records: Records) -> Placement:
    """Return where batches are gathered: rows that are read from an address are read by the host."""
    is_read_by_rows = isinstance(records.columns, StoredColumns)
    return "host" if is_read_by_rows and config.placement == "auto" else config.placement


def _shard(config: MemorySourceConfig, length: int) -> Order | None:
    if config.num_workers == 1 or not length:
        return None
    return Order(length, config.shard_id or 0, config.num_workers)


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _kept(config: MemorySourceConfig) -> str:
    return "" if config.cache_dir is None else f", and kept in {config.cache_dir}"


def _metadata_manager(config: MemorySourceConfig, rngs: nnx.Rngs | None) -> MetadataManager | None:
    if not config.track_metadata:
        return None
    drawn = rngs if rngs is not None and ("metadata" in rngs or "default" in rngs) else None
    return MetadataManager(rngs=drawn, shard_id=config.shard_id)
