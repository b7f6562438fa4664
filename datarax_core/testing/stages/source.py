"""Source of the records that an author declares, for pipelines with the stage under test."""

from typing import Any, Literal

import jax
import numpy as np

from datarax_core.config.models import SourceConfig
from datarax_core.records.spec import Batch, ElementSpec, spec_of
from datarax_core.sources.source import DataSourceModule


class RecordsConfig(SourceConfig):
    """Options of `Records`."""

    type: Literal["records_under_test"] = "records_under_test"
    is_reversed: bool = False


class Records(DataSourceModule):
    """Source of columns in memory, read by the host: forward, or backward."""

    config_class = RecordsConfig

    config: RecordsConfig

    def __init__(self, columns: Batch, *, is_reversed: bool = False) -> None:
        super().__init__(RecordsConfig(is_reversed=is_reversed), name="the records under test")
        self._columns = _Columns(columns)

    def __len__(self) -> int:
        return len(jax.tree.leaves(self._columns.batch)[0])

    def element_spec(self) -> ElementSpec:
        """Return the spec of the columns."""
        return spec_of(self._columns.batch)

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:  # noqa: ARG002 - without a shuffle
        """Return the record indices at positions from ``start`` on, int (size,)."""
        xp = np if isinstance(start, int | np.integer) else jax.numpy
        indices = (start + xp.arange(size)) % len(self)
        return len(self) - 1 - indices if self.config.is_reversed else indices

    def get_records(self, indices: Any) -> Batch:
        """Return the rows of the columns at concrete ``indices``."""
        return jax.tree.map(lambda column: column[np.asarray(indices)], self._columns.batch)


class _Columns:
    """Columns, which are no part of the state of a source."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
