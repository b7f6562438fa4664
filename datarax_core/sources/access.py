"""Records of a source by index: how they are reached, read, checked and kept."""

import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import SourceConfig
from datarax_core.devices.aside import Aside
from datarax_core.devices.callbacks import records_by_callback
from datarax_core.devices.host_arrays import HostArrays
from datarax_core.errors import SpecError
from datarax_core.modules.module import StructuralModule
from datarax_core.records.intake import Changes
from datarax_core.records.spec import Batch, ElementSpec, check_batch, device_spec, named_fields, split_host_fields

from .columns import RecordCache
from .description import DescribedSource
from .identity import config_paths, content_of, sample_of
from .known_columns import KnownColumns
from .other_contracts import OtherContract
from .saved_work import SavedWork

Access: TypeAlias = Literal["device", "host", "stream"]
"""How records are reached: by compiled code, by the host at concrete indices, or forward only."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities of a source: a summary of `RecordAccess.access`, ``len()`` and resuming."""

    random_access: bool
    """Whether records are read by index; False for a stream."""
    batched_reads: bool
    """Whether several records are read by one call; always True."""
    traceable: bool
    """Whether compiled code reads the records."""
    resumable: bool
    """Whether a state brings back the place; of a stream, only with ``get_state`` and ``set_state``."""
    sized: bool
    """Whether there is a length."""


class OrderKey(nnx.Variable[Any]):
    """uint32 (w,): the key data of the key that a source's shuffle is drawn from."""


