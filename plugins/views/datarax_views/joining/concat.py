"""Several sources as one, one after another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ConfigDict

from datarax_core.config import SourceConfig
from datarax_core.devices import Aside
from datarax_core.errors import SpecError
from datarax_core.order import DEVICE_LIMIT, Order, as_integer, fold_in, key_data
from datarax_core.records import (
    Batch,
    ElementSpec,
    Ragged,
    common_spec,
    differences,
    named_fields,
    placed_batch,
    split_host_fields,
)
from datarax_core.sources import Access, DataSourceModule, Verified, field_struct

from .config import JoinedConfig
from .joined import Join, JoinedView, Reads
from .turns import Turns


class ConcatViewConfig(JoinedConfig):
    """Config of a `ConcatView`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "concat",
                    "shuffle": True,
                    "sources": [{"type": "memory", "path": "2023.npz"}, {"type": "memory", "path": "2024.npz"}],
                }
            ]
        }
    )

    type: Literal["concat"] = "concat"


class ConcatView(JoinedView):
    """Several sources as one: record i is record i of the first source, and then of the next ones.

    Without ``shuffle``, an epoch is an epoch of each source after the other, each in its own order: a source that is shuffled
    is shuffled anew in each epoch, by a key of this view; a mixture keeps its proportions, and a source that serves records
    several times does so here. With ``shuffle=True`` all records are shuffled together, with ``shuffle=False`` they are served
    by their index, whatever the sources do.

    The sources may differ in how they are reached. If all are on the device, each batch is gathered from every source there,
    and nothing is copied; else the host reads each source by one call for a batch.

    Args:
        config: The names, and the order.
        sources: The sources: one by one, as a list, or as a mapping by name.
        rngs: Random streams that the key of the order is drawn from, if it is shuffled; by default it is the key of the first
            source that has one.
        name: Name of the view in errors.

    Raises:
        TypeError: A source is none.
        ValueError: There are no sources, one is empty, or ``shuffle`` would lose how often one serves its records.
        SpecError: Their element specs differ; names source, field and both specs.
        NotImplementedError: A source is a stream.
    """

    config_class: ClassVar[type[SourceConfig]] = ConcatViewConfig
    config: ConcatViewConfig
    has_own_order: ClassVar[bool] = True
    _together = Aside["Together"]()

    def __init__(
        self,
        config: ConcatViewConfig,
        *sources: Any,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, *sources, rngs=rngs, name=name)
        if config.shuffle is None:
            self.is_random_order = any(parent.order_key_data() is not None for parent in self.parents)
        else:
            self._require_one_order()
        counts = [parent.num_records for parent in self.parents]
        spec = _common_spec([parent.element_spec() for parent in self.parents], self)
        turns = Turns([parent.epoch_length or 0 for parent in self.parents])
        self._together = Together(np.cumsum([0, *counts], dtype=np.int64), spec, turns)

    def __len__(self) -> int:
        return self.epoch_length

    @property
    def num_records(self) -> int:
        """Number of record indices: those of the sources, one source after another."""
        return int(self._together.offsets[-1])

    @property
    def num_indices(self) -> int:
        """Number of record indices."""
        return self.num_records

    def element_spec(self) -> ElementSpec:
        """Return the element spec that all sources share."""
        return self._together.spec

    @property
    def access(self) -> Access:
        """How the records are reached: on the device if those of all sources are there, else by the host."""
        return super().access if "_together" not in vars(self) or self.num_records <= DEVICE_LIMIT else "host"

    # -- order ---------------------------------------------------------------------------------------------------------------

    @property
    def is_in_turn(self) -> bool:
        """Whether the sources are served in turn, each in its own order; else all records have one order."""
        return self.config.shuffle is None

    @property
    def epoch_length(self) -> int:
        """Records in an epoch: those in an epoch of each source."""
        return self._together.turns.epoch_length if self.is_in_turn else self.order().epoch_length

    @property
    def serves_each_once(self) -> bool:
        """Whether all sources serve each record once."""
        return all(parent.serves_each_once for parent in self.parents)

    def order(self) -> Order:
        """Return the order of all records together.

        Raises:
            NotImplementedError: Each source is served in its own order.
        """
        if self.is_in_turn:
            raise NotImplementedError(f"{self.title} has the orders of its sources; see record_indices_at()")
        return super().order()

    def _checked_length(self) -> int:
        return self.num_records

    @property
    def order_title(self) -> str:
        """Name of the order in reports."""
        if not self.is_in_turn:
            return super().order_title
        return f"from {len(self.parents)} sources in turn, {'shuffled' if self.is_random_order else 'in sequence'}"

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects."""
        if not self.is_in_turn:
            return super().record_indices_at(start, size, key)
        if self.is_random_order and key is None:
            raise ValueError(
                f"{self.title} draws the orders of its sources from a key: pass one, such as jax.random.key(0), or "
                "source.order_key_data() for its own"
            )
        offsets, keys = self._together.offsets, self._keys_of_sources(key)

        def of_source(source: int, first: Any, count: int) -> Any:
            own = self.parents[source].record_indices_at(first, count, None if keys is None else keys[:, source])
            return own + (np.int32(offsets[source]) if isinstance(own, jax.Array) else offsets[source])

        if isinstance(start, jax.core.Tracer) or isinstance(keys, jax.Array):
            self._require_traced()
            return self._together.turns.traced_values(of_source, jnp.asarray(start), size)
        return self._together.turns.values(of_source, _position(start), size)

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """Return int (size,): for each record at these positions, the epoch of its source in which it is served."""
        if not self.is_in_turn:
            return super().epochs_at(start, size)

        def of_source(source: int, first: Any, count: int) -> Any:
            return self.parents[source].epochs_at(first, count)

        if isinstance(start, int | np.integer):
            return self._together.turns.values(of_source, int(start), size)
        return self._together.turns.traced_values(of_source, start, size)

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Serve all records shuffled, or by index; nothing can be set where each source is served in its own order.

        Raises:
            ValueError: ``enabled`` is another order than that of sources in turn.
        """
        if self.is_in_turn and enabled is not self.is_random_order:
            raise ValueError(
                f"{self.title} serves its sources in turn, each in its own order; give its config shuffle=True or False"
            )
        super().set_random_order(enabled)

    # -- records -------------------------------------------------------------------------------------------------------------

    def parts_of(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (number of a source, rows of the batch, its own record indices there) for each source with some of them."""
        offsets = self._together.offsets
        which = np.searchsorted(offsets[1:], indices, side="right").astype(np.int32)
        if not which.size or which[0] == which.max() == which.min():
            if which.size:
                yield int(which[0]), np.arange(len(which)), indices - offsets[which[0]]
            return
        order = np.argsort(which, kind="stable")
        found = which[order]
        for rows in np.split(order, np.flatnonzero(np.diff(found)) + 1):
            source = int(which[rows[0]])
            yield source, rows, indices[rows] - offsets[source]

    def put_together(self, parts: Iterable[tuple[int, np.ndarray, Any]], size: int) -> Batch:
        """Return a batch of ``size`` records of all sources that were read."""
        return placed_batch(((rows, batch) for _, rows, batch in parts), size, self.element_spec())

    def merged_host_fields(self, parts: Iterable[tuple[int, np.ndarray, dict[str, Any]]], size: int) -> dict[str, Any]:
        """Return the host fields of all sources that were read."""
        structs = split_host_fields(self.element_spec())[1]
        merged: dict[str, Any] = placed_batch(((rows, fields) for _, rows, fields in parts), size, structs)
        return merged

    def traced_join(self) -> tuple[Join, Any]:
        """Return (gather from every source and selects between them, offsets of the sources)."""
        return select_sources, self._together.offsets.astype(np.int32)

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at concrete ``indices`` one by one, as each source returns them."""
        if self._keeps_records:
            return super().get_elements(indices)
        elements: list[Any] = [None] * len(indices)
        for source, rows, own in self._parts(indices):
            for row, element in zip(rows.tolist(), self.parents[source].get_elements(own), strict=True):
                elements[row] = element
        return elements

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records at ``indices`` cannot be read; errors name the sources' record indices."""
        found = [self.parents[source].verify_records(own) for source, _, own in self.parts_of(self._checked(indices))]
        return sum(found, Verified(0, 0))

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field of one value a record, if all sources know theirs; else None."""
        if field_struct(self, field).shape or self._hooks_reads:  # a large column is not copied
            return None
        columns = [parent.whole_column(field) for parent in self.parents]
        return None if any(column is None for column in columns) else np.concatenate([np.asarray(c) for c in columns])

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the lengths that the sources know of a field; None if one does not."""
        lengths = [parent.record_lengths(field) for parent in self.parents]
        return (
            None if any(own is None for own in lengths) else np.concatenate([own for own in lengths if own is not None])
        )

    # -- description and parts -----------------------------------------------------------------------------------------------

    def describe_view(self) -> str:
        """Return how many records each source has."""
        listed = ", ".join(f"{self.names[number]} {parent.num_records:,}" for number, parent in enumerate(self.parents))
        return f"joins {self.num_records:,} records of {len(self.parents)} sources: {listed}"

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the orders of sources in turn, which no other entry tells."""
        if not self.is_in_turn:
            return {}
        own = {f"parents.{number}.order": one.fingerprint()["order"] for number, one in enumerate(self.parents)}
        return {"order": "sources in turn", **own}

    def over_children(self, make: Callable[[DataSourceModule], DataSourceModule]) -> DataSourceModule | None:
        """Return the sources after ``make`` in turn; those of mixtures are mixtures of ``make(child)``."""
        if not self.is_in_turn or self.serves_each_once:
            return None
        made = [make(one) if one.serves_each_once else one.over_children(make) for one in self.parents]
        return (
            None if any(one is None for one in made) else self.over_parents(*(one for one in made if one is not None))
        )

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _first_key(self, rngs: nnx.Rngs | None) -> np.ndarray | None:
        with_key = next((parent for parent in self.parents if parent.drawn_key_data is not None), None)
        if self.stochastic or with_key is None:
            return super()._first_key(rngs)
        self.stream_name = with_key.stream_name
        is_drawn = rngs is not None and ((self.stream_name or "default") in rngs or "default" in rngs)
        return self.draw_order_key(rngs) if is_drawn else np.array(with_key.drawn_key_data)

    def _keys_of_sources(self, key: Any) -> Any:
        """Return uint32 (2, k): the key of each source, ``fold_in(key, number)``; None without a key."""
        if key is None or not self.is_random_order:
            return None
        return fold_in(key_data(key), np.arange(len(self.parents), dtype=np.uint32))

    def _require_traced(self) -> None:
        if self.num_records > DEVICE_LIMIT:
            raise ValueError(
                f"{self.title} has {self.num_records} records, more than the {DEVICE_LIMIT} that 32-bit positions under jit "
                "can address; iterate from Python"
            )

    def _require_one_order(self) -> None:
        """Raise ValueError if one order of all records would lose what a source's own order does."""
        for number, parent in enumerate(self.parents):
            if not parent.serves_each_once:
                raise ValueError(
                    f"{self.called(number)} of {self.title}, {parent.title}, serves some records more often than others, which "
                    "one order of all records would lose; leave `shuffle` out, so that each source keeps its own order"
                )
        shards = [_shard(parent) for parent in self.parents]
        if len(set(shards)) > 1:
            raise ValueError(
                f"the sources of {self.title} serve different shards, {shards[0]} and "
                f"{next(shard for shard in shards if shard != shards[0])}, so that there is no order of all their records; "
                "leave `shuffle` out, so that each source keeps its own order"
            )


@dataclass(frozen=True, eq=False)
class Together:
    """The records of sources one after another."""

    offsets: np.ndarray
    """int64 (k + 1,): index of the first record of each source, and the number of all records."""
    spec: ElementSpec
    turns: Turns


def select_sources(reads: Reads, indices: jax.Array, offsets: Any) -> Batch:
    """Return the records at traced ``indices``: every source is read at its nearest index, and the right row is kept."""
    offsets = jnp.asarray(offsets)
    selected: Batch = None
    for number, read in enumerate(reads):
        own = jnp.clip(indices - offsets[number], 0, offsets[number + 1] - offsets[number] - 1).astype(np.int32)
        batch = read(own)
        selected = batch if number == 0 else _selected(indices >= offsets[number], batch, selected)
    return selected


def _selected(mask: jax.Array, batch: Batch, other: Batch) -> Batch:
    """Return the rows of ``batch`` where the mask, bool (k,), is True, and those of ``other`` elsewhere."""
    return jax.tree.map(lambda one, two: jnp.where(mask.reshape(-1, *[1] * (one.ndim - 1)), one, two), batch, other)


def _common_spec(specs: Sequence[ElementSpec], view: JoinedView) -> ElementSpec:
    first, wrong = specs[0], []
    for number, spec in enumerate(specs[1:], start=1):
        where = f"in {view.called(number)}, compared with {view.called(0)}"
        wrong += [f"{sentence} {where}" for sentence in differences(first, spec)]
        forms = [str(jax.tree.structure(one)) for one in (spec, first)]
        if not wrong and forms[0] != forms[1]:
            wrong.append(f"records are {forms[0]} where {forms[1]} is expected {where}")
    if wrong:
        remedy = "a mixture (type mix) chooses, renames and fills in fields"
        if any({None in one.shape, None in two.shape} == {True, False} for one, two in _pairs(specs)):
            remedy += "; a field that varies in length has to in all: Ragged.from_list(records) in Python"
        raise SpecError(f"the sources of {view.title} differ: {'; '.join(wrong)}; give all the same fields: {remedy}")
    return common_spec(specs)


def _pairs(specs: Sequence[ElementSpec]) -> Iterator[tuple[Any, Any]]:
    """Yield the structs of a field in the first spec and in another one, for each field that both have."""
    first = named_fields(specs[0])
    for spec in specs[1:]:
        for name, struct in named_fields(spec).items():
            if name in first:
                yield first[name], struct


def _position(start: Any) -> int:
    position = as_integer("a position", start)
    if position < 0:
        raise ValueError(f"position {position} is before the start of the stream; positions count from 0")
    return position


def _shard(source: DataSourceModule) -> tuple[int, int]:
    try:
        order = source.order()
    except NotImplementedError:  # an order that is no shuffle of core has no shards
        return 0, 1
    return order.shard, order.num_shards
