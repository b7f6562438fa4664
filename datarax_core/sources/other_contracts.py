"""Sources of other contracts: classes that define `get_batch_at` by position or ``__getitem__`` by index, not `get_records`.

`DataSourceModule` gives such a class what `get_records` would give it: the loop, batches, pipelines and exact resuming.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.errors import SpecError
from datarax_core.order.permutation import DEVICE_LIMIT, fold_in
from datarax_core.records.elements import batch_of, spec_of_first_elements
from datarax_core.records.joining import host_column, joined_batches
from datarax_core.records.spec import Batch, ElementSpec

_KEY_IMPLEMENTATION: Final = "threefry2x32"
"""The PRNG of the keys that `fold_in` makes, and that `get_batch_at` of a shuffled source is called with."""


class OtherSource(Protocol):
    """A source of another contract, as far as the contract uses it."""

    traceable: ClassVar[bool]
    is_random_order: bool

    @property
    def title(self) -> str:
        """The source in messages."""

    @property
    def access(self) -> Literal["device", "host", "stream"]:
        """How the records are reached."""

    def element_spec(self) -> ElementSpec:
        """Return the element spec of a record."""

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Batch:
        """Return the records at ``size`` positions from ``start`` on."""

    def order_key_data(self) -> Any:
        """Return the key data of the order; None if the source serves its records in sequence."""

    def bare(self) -> Self:
        """Return a copy without host state."""


class OtherContract(ABC):
    """How a class reads records that it defines no `get_records` for. It has no state: all methods take the source."""

    @abstractmethod
    def access(self, source: OtherSource) -> Literal["device", "host"]:
        """Return how the records are reached."""

    @abstractmethod
    def records(self, source: OtherSource, indices: Any) -> Batch:
        """Return the records at the indices that `record_indices` returned."""

    def element_spec(self, source: OtherSource) -> ElementSpec:
        """Return the element spec of a source that defines none.

        Raises:
            NotImplementedError: The records do not show it.
        """
        raise NotImplementedError(
            f"{type(source).__name__} does not define element_spec(); return a jax.ShapeDtypeStruct for each field of a record"
        )

    def is_ordered_by_source(self, source: OtherSource) -> bool:  # noqa: ARG002 - an override uses it
        """Return whether the source's own methods shuffle, so that a record has a position and no index."""
        return False