class RecordAccess(KnownColumns, DescribedSource, HostArrays, StructuralModule):
    """Records by index. `DataSourceModule` derives from this class, and adds an order, states, and a position that moves."""

    config_class: ClassVar[type[SourceConfig]]
    """The config that ``type:`` in a config file selects; its field ``type`` defaults to the registered name.

    Called: by registries, when the name is first used.
    Default: none; a source that configs can name sets it.
    """

    traceable: ClassVar[bool] = False
    """Whether `get_records` accepts traced indices: True for a source whose records lie on the device.

    Called: by `access`, whenever a route is chosen.
    Default: False: the host reads the records.
    """

    thread_safe: ClassVar[bool] = True
    """Whether several threads may call `get_records` at once. A source that says False is read by one thread at a time.

    Called: by pipelines and views, before they read.
    Default: True.
    """

    releases_gil: ClassVar[bool] = False
    """Whether reading spends its time in code that releases Python's global interpreter lock, such as decoders of images.

    Then as many threads as there are cores are tried, also where reading does not wait.

    Called: by pipelines with ``threads="auto"``, when a run begins.
    Default: False.
    """

    reads_neighbours_together: ClassVar[bool] = False
    """Whether records whose indices are near one another are read faster together, as those of files.

    Several threads then read such parts of a batch; otherwise each reads a run of its rows.

    Called: by pipelines that read by several threads, when a run begins.
    Default: False.
    """

    other_contract: ClassVar[OtherContract | None] = None
    """How a class reads records that defines `get_batch_at` or ``__getitem__`` and no `get_records`; None for other classes.

    Called: set by core when the class is defined.
    """

    _saved_work = Aside["SavedWork"]()

    # -- methods that an author writes ---------------------------------------------------------------------------------------

    def element_spec(self) -> ElementSpec:
        """Return a pytree of ``jax.ShapeDtypeStruct`` that describes one record; never read the whole data set for it.

        Called: when a pipeline is made, for each fingerprint, and at the first read of a source; on any thread. It is asked
            often: keep what it costs to find.
        Default: none; a subclass writes it, unless its class comes with another contract.
        """
        if self.other_contract is None:
            raise NotImplementedError(
                f"{type(self).__name__} does not define element_spec(); return a jax.ShapeDtypeStruct for each field of a "
                "record"
            )
        if self._saved_work.spec is None:
            self._saved_work.spec = self.other_contract.element_spec(self)  # type: ignore[arg-type]  # with an order
        return self._saved_work.spec

    def device_spec(self) -> ElementSpec:
        """Return the element spec as a device keeps the records: 64-bit fields in 32 bits unless ``JAX_ENABLE_X64=1``.

        `element_spec` is that of the records as stored. Batches of a source on the device, and those of pipelines before
        their stages, are as this method says.

        Called: by users.
        """
        return device_spec(self.element_spec())

    def get_records(self, indices: Any) -> Batch:
        """Return the records at int (k,) ``indices`` as a batch of k rows, in that order. Stateless.

        Called: on any thread: the loop's own, one that reads ahead, several that read parts of a batch, in worker
            processes, and from compiled code on a thread of JAX's. Never with an index that is out of range by a pipeline;
            by users through ``fetch`` as they please.
        Default: none; a source with random access writes it.
        """
        if self.other_contract is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no random access: it does not define get_records(); read it with get_batch()"
            )
        batch: Batch = self.other_contract.records(self, indices)  # type: ignore[arg-type]  # with an order
        return batch

    # -- access and order ----------------------------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """How records are reached: by compiled code, by the host, or forward only.

        Called: by everything that reads, whenever it chooses how; on any thread.
        Default: from `traceable` and the methods of the class.
        """
        if type(self).get_records is not RecordAccess.get_records:
            return "device" if self.traceable else "host"
        if self.other_contract is None:
            return "stream"
        saved = self._saved_work
        if saved.access is None:
            saved.is_deciding = True
            try:
                saved.access = self.other_contract.access(self)  # type: ignore[arg-type]  # with an order
            finally:
                saved.is_deciding = False
        return saved.access

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may read records at once: `thread_safe`, also of the sources that this one reads.

        Called: by pipelines when a run begins, and at each read; on any thread.
        Default: `thread_safe`.
        """
        return self.thread_safe

    @property
    def is_bare(self) -> bool:
        """Whether this is a copy that `bare` made, or is not whole yet.

        Called: by core, in compiled code.
        """
        return "_ledger" not in vars(self)

    @property
    def is_read_by_host(self) -> bool:
        """Whether compiled code reaches the records through the host; False for a source that is not whole yet.

        Called: by core, when a source is an argument of compiled code.
        """
        saved = getattr(self, "_saved_work", None) if self.other_contract is not None else None
        if self.other_contract is not None and (saved is None or saved.is_deciding):
            return False
        try:
            return self.access != "device"
        except Exception:  # noqa: BLE001 - of a source that is not whole, whose parts an author's property reads
            return False

    def require_random_access(self) -> None:
        """Raise ``NotImplementedError`` if this source is a stream.

        Called: before anything is read by index.
        """
        if self.access == "stream":
            raise NotImplementedError(
                f"{type(self).__name__} is a stream without random access; read it with get_batch(), or write its records to "
                "files, which have them by index"
            )

    def require_record_indices(self) -> None:
        """Raise ``NotImplementedError`` if records have no index: the source is a stream, or shuffles by itself.

        Called: before parts, views, mixtures and caches are made.
        Default: refuses streams, and classes that shuffle by themselves.
        """
        self.require_random_access()
        if self._is_ordered_by_author:
            raise NotImplementedError(
                f"{self.title} is shuffled by its own get_batch_at(), so that its records have a position and no index; write "
                "get_records(indices), by which parts, mixtures, caches and source[index] find a record"
            )

    @property
    def num_records(self) -> int:
        """Number of record indices: ``len(self)``, unless an epoch does not serve each record exactly once.

        Called: by pipelines when they are made, by states, caches, parts, views, and keys of random stages; on any thread.
        Default: ``len(self)``.
        """
        return self._checked_length()

    @property
    def varies_by_epoch(self) -> bool:
        """Whether records differ from epoch to epoch, as those of Grain's ``random_map`` do; False unless a class overrides it.

        If True, `fetch` and `get_records` are asked for ``record index + num_records * epoch``; see `indices_to_read`. Orders
        and the keys of stages know record indices only.

        Called: when a run begins, and by views and caches; on any thread.
        Default: False.
        """
        return False

    @property
    def serves_each_once(self) -> bool:
        """Whether an epoch serves each record index exactly once; False for mixtures, and for draws with replacement.

        Views with record indices of their own refuse such a source, whose proportions they would lose.

        Called: by views and parts, when they are made.
        Default: True.
        """
        return True

    def over_children(
        self,
        make: "Callable[[Any], Any]",  # noqa: ARG002 - an override uses it
    ) -> Any:
        """Return this mixture with ``make(child)`` in place of each child, in the same order; None if this is no mixture.

        Called: by views and parts over a mixture, when they are made.
        Default: None: this is no mixture.
        """
        return None

    @property
    def differs_in_shape(self) -> bool:
        """Whether batches have arrays of several shapes, which may be smaller than the element spec says; False by default.

        Called: when a pipeline is made, and for each batch that is checked; on any thread.
        Default: False.
        """
        return False

    def sources_below(self) -> Mapping[str, Any]:
        """Return the sources that this one reads, by name: the children of a mixture, the parents of a view; else none.

        Called: by reports, which describe each, and by what looks for files.
        Default: an empty mapping.
        """
        return {}

    # -- records -------------------------------------------------------------------------------------------------------------

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return `get_records`, checked against the element spec, through the cache if the config is ``cacheable``.

        Called: on any thread: the loop's own, one that reads ahead, several that read parts of a batch, in worker
            processes, and from compiled code on a thread of JAX's.
        Default: `get_records`, held against the element spec, through the cache of ``cacheable``. Override `get_records`
            instead, unless records of the cache are to be filled in another way.
        """
        cache = self.record_cache()
        return self._checked_records(indices) if cache is None else cache.fetch(indices, self._checked_records)

    def fetch_of_order(self) -> Callable[[np.ndarray], Batch]:
        """Return the function by which a route fetches the records of an order; asked once, by each route.

        It is `fetch`, or a shorter way to the same, since an order gives no index that is out of range.

        Called: once by each reader of a source on the host: when a pipeline is made or its loop begins, and in each worker
            process.
        Default: `fetch`.
        """
        return self.fetch

    def record_cache(self) -> RecordCache | None:
        """Return the cache of records that were read; None if the config is not ``cacheable``.

        Called: by `fetch`, workers, and sources that fill it themselves; on any thread.
        """
        saved = self._saved_work
        if saved.cache is None and self.config.cacheable:
            self.require_record_indices()
            with saved.making:
                saved.cache = saved.cache or RecordCache(self.num_records, self.element_spec())
        return saved.cache

    def reset_cache(self) -> None:
        """Drop the records kept for ``cacheable``; the next fetch reads them again.

        Called: by users.
        Default: drops what ``cacheable`` keeps.
        """
        self._saved_work.cache = None

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:  # noqa: ARG002 - an override uses it
        """Return the records at traced ``indices``, with device dtypes; host fields are refused by name.

        ``over_mesh`` is True if the trace runs on other devices than those that hold the data.

        Called: by routes and users' compiled code, while it is traced.
        Default: `get_records` of a source on the device, else a callback to the host.
        """
        self.require_no_host_fields()
        return self._checked_records(indices) if self.access == "device" else self.fetch_by_callback(indices)

    def fetch_by_callback(self, indices: jax.Array) -> Batch:
        """Return the records at traced ``indices``; `fetch_on_host` reads them while the program runs.

        Host fields are left out.

        Raises:
            NotImplementedError: The source shuffles by itself, by a key that only the program has.

        Called: while compiled code is traced, for sources that the host reads.
        """
        self.require_callback()
        return records_by_callback(self, indices)

    def require_callback(self) -> None:
        """Raise ``NotImplementedError`` if the source shuffles by itself, by a key that only a program has that calls it.

        Called: before compiled code is made that calls the host.
        Default: refuses classes that shuffle by themselves.
        """
        if self._is_ordered_by_author:
            raise NotImplementedError(
                f"{self.title} is shuffled by its own get_batch_at(), which cannot be traced; use scan() or a loop, or "
                "write get_records(indices); without host stages, it can be written with jax.numpy"
            )

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return `fetch`, without running compiled code: a callback from compiled code must not run any.

        Called: by callbacks of compiled code, one at a time for a source, by what reads all records, and for the record that
            shows what comes out of a host stage without a spec; it must run no compiled code.
        Default: `fetch`.
        """
        return self.fetch(indices)

    @property
    def callback_lock(self) -> threading.Lock:
        """Held while the host serves a callback: the devices of a mesh call at once, and authors read without locks.

        Called: by callbacks of compiled code.
        """
        return self._saved_work.callback

    def require_no_host_fields(self) -> None:
        """Raise `SpecError` if records have host fields, which compiled code cannot carry.

        Called: before records are read in compiled code.
        """
        host_fields = named_fields(split_host_fields(self.element_spec())[1])
        if host_fields:
            ragged = next((name for name, leaf in host_fields.items() if None in leaf.shape), None)
            padded = f"bring them to one shape, {{type: pad, field: {ragged}, length: 512}}, " if ragged else ""
            raise SpecError(
                f"{self.title} has fields that compiled code cannot carry: {', '.join(sorted(host_fields))}; {padded}"
                "leave them out, or iterate from Python, which serves them as NumPy arrays; a stage such as "
                "{type: select, fields: [image, label]} leaves out what it does not name"
            )

    @property
    def changes_columns(self) -> bool:
        """Whether `compiled_records` narrows 64-bit columns, and can change them before.

        Called: when a device route is made.
        Default: False.
        """
        return False

    def compiled_records(
        self,
        sharding: jax.sharding.Sharding | None = None,
        changes: Changes | None = None,  # noqa: ARG002 - of sources that keep 64 bits on the host
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return (function of arrays and indices, arrays) with which a compiled step reads this *device* source.

        The arrays are arguments of the step, never constants in it. The function is hashable, so that equal pipelines share
        one program. ``sharding`` puts a copy of the arrays on each of its devices; None leaves them where they are. ``changes``
        are those of 64-bit fields before they are narrowed, for a source that narrows its columns here.

        Called: for sources on the device, once for each pipeline and layout of devices; on the thread that runs.
        Default: the source itself, taken apart by ``nnx.split``.
        """
        graphdef, state = nnx.split(self.bare())
        return MergedRecords(graphdef), state if sharding is None else self._saved_work.placed.put(state, sharding)

    def table_rows(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows of the arrays of `compiled_records` that hold the records at concrete ``indices``.

        Called: by the device route for each batch, on the loop's thread.
        Default: the indices.
        """
        return indices

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:  # noqa: ARG002 - an override uses them
        """Return the host fields of a *device* source at concrete ``indices``.

        Called: by the device route for each batch, if the spec has host fields; on the loop's thread, or the one that reads
            ahead.
        Default: an empty dict.
        """
        return {}

    # -- inside --------------------------------------------------------------------------------------------------------------

    @property
    def _is_ordered_by_author(self) -> bool:
        contract = self.other_contract
        return contract is not None and contract.is_ordered_by_source(self)  # type: ignore[arg-type]  # with an order

    def _checked_length(self) -> int:
        if not hasattr(type(self), "__len__"):
            raise TypeError(f"{self.title} has no length: it does not define __len__()")
        return len(self)  # type: ignore[arg-type]  # a subclass defines it

    @property
    def _is_sampled(self) -> bool:
        """Whether records and files are read for the fingerprint, since the author writes none."""
        return False

    def _data_entries(self) -> dict[str, Any]:
        """Return entries of a fingerprint that tell data apart: a sample of records, and of the files that the config names.

        Read once; if this source is not `thread_safe`, while no other thread reads its records.
        """
        saved = self._saved_work
        if saved.data_entries is None:
            with nullcontext() if self.is_thread_safe else saved.reading:
                skipped = self._ledger.skipped_here
                entries = {"content": content_of(config_paths(self.config)), "records": self._record_sample()}
                self._ledger.skipped_here = skipped
                saved.data_entries = {name: entry for name, entry in entries.items() if entry is not None}
        return saved.data_entries

    def record_sample(self) -> str | None:
        """Return a digest of sixteen records, which tells data sets of one length apart; None if records cannot be read.

        Read once, by each thread in turn if the source is not `thread_safe`.

        Called: by `fingerprint` of classes that write none, and by caches; once.
        """
        sample: str | None = self._data_entries().get("records")
        return sample

    def _record_sample(self) -> str | None:
        return None if self.access == "stream" else sample_of(self._read_records, self.num_records)

    def _checked_records(self, indices: Any) -> Batch:
        if self.is_thread_safe:
            return self._read_records(indices)
        with self._saved_work.reading:  # a loop reads ahead while step() or a clone reads
            return self._read_records(indices)

    def _read_records(self, indices: Any) -> Batch:
        saved = self._saved_work
        if (spec := saved.spec) is None:
            spec = saved.spec = self.element_spec()
        try:
            batch = self.get_records(indices)
        except StopIteration as error:  # a loop would end on it as if all records were served
            raise RuntimeError(f"{self.title} raised StopIteration for records that its length says it has") from error
        if isinstance(indices, jax.core.Tracer):
            spec = split_host_fields(spec)[0]
        spec, smaller = device_spec(spec) if self.access == "device" else spec, self.differs_in_shape
        check_batch(batch, spec, len(indices), origin=self.title, may_be_smaller=smaller)
        return batch

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # nnx leaves it without types
        if "_host" in vars(self):  # the name of `_saved_work` in pickles of version 0.1.0
            delattr(self, "_host")
            self._saved_work = SavedWork()


def warn_of_one_epoch(title: str, reason: str) -> None:
    """Warn that the random records of the first epoch will be served in every epoch."""
    warnings.warn(
        f"{title} serves the random records of its first epoch in all epochs, augmented alike: {reason}; a stochastic stage of "
        "the pipeline draws anew in each epoch",
        stacklevel=2,
    )


def compiled_with(
    source: RecordAccess, sharding: jax.sharding.Sharding | None, changes: Changes | None
) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
    """Return ``source.compiled_records``, with the changes of its fields if it narrows them."""
    if changes and source.changes_columns:
        return source.compiled_records(sharding, changes)
    return source.compiled_records(sharding)


def _saved_work(is_sampled: bool) -> SavedWork:  # noqa: ARG001, FBT001 - as earlier pickles call it
    return SavedWork()


@dataclass(frozen=True, slots=True)
class MergedRecords:
    """Reads a device source that ``nnx.split`` took apart; checks traced records against its element spec."""

    graphdef: Any

    def __call__(self, state: Any, indices: jax.Array) -> Batch:
        """Return the records at traced int (k,) ``indices``."""
        source = nnx.merge(self.graphdef, state)
        source._saved_work = SavedWork()  # noqa: SLF001 - `bare` removed it
        batch: Batch = source._checked_records(indices)  # noqa: SLF001 - of a class in this module
        return batch
