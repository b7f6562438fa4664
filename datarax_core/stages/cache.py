"""A stage that keeps another stage's results by record index: the other stage runs in the first epoch only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError

from datarax_core.devices.aside import Aside, HoldsAside
from datarax_core.errors import SpecError
from datarax_core.order.numbers import whole_number
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.spec import Batch, ElementSpec, named_fields
from datarax_core.sources.source import DataSourceModule

from .apply import stage_name
from .graph import Graph
from .on_host.side import is_of_whole_batch, is_on_host
from .on_host.table import HostTable
from .randomness import is_stochastic, takes_record_indices
from .record_table import RecordTable


class Cache(HoldsAside, nnx.Module):
    """Stage or node that runs ``stage`` on records of its first epoch, and keeps the results for later ones.

    For a stage that is costly and gives the same result in every epoch, such as a frozen encoder. It works in every route, by
    record index: batch size and order do not matter. ``stage`` runs on a whole batch unless the results of all its records
    are known, and no more once the results of all records of the source are known. Fields that ``stage`` hands on untouched
    (the label in ``{**batch, "code": ...}``) are not kept.

    The result of ``stage`` for a record must not depend on other records of the batch, nor on when it is computed. Kept
    results do not follow the parameters of ``stage``: call `reset` after they change. No gradient passes through. ``stage``
    must not write to variables, so put layers such as dropout and batch norm in evaluation mode.

    Around a host stage (``on_host = True``) the table is in host memory. It keeps all fields of the stage's result, so that
    neither the source nor an earlier stage reads the records again, and it is filled record by record. Several threads may read
    it; with ``workers``, it is kept in the process of the pipeline, and stages behind it run there.

    Memory: `nbytes` on the device, which is, for each record of the source, the bytes of its result and one more. The table is
    made when the first batch, or ``element_spec()``, is traced; in that moment its largest field takes twice its bytes. The
    cost of a batch does not depend on the number of records. The table is in no saved state: a resumed run fills it anew. A
    pipeline's ``clone()`` has an empty table of its own. The memory is freed with the last pipeline that uses the table.

    Args:
        stage: ``batch -> batch``, not stochastic; in a graph it may take several inputs. It must keep leading dimensions.
        source: The source of the records, or the number of its records.
        sharding: Placement of the table; None is the default device. For batches on several devices, a sharding over
            the same devices, such as ``NamedSharding(mesh, PartitionSpec())``.
        max_bytes: Of a host stage: the most bytes of host memory that results take; the stage runs in each epoch for records
            whose results do not fit. None keeps all results.

    Raises:
        TypeError: ``stage`` is not callable, or ``source`` is neither a source nor an integer.
        ValueError: ``stage`` is stochastic or holds a `Cache`, there are more records than an int32 counts, or an option
            belongs to stages on the other side.
    """

    takes_record_indices = True
    """Results are found by the index of their record."""

    host_table = Aside[HostTable]()
    """The table of a host stage, which no graph that ``nnx.jit`` keeps holds alive."""

    def __init__(
        self,
        stage: Callable[..., Batch],
        source: DataSourceModule | int,
        *,
        sharding: jax.sharding.Sharding | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if not callable(stage):
            raise TypeError(f"a Cache takes a callable stage, not {stage!r}")
        if is_stochastic(stage):
            raise ValueError(
                f"a Cache keeps one result for each record, and the results of {stage_name(stage)} differ in each epoch, "
                "because it is stochastic; put it behind the cache"
            )
        if next(_caches(stage), None) is not None:
            raise ValueError(f"the stage {stage_name(stage)} is or holds a Cache already; one is enough")
        on_host = is_on_host(stage)
        if isinstance(source, DataSourceModule):
            _require_countable(source, f"{stage_name(stage)} in a Cache", is_on_host=on_host)
            source = source.num_records
        length = whole_number("source, if it is a number of records,", source, at_least=1)
        if length > DEVICE_LIMIT and not on_host:
            raise ValueError(f"Cache addresses at most {DEVICE_LIMIT} records, not {length}")
        _require_options(stage, sharding, max_bytes)
        self.stage = stage
        if on_host:
            self.host_table = HostTable(length, max_bytes)
        else:
            self.table = RecordTable(length, sharding)

    @property
    def name(self) -> str:
        """Name in errors and reports."""
        return f"cache of {stage_name(self.stage)}"

    @property
    def on_host(self) -> bool:
        """Whether the stage runs on the host, and its results are kept there."""
        return is_on_host(self.stage)

    def element_spec(self, spec: ElementSpec) -> ElementSpec | None:
        """Return what a host stage says comes out of it; None if it says nothing."""
        say = getattr(self.stage, "element_spec", None)
        return None if say is None else say(spec)

    def fingerprint(self) -> dict[str, Any]:
        """Return what a host stage says that a saved state must match."""
        say = getattr(self.stage, "fingerprint", None) if self.on_host else None
        return {} if say is None else say()

    @property
    def rows(self) -> HostTable | RecordTable:
        """The table of results, on the side on which the stage runs."""
        return self.host_table if self.on_host else self.table

    @property
    def nbytes(self) -> int:
        """Bytes of the table on the device, 0 until it is made; on the host, those of the results that are kept."""
        return self.rows.nbytes

    @property
    def num_known(self) -> int:
        """Number of records whose result is kept."""
        return self.rows.num_known

    def reset(self) -> None:
        """Forget all results, so that the stage runs again; the table keeps its memory."""
        self.rows.forget()

    def __call__(self, *inputs_and_indices: Any) -> Batch:
        """Return the stage's result for the inputs, kept or computed.

        Args:
            *inputs_and_indices: The inputs of the stage, then the indices of their records, int (k,).

        Raises:
            ValueError: The stage writes to a variable, or a concrete index is out of range.
            SpecError: A field of the result has another number of rows than there are records.
        """
        *inputs, indices = inputs_and_indices
        _require_in_range(indices, self.rows.length)
        if self.on_host:
            return self._on_host(inputs[0], indices)
        extra = (indices,) if takes_record_indices(self.stage) else ()

        def run(inputs: Sequence[Any]) -> Batch:
            return self.stage(*inputs, *extra)

        with self._explaining_writes():
            form, input_of, fields = _traced(run, inputs)
            given = jax.tree.leaves(inputs)
            made = iter(self._kept(lambda: _made_leaves(run(inputs), input_of), fields, indices) if fields else ())
        return jax.tree.unflatten(form, [next(made) if place is None else given[place] for place in input_of])

    def _on_host(self, batch: Batch, indices: Any) -> Batch:
        """Return the result of a host stage for all rows, which is not kept: the pipeline keeps what it reads."""
        return self.stage(batch, indices) if takes_record_indices(self.stage) else self.stage(batch)

    def _kept(
        self, make: Callable[[], list[Any]], fields: Sequence[tuple[str, jax.ShapeDtypeStruct]], indices: Any
    ) -> list[jax.Array]:
        """Return the leaves that ``make`` computes for these records: from the table, if it knows all of them."""
        for name, struct in fields:
            if struct.shape[:1] != (len(indices),):
                raise SpecError(
                    f"{self.name}: field {name!r} has the shape {list(struct.shape)} where {len(indices)} records came in; a "
                    "cache keeps a row for each record, so regroup behind it"
                )
        table = self.table
        table.prepare([jax.ShapeDtypeStruct(struct.shape[1:], struct.dtype) for _, struct in fields])
        # The table is read and written outside of the cond: XLA copies a whole reference that a cond writes to.
        marks, rows = jax.lax.stop_gradient(table.read(indices))
        made: list[jax.Array] = jax.lax.stop_gradient(jax.lax.cond(jnp.all(marks != 0), lambda: rows, make))
        table.write(indices, marks, made)
        return made

    @contextmanager
    def _explaining_writes(self) -> Iterator[None]:
        """Raise ``ValueError`` with the remedy where flax refuses a write to a variable, which it names by trace levels."""
        try:
            yield
        except TraceContextError as cause:
            raise ValueError(
                f"{self.name}: the stage writes to a variable (statistics, a counter, a random stream), which it would do in "
                "the first epoch only; put its layers in evaluation mode, such as with model.eval(), or leave it uncached"
            ) from cause


def check_record_stages(stages: Iterable[Any], source: DataSourceModule) -> None:
    """Raise if a stage takes record indices that ``source`` does not have, or a `Cache` is made for another source.

    Raises:
        ValueError: The source is a stream or has more records than an int32 counts, a cache keeps rows for another number of
            records, or a cache is in the pipeline twice. Names the stage and the source.
    """
    found: list[RecordTable | HostTable] = []
    stages = list(stages)
    if source.differs_in_shape and (cache := next((each for stage in stages for each in _caches(stage)), None)):
        raise ValueError(
            f"the {cache.name} keeps results of one shape, and batches of {source.title} differ in shape; leave it out, or "
            "cache the records that the source reads, cacheable=True"
        )
    for number, stage in enumerate(stages):
        if takes_record_indices(stage):
            _require_countable(source, f"stage {number} ({stage_name(stage)})", is_on_host=is_on_host(stage))
            for cache in _caches(stage):
                if cache.rows.length != source.num_records:
                    raise ValueError(
                        f"stage {number} ({cache.name}) keeps rows for {cache.rows.length} records, and {source.title} has "
                        f"{source.num_records}; make a Cache for this source"
                    )
                if any(cache.rows is table for table in found):
                    raise ValueError(
                        f"stage {number} ({cache.name}) is in the pipeline twice, and would mix up the results of both places; "
                        "make a Cache for each place"
                    )
                found.append(cache.rows)
                _require_same_records(cache, number, stages[:number], source)
                if isinstance(cache.rows, HostTable):
                    _require_same_in_each_epoch(cache, stages[:number], source)


def _require_same_records(cache: Cache, number: int, before: Sequence[Any], source: DataSourceModule) -> None:
    """Raise ``ValueError`` if a cache that another pipeline filled would serve the results of other records.

    A sample of the records, and the names of the stages before the cache, tell two uses apart.
    """
    found = source.record_sample(), tuple(stage_name(stage) for stage in before)
    first = cache.rows.made_for
    if first is None:
        cache.rows.made_for = found
    elif first != found:
        other = "other records" if first[0] != found[0] else f"records after other stages ({_listed(first[1])})"
        raise ValueError(
            f"stage {number} ({cache.name}) keeps results by record index, and a pipeline before this one uses it for {other} "
            f"than those of {source.title}; make a Cache for each"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _require_same_in_each_epoch(cache: Cache, before: Sequence[Any], source: DataSourceModule) -> None:
    """Raise ``ValueError`` if what a host stage in a cache is called with differs from epoch to epoch, or by batch."""
    drawn = next(filter(is_stochastic, before), None)
    whole = next(filter(is_of_whole_batch, before), None)
    if drawn is None and whole is None and not source.varies_by_epoch:
        return
    why = (
        f"{stage_name(drawn)} before it draws anew in each epoch"
        if drawn is not None
        else f"{stage_name(whole)} before it makes of a record what depends on the others of its batch"
        if whole is not None
        else f"the records of {source.title} differ from epoch to epoch"
    )
    raise ValueError(
        f"the {cache.name} keeps one result for each record, and {why}; put the cache before that, or leave it out"
    )


def renew_caches(stages: Iterable[Any]) -> None:
    """Give each cache in cloned stages a table of its own."""
    for stage in stages:
        for cache in _caches(stage):
            if cache.on_host:
                cache.host_table = cache.host_table.renewed()
            else:
                cache.table = cache.table.renewed()


def describe_caches(stages: Iterable[Any]) -> list[str]:
    """Return a sentence for each cache: how many results it keeps, and the bytes that they take."""
    return [
        f"The {cache.name} keeps {cache.num_known} of {cache.rows.length} records"
        + (
            f" in {cache.nbytes:,} bytes {_place(cache)}."
            if cache.nbytes
            else "; its table is made with the first batch."
        )
        for stage in stages
        for cache in _caches(stage)
    ]


def _place(cache: Cache) -> str:
    """Return where a cache keeps its results."""
    if not isinstance(cache.rows, HostTable):
        return "on the device"
    most = cache.rows.max_bytes
    return "of host memory" if most is None else f"of host memory, of {most:,} at most"


def _require_options(stage: Any, sharding: Any, max_bytes: Any) -> None:
    """Raise if an option of a cache belongs to stages on the other side."""
    if is_on_host(stage):
        if sharding is not None:
            raise ValueError(f"{stage_name(stage)} runs on the host, where its results are kept; leave sharding out")
        if is_of_whole_batch(stage):
            raise ValueError(
                f"a Cache keeps one result for each record, and that of {stage_name(stage)} depends on the others of its "
                "batch; put it behind the cache"
            )
        if max_bytes is not None:
            whole_number("max_bytes", max_bytes, at_least=1, hint="; None keeps all results")
    elif max_bytes is not None:
        raise ValueError(
            f"max_bytes bounds the results of host stages, and {stage_name(stage)} runs on the device, whose table has a row "
            "for each record; leave it out"
        )


def _caches(stage: Any) -> Iterator[Cache]:
    """Yield the caches in a stage, each as often as the stage holds it."""
    if isinstance(stage, Graph):
        for node in stage.nodes.values():
            yield from _caches(node)
    elif isinstance(stage, nnx.Module):
        yield from (part for _, part in nnx.iter_graph(stage) if isinstance(part, Cache))


def _require_countable(source: DataSourceModule, title: str, *, is_on_host: bool = False) -> None:
    """Raise ``ValueError`` unless record indices (int32 for compiled stages) count the records of the source.

    ``title`` names the stage.
    """
    if not source.capabilities.random_access:
        raise ValueError(f"{title} takes record indices, and {source.title} is a stream, whose records have none")
    source.require_record_indices()
    if source.num_records > DEVICE_LIMIT and not is_on_host:
        raise ValueError(
            f"{title} takes record indices as int32, which count to {DEVICE_LIMIT}, and {source.title} has "
            f"{source.num_records} records"
        )


def _require_in_range(indices: Any, length: int) -> None:
    """Raise if a concrete index is out of range. A pipeline's indices never are, so only direct calls are checked."""
    if isinstance(indices, np.ndarray) and indices.size and (indices.min() < 0 or indices.max() >= length):
        raise ValueError(
            f"record indices from {indices.min()} to {indices.max()} are out of range for a Cache of {length} records"
        )


