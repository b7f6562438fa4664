"""Reader of the records of a pipeline with host stages: a source, and the stages that are called with what it reads."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from operator import is_
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.devices.callbacks import number_of
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.sources.access import Capabilities
from datarax_core.sources.columns import RecordCache
from datarax_core.sources.reading_ahead import MappedAhead, ReadingAhead, Watch
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import stage_name
from datarax_core.stages.randomness import is_stochastic, takes_record_indices

from .calls import HostCalls
from .side import num_by_part
from .table import HostTable

Read: TypeAlias = Callable[[np.ndarray], Batch]
"""A function from indices to the records of a source."""


class HostSpecs:
    """The element specs before, between and after the host stages of a pipeline. Compared by identity."""

    def __init__(self, specs: Sequence[ElementSpec] = ()) -> None:
        self.specs = tuple(specs)
        self.count = max(0, len(self.specs) - 1)
        """Number of host stages; an attribute, since each step asks for it."""


class StagedReader:
    """Records of a source by index, after the host stages of a pipeline.

    It stands where a source stands in routes, workers and callbacks of compiled code. It may be read from several threads at
    once, if the source may, and pickles if source and stages do.

    Threads and workers read parts of a batch, so a batch is read in two steps: `fetch_part` calls the stages whose result for a
    record depends on nothing else, and `complete` the others, with the whole batch. `fetch` does both.

    Args:
        source: The source of the records.
        stages: The host stages.
        specs: Their specs.
        key_data: uint32 (2,): the pipeline's key; None if no stage is stochastic.
    """

    def __init__(self, source: DataSourceModule, stages: Sequence[Any], specs: HostSpecs, key_data: Any) -> None:
        self.source = source
        self.stages = tuple(stages)
        self.specs = specs
        self.key_data = None if key_data is None else np.asarray(key_data)
        self._given_key_data = key_data
        self._other: StagedReader | None = None  # with another key
        self._earlier: StagedReader | None = None  # of stages that these replaced
        self.first_whole = num_by_part(self.stages)
        """Number of the first stage that is called with a whole batch."""
        self._caches = [number for number, stage in enumerate(self.stages) if is_cache(stage)]
        self._made: dict[tuple[int, int], HostCalls] = {}
        self.draws = any(map(is_stochastic, self.stages))
        """Whether a stage draws random numbers."""
        self._varies = self.draws or source.varies_by_epoch
        self._last_calls_of_parts = self._calls(self._caches[-1] + 1 if self._caches else 0, self.first_whole)
        self._read_source = source.fetch_on_host if source.access == "device" else source.fetch_of_order()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.stages, self.specs, self.key_data)

    def serves(self, source: DataSourceModule, stages: Sequence[Any]) -> bool:
        """Return whether this is the reader of that source through these very stages."""
        return self.source is source and len(stages) == len(self.stages) and all(map(is_, stages, self.stages))

    def serves_copies(self, stages: Sequence[Any]) -> bool:
        """Return whether ``stages`` are the stages of this reader, or the copies that a trace has of those that are modules."""
        return len(stages) == len(self.stages) and all(map(_is_copy, stages, self.stages))

    def with_key_data(self, key_data: Any) -> "StagedReader":
        """Return the reader of the same records that draws from the key ``key_data``: this one, or one that it keeps."""
        if self.has_key_data(key_data):
            return self
        other = self._other
        if other is None or not other.has_key_data(key_data):
            other = self._other = StagedReader(self.source, self.stages, self.specs, key_data)
        return other

    def has_key_data(self, key_data: Any) -> bool:
        """Return whether this reader draws from that key, or does not draw."""
        if self._given_key_data is not key_data and self.draws:  # nnx.jit returns a copy of each variable
            if not np.array_equal(self.key_data, np.asarray(key_data)):  # type: ignore[arg-type]  # None is no key
                return False
            self._given_key_data = key_data
        return True

    def followed_by(self, stages: Sequence[Any], source: DataSourceModule | None = None) -> "StagedReader":
        """Return the reader of the source through other stages, which keeps this one: compiled programs find it by number."""
        reader = StagedReader(self.source if source is None else source, stages, self.specs, self.key_data)
        reader._earlier = self
        return reader

    def over(self, source: DataSourceModule) -> "StagedReader":
        """Return a reader of another source, through the same stages."""
        return StagedReader(source, self.stages, self.specs, self.key_data)

    # -- facts, as a source has them ----------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """The name of the source in errors."""
        return self.source.title

    @property
    def num_records(self) -> int:
        """The number of indices, by which `indices_to_read` tells epochs apart."""
        return self.source.num_indices

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the source, which is read on the host."""
        return replace(self.source.capabilities, traceable=False)

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
        """Whether several threads may read the source, and call the stages, at once."""
        return self.source.is_thread_safe and self.stage_of_one_thread is None

    @property
    def releases_gil(self) -> bool:
        """Whether the source, or a stage that is called with parts of batches, works on several cores in one process."""
        of_parts = self.stages[: self.first_whole]
        return self.source.releases_gil or any(getattr(stage, "releases_gil", False) is True for stage in of_parts)

    @property
    def stage_of_one_thread(self) -> str | None:
        """The name of the first stage that says ``thread_safe = False``: one thread calls it at a time; None if none does."""
        named = (title for title, stage in self.stages_by_title.items() if getattr(stage, "thread_safe", True) is False)
        return next(named, None)

    @property
    def first_of_whole_batch(self) -> tuple[int, Any] | None:
        """The first of the stages that need all rows of a batch, with its number; None if there is none."""
        return None if self.first_whole == len(self.stages) else (self.first_whole, self.stages[self.first_whole])

    @property
    def differs_in_shape(self) -> bool:
        """Whether batches differ in shape: those of the source do, or a stage needs all rows of a batch to find a length."""
        return self.source.differs_in_shape or self.first_whole < len(self.stages)

    def element_spec(self) -> ElementSpec:
        """Return the element spec of a record after the host stages, with the dtypes of the host."""
        return self.specs.specs[-1]

    @property
    def varies_by_epoch(self) -> bool:
        """Whether records differ from epoch to epoch: those of the source, or since a host stage draws random numbers."""
        return self._varies

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
        """Return the records at concrete ``indices`` after the host stages; they are a whole batch."""
        return self.complete(self.fetch_part(indices), indices)

    def fetch_of_order(self) -> Callable[[np.ndarray], Batch]:
        """Return `fetch`: the source is read by the shortest way in it."""
        return self.fetch

    def fetch_part(self, indices: np.ndarray) -> Batch:
        """Return records, which may be a part of a batch, after the stages before `first_whole`."""
        return self._read(self._read_source, indices)

    def complete(self, batch: Batch, indices: np.ndarray, *, first: int | None = None) -> Batch:
        """Return the whole batch after the stages that it has not gone through.

        Args:
            batch: The batch, as `fetch_part` returned it, or its parts, joined.
            indices: The indices by which it was read.
            first: Number of the first stage to call; None is `first_whole`.
        """
        first = self.first_whole if first is None else first
        if first == len(self.stages):
            return batch
        _, epochs, records = self._places(indices)
        return self._calls(first, len(self.stages))(batch, epochs, records)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return `fetch`, without running compiled code."""
        batch = self._read(self.source.fetch_on_host, indices)
        return self.complete(batch, indices)

    def reading_ahead(self, watch: Watch) -> ReadingAhead | None:
        """Return what reads the source's records before one loop fetches them; None if a `Cache` holds some."""
        ahead = None if self._caches else self.source.reading_ahead(watch)
        return (
            MappedAhead(ahead, lambda indices: self._places(indices)[0])
            if ahead is not None and self._varies
            else ahead
        )

    def get_records(self, indices: np.ndarray) -> Batch:
        """Return `fetch_part`; a worker process calls it."""
        return self.fetch_part(indices)

    def staged(self, batch: Batch, epochs: np.ndarray, indices: np.ndarray) -> Batch:
        """Return a batch of a stream after the host stages; its records are those ``indices`` of ``epochs``, int64 (k,)."""
        return self._calls(0, len(self.stages))(batch, epochs, indices)

    def called_with(self, batch: Batch) -> Batch:
        """Return a batch of any records after the host stages.

        Raises:
            ValueError: A stage takes generators or record indices, which only a pipeline has.
        """
        for number, stage in enumerate(self.stages):
            if is_stochastic(stage) or (takes_record_indices(stage) and not is_cache(stage)):
                raise ValueError(
                    f"stage {number} ({stage_name(stage)}) has its generators or record indices from the pipeline; iterate that"
                )
        rows = np.arange(len(jax.tree.leaves(batch)[0]))
        return self._calls(0, len(self.stages))(batch, None, rows)

    def _read(self, read: Read, indices: np.ndarray) -> Batch:
        """Return records after the stages before `first_whole`; those that a `Cache` holds are not read."""
        if not self._varies and not self._caches:
            return self._last_calls_of_parts(read(indices), None, indices)
        to_read, epochs, records = self._places(indices)
        batch = self._kept(len(self._caches), records, read) if self._caches else read(to_read)
        return self._last_calls_of_parts(batch, epochs, records)

    def _kept(self, count: int, records: np.ndarray, read: Read) -> Batch:
        """Return records after the stages up to the last of the first ``count`` caches."""
        if not count:
            return read(records)
        first, last = self._caches[count - 2] + 1 if count > 1 else 0, self._caches[count - 1]
        calls = self._calls(first, last + 1)
        store = self.stages[last].host_table.store(self.specs.specs[last + 1])
        return store.fetch(records, lambda missing: calls(self._kept(count - 1, missing, read), None, missing))

    def _places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return (the indices by which the source reads, the epochs if they are known, the record indices)."""
        if not self._varies:
            return indices, None, indices
        epochs, records = np.divmod(np.asarray(indices, np.int64), self.num_records)
        return (indices if self.source.varies_by_epoch else records), epochs, records

    def _calls(self, first: int, last: int) -> HostCalls:
        """Return the calls of a range of stages; made once, also if two threads ask at the same time."""
        made = self._made.get((first, last))
        if made is None:
            made = self._made[first, last] = HostCalls(
                [_as_called(stage) for stage in self.stages[first:last]],
                self.specs.specs[first : last + 1],
                self.key_data,
                self.title,
                first=first,
                sizes_vary_from=0 if self.source.differs_in_shape else self.first_whole,
            )
        return made

    @property
    def stages_by_title(self) -> dict[str, Any]:
        """The stages by their names in errors."""
        return {f"stage {number} ({stage_name(stage)})": stage for number, stage in enumerate(self.stages)}

    # -- worker processes -----------------------------------------------------------------------------------------------------

    @cached_property
    def for_workers(self) -> "StagedReader":
        """The reader that worker processes read by: of stages that can be called with parts of a batch.

        A `Cache` is kept in this process, once, and not in each worker: the stages behind the last one are called here.
        """
        count = self._caches[-1] + 1 if self._caches else self.first_whole
        return _PartReader(self, count)

    def indices_for_workers(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices by which workers read what `fetch` reads by ``indices``."""
        return indices if self.for_workers.varies_by_epoch == self.varies_by_epoch else self._places(indices)[2]

    def complete_from_workers(self, batch: Batch, indices: np.ndarray) -> Batch:
        """Return the whole batch that workers have read, after the stages that they do not call."""
        return self.complete(batch, indices, first=len(self.for_workers.stages))

    def record_cache(self) -> RecordCache | None:
        """Return None: this process keeps the records of a `Cache` by itself."""
        return None

    def note_substituted(self, records: int) -> None:
        """Count records that were replaced by others."""
        self.source.note_substituted(records)

    def get_operation_stats(self) -> dict[str, int]:
        """Return the counts of the source."""
        return self.source.get_operation_stats()