class BatchesByPosition(OtherContract):
    """The contract of a stateless ``get_batch_at(start, size, key)``.

    It is called within one epoch: ``0 <= start``, ``start + size <= len(source)``. Without ``key``, it gives the records in
    sequence, so that a position is a record index. A stochastic source is called with a key for each epoch, folded from its
    own key and the number of the epoch, and shuffles by that key. `record_indices` then are positions; the keys repeat after
    as many epochs as 32 bits can number positions of.
    """

    def access(self, source: OtherSource) -> Literal["device", "host"]:
        """Return "device" if `get_batch_at` can be traced, else "host"."""
        return "device" if source.traceable or self._is_traceable(source) else "host"

    def is_ordered_by_source(self, source: OtherSource) -> bool:
        """Return whether the source is stochastic."""
        return source.is_random_order

    def record_indices(self, source: OtherSource, start: Any, size: int) -> Any:
        """Return int (size,): positions from ``start`` on, modulo `num_positions`; of a source that shuffles by itself."""
        count = num_positions(source)
        if isinstance(start, jax.core.Tracer):
            return (start % count + jnp.arange(size)) % count  # no sum exceeds 32 bits: both are less than 2**30
        return (int(start) % count + np.arange(size)) % count

    def records(self, source: OtherSource, indices: Any) -> Batch:
        """Return the records: one call for each run of consecutive concrete ``indices``; traced, one call for each record.

        A call for each record is exact whatever `get_batch_at` does at the end of the data. Compiled, it costs a gather.
        """
        if isinstance(indices, jax.core.Tracer):
            return self._traced_records(source, indices)
        length, is_host = len(source), source.access == "host"  # type: ignore[arg-type]  # the contract has a length
        parts = [
            source.get_batch_at(int(run[0]) % length, len(run), self._key(source, int(run[0]) // length))
            for run in _runs(np.asarray(indices), length)
        ]
        if is_host:
            return joined_batches([jax.tree.map(host_column, part) for part in parts])
        return parts[0] if len(parts) == 1 else jax.tree.map(_joined, *parts)

    def _traced_records(self, source: OtherSource, indices: jax.Array) -> Batch:
        length, count = len(source), indices.shape[0]  # type: ignore[arg-type]  # the contract has a length
        if not self.is_ordered_by_source(source):
            return _one_by_one(source, indices, None)
        epochs, rows = jnp.divmod(indices, length)
        batch: Batch = None
        for ahead in range((count + length - 2) // length + 1):
            epoch = (epochs[0] + ahead) % (num_positions(source) // length)
            part, is_of_epoch = _one_by_one(source, rows, self._key(source, epoch)), epochs == epoch
            batch = part if batch is None else jax.tree.map(_chosen(is_of_epoch), part, batch)
        return batch

    def _key(self, source: OtherSource, epoch: Any) -> jax.Array | None:
        """Return the key of one epoch; None if the source serves its records in sequence."""
        data = source.order_key_data()
        if data is None:
            return None
        numbers = (
            jnp.asarray(epoch, jnp.uint32)[None]
            if isinstance(epoch, jax.core.Tracer)
            else np.asarray([epoch], np.uint32)
        )
        key: jax.Array = jax.random.wrap_key_data(fold_in(data, numbers)[:, 0], impl=_KEY_IMPLEMENTATION)
        return key

    def _is_traceable(self, source: OtherSource) -> bool:
        try:
            jax.eval_shape(lambda rows: self._traced_records(source, rows), jax.ShapeDtypeStruct((2,), np.int32))
            hash(nnx.split(source.bare())[0])
        except Exception:  # noqa: BLE001 - an author's code that is not for a trace may raise anything
            return False
        return True


class ItemsByIndex(OtherContract):
    """The contract of ``__len__`` and ``__getitem__``, which is that of PyTorch's map-style data sets."""

    def access(self, source: OtherSource) -> Literal["device", "host"]:  # noqa: ARG002 - of the base class
        """Return "host"."""
        return "host"

    def element_spec(self, source: OtherSource) -> ElementSpec:
        """Return the spec of record 0, with None for axes in which the next few records differ."""
        if not len(source):  # type: ignore[arg-type]  # the contract has a length
            raise ValueError(f"{source.title} is empty: it has no record that says what records look like")
        return spec_of_first_elements(lambda rows: [_item(source, row) for row in rows], len(source), source.title)  # type: ignore[arg-type]  # the contract has a length

    def records(self, source: OtherSource, indices: Any) -> Batch:
        """Return the records, stacked."""
        rows = np.asarray(indices).tolist()
        elements = [_item(source, row) for row in rows]
        return batch_of(elements, source.element_spec(), lambda row: f"record {rows[row]} of {source.title}")


def contract_of(cls: type, base: type) -> OtherContract | None:
    """Return the contract of a class derived from ``base`` that does not define `get_records`; None if it is a stream."""

    def defines(name: str) -> bool:
        return getattr(cls, name, None) is not getattr(base, name, None)

    if not defines("__len__") or defines("get_records"):
        return None
    if defines("get_batch_at"):
        return BatchesByPosition()
    return ItemsByIndex() if defines("__getitem__") and not defines("get_batch") else None


def num_positions(source: Any) -> int:
    """Return how many positions are told apart, if a source shuffles: whole epochs, whose last position is below 2**30."""
    length = len(source)
    if length > DEVICE_LIMIT // 2:
        raise ValueError(
            f"{source.title} shuffles {length} records in get_batch_at(); write get_records(indices) for as many"
        )
    return DEVICE_LIMIT // 2 // length * length


def _runs(indices: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Yield the parts of ``indices`` that are consecutive and of one epoch."""
    ends = np.flatnonzero((np.diff(indices) != 1) | (np.diff(indices // length) != 0)) + 1
    return iter(np.split(indices, ends))


def _one_by_one(source: OtherSource, rows: jax.Array, key: Any) -> Batch:
    def record(row: jax.Array) -> Batch:
        batch = source.get_batch_at(row, 1, key)
        if any(leaf.shape[:1] != (1,) for leaf in jax.tree.leaves(batch)):
            raise SpecError(f"{source.title} gave more or fewer rows than get_batch_at(start, 1, key) asks for")
        return jax.tree.map(lambda leaf: leaf[0], batch)

    return jax.vmap(record)(rows)


def _chosen(is_first: jax.Array) -> Any:
    return lambda first, second: jnp.where(is_first.reshape(-1, *[1] * (first.ndim - 1)), first, second)


def _joined(*parts: Any) -> Any:
    return (jnp if any(isinstance(part, jax.Array) for part in parts) else np).concatenate(parts)


def _item(source: Any, index: int) -> Any:
    try:
        return source[index]
    except StopIteration as error:  # a loop would end on it
        raise RuntimeError(f"{source.title} raised StopIteration for record {index}") from error
    except Exception as error:
        error.add_note(f"while {source.title} read record {index} by its __getitem__()")
        raise