def _traced(
    run: Callable[..., Batch], inputs: Any
) -> tuple[Any, list[int | None], list[tuple[str, jax.ShapeDtypeStruct]]]:
    """Trace ``run`` and return its result's tree structure, the origin of each leaf, and the leaves that it makes.

    The origin of a leaf is the number of the input leaf that it is, or None if ``run`` makes it; the latter come with their
    dotted names and shapes.
    """
    made: Any = None
    input_of: list[int | None] = []

    def probe(inputs: Any) -> list[jax.Array]:
        nonlocal made
        places = {id(leaf): place for place, leaf in enumerate(jax.tree.leaves(inputs))}
        made = run(inputs)
        input_of.extend(places.get(id(leaf)) for leaf in jax.tree.leaves(made))
        return _made_leaves(made, input_of)

    structs = jax.eval_shape(probe, inputs)
    names = [name for name, place in zip(named_fields(made), input_of, strict=True) if place is None]
    return jax.tree.structure(made), input_of, list(zip(names, structs, strict=True))


def _made_leaves(batch: Batch, input_of: Sequence[int | None]) -> list[jax.Array]:
    """Return the leaves of a batch that are no leaves of the input."""
    leaves = zip(jax.tree.leaves(batch), input_of, strict=True)
    return [jnp.asarray(leaf) for leaf, place in leaves if place is None]
