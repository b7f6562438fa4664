"""The order and the position of a view: those of its parent, or an order of its own over its own record indices."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.order.order import Order
from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule


class FollowsParent(DataSourceModule):
    """A source that serves its first parent's order, and reads on as it does if it is a stream; or has an order of its own."""

    renumbers: ClassVar[bool] = False
    """Whether record indices are the view's own; False: they are those of the first parent.

    Called: by the constructor, and by everything that asks for the order; a class attribute.
    Default: False: the record indices are the parent's.
    """

    has_own_order: ClassVar[bool] = False
    """Whether a view whose indices are the parent's serves them in another order; one that `renumbers` always does.

    The class then overrides `record_indices_at`, and `epochs_at` if records are served more than once an epoch.

    Called: as `renumbers` is.
    Default: False: the order is the parent's.
    """

    parents: nnx.List[DataSourceModule]
    """The sources that this one reads.

    Called: set by the constructor, and read by everything; on any thread.
    """

    @property
    def parent(self) -> DataSourceModule:
        """The first parent.

        Called: by everything that reads; on any thread.
        """
        parents = self.parents
        first: DataSourceModule | None = vars(parents).get(
            "0"
        )  # at a tenth of the time of nnx.List, several times a batch
        return parents[0] if first is None else first

    def over_parents(self, *parents: DataSourceModule) -> Self:
        """Return this view over other parents; a class whose constructor takes other arguments overrides it."""
        raise NotImplementedError

    def read_next(self, count: int) -> Batch:
        """Return the next ``count`` records of the parent, a stream; hooks that wrap streams override this too.

        Called: for each batch of a wrapper of a stream; by one thread at a time, that of the loop or the one that reads
            ahead.
        Default: ``read_batch`` of the parent.
        """
        batch: Batch = self.parent.read_batch(count)
        return batch

    @property
    def _is_ordered_here(self) -> bool:
        return type(self).renumbers or type(self).has_own_order

    # -- order ---------------------------------------------------------------------------------------------------------------

    @property
    def is_random_order(self) -> bool:
        """Whether records are served shuffled; of a wrapper, whether the parent is.

        Called: by the order and reports; set by `set_random_order`.
        """
        own: bool = vars(self).get("is_random_order", False)
        return own if self._is_ordered_here else self.parent.is_random_order

    @is_random_order.setter
    def is_random_order(self, value: bool) -> None:
        vars(self)["is_random_order"] = value

    @property
    def serves_each_once(self) -> bool:
        """Whether an epoch serves each record index once; of a wrapper, whether the parent does."""
        return self._is_ordered_here or self.parent.serves_each_once

    @property
    def drawn_key_data(self) -> np.ndarray | None:
        """The key data of the shuffle, whether it is on or not; of a wrapper, the parent's."""
        return super().drawn_key_data if self._is_ordered_here else self.parent.drawn_key_data

    def order_key_data(self) -> Any:
        """Return the key data of the order, uint32 (w,); of a wrapper, the parent's."""
        return super().order_key_data() if self._is_ordered_here else self.parent.order_key_data()

    def order(self) -> Order:
        """Return the order of the positions; if the first parent serves one shard, that shard of the view's own order."""
        if not self._is_ordered_here:
            return self.parent.order()
        saved = self._saved_work
        if saved.order is None:
            length = self._checked_length()
            if not length:
                raise ValueError(f"{self.title} is empty: it has no records to serve; give it one at least")
            try:
                saved.order = replace(self.parent.order(), length=length)
            except NotImplementedError:  # the parent's order is no shuffle of core
                saved.order = Order(length)
        return saved.order

    @property
    def resume_note(self) -> str:
        """How a stream of another library resumes, of a wrapper of one."""
        return "" if self._is_ordered_here else self.parent.resume_note

    @property
    def order_title(self) -> str:
        """The order in reports."""
        return super().order_title if self._is_ordered_here else self.parent.order_title

    @property
    def epoch_length(self) -> int | None:
        """Number of records in one epoch; None for a wrapper of a stream without a length."""
        return super().epoch_length if self._is_ordered_here else self.parent.epoch_length

    @property
    def run_length(self) -> int | None:
        """Number of elements in a loop over this source."""
        return super().run_length if self._is_ordered_here else self.parent.run_length

    @property
    def num_records(self) -> int:
        """Number of record indices."""
        return self._checked_length() if type(self).renumbers else self.parent.num_records

    @property
    def num_indices(self) -> int:
        """Number of indices that `record_indices_at` gives."""
        return self._checked_length() if type(self).renumbers else self.parent.num_indices

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects."""
        if not self._is_ordered_here:
            return self.parent.record_indices_at(start, size, key)
        return super().record_indices_at(start, size, key)

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """Return int (size,): the epochs in which the records at positions ``start .. start + size`` are served."""
        return super().epochs_at(start, size) if self._is_ordered_here else self.parent.epochs_at(start, size)

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Serve records shuffled, or in sequence; of a wrapper, the order of the parent is set."""
        if self._is_ordered_here:
            super().set_random_order(enabled)
        else:
            self.parent.set_random_order(enabled)

    def require_record_indices(self) -> None:
        """Raise ``NotImplementedError`` if records have no index: the parent is a stream, or shuffles by itself."""
        self.parent.require_record_indices()

    def require_callback(self) -> None:
        """Raise ``NotImplementedError`` if the parent shuffles by itself, by a key that only a program has that calls it."""
        self.parent.require_callback()

    def stats_at(self, position: int) -> dict[str, Any]:
        """Return counts about the records before ``position``; of a wrapper, the parent's."""
        return super().stats_at(position) if self._is_ordered_here else self.parent.stats_at(position)

    @property
    def batch_sizes(self) -> Any:
        """The batches that a wrapper's parent decides itself; None if there are none."""
        return super().batch_sizes if self._is_ordered_here else self.parent.batch_sizes

    @property
    def positions_ahead(self) -> int:  # type: ignore[override]  # an attribute of other sources
        """How many record indices of the order are computed at once and held; as the parent, whose order it is."""
        return DataSourceModule.positions_ahead if self._is_ordered_here else self.parent.positions_ahead

    @property
    def is_live(self) -> bool:  # type: ignore[override]  # an attribute of other sources
        """Whether the parent is a stream that cannot be rewound."""
        return self.access == "stream" and self.parent.is_live

    # -- reading on: of a wrapper of a stream, by the stream's own methods ---------------------------------------------------

    def get_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records; of a stream without a length, fewer at its end."""
        if self.access != "stream":
            return super().get_batch(batch_size)
        batch = self.read_batch(batch_size)
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records without counting the batch."""
        return self.read_next(batch_size) if self.access == "stream" else super().read_batch(batch_size)

    def skip(self, count: int) -> None:
        """Leave out the next ``count`` records."""
        if self.access == "stream":
            self.parent.skip(count)
        else:
            super().skip(count)

    def begin_epoch(self) -> None:
        """Begin the next epoch of a stream without a length."""
        if self.access == "stream":
            self.parent.begin_epoch()
        else:
            super().begin_epoch()

    def require_restart(self) -> None:
        """Raise ``NotImplementedError`` if the parent is a stream that can begin only one epoch."""
        if self.access == "stream":
            self.parent.require_restart()

    def process_part(self, part: int, num_parts: int) -> Self | None:
        """Return this view of the part of a stream that the parent gives; None if it gives none."""
        of_parent = self.parent.process_part(part, num_parts) if self.access == "stream" else None
        return None if of_parent is None else self.over_parents(of_parent)

    def _epoch_and_index(self) -> tuple[int, int]:
        if self.access == "stream":
            return int(self.parent.epoch), int(self.parent.index)
        return super()._epoch_and_index()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parent) if self.access == "stream" else super().__iter__()

    def __next__(self) -> Any:
        return next(self.parent) if self.access == "stream" else super().__next__()

    def reset(self, seed: int | None = None) -> None:
        """Return to the start of the first epoch; with ``seed``, in the order of a source built with ``nnx.Rngs(seed)``.

        A wrapper serves the parent's order, so that its parent is reset too if there is a ``seed``, or if it is a stream.
        """
        if self.access == "stream":
            self.parent.reset(seed)
        super().reset(None if self.access == "stream" else seed)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _first_key(self, rngs: nnx.Rngs | None) -> np.ndarray | None:
        if not self._is_ordered_here:
            return None
        of_parent = self.parent.drawn_key_data
        if self.stochastic or of_parent is None:
            return super()._first_key(rngs)
        self.stream_name = self.parent.stream_name
        is_drawn = rngs is not None and ((self.stream_name or "default") in rngs or "default" in rngs)
        return self.draw_order_key(rngs) if is_drawn else np.array(of_parent)

    def _reseed(self, seed: int) -> None:
        if self._is_ordered_here:
            super()._reseed(seed)
        else:
            self.parent.reset(seed)
