"""Source of records in ArrayRecord files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.errors import ConfigError
from datarax_core.files import is_of_kind, is_remote
from datarax_core.moved import rename_attributes
from datarax_core.record_files import RecordFilesSource, RecordReader
from datarax_core.sources import CountValue, DataSourceModule, HostState, LocalFilesOnlyMixin, Written, field_struct
from datarax_core.storage import redacted

from .config import ARRAY_RECORD, ArrayRecordSourceConfig
from .decoders import RECORD_FIELD, RawDecoder
from .reading import FILES_AHEAD, FileOrder, FileSet, open_file_set
from .writing import DEFAULT_COMPRESSION, write_data_set


class ArrayRecordSourceModule(LocalFilesOnlyMixin, RecordFilesSource):
    """Source of the records in ArrayRecord files, with random access to each of them.

    With a decoder, the source serves batches of arrays. Without one, records are bytes: an element is the bytes of a record, a
    batch is a list of them, and in a pipeline they are the host field ``record``.

    The records of a batch are read with one call for each file. Readers are opened when they are first needed, and at most
    ``max_open_files`` of them stay open; `close`, or leaving a ``with`` block, closes them, and the next read opens them again.
    The source is picklable. In a forked process, where readers hang, reading raises RuntimeError.

    Args:
        config: Settings.
        paths: Files, folders, globs or shard patterns (see `ArrayRecordSourceConfig`); None if the config names them.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``. None stands for
            ``nnx.Rngs(config.seed)``.
        name: Name of the source in error messages.

    Raises:
        TypeError: ``paths`` are no paths.
        ValueError: Neither the argument nor the config names paths, or both do, or the paths name a file twice.
        FileNotFoundError, PermissionError: A file does not exist, or may not be read; names it.
        DataFileError: A file is empty, damaged or not an ArrayRecord file; names it.
        ConfigError: The sidecar file of the data set, or the list of excluded records, is damaged.
    """

    config_class: ClassVar[type[SourceConfig]] = ArrayRecordSourceConfig
    config: ArrayRecordSourceConfig

    def __init__(
        self,
        config: ArrayRecordSourceConfig,
        paths: str | PathLike[str] | list[str] | tuple[str, ...] | FileSet | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, ArrayRecordSourceConfig):
            raise TypeError(f"{type(self).__name__} needs an ArrayRecordSourceConfig, not {config!r:.80}")
        if rngs is None and config.stochastic:
            rngs = nnx.Rngs(config.seed)
        super().__init__(config, rngs=rngs, name=name)
        self._file_set = open_file_set(config, paths, self.title)
        self._loop = _LoopState()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        rename_attributes(self, {"_opened": "_file_set"})  # its name in pickles of version 0.1.0

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """Return the source of the files that ``paths`` of the config names."""
        if not isinstance(config, ArrayRecordSourceConfig):
            raise TypeError(f"{cls.__name__} is built from an ArrayRecordSourceConfig, not {config!r:.80}")
        if config.paths is None:
            raise ConfigError("an arrayrecord source in a config needs 'paths': files, folders or patterns")
        return cls(config, rngs=getattr(build, "rngs", None))

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:
        """Return the config of an ArrayRecord file, by its name, or of a folder of them; None for other paths."""
        return {"paths": path} if is_of_kind(path, ARRAY_RECORD) else None

    # -- files and length -----------------------------------------------------------------------------------------------

    @property
    def record_reader(self) -> RecordReader:
        """Reader of the records; copies of the source share it."""
        return self._file_set.records

    @property
    def local_files_only(self) -> bool:  # type: ignore[override]  # set by the config, read-only
        """Whether remote addresses, such as ``s3://bucket/file``, are refused."""
        return self.config.local_files_only

    @property
    def total_records(self) -> CountValue:
        """Number of records that are served: all but the excluded ones."""
        return CountValue(self.record_reader.length)

    @property
    def grain_source(self) -> Any:
        """``grain.sources.ArrayRecordDataSource`` of the same files, which serves undecoded bytes to Grain's own graphs."""
        return self._file_set.grain_source

    # -- records --------------------------------------------------------------------------------------------------------

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records as a list of elements; of bytes if there is no decoder."""
        return self._bytes_of(indices) if self._serves_bytes else super().get_elements(indices)

    def get_batch_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return the records at positions ``start .. start + size``: a batch, or without a decoder a list of bytes.

        Stateless; with a decoder, traceable in ``start`` and ``key``.

        Args:
            start: First position; positions count over all epochs.
            size: Number of records.
            key: Key data of a shuffled order; None serves records in sequence.

        Raises:
            TypeError: There is no decoder, and ``start`` or ``key`` is traced.
        """
        if not self._serves_bytes:
            return super().get_batch_at(start, size, key)
        if isinstance(start, jax.core.Tracer) or isinstance(key, jax.core.Tracer):
            raise TypeError(
                f"{self.title} has no decoder: its records are bytes, which compiled code cannot hold; give it a decoder, such "
                "as decoder={'type': 'array', 'fields': ...}, or pass a concrete start and key"
            )
        return self._bytes_of(np.asarray(self.record_indices_at(start, size, key)))

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return the record indices at positions ``start .. start + size``, int64 (size,); int32 if an argument is traced.

        With ``shuffle_files`` the files are shuffled in each epoch, and the records of each file stay in sequence.
        """
        indices = self._indices_at(start, size, key)
        if self._file_set.records.shards.has_addresses and isinstance(indices, np.ndarray) and len(indices):
            is_shuffled = self.is_random_order and key is not None and not self.config.shuffle_files
            then = [] if is_shuffled else self._files_after(int(start) + size, int(indices[-1]), key)
            self._file_set.records.expect(indices, then, all_at_once=is_shuffled)
        return indices

    def _indices_at(self, start: int | jax.Array, size: int, key: Any) -> Any:
        if not (self.config.shuffle_files and self.is_random_order and key is not None):
            return super().record_indices_at(start, size, key)
        self.record_reader.require_records(self)
        return FileOrder(self.record_reader.served_counts()).record_indices(start, size, key)

    def _files_after(self, position: int, last: int, key: Any) -> list[int]:
        """Return a record of each of the next files that an order reads which reads file after file.

        Args:
            position: Position after the record ``last``.
            last: Record index.
            key: Key data of the order.
        """
        ends = np.cumsum(self.record_reader.served_counts())
        found = []
        for _ in range(FILES_AHEAD):
            position += int(ends[np.searchsorted(ends, last, side="right")]) - 1 - last
            (last,) = self._indices_at(position, 1, key).tolist()
            position += 1
            found.append(last)
        return found

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the lengths of a field by the note that `write` left beside the files; None without one.

        The lengths of records that are substituted by others are not known.
        """
        known = super().record_lengths(field)
        is_as_stored = type(self).get_records is RecordFilesSource.get_records and self.config.on_error == "raise"
        if known is not None or not is_as_stored or not field_struct(self, field).shape:
            return known
        return self._file_set.record_lengths(field)

    # -- one element at a time ------------------------------------------------------------------------------------------

    @property
    def run_length(self) -> int | None:
        """Number of elements of a loop over this source: ``num_epochs`` epochs of them; None if loops have no end."""
        epochs = self.config.num_epochs
        return None if epochs == -1 else epochs * self.order().epoch_length

    def __iter__(self) -> Iterator[Any]:
        """Iterate over ``num_epochs`` epochs of elements in this source's order; a second loop goes on with the next epochs."""
        self._loop.has_begun = True
        return super().__iter__()

    @property
    def iterator_initialized(self) -> bool:
        """Whether a loop over this source began since the source was built or reset."""
        return self._loop.has_begun

    @property
    def current_index(self) -> CountValue:
        """Number of records of the current epoch that were served."""
        return self.index

    @property
    def current_epoch(self) -> CountValue:
        """Number of epochs that were served in full."""
        return self.epoch

    @property
    def prefetch_cache(self) -> dict[int, Any]:
        """Elements that a loop has read ahead, by position."""
        return self.elements_read_ahead()

    @property
    def shuffled_indices(self) -> np.ndarray | None:
        """Record indices of the current epoch in their order, int64 (n,), computed by each call; None if not shuffled."""
        if not self.is_random_order:
            return None
        epoch = self.current_epoch * self.total_records
        return np.asarray(self.record_indices_at(epoch, self.total_records, self.order_key_data()))

    def reset(self, seed: int | None = None) -> None:
        """Return to the start of the first epoch; with ``seed``, in the order of a source built with ``nnx.Rngs(seed)``."""
        super().reset(seed)
        self._loop.has_begun = False

    # -- all records ----------------------------------------------------------------------------------------------------

    @classmethod
    def write_records(
        cls,
        path: str,
        source: DataSourceModule,
        *,
        shards: int = 1,
        decoder: str | None = None,
        compression: str | None = None,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Written:
        """Write the records of a source with `datarax_arrayrecord.write`, for ``drx convert``."""
        return write_data_set(
            path,
            source,
            decoder,
            shards=shards,
            compression=compression or DEFAULT_COMPRESSION,
            group_size=1,
            overwrite=overwrite,
            progress=progress,
        )

    # -- inside ---------------------------------------------------------------------------------------------------------

    def data_files(self) -> Sequence[str]:
        """Return the paths of the files."""
        return self._file_set.table.paths

    def describe_reading(self) -> str:
        """Return a sentence on files at addresses: when they are fetched, and where they are kept."""
        addresses = [path for path in self.paths if is_remote(path)]
        cache = self._file_set.records.ranges.cache
        if not addresses or cache is None:
            return ""
        more = f" and {len(addresses) - 1:,} more files" if len(addresses) > 1 else ""
        is_shuffled = self.is_random_order and not self.config.shuffle_files
        ahead = "all of them, since records of all are served in turn" if is_shuffled else "the next ones ahead of need"
        return f"{redacted(addresses[0])}{more} are fetched whole into {cache.folder}, {ahead}."

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the file set, which copies share."""
        return (self._file_set,)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with names, sizes and lengths of the files, decoder and excluded records."""
        own = super().fingerprint()
        if self.config.shuffle_files and self.is_random_order:
            own["order"] = own["order"].replace("shuffled", "files shuffled")
        return {**own, **self._file_set.fingerprint()}

    @property
    def _serves_bytes(self) -> bool:
        return isinstance(self.decoder, RawDecoder)

    def _bytes_of(self, indices: np.ndarray) -> list[bytes]:
        if self.config.cacheable:
            return list(self.fetch(self.checked_indices(indices))[RECORD_FIELD])
        stored, substituted = self.record_reader.bytes_of(self.checked_indices(indices), self)
        self.note_substituted(substituted)
        return stored


class _LoopState(HostState):
    """Host state of the loops over a source: whether one was begun since it was built or reset."""

    has_begun = False
