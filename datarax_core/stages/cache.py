"""What a stage made of each record, kept by record index, so that it runs in the first epoch only."""

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
from .randomness import is_stochastic, takes_record_indices
from .record_table import RecordTable


class Cache(nnx.Module):
    """A stage, or a node, that runs ``stage`` on records it has not seen, and hands on what it made of the others.

    For what is costly and the same in every epoch, such as a frozen encoder. Works in every route, by record index: batch
    size and order do not matter. ``stage`` is run on a whole batch unless every record in it is known; once all are,
    it is not run any more. What it hands on untouched (a label, ``{**batch, "code": ...}``) is not kept.

    ``stage`` must make of each record the same, whatever stands beside it and whenever it is asked. What is kept
    does not follow its parameters: after they change, call `reset`. No gradient passes through. It must write to
    no variable, so put layers such as dropout and batch norm in evaluation mode.

    The table takes `nbytes` on the device: for each of n records the bytes that ``stage`` makes of it, and one more. It
    is made when the first batch, or ``element_spec()``, is traced, and for that moment its largest field takes twice its
    bytes. Cost per batch does not depend on n. It is in no state: a resumed run fills it anew. A pipeline's ``clone()`` has an
    empty one of its own. Its memory is freed with the last pipeline that uses it.

    Args:
        stage: ``batch -> batch``, not stochastic; in a graph it may take several inputs. Leading dimensions stay.
        source: The source of the records, or the number of its records.
        sharding: Where the table lies; None is the default device. For batches on several devices, a sharding over
            the same devices, such as ``NamedSharding(mesh, PartitionSpec())``.

    Raises:
        TypeError, ValueError: ``stage`` is not callable or is stochastic, or there are more records than an int32 counts.
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
            raise TypeError(f"Cache keeps what a stage makes, and {stage!r} is not callable")
        if is_stochastic(stage):
            raise ValueError(
                f"Cache keeps what a stage makes of a record once, and {stage_name(stage)} is stochastic, to make something "
                "else in each epoch; put it behind the cache"
            )
        if next(_caches(stage), None) is not None:
            raise ValueError(f"Cache was given {stage_name(stage)}, in which there is a Cache already; one is enough")
        if isinstance(source, DataSourceModule):
            _require_countable(source, f"{stage_name(stage)} in a Cache")
            source = source.num_records
        length = whole_number("source, where it is no DataSourceModule but a number of records,", source, at_least=1)
        if length > DEVICE_LIMIT:
            raise ValueError(f"Cache addresses at most {DEVICE_LIMIT} records, not {length}")
        self.stage = stage
        self.table = RecordTable(length, sharding)

    @property
    def name(self) -> str:
        """What errors and reports call it."""
        return f"cache of {stage_name(self.stage)}"

    @property
    def nbytes(self) -> int:
        """Bytes that the table takes on the device; 0 until it is made."""
        return self.table.nbytes

    @property
    def num_known(self) -> int:
        """Records whose row is kept by now."""
        return self.table.num_known

    def reset(self) -> None:
        """Forget all rows; the stage is run again. The memory stays taken."""
        self.table.forget()

    def __call__(self, *inputs_and_indices: Any) -> Batch:
        """What the stage makes of the inputs, whose records have the indices int (k,) given last.

        Raises:
            ValueError: The stage writes to a variable; a concrete index names no record.
            SpecError: The stage makes another number of rows than there are records.
        """
        *inputs, indices = inputs_and_indices
        _require_in_range(indices, self.table.length)
        extra = (indices,) if takes_record_indices(self.stage) else ()

        def run(inputs: Sequence[Any]) -> Batch:
            return self.stage(*inputs, *extra)

        with self._in_words():
            form, sources, fields = _traced(run, inputs)
            given = jax.tree.leaves(inputs)
            made = iter(self._kept(lambda: _made(run(inputs), sources), fields, indices) if fields else ())
        return jax.tree.unflatten(form, [next(made) if place is None else given[place] for place in sources])

    def _kept(
        self, make: Callable[[], list[Any]], fields: Sequence[tuple[str, jax.ShapeDtypeStruct]], indices: Any
    ) -> list[jax.Array]:
        for name, struct in fields:
            if struct.shape[:1] != (len(indices),):
                raise SpecError(
                    f"{self.name}: field {name!r} has the shape {list(struct.shape)} where {len(indices)} records came in; a "
                    "cache keeps a row for each record, so regroup behind it"
                )
        table = self.table
        table.prepare([jax.ShapeDtypeStruct(struct.shape[1:], struct.dtype) for _, struct in fields])
        # References are used outside of the cond: one that writes to them copies the whole table.
        marks, rows = jax.lax.stop_gradient(table.read(indices))
        made: list[jax.Array] = jax.lax.stop_gradient(jax.lax.cond(jnp.all(marks != 0), lambda: rows, make))
        table.write(indices, marks, made)
        return made

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except TraceContextError as cause:
            raise ValueError(
                f"{self.name}: the stage writes to a variable (statistics, a counter, a random stream), which it would do in "
                "the first epoch only; put its layers in evaluation mode, such as with model.eval(), or leave it uncached"
            ) from cause


def check_record_stages(stages: Iterable[Any], source: DataSourceModule) -> None:
    """Refuse stages that take record indices which ``source`` does not have, or of which they keep another number.

    Raises:
        ValueError: Names the stage and the source.
    """
    found: list[RecordTable] = []
    for number, stage in enumerate(stages):
        if takes_record_indices(stage):
            _require_countable(source, f"stage {number} ({stage_name(stage)})")
            for cache in _caches(stage):
                if cache.table.length != source.num_records:
                    raise ValueError(
                        f"stage {number} ({cache.name}) keeps rows for {cache.table.length} records, and {source.title} has "
                        f"{source.num_records}; make a Cache for this source"
                    )
                if any(cache.table is table for table in found):
                    raise ValueError(
                        f"stage {number} ({cache.name}) stands in the pipeline twice, and would mix up what it keeps; make a "
                        "Cache for each place"
                    )
                found.append(cache.table)


def renew_caches(stages: Iterable[Any]) -> None:
    """Give the caches in stages, which were cloned, tables of their own."""
    for stage in stages:
        for cache in _caches(stage):
            cache.table = cache.table.renewed()


def describe_caches(stages: Iterable[Any]) -> list[str]:
    """A sentence for each cache: what it keeps, and how much memory that takes."""
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
    """The caches in a stage, each as often as it stands there."""
    if isinstance(stage, Graph):
        for node in stage.nodes.values():
            yield from _caches(node)
    elif isinstance(stage, nnx.Module):
        yield from (part for _, part in nnx.iter_graph(stage) if isinstance(part, Cache))


def _require_countable(source: DataSourceModule, what: str) -> None:
    if source.access == "stream":
        raise ValueError(f"{what} takes record indices, and {source.title} is a stream, whose records have none")
    if source.num_records > DEVICE_LIMIT:
        raise ValueError(
            f"{what} takes record indices as int32, which count to {DEVICE_LIMIT}, and {source.title} has "
            f"{source.num_records} records"
        )


def _require_in_range(indices: Any, length: int) -> None:
    """Of a pipeline's records this was checked when it was built; whoever calls a cache themselves is checked here."""
    if isinstance(indices, np.ndarray) and indices.size and (indices.min() < 0 or indices.max() >= length):
        raise ValueError(
            f"record indices from {indices.min()} to {indices.max()}, of which a Cache of {length} records has not all"
        )


def _traced(
    run: Callable[..., Batch], inputs: Any
) -> tuple[Any, list[int | None], list[tuple[str, jax.ShapeDtypeStruct]]]:
    """What ``run`` makes: (its form, for each leaf the input leaf that it is or None, names and shapes of the others)."""
    made: Any = None
    sources: list[int | None] = []

    def probe(inputs: Any) -> list[jax.Array]:
        nonlocal made
        places = {id(leaf): place for place, leaf in enumerate(jax.tree.leaves(inputs))}
        made = run(inputs)
        sources.extend(places.get(id(leaf)) for leaf in jax.tree.leaves(made))
        return _made(made, sources)

    structs = jax.eval_shape(probe, inputs)
    names = [name for name, place in zip(named_fields(made), sources, strict=True) if place is None]
    return jax.tree.structure(made), sources, list(zip(names, structs, strict=True))


def _made(batch: Batch, sources: Sequence[int | None]) -> list[jax.Array]:
    """The leaves of a batch that are no leaves of the input."""
    leaves = zip(jax.tree.leaves(batch), sources, strict=True)
    return [jnp.asarray(leaf) for leaf, place in leaves if place is None]
