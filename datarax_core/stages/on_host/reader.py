"""Reader of the records of a pipeline with host stages: a source, and the stages that are called with what it reads."""

import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.devices.callbacks import number_of
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.randomness import is_stochastic

from .calls import HostCalls
from .side import num_by_part


class HostSpecs:
    """The element specs before, between and after the host stages of a pipeline. Compared by identity."""

    def __init__(self, specs: Sequence[ElementSpec] = ()) -> None:
        self.specs = tuple(specs)

    def __len__(self) -> int:
        """Return the number of host stages."""
        return max(0, len(self.specs) - 1)


class Rows(NamedTuple):
    """The ids of the records of a batch: int64 (k,) epochs, None if no host stage draws random numbers, and record indices."""

    epochs: np.ndarray | None
    indices: np.ndarray


class StagedReader:
    """Records of a source by index, after the host stages of a pipeline.

    It stands where a source stands in routes, workers and callbacks of compiled code. It may be read from several threads at
    once, if the source may, and pickles if source and stages do.

    Args:
        source: The source of the records.
        stages: The host stages.
        specs: Their specs.
        key_data: uint32 (2,): the pipeline's key; None if no stage is stochastic.
        draws: Whether it is read by indices with epochs, although none of the stages is stochastic.
    """

    def __init__(
        self,
        source: DataSourceModule,
        stages: Sequence[Any],
        specs: HostSpecs,
        key_data: np.ndarray | None,
        *,
        draws: bool = False,
    ) -> None:
        self.source = source
        self.stages = tuple(stages)
        self.specs = specs
        self.key_data = key_data
        self._draws = draws or any(map(is_stochastic, self.stages))
        self._reads_on_device = source.access == "device"
        by_part = num_by_part(self.stages)
        self._calls = HostCalls(self.stages[:by_part], specs.specs[: by_part + 1], key_data, source.title)
        self._last_calls: HostCalls | None = None
        self._parts: StagedReader | None = None
        if by_part < len(self.stages):
            self._last_calls = HostCalls(
                self.stages[by_part:], specs.specs[by_part:], key_data, source.title, first=by_part, sizes_vary=True
            )
            specs_of_parts = HostSpecs(specs.specs[: by_part + 1])
            self._parts = StagedReader(source, self.stages[:by_part], specs_of_parts, key_data, draws=self._draws)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.source, self.stages, self.specs, self.key_data)
        return functools.partial(type(self), draws=self._draws), arguments

    @property
    def parts(self) -> "StagedReader":
        """The reader of parts of a batch, of which `finish` makes what `fetch` gives; this one if no stage needs them whole."""
        return self._parts or self

    @property
    def first_of_whole_batch(self) -> tuple[int, Any] | None:
        """The first of the stages that need all rows of a batch, with its number; None if there is none."""
        return None if self._parts is None else (len(self._parts.stages), self.stages[len(self._parts.stages)])

    def serves(self, source: DataSourceModule, stages: Sequence[Any], key_data: Any) -> bool:
        """Return whether this is the reader of that source through these very stages with this key."""
        same = len(stages) == len(self.stages) and all(
            one is other for one, other in zip(stages, self.stages, strict=True)
        )
        return self.source is source and same and (self.key_data is key_data or np.array_equal(self.key_data, key_data))

    # -- facts, as a source has them ----------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """The name of the source in errors."""
        return self.source.title

    @property
    def num_records(self) -> int:
        """The number of record indices."""
        return self.source.num_records

    @property
    def original_number(self) -> int:
        """The number by which callbacks of compiled code find this reader."""
        return number_of(self)

    @property
    def callback_lock(self) -> threading.Lock:
        """Held while the host serves a callback."""
        return self.source.callback_lock

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may read at once: whether they may read the source."""
        return self.source.is_thread_safe

    def element_spec(self) -> ElementSpec:
        """Return the element spec of a record after the host stages, with the dtypes of the host."""
        return self.specs.specs[-1]

    @property
    def varies_by_epoch(self) -> bool:
        """Whether records differ from epoch to epoch: those of the source, or since a host stage draws random numbers."""
        return self._draws or self.source.varies_by_epoch

    def indices_to_read(self, start: int | jax.Array, indices: Any) -> Any:
        """Return the indices by which to `fetch` records, as `RecordAccess.indices_to_read` does."""
        if not self.varies_by_epoch:
            return indices
        epochs = self.source.epochs_at(start, indices.size)
        if isinstance(indices, np.ndarray):
            return indices.astype(np.int64) + self.num_records * np.asarray(epochs, np.int64).reshape(indices.shape)
        return jnp.stack([indices.astype(np.int32), epochs.astype(np.int32)], axis=-1)

    # -- records --------------------------------------------------------------------------------------------------------------

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices`` after the host stages."""
        read = self.source.fetch_on_host if self._reads_on_device else self.source.fetch
        return self._staged(read, indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return `fetch`, without running compiled code."""
        return self._staged(self.source.fetch_on_host, indices)

    def get_records(self, indices: np.ndarray) -> Batch:
        """Return `fetch`; a worker process calls it."""
        return self.fetch(indices)

    def finish(self, batch: Batch, indices: np.ndarray) -> Batch:
        """Return a whole batch after the host stages that need one; `parts` has read it at ``indices``."""
        if self._last_calls is None:
            return batch
        epochs, records = self._ids(indices)
        return self._last_calls(batch, epochs, records)

    def _staged(self, read: Any, indices: np.ndarray) -> Batch:
        epochs, records = self._ids(indices)
        batch = read(indices if self.source.varies_by_epoch else records)
        return self.staged(batch, epochs, records)

    def _ids(self, indices: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Return (epochs, record indices) of the indices that records are fetched by; None for epochs that are not needed."""
        if not self._draws and not self.source.varies_by_epoch:
            return None, indices
        return np.divmod(np.asarray(indices, np.int64), self.num_records)

    def staged(self, batch: Batch, epochs: np.ndarray | None, indices: np.ndarray) -> Batch:
        """Return a batch of a stream after the host stages; its records are those ``indices`` of ``epochs``, int64 (k,)."""
        batch = self._calls(batch, epochs, indices)
        return batch if self._last_calls is None else self._last_calls(batch, epochs, indices)

    # -- what worker processes ask --------------------------------------------------------------------------------------------

    def record_cache(self) -> None:
        """Return None: records after host stages are kept by a `Cache` alone."""

    def note_substituted(self, records: int) -> None:
        """Count records that were replaced by others."""
        self.source.note_substituted(records)

    def get_operation_stats(self) -> dict[str, int]:
        """Return the counts of the source."""
        return self.source.get_operation_stats()
