"""A stage that keeps another stage's results by record index: the other stage runs in the first epoch only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError

from datarax_core.errors import SpecError
from datarax_core.order.numbers import whole_number
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.spec import Batch, named_fields
from datarax_core.sources.source import DataSourceModule

from .apply import stage_name
from .graph import Graph
from .on_host.side import is_on_host
from .randomness import is_stochastic, takes_record_indices
from .record_table import RecordTable


class Cache(nnx.Module):
    """Stage or node that runs ``stage`` on records of its first epoch, and keeps the results for later ones.

    For a stage that is costly and gives the same result in every epoch, such as a frozen encoder. It works in every route, by
    record index: batch size and order do not matter. ``stage`` runs on a whole batch unless the results of all its records
    are known, and no more once the results of all records of the source are known. Fields that ``stage`` hands on untouched
    (the label in ``{**batch, "code": ...}``) are not kept.

    The result of ``stage`` for a record must not depend on other records of the batch, nor on when it is computed. Kept
    results do not follow the parameters of ``stage``: call `reset` after they change. No gradient passes through. ``stage``
    must not write to variables, so put layers such as dropout and batch norm in evaluation mode.

    Memory: `nbytes` on the device, which is, for each record of the source, the bytes of its result and one more. The table is
    made when the first batch, or ``element_spec()``, is traced; in that moment its largest field takes twice its bytes. The
    cost of a batch does not depend on the number of records. The table is in no saved state: a resumed run fills it anew. A
    pipeline's ``clone()`` has an empty table of its own. The memory is freed with the last pipeline that uses the table.

    Args:
        stage: ``batch -> batch``, not stochastic; in a graph it may take several inputs. It must keep leading dimensions.
        source: The source of the records, or the number of its records.
        sharding: Placement of the table; None is the default device. For batches on several devices, a sharding over
            the same devices, such as ``NamedSharding(mesh, PartitionSpec())``.

    Raises:
        TypeError: ``stage`` is not callable, or ``source`` is neither a source nor an integer.
        ValueError: ``stage`` is stochastic or holds a `Cache`, or there are more records than an int32 counts.
    """

    takes_record_indices = True

    def __init__(
        self,
        stage: Callable[..., Batch],
        source: DataSourceModule | int,
        *,
        sharding: jax.sharding.Sharding | None = None,
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
        if isinstance(source, DataSourceModule):
            _require_countable(source, f"{stage_name(stage)} in a Cache")
            source = source.num_records
        length = whole_number("source, if it is a number of records,", source, at_least=1)
        if length > DEVICE_LIMIT:
            raise ValueError(f"Cache addresses at most {DEVICE_LIMIT} records, not {length}")
        self.stage = stage
        self.table = RecordTable(length, sharding)

    @property
    def name(self) -> str:
        """Name in errors and reports."""
        return f"cache of {stage_name(self.stage)}"

    @property
    def nbytes(self) -> int:
        """Bytes of the table on the device; 0 until it is made."""
        return self.table.nbytes

    @property
    def num_known(self) -> int:
        """Number of records whose result is kept."""
        return self.table.num_known

    def reset(self) -> None:
        """Forget all results, so that the stage runs again; the table keeps its memory."""
        self.table.forget()

    def __call__(self, *inputs_and_indices: Any) -> Batch:
        """Return the stage's result for the inputs, kept or computed.

        Args:
            *inputs_and_indices: The inputs of the stage, then the indices of their records, int (k,).

        Raises:
            ValueError: The stage writes to a variable, or a concrete index is out of range.
            SpecError: A field of the result has another number of rows than there are records.
        """
        *inputs, indices = inputs_and_indices
        _require_in_range(indices, self.table.length)
        extra = (indices,) if takes_record_indices(self.stage) else ()

        def run(inputs: Sequence[Any]) -> Batch:
            return self.stage(*inputs, *extra)

        with self._explaining_writes():
            form, input_of, fields = _traced(run, inputs)
            given = jax.tree.leaves(inputs)
            made = iter(self._kept(lambda: _made_leaves(run(inputs), input_of), fields, indices) if fields else ())
        return jax.tree.unflatten(form, [next(made) if place is None else given[place] for place in input_of])

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
    found: list[RecordTable] = []
    for number, stage in enumerate(stages):
        if takes_record_indices(stage):
            _require_countable(source, f"stage {number} ({stage_name(stage)})", is_on_host=is_on_host(stage))
            for cache in _caches(stage):
                if cache.table.length != source.num_records:
                    raise ValueError(
                        f"stage {number} ({cache.name}) keeps rows for {cache.table.length} records, and {source.title} has "
                        f"{source.num_records}; make a Cache for this source"
                    )
                if any(cache.table is table for table in found):
                    raise ValueError(
                        f"stage {number} ({cache.name}) is in the pipeline twice, and would mix up the results of both places; "
                        "make a Cache for each place"
                    )
                found.append(cache.table)


def renew_caches(stages: Iterable[Any]) -> None:
    """Give each cache in cloned stages a table of its own."""
    for stage in stages:
        for cache in _caches(stage):
            cache.table = cache.table.renewed()


def describe_caches(stages: Iterable[Any]) -> list[str]:
    """Return a sentence for each cache: how many results it keeps, and the bytes that they take."""
    return [
        f"The {cache.name} keeps {cache.num_known} of {cache.table.length} records"
        + (
            f" in {cache.nbytes:,} bytes on the device."
            if cache.nbytes
            else "; its table is made with the first batch."
        )
        for stage in stages
        for cache in _caches(stage)
    ]


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
