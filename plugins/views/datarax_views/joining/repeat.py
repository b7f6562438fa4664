"""Each record of a source several times an epoch, each copy augmented differently."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field

from datarax_core.config import NOT_NULL, Count, SourceConfig, having
from datarax_core.order import Order
from datarax_core.registry import ParentSource
from datarax_core.sources import DataSourceModule, SourceView


class RepeatViewConfig(SourceConfig):
    """Config of a `RepeatView`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "repeat",
                    "times": 4,
                    "order": "adjacent",
                    "source": {"type": "memory", "path": "digits.npz", "shuffle": True},
                }
            ]
        }
    )

    may_differ: ClassVar = ("source",)
    schema_rules: ClassVar = (having(source=NOT_NULL),)

    type: Literal["repeat"] = "repeat"
    source: ParentSource = Field(
        default=None,
        validate_default=True,
        description="The source that is repeated; None in Python, where it is an argument.",
    )
    times: Count = Field(description="How often an epoch serves each record.")
    order: Literal["passes", "adjacent"] = Field(
        default="passes",
        description="Where the copies are: one pass over the source after another, or one copy beside the other.",
    )


class RepeatView(SourceView):
    """A source each record of which is served ``times`` times an epoch, in the source's own order.

    With ``order="passes"``, an epoch is ``times`` epochs of the source one after another; a source that is shuffled is shuffled
    anew for each pass. With ``order="adjacent"``, the copies of a record are beside one another, as repeated augmentation needs
    it (E. Hoffer et al., "Augment your batch", 2020).

    A random stage draws anew for each copy. The record indices are those of the source, of which nothing is copied; a mixture
    keeps its proportions. An epoch has ``times`` times the records of the source's.

    Args:
        config: How often, and where.
        source: The source that is repeated; a stream cannot be.
        rngs: Random streams that another key than the source's is drawn from, if it is shuffled.
        name: Name of the view in errors.

    Raises:
        NotImplementedError: ``source`` is a stream.
        ValueError: Copies would be adjacent of a source whose records change places from epoch to epoch, or that decides its
            batches itself.
    """

    config_class: ClassVar[type[SourceConfig]] = RepeatViewConfig
    config: RepeatViewConfig
    has_own_order: ClassVar[bool] = True

    def __init__(
        self,
        config: RepeatViewConfig,
        source: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, RepeatViewConfig):
            raise TypeError(f"{type(self).__name__} needs a RepeatViewConfig, not {config!r:.80}")
        if isinstance(source, DataSourceModule) and source.access == "stream":
            raise NotImplementedError(
                f"{type(self).__name__} serves records again, by index, and {source.title} is a stream, which is read forward "
                "only; Pipeline(num_epochs=...) serves its epochs one after another"
            )
        super().__init__(config, source, rngs=rngs, name=name)
        source.require_record_indices()
        if self._is_adjacent and self.parent.reorders_by_epoch:
            raise ValueError(
                f"{self.parent.title} has other records at its indices in each epoch, so that copies cannot be adjacent; give "
                "order='passes'"
            )
        if self._is_adjacent and self.parent.batch_sizes is not None:
            raise ValueError(
                f"{self.parent.title} decides its batches itself, which adjacent copies would not fit into; repeat what it "
                "is a view of, or give order='passes'"
            )

    # -- order ---------------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.epoch_length

    @property
    def epoch_length(self) -> int:
        """Records in an epoch: ``times`` times those of the source's."""
        length: int = self.parent.epoch_length or 0
        return self.config.times * length

    @property
    def serves_each_once(self) -> bool:
        """Whether an epoch serves each record once: only if it is repeated once."""
        return self.config.times == 1 and self.parent.serves_each_once

    def order(self) -> Order:
        """Raise NotImplementedError: an epoch is no permutation of the records."""
        self._refuse_order()

    @property
    def order_title(self) -> str:
        """Name of the order in reports."""
        return f"{self.parent.order_title}, each record {self.config.times} times, {self._where}"

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records at positions ``start .. start + size``, by the parent's indices.

        With ``order="adjacent"`` O(size / times) of the parent's order.
        """
        if not self._is_adjacent:
            return self.parent.record_indices_at(start, size, key)
        return self._repeated(lambda first, count: self.parent.record_indices_at(first, count, key), start, size)[0]

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """Return int (size,): the epoch of the parent that serves each record; with adjacent copies, times their number."""
        if not self._is_adjacent:
            return self.parent.epochs_at(start, size)
        epochs, copies = self._repeated(self.parent.epochs_at, start, size)
        return epochs * self.config.times + copies

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the parent's records differ from epoch to epoch, and are not kept by ``cacheable``."""
        return self.parent.varies_by_epoch and not self._keeps_records

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Do nothing if the source is served so: an epoch is epochs of the source, in its own order.

        Raises:
            ValueError: ``enabled`` is another order than that of the source.
        """
        if enabled is not self.is_random_order:
            raise ValueError(
                f"{self.title} repeats records in the order of its source; make it of a source that is "
                f"{'shuffled' if enabled else 'served in sequence'}"
            )

    def stats_at(self, position: int) -> dict[str, Any]:
        """Return the parent's counts of the records before ``position``; nothing if copies are adjacent."""
        return {} if self._is_adjacent else self.parent.stats_at(position)

    # -- description and parts -----------------------------------------------------------------------------------------------

    def describe_view(self) -> str:
        """Return how often records are served, and where their copies are."""
        length = self.parent.epoch_length
        return f"serves each of {length:,} records {self.config.times} times an epoch, {self._where}"

    def over_children(self, make: Callable[[DataSourceModule], DataSourceModule]) -> DataSourceModule | None:
        """Return this repetition of ``make(parent)``; over a mixture, of the mixture of ``make(child)``."""
        parent = self.parent
        made = make(parent) if parent.serves_each_once else parent.over_children(make)
        return None if made is None else self.over_parents(made)

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, DataSourceModule]:
        """Return disjoint parts of the source by name, as ``source.split`` makes them, each repeated as here."""
        return {name: self.over_parents(part) for name, part in self.parent.split(seed=seed, **shares).items()}

    def __getitem__(self, index: Any) -> Any:
        """Return the record of the source with this index, or a part of it (a slice, a list, a mask), repeated as here."""
        is_part = isinstance(index, slice | list) or getattr(index, "ndim", 0) == 1
        return self.over_parents(self.parent[index]) if is_part else super().__getitem__(index)

    # -- inside --------------------------------------------------------------------------------------------------------------

    @property
    def _is_ordered_here(self) -> bool:
        """Whether the key is the view's own: not over a source that decides its batches, which its own key arranges."""
        return "parents" in vars(self) and self.parent.batch_sizes is None

    @property
    def _is_adjacent(self) -> bool:
        return self.config.order == "adjacent"

    @property
    def _where(self) -> str:
        return "copies adjacent" if self._is_adjacent else "pass after pass"

    def _refuse_order(self) -> NoReturn:
        raise NotImplementedError(f"{self.title} serves records several times an epoch; see record_indices_at()")

    def _repeated(self, of_parent: Callable[[Any, int], Any], start: Any, size: int) -> tuple[Any, Any]:
        """Return (the values of the parent's positions, the number of the copy) at ``start .. start + size``, each (size,)."""
        times = self.config.times
        first, copy = divmod(start, times)
        if isinstance(start, jax.core.Tracer):
            values, places = of_parent(first, (size - 1) // times + 2), copy + jnp.arange(size)
        else:
            values, places = None, copy + np.arange(size)
            values = of_parent(first, int(places[-1]) // times + 1 if size else 0)
        return values[places // times], places % times