class _PartReader(StagedReader):
    """The first stages of a reader, as worker processes call them: without caches, of which the last is kept by the pool.

    Args:
        whole: The reader of all stages.
        count: How many stages workers call.
    """

    def __init__(self, whole: StagedReader, count: int) -> None:
        stages = [_as_called(stage) for stage in whole.stages[:count]]
        super().__init__(whole.source, stages, HostSpecs(whole.specs.specs[: count + 1]), whole.key_data)
        table = getattr(whole.stages[count - 1], "host_table", None) if count else None
        self._table = table if isinstance(table, HostTable) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return StagedReader, (self.source, self.stages, self.specs, self.key_data)

    def record_cache(self) -> RecordCache | None:
        """Return the records that the pipeline's last `Cache` keeps."""
        return None if self._table is None else self._table.store(self.element_spec())


def _is_copy(copy: Any, stage: Any) -> bool:
    """Return whether a stage of a trace is this stage, or the copy that flax made of it; a module of it has no variables."""
    if copy is stage:
        return True
    if not isinstance(stage, nnx.Module) or type(copy) is not type(stage):
        return False
    return bool(nnx.graphdef(copy) == nnx.graphdef(stage))


def _as_called(stage: Any) -> Any:
    """Return what is called for a stage: of a `Cache`, the stage in it."""
    return stage.stage if is_cache(stage) else stage


def is_cache(stage: Any) -> bool:
    """Return whether a host stage is a `Cache`."""
    return isinstance(getattr(stage, "host_table", None), HostTable)
