"""The ArrayRecord source."""

from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.errors import ConfigError
from datarax_core.order import Order, record_numbers
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Decoder
from datarax_core.sources import DataSourceModule, HostState, LocalFilesOnlyMixin, Verified, Written

from .config import DEFAULT_SEED, ArrayRecordSourceConfig
from .decoders import RECORD_FIELD, RawDecoder
from .reading import FileOrder, FileSet, open_file_set
from .writing import DEFAULT_COMPRESSION, write


class ArrayRecordSourceModule(LocalFilesOnlyMixin, DataSourceModule):
    """Records in ArrayRecord files, with random access to each of them.

    With a decoder it serves batches of arrays. Without one, records are bytes: elements by themselves, lists of them as
    batches, and in a pipeline the field ``record``, which rides beside the batch.

    Whole batches are read, from each file in one go. Readers are opened when they are needed, and at most
    ``max_open_files`` stay open; `close`, or leaving a ``with`` block, closes them, and the next read opens them again. The
    source pickles. It refuses to read in a forked process, where readers hang.

    Args:
        config: Its settings.
        paths: Files, folders, globs or shard patterns, see `ArrayRecordSourceConfig`; None if the config names them.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``. None are those of
            ``nnx.Rngs(config.seed)``.
        name: What errors call this source.

    Raises:
        TypeError: ``paths`` are no paths.
        ValueError: No paths, or two; see `data_files`.
        FileNotFoundError, PermissionError: A file is not there, or may not be read; names it.
        DataFileError: A file is empty, damaged or no ArrayRecord file; names it.
        ConfigError: The note beside the files, or the list of excluded records, is damaged.
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
        self.set_random_order(config.shuffle or config.shuffle_files)
        self._opened = open_file_set(config, paths, self.title)
        self._loop = _LoopState()

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], DataSourceModule]) -> Self:
        """The source over the files that the config's ``paths`` name."""
        if not isinstance(config, ArrayRecordSourceConfig):
            raise TypeError(f"{cls.__name__} is built from an ArrayRecordSourceConfig, not {config!r:.80}")
        if config.paths is None:
            raise ConfigError("an arrayrecord source in a config needs 'paths': files, folders or patterns")
        return cls(config, rngs=getattr(build, "rngs", None))

    # -- what it holds --------------------------------------------------------------------------------------------------

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, in the order of their records."""
        return self._opened.records.table.paths

    @property
    def decoder(self) -> Decoder:
        """What makes arrays of the bytes of a record."""
        return self._opened.records.decoder

    @property
    def local_files_only(self) -> bool:  # type: ignore[override]  # the config says, and does not change
        """Whether remote addresses are refused."""
        return self.config.local_files_only

    @property
    def total_records(self) -> int:
        """Number of records that are served."""
        return self._opened.records.length

    @property
    def grain_source(self) -> Any:
        """The same files as a ``grain.sources.ArrayRecordDataSource``: undecoded bytes, for Grain's own graphs."""
        return self._opened.grain_source()

    def __len__(self) -> int:
        return self.total_records

    def element_spec(self) -> ElementSpec:
        """What one record looks like: as the decoder declares it, else as the first record does, which is read for it.

        Raises:
            ValueError: There are no records.
            RecordError: The first one cannot be read or decoded.
        """
        return self._opened.records.spec(self)

    @property
    def order_seed(self) -> int | None:
        """The config's ``seed``, which selects another shuffle than the random streams alone do; None for its default."""
        return None if self.config.seed == DEFAULT_SEED else self.config.seed

    # -- records --------------------------------------------------------------------------------------------------------

    def get_records(self, indices: Any) -> Batch:
        """The records at concrete ``indices`` as NumPy arrays.

        Raises:
            IndexError: An index is out of range.
            RecordError: A record cannot be read or decoded; names file, record and cause. With ``on_error="substitute"``
                only if there are more of them than ``max_errors``.
            DataFileError: A file changed since the source was built.
        """
        batch, substituted = self._opened.records.batch_of(self._record_numbers(indices), self)
        self.note_substituted(substituted)
        return batch

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The records, each by itself; bytes where there is no decoder."""
        return self._undecoded(indices) if self._is_undecoded else super().get_elements(indices)

    def get_batch_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """The records at positions ``start .. start + size``: a batch, or without a decoder a list of bytes.

        Stateless; with a decoder traceable in ``start`` and ``key``. See `DataSourceModule.get_batch_at`.

        Raises:
            TypeError: There is no decoder, and ``start`` or ``key`` is traced.
        """
        if not self._is_undecoded:
            return super().get_batch_at(start, size, key)
        if isinstance(start, jax.core.Tracer) or isinstance(key, jax.core.Tracer):
            raise TypeError(
                f"{self.title} has no decoder: its records are bytes, which compiled code cannot hold; give it a decoder, such "
                "as decoder={'type': 'array', 'fields': ...}, or pass a concrete start and key"
            )
        return self._undecoded(np.asarray(self.record_indices_at(start, size, key)))

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """The records at positions ``start .. start + size``; see `DataSourceModule.record_indices_at`.

        With ``shuffle_files`` the files of each epoch are shuffled, and the records of each stay in sequence.
        """
        if not (self.config.shuffle_files and self.is_random_order and key is not None):
            return super().record_indices_at(start, size, key)
        self._require_records()
        return FileOrder(self._opened.records.served_counts()).record_indices(start, size, key)

    def order(self) -> Order:
        """See `DataSourceModule.order`; of no records there is none."""
        self._require_records()
        return super().order()

    # -- one element at a time ------------------------------------------------------------------------------------------

    @property
    def run_length(self) -> int | None:
        """Elements in a loop over this source: ``num_epochs`` epochs; None for -1, which has no end."""
        epochs = self.config.num_epochs
        return None if epochs == -1 else epochs * self.order().epoch_length

    def __iter__(self) -> Iterator[Any]:
        """``num_epochs`` epochs of elements in this source's order; a second loop is a second run, in the next epochs."""
        self._loop.has_begun = True
        return super().__iter__()

    @property
    def iterator_initialized(self) -> bool:
        """Whether a loop over this source was begun since it was built or reset."""
        return self._loop.has_begun

    @property
    def current_index(self) -> int:
        """How many records of the current epoch were served."""
        return self.index

    @property
    def current_epoch(self) -> int:
        """How many epochs were served in full."""
        return self.epoch

    @property
    def prefetch_cache(self) -> dict[int, Any]:
        """The elements that a loop has read ahead, by their position in the stream."""
        return self.elements_read_ahead()

    @property
    def shuffled_indices(self) -> np.ndarray | None:
        """int64 (n,): the record indices of the current epoch in their order, computed anew; None if it is not shuffled."""
        if not self.is_random_order:
            return None
        epoch = self.current_epoch * self.total_records
        return np.asarray(self.record_indices_at(epoch, self.total_records, self.order_key_data()))

    def reset(self, seed: int | None = None) -> None:
        """Back to the first epoch; with ``seed``, of the order that building with ``nnx.Rngs(seed)`` gives."""
        super().reset(seed)
        self._loop.has_begun = False

    # -- all records ----------------------------------------------------------------------------------------------------

    def verify_records(self, indices: np.ndarray) -> Verified:
        """See `DataSourceModule.verify_records`: strict also with ``on_error="substitute"``."""
        return self._opened.records.verified(self._record_numbers(indices), self)

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
        """See `DataSourceModule.write_records`, and `datarax_arrayrecord.write`, which this is."""
        return write(
            path,
            source,
            decoder,
            shards=shards,
            compression=compression or DEFAULT_COMPRESSION,
            overwrite=overwrite,
            progress=progress,
        )

    # -- files ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        self._opened.records.files.close()

    # -- inside ---------------------------------------------------------------------------------------------------------

    def constructor_data(self) -> tuple[Any, ...]:
        """The open files, which copies share."""
        return (self._opened,)

    def fingerprint(self) -> dict[str, Any]:
        """That of every source, with names, sizes and lengths of the files, the decoder, and what is excluded."""
        own = super().fingerprint()
        if self.config.shuffle_files and self.is_random_order:
            own["order"] = own["order"].replace("shuffled", "files shuffled")
        return {**own, **self._opened.fingerprint()}

    @property
    def _is_undecoded(self) -> bool:
        return isinstance(self.decoder, RawDecoder)

    def _undecoded(self, indices: np.ndarray) -> list[bytes]:
        if self.config.cacheable:
            return list(self.fetch(self._record_numbers(indices))[RECORD_FIELD])
        stored, substituted = self._opened.records.bytes_of(self._record_numbers(indices), self)
        self.note_substituted(substituted)
        return stored

    def _record_numbers(self, indices: Any) -> np.ndarray:
        self._require_records()
        return record_numbers(indices, self.total_records, self.title).astype(np.int64, copy=False)  # uint8 would wrap

    def _require_records(self) -> None:
        self._opened.records.require_records(self)


class _LoopState(HostState):
    """Whether a loop over the source was begun since it was built or reset."""

    has_begun = False
