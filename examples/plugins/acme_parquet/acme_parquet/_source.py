"""The Parquet source."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from datarax_core import DataSourceModule, SourceConfig, aligned_empty
from datarax_core.config import without_query
from datarax_core.files import is_of_kind
from datarax_core.order import as_integer, key_data, record_numbers
from datarax_core.records import Batch
from datarax_core.storage import RangeReader

from ._config import AcmeParquetConfig
from ._files import ParquetFile
from ._order import WindowedOrder
from ._paths import PARQUET, data_files
from ._row_groups import RowGroups
from ._schema import require_fill, spec_of


class AcmeParquet(DataSourceModule):
    """The rows of Parquet files as records, their columns as fields.

    Rows are decoded a row group at a time. Reading in sequence decodes each row group once an epoch; a shuffled batch touches
    about as many row groups as it has records, and decodes the row groups that are not kept; see ``memory_bytes``,
    ``cacheable`` and ``shuffle_window``.

    Args:
        config: Config of the source.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        name: Name of the source in errors.

    Raises:
        FileNotFoundError: A path names no file.
        DataFileError: A file is damaged, or no Parquet file, or its columns differ from those of the first file.
        ConfigError: A column that the config names does not exist, cannot be served, or cannot hold its replacement of nulls.
    """

    config_class: ClassVar[type[SourceConfig]] = AcmeParquetConfig
    config: AcmeParquetConfig

    def __init__(self, config: AcmeParquetConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self._opened = _Opened(config, self.title)

    @classmethod
    def guess(cls, path: str) -> Mapping[str, Any] | None:
        """Return the config of a Parquet file, by its name, or of a folder of them; None for other paths."""
        return {"paths": path} if is_of_kind(path, PARQUET) else None

    def __len__(self) -> int:
        return self._opened.row_groups.num_rows

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return dtype and shape of each column, from the schema; no row is read."""
        return dict(self._opened.spec)

    def get_records(self, indices: Any) -> dict[str, Any]:
        """Return the rows at concrete ``indices`` as a batch; lists of any length as ragged columns.

        Raises:
            IndexError: An index is out of range.
            RecordError: A value is null, and its column has no replacement of nulls.
            DataFileError: A row group is damaged, or its file changed since the source was built.
        """
        records = record_numbers(indices, len(self), self.title).astype(np.int64, copy=False)
        spec, size = self._opened.spec, len(records)
        arrays = {name: _empty((size, *s.shape), s.dtype) for name, s in spec.items() if None not in s.shape}
        batch = {**arrays, **self._opened.row_groups.take(records, arrays)}
        return {name: batch[name] for name in spec}

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects."""
        window = self.config.shuffle_window
        if window is None or not self.is_random_order or key is None:
            return super().record_indices_at(start, size, key)
        super().record_indices_at(start, 0, key)  # raises if the position or the key is invalid
        order, order_key = WindowedOrder(self._opened.row_groups.rows_by_group, window), key_data(key)
        if not isinstance(start, jax.core.Tracer) and not isinstance(key, jax.core.Tracer):
            return order.record_indices(as_integer("a position", start), size, np.asarray(order_key))

        def on_host(start: Any, order_key: Any) -> np.ndarray:
            return order.record_indices(int(start), size, np.asarray(order_key)).astype(np.int32)

        shape = jax.ShapeDtypeStruct((size,), np.dtype(np.int32))
        return jax.pure_callback(on_host, shape, start, order_key, vmap_method="sequential")

    def fingerprint(self) -> dict[str, Any]:
        """Return the entries that a saved state must match: those of every source, and of these files and their order."""
        window = self.config.shuffle_window if self.is_random_order else None
        return {**super().fingerprint(), **self._opened.fingerprint(), "shuffle_window": window}

    def fetch(self, indices: Any) -> Batch:
        """Return the rows at ``indices``; with ``cacheable``, all rows of each row group that is decoded are kept."""
        cache = self.record_cache()
        if cache is not None:
            missing = cache.missing(record_numbers(indices, len(self), self.title))
            for records, batch in self._opened.row_groups.around(missing):
                cache.keep(records, batch)
        return super().fetch(indices)

    def reset_cache(self) -> None:
        """Drop all rows and row groups that were kept; the next read decodes them again."""
        super().reset_cache()
        self._opened.row_groups.clear()


class _Opened:
    """The files of a source and their columns; shared by its clones, compared by identity, outside of the nnx graph."""

    def __init__(self, config: AcmeParquetConfig, title: str) -> None:
        reader, paths = RangeReader.of(config), data_files(config.paths, config.storage_options)
        with ThreadPoolExecutor(16) as pool:  # footers at addresses are waited for
            stamps = reader.stamps(paths)
            self.files = list(pool.map(lambda path, stamp: ParquetFile.of(path, stamp, reader), paths, stamps))
        self.spec = spec_of(self.files, config.columns)
        self.fill = require_fill(config.fill_null, self.files[0].schema, self.spec)
        limit = 0 if config.cacheable else config.memory_bytes  # core keeps whole columns instead
        self.row_groups = RowGroups(self.files, self.spec, self.fill, limit)
        if not self.row_groups.num_rows:
            raise ValueError(
                f"{title} has no records: its {len(self.files)} files, {self.files[0].path} first, are empty"
            )

    def fingerprint(self) -> dict[str, Any]:
        """Return names, sizes and lengths of the files, but not their folders; and the replacement of nulls."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(
                f"{Path(without_query(file.path)).name}\0{file.stamp.size}\0{file.footer.num_rows}\n".encode()
            )
        return {"files": len(self.files), "names_and_sizes": digest.hexdigest()[:16], "fill_null": self.fill}


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new array; a CPU device takes over the memory of a device field without a copy."""
    return np.empty(shape, dtype) if dtype.kind in "OMm" else aligned_empty(shape, dtype)
