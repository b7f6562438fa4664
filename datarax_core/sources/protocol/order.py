"""The order of a source: record indices by position, the key that they are drawn with, and batches at any position."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.config.models import StructuralConfig
from datarax_core.config.shuffling import shuffled_by
from datarax_core.modules.module import draw_key_data
from datarax_core.order.numbers import whole_number
from datarax_core.order.order import Order, epochs_of
from datarax_core.order.reader import OrderReader, chunk_size_of
from datarax_core.records.spec import Batch
from datarax_core.sources.access import OrderKey, RecordAccess
from datarax_core.sources.other_contracts import BatchesByPosition, num_positions
from datarax_core.sources.saved_work import SavedWork


class OrderedAccess(RecordAccess):
    """Records by position: the order in which a source serves the records that it has by index.

    `DataSourceModule` derives from this class and adds a position that moves.
    """

    positions_ahead: int = 1 << 14
    """How many record indices of the order are computed at once and held: about a millisecond, 128 KiB.

    Called: by `order_reader`, when a loop begins.
    Default: 16,384; a class whose order is dear to compute has fewer.
    """

    def __init__(self, config: StructuralConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        drawn = self._first_key(rngs)
        self.order_key = None if drawn is None else OrderKey(drawn)
        shuffled = shuffled_by(config)
        if shuffled and drawn is None:
            raise ValueError(self._cannot_shuffle())
        self.is_random_order = self.stochastic if shuffled is None else shuffled
        self._saved_work = SavedWork()

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects.

        The order is sequential, or core's shuffle if `is_random_order`; it goes on from epoch to epoch without end. See
        `Order.record_indices`.

        Raises:
            ValueError: The order is random and ``key`` is None.

        Called: by loops for the next positions, on their thread or on one that computes orders ahead, and in traces of
            ``jax.jit`` with traced ``start`` and ``key``.
        Default: sequence, or core's shuffle.
        """
        self.require_random_access()
        if isinstance(self.other_contract, BatchesByPosition) and self.is_random_order:
            return self.other_contract.record_indices(self, start, size)
        if self.is_random_order and key is None:
            raise ValueError(
                f"{self.title} is shuffled: pass the key that selects the order, such as jax.random.key(0), "
                "or source.order_key_data() for the source's own"
            )
        return self.order().record_indices(start, size, key if self.is_random_order else None)

    def order(self) -> Order:
        """Return the order of the positions that this source serves.

        Raises:
            ValueError: There are no records.

        Called: by `record_indices_at`, `order_reader` and reports; on any thread.
        Default: the order of ``len(self)`` records; override it to serve a shard, such as every k-th position.
        """
        length = self._checked_length()
        if not length:
            raise ValueError(f"{self.title} is empty: it has no records to serve; give it one at least")
        return Order(length)

    @property
    def epoch_length(self) -> int | None:
        """Number of records in one epoch; None for a stream without a length.

        Called: by pipelines when a run begins and at ends of epochs, and by reports; on any thread.
        Default: that of `order`; of a stream, ``len(self)`` if the class defines it.
        """
        if self.access == "stream":
            return len(self) if hasattr(type(self), "__len__") else None  # type: ignore[arg-type]  # a subclass defines it
        return self.order().epoch_length

    @property
    def num_indices(self) -> int:
        """Number of indices that `record_indices_at` gives: of records, or of positions if this source shuffles by itself.

        Called: by host stages that are cached, and by views.
        Default: `num_records`.
        """
        return num_positions(self) if self._is_ordered_by_author else self.num_records

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """Return int (size,): the epochs in which the records at positions ``start .. start + size`` are served.

        Epoch and record index together identify one serving of a record; random stages derive their keys from both.

        Called: beside `record_indices_at` for pipelines with random stages, and in traces.
        Default: counts epochs of `epoch_length` positions.
        """
        return epochs_of(start, size, self.epoch_length or 1)

    @property
    def reorders_by_epoch(self) -> bool:
        """Whether a record index stands for another record in another epoch, which parts of a source cannot follow.

        Called: by views, when they are made.
        Default: False.
        """
        return False

    def indices_to_read(self, start: int | jax.Array, indices: Any) -> Any:
        """Return the indices by which to `fetch` the records ``indices``, int (k,), at positions from ``start`` on.

        They are the record indices, but for a source that `varies_by_epoch`: then concrete ones are int64 (k,), ``record index
        + num_records * epoch``, and traced ones int32 (k, 2), record index and epoch, which a callback puts together.

        Called: by routes between the order and the fetch, on the loop's thread or in a trace.
        Default: the indices, unless the source `varies_by_epoch`.
        """
        if not self.varies_by_epoch:
            return indices
        epochs = self.epochs_at(start, indices.size)
        if isinstance(indices, np.ndarray):
            return indices.astype(np.int64) + self.num_records * np.asarray(epochs, np.int64).reshape(indices.shape)
        return jnp.stack([indices.astype(np.int32), epochs.astype(np.int32)], axis=-1)

    @property
    def drawn_key_data(self) -> np.ndarray | None:
        """Key data of the shuffle, whether it is on or not; None if this source was built without a random stream.

        Called: by views over this source, when they are made.
        Default: the key that the constructor drew.
        """
        return None if self.order_key is None else self.order_key.get_raw_value()

    def order_key_data(self) -> Any:
        """Return the key data of this source's own order, uint32 (w,); None if records are served in sequence.

        Called: before each batch, by routes, to see whether the order was changed; on the loop's thread, and in traces.
        Default: the drawn key while `is_random_order`, else None.
        """
        return self.order_key.get_raw_value() if self.is_random_order and self.order_key is not None else None

    def order_words(self) -> Any:
        """Return `order_key_data`; deprecated name.

        Called: by old code.
        """
        warnings.warn("order_words() was renamed: call order_key_data()", DeprecationWarning, stacklevel=2)
        return self.order_key_data()

    @property
    def order_seed(self) -> int | None:
        """A seed in the config that selects another order than the random streams alone do; None if there is none.

        Called: by the constructor and by ``reset(seed)``.
        Default: None.
        """
        return None

    def draw_order_key(self, rngs: nnx.Rngs | None) -> np.ndarray:
        """Draw the key of a shuffled order from the random stream that the config names; `order_seed` is folded into the key.

        Returns:
            uint32 (w,): the key data.

        Raises:
            ValueError: ``rngs`` are this source's own, and lack that stream.

        Called: by the constructor of a stochastic source, and by ``reset(seed)``.
        Default: one key of the random stream that the config names.
        """
        if rngs is self.rngs:  # others are nnx.Rngs(seed), which have every stream
            self.ensure_rng_streams([self.stream_name or "default"])
        stream: Any = self.stream_name or "default"
        if self.order_seed is not None:
            rngs = nnx.Rngs(jax.random.fold_in(rngs[stream](), self.order_seed))  # type: ignore[index]  # checked above
        return draw_key_data(rngs[stream])  # type: ignore[index]

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Serve records shuffled, or in sequence; the position stays.

        Raises:
            TypeError: ``enabled`` is not True or False.
            ValueError: There is no random stream to shuffle with.

        Called: by users.
        Default: switches between core's shuffle and sequence.
        """
        if not isinstance(enabled, bool | np.bool_):
            raise TypeError(f"the order of {self.title} is random or not: True or False, not {enabled!r:.80}")
        if enabled and self.order_key is None:
            raise ValueError(self._cannot_shuffle())
        self.is_random_order = bool(enabled)

    def order_reader(self, size: int, *, background: bool = False) -> OrderReader:
        """Return a reader of this source's own order, which computes at least ``size`` record indices at a time.

        Positions are concrete. The reader is for one thread; with ``background`` it computes ahead in another one.

        Called: by routes and loops, once for each run and each change of the order; on the loop's thread.
        """
        own_key = self.order_key_data()

        def compute(start: int, count: int) -> np.ndarray:
            return np.array(self.record_indices_at(start, count, own_key))

        capacity = chunk_size_of(self.epoch_length or 1, size, at_most=self.positions_ahead)
        return OrderReader(compute, capacity=capacity, background=background)

    @property
    def order_title(self) -> str:
        """The order in reports: ``shuffled`` or ``in sequence``, and which shard of it.

        Called: by `Pipeline.explain`, ``plan()``, ``repr``, and when a pipeline is made: its variables, as `nnx.state` returns
            them, fit another pipeline only if it is the same.
        Default: "shuffled" or "in sequence".
        """
        order = self.order()
        shard = f", shard {order.shard} of {order.num_shards}" if order.num_shards > 1 else ""
        return f"{'shuffled' if self.is_random_order else 'in sequence'}{shard}"

    def stats_at(self, position: int) -> dict[str, Any]:  # noqa: ARG002 - an override uses it
        """Return counts about the records before ``position``, for `Pipeline.stats`; a mixture counts records by child.

        Called: by ``stats()`` and ``plan()``; on the thread that asks.
        Default: an empty dict.
        """
        return {}

    def get_batch_at(self, start: int | jax.Array, size: int, key: Any = None) -> Batch:
        """Return the records at positions ``start .. start + size``: stateless, and traceable in ``start`` and ``key``.

        Under a trace, a source that only the host can read is reached by a callback, and host fields are refused by name.

        Raises:
            TypeError, ValueError: ``size`` is not a whole number from 1, or ``start`` is negative.

        Called: by users, and by `get_batch`; also in traces.
        Default: reads `record_indices_at` by `fetch`.
        """
        indices = self.record_indices_at(start, whole_number("size", size, at_least=1), key)
        indices = self.indices_to_read(start, indices)
        return self.fetch_traced(indices) if isinstance(indices, jax.core.Tracer) else self.fetch(indices)

    def _first_key(self, rngs: nnx.Rngs | None) -> np.ndarray | None:
        return self.draw_order_key(rngs) if self.stochastic else None

    def _cannot_shuffle(self) -> str:
        return f"{self.title} cannot shuffle: it was built without a random stream; build it as stochastic"
