"""The Parquet source."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from datarax_core import DataSourceModule, SourceConfig, aligned_empty
from datarax_core.indices import as_integer, record_numbers
from datarax_core.order import key_words
from datarax_core.spec import Batch

from ._config import AcmeParquetConfig
from ._files import ParquetFile
from ._order import WindowedOrder
from ._paths import data_files
from ._row_groups import RowGroups
from ._schema import require_fill, spec_of


class AcmeParquet(DataSourceModule):
    """The rows of Parquet files as records, their columns as fields.

    Rows are decoded a row group at a time. Reading in sequence decodes each row group once an epoch; a shuffled batch touches
    about as many row groups as it has records, and decodes those that are not kept: see ``cache_bytes``, ``cacheable`` and
    ``shuffle_window``.

    Args:
        config: Its settings.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        name: What errors call this source.

    Raises:
        FileNotFoundError: A path names no file.
        DataFileError: A file is damaged, or no Parquet file, or its columns differ from those of the first file.
        ConfigError: A column that was asked for is not there, cannot be served, or cannot be filled with what was given.
    """

    API_VERSION: ClassVar[int] = 1
    config_class: ClassVar[type[SourceConfig]] = AcmeParquetConfig
    config: AcmeParquetConfig

    def __init__(self, config: AcmeParquetConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.set_random_order(config.shuffle)
        self._opened = _Opened(config, self.title)

    def __len__(self) -> int:
        return self._opened.row_groups.num_rows

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What one row looks like, as the schema says: no row is read for it."""
        return dict(self._opened.spec)

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        """The rows at concrete ``indices``.

        Raises:
            IndexError: An index is out of range.
            RecordError: A value is null that nothing stands in for.
            DataFileError: A row group is damaged, or its file changed since the source was built.
        """
        records = record_numbers(indices, len(self), self.title).astype(np.int64, copy=False)
        batch = {name: _empty((len(records), *s.shape), s.dtype) for name, s in self._opened.spec.items()}
        self._opened.row_groups.take(records, batch)
        return batch

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """The records at positions ``start .. start + size``; see `DataSourceModule.record_indices_at`."""
        window = self.config.shuffle_window
        if window is None or not self.is_random_order or key is None:
            return super().record_indices_at(start, size, key)
        super().record_indices_at(start, 0, key)  # refuses what is no position, and no key
        order, words = WindowedOrder(self._opened.row_groups.num_rows_of_each, window), key_words(key)
        if not isinstance(start, jax.core.Tracer) and not isinstance(key, jax.core.Tracer):
            return order.record_indices(as_integer("a position", start), size, np.asarray(words))

        def on_host(start: Any, words: Any) -> np.ndarray:
            return order.record_indices(int(start), size, np.asarray(words)).astype(np.int32)

        shape = jax.ShapeDtypeStruct((size,), np.dtype(np.int32))
        return jax.pure_callback(on_host, shape, start, words, vmap_method="sequential")

    def fingerprint(self) -> dict[str, Any]:
        """That of every source, with what tells these files from others: a state of those is refused."""
        window = self.config.shuffle_window if self.is_random_order else None
        return {**super().fingerprint(), **self._opened.fingerprint(), "shuffle_window": window}

    def fetch(self, indices: Any) -> Batch:
        """`get_records`; with ``cacheable`` from memory, to which all rows go of a row group that is decoded for some."""
        cache = self.record_cache()
        if cache is not None:
            missing = cache.missing(record_numbers(indices, len(self), self.title))
            for records, batch in self._opened.row_groups.around(missing):
                cache.keep(records, batch)
        return super().fetch(indices)

    def reset_cache(self) -> None:
        """Drop what was kept; the next read decodes anew."""
        super().reset_cache()
        self._opened.row_groups.clear()


class _Opened:
    """The files of a source and their columns: shared by its clones, compared by identity, outside of every graph."""

    def __init__(self, config: AcmeParquetConfig, title: str) -> None:
        self.files = [ParquetFile.of(path) for path in data_files(config.paths)]
        self.spec = spec_of(self.files, config.columns)
        self.fill = require_fill(config.fill_null, self.files[0].schema, self.spec)
        limit = 0 if config.cacheable else config.cache_bytes  # whole columns are kept instead
        self.row_groups = RowGroups(self.files, self.spec, self.fill, limit)
        if not self.row_groups.num_rows:
            raise ValueError(
                f"{title} has no records: its {len(self.files)} files, {self.files[0].path} first, are empty"
            )

    def fingerprint(self) -> dict[str, Any]:
        """Names, sizes and lengths of the files, not where they lie; and what stands in for nulls."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{Path(file.path).name}\0{file.stamp.size}\0{file.footer.num_rows}\n".encode())
        return {"files": len(self.files), "names_and_sizes": digest.hexdigest()[:16], "fill_null": self.fill}


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new array, which a device takes over without a copy where it can hold it at all."""
    return np.empty(shape, dtype) if dtype.kind in "OMm" else aligned_empty(shape, dtype)
