"""Draws with replacement: records by weight, or so that all classes come equally often."""

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar, Final, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.devices import Aside
from datarax_core.order import Order, as_integer, fold_in, key_data, whole_number
from datarax_core.sources import DataSourceModule, HostState, SourceView

from .classes import Classes, classes_of
from .drawing.alias import ALIAS_RULE, AliasTable, traced_draw, upper_product
from .drawing.config import SampleViewConfig
from .drawing.weights import balancing_weights, checked_weights, weights_of_field, weights_of_file

_EPOCHS: Final = 1 << 31
_COUNTED_AT_ONCE: Final = 1 << 16
_LISTED: Final = 20  # classes that a plan names one by one


class SampleView(SourceView):
    """Draws of a source's records with replacement, each in proportion to its weight.

    The draw at position p depends on the key and on p alone: a keyed hash of p, ``fold_in(key, p)``, is 64 bits, with which an
    alias table draws the record in a fixed number of integer operations (`AliasTable` says how exact they are). Nothing is
    drawn beforehand or kept, so that a stream resumes at any position, on any number of hosts. NumPy and compiled code draw the
    same records.

    Record indices are those of the source, and its order is not followed: of a mixture, records are drawn from all children by
    their weights here. The epoch of a draw is its position modulo 2**31, so that copies of a record are augmented differently.

    If the source serves one shard, the view serves that shard of the draws: shards take turns, and draw from all records.

    The table is made when the view is: of a field that the source does not hold in one piece, by one pass over the records,
    whose result is kept in the cache folder. It takes 8 bytes a record, and a tenth of a second for a million records.

    Args:
        config: The weights, if a field or a file holds them, or the classes; and the number of draws in an epoch.
        source: The source that records are drawn from.
        weights: Numbers from 0, one a record; only their ratios count. None is what the config says; without that, all
            records are drawn equally often.
        rngs: Random streams; the key is drawn from the stream ``sample``.
        name: Name of the view in errors.

    Raises:
        TypeError: ``weights`` are no numbers.
        ValueError: There is another number of weights than of records, one is negative or not finite, or all are zero. Or
            there are weights twice.
        SpecError: The config names a field that holds no weights, or no classes.
        NotImplementedError: ``source`` is a stream.
    """

    config_class: ClassVar[type[SourceConfig]] = SampleViewConfig
    config: SampleViewConfig
    has_own_order: ClassVar[bool] = True
    _drawing = Aside["Drawing"]()

    def __init__(
        self,
        config: SampleViewConfig,
        source: DataSourceModule,
        weights: Any = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, SampleViewConfig):
            raise TypeError(f"{type(self).__name__} needs a SampleViewConfig, not {config!r:.80}")
        super().__init__(config, source, rngs=rngs, name=name)
        if not source.num_records:
            raise ValueError(f"{source.title} is empty: it has no records to draw; give it one at least")
        self._drawing = Drawing.of(config, source, weights)
        self._shard, self._num_shards = shard_of(source)
        self._counts = Counts()
        if self._shard >= (self.config.draws or self.num_records):
            raise ValueError(
                f"shard {self._shard} of {self._num_shards} of {self.title} is empty: an epoch has "
                f"{self.config.draws or self.num_records} draws only"
            )

    def __len__(self) -> int:
        return self.epoch_length

    # -- order ---------------------------------------------------------------------------------------------------------------

    @property
    def epoch_length(self) -> int:
        """Draws in an epoch: ``draws``, or as many as there are records; the part of them that this shard has."""
        return len(range(self._shard, self.config.draws or self.num_records, self._num_shards))

    @property
    def num_records(self) -> int:
        """Number of record indices: those of the source."""
        return self.parent.num_records

    @property
    def serves_each_once(self) -> bool:
        """False: records are drawn with replacement."""
        return False

    def order(self) -> Order:
        """Raise NotImplementedError: draws are no permutation of the records."""
        raise NotImplementedError(f"{self.title} draws records with replacement; see record_indices_at()")

    @property
    def order_title(self) -> str:
        """Name of the order in reports."""
        return f"drawn with replacement, {self._drawing.how}"

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """Return int (size,): the records drawn at positions ``start .. start + size`` with ``key``; O(size).

        Raises:
            ValueError: ``key`` is None.
        """
        if key is None:
            raise ValueError(
                f"{self.title} draws by a key: pass one, such as jax.random.key(0), or source.order_key_data() for its own"
            )
        data = key_data(key)
        if isinstance(start, jax.core.Tracer) or isinstance(data, jax.core.Tracer):
            return self.draw_with(fold_in(jnp.asarray(data), *self._traced_places(start, size)))
        start = as_integer("a position", start)
        if start < 0:
            raise ValueError(f"position {start} is before the start of the stream; positions count from 0")
        return self.draw_with(np.asarray(fold_in(np.asarray(data), *self._places(start, size))))

    def draw_with(self, keys: Any) -> Any:
        """Return int (k,): the records drawn with the data of k keys, uint32 (2, k), of NumPy or JAX; one key a draw.

        A mixture of ``sampling="categorical"`` draws by it, so that the weights hold there, too.
        """
        if isinstance(keys, np.ndarray):
            return self._drawing.table.draw(keys)
        return self._tables.mapped((traced_draw, self._drawing.table.tables), keys)

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """Return int (size,): the positions modulo 2**31, so that stages tell copies of a record apart."""
        if isinstance(start, jax.Array):
            return (self._traced_places(start, size)[0] & np.uint32(_EPOCHS - 1)).astype(np.int32)
        return (self._places(int(start), size)[0] & np.uint32(_EPOCHS - 1)).astype(np.int64)

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Do nothing if ``enabled`` is True: draws are random.

        Raises:
            ValueError: ``enabled`` is not True.
        """
        if enabled is not True:
            raise ValueError(f"{self.title} draws at random; serve {self.parent.title} itself for records in sequence")

    # -- counts --------------------------------------------------------------------------------------------------------------

    def counts_at(self, position: int) -> np.ndarray:
        """Return int64 (num_records,): how often each record was drawn before ``position``.

        All of the draws are made again: O(position), but only what follows the last call if ``position`` did not go back.
        """
        return self._counts.at(self, whole_number("position", position, at_least=0)).copy()

    def class_counts_at(self, position: int) -> dict[Any, int]:
        """Return, by value of the ``balanced`` field, how many of its records were drawn before ``position``; see `counts_at`.

        Raises:
            ValueError: The config names no ``balanced`` field.
        """
        classes = self._drawing.classes
        if classes is None:
            raise ValueError(f"{self.title} draws by weight, and knows no classes; give its config balanced='label'")
        counts = np.zeros(len(classes.values), np.int64)
        np.add.at(counts, classes.codes, self.counts_at(position))
        return dict(zip(classes.values, counts.tolist(), strict=True))

    def stats_at(self, position: int) -> dict[str, Any]:
        """Return ``expected_by_class``: draws of each class that are expected before ``position``; empty without classes."""
        classes = self._drawing.classes
        if classes is None:
            return {}
        return {"expected_by_class": {str(value): position / len(classes.values) for value in classes.values}}

    # -- description, parts and copies ---------------------------------------------------------------------------------------

    def describe_view(self) -> str:
        """Return how many draws an epoch has, and what is drawn how often."""
        draws, length, drawing = self.epoch_length, self.num_records, self._drawing
        lines = f"draws {draws:,} an epoch from {length:,} records, {drawing.how}"
        if drawing.classes is not None:
            values, counts = drawing.classes.values, drawing.classes.counts.tolist()
            expected = draws / len(values)
            listed = ", ".join(
                f"{value} (of {count:,})" for value, count in list(zip(values, counts, strict=True))[:_LISTED]
            )
            more = f" and {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
            return f"{lines}: about {expected:,.1f} of each of {len(values):,} classes, {listed}{more}"
        never, most = drawing.table.extremes()
        left_out = f"; {never:,} {'is' if never == 1 else 'are'} never drawn" if never else ""
        which = "each record" if round(most * length, 6) == 1 else "the heaviest record"
        return f"{lines}: about {most * draws:,.1f} of {which}{left_out}"

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the rule of the draws, and the checksum of the table."""
        shard = {"shard": [self._shard, self._num_shards]} if self._num_shards > 1 else {}
        return {"order": f"drawn, rule {ALIAS_RULE}", "weights": self._drawing.checksum, **shard}

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, DataSourceModule]:
        """Return draws from disjoint parts of the source by name, as ``source.split`` makes them; each with the weights here.

        Raises:
            TypeError, ValueError: `DataSourceModule.split` refuses the arguments, or a part has no record with a weight.
        """
        return {name: self._of_part(part, name) for name, part in self.parent.split(seed=seed, **shares).items()}

    def __getitem__(self, index: Any) -> Any:
        """Return the record of the source with this index, or draws from a part of it: a slice, a list of indices, a mask."""
        is_part = isinstance(index, slice | list) or getattr(index, "ndim", 0) == 1
        return self._of_part(self.parent[index], self.name) if is_part else super().__getitem__(index)

    def over_children(self, make: Callable[[DataSourceModule], DataSourceModule]) -> DataSourceModule | None:
        """Return draws from ``make(source)``, with the weights of its records; of a mixture, from that of ``make(child)``."""
        parent = self.parent
        made = make(parent) if parent.serves_each_once else parent.over_children(make)
        return None if made is None else self._of_part(made, self.name)

    def over_parents(self, *parents: DataSourceModule) -> "SampleView":
        """Return draws from another source, with the same key, and weights as the config says or as they were given."""
        twin = type(self)(self.config, parents[0], self._drawing.given, rngs=nnx.clone(self.rngs), name=self.name)
        if twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        return twin

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the source and the weights that were given."""
        return (self.parent, self._drawing.given)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _places(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and the upper 32 bits of the numbers of draws, uint32 (size,), at positions from ``start`` on.

        Shards take turns, as in every order.
        """
        first = np.uint64(start * self._num_shards + self._shard)
        numbers = first + np.arange(size, dtype=np.uint64) * np.uint64(self._num_shards)
        return (numbers & np.uint64(0xFFFFFFFF)).astype(np.uint32), (numbers >> np.uint64(32)).astype(np.uint32)

    def _traced_places(self, start: int | jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """Return `_places` in compiled code."""
        if not isinstance(start, jax.Array):
            halves = self._places(start, size)
            return jnp.asarray(halves[0]), jnp.asarray(halves[1])
        first, steps = start.astype(np.uint32), jnp.arange(size, dtype=np.uint32)
        positions, count = first + steps, np.uint32(self._num_shards)
        above = (start >> 32).astype(np.uint32) if start.dtype.itemsize == 8 else jnp.uint32(0)
        above = above + (positions < first).astype(np.uint32)
        product = positions * count
        low = product + np.uint32(self._shard)
        return low, upper_product(positions, count) + above * count + (low < product).astype(np.uint32)

    def _of_part(self, part: DataSourceModule, name: str | None) -> "SampleView":
        """Return draws from a part of the source, or from a view of it."""
        config, weights = self.config, self._drawing.given
        of_file = config.weights is not None and config.weights.endswith(".npy")
        if weights is not None or of_file:
            if not _chooses_records(part) or part.parent is not self.parent:
                raise NotImplementedError(
                    f"{self.title} has a weight for each record of {self.parent.title}, and {part.title} has other records; "
                    "draw from these, with weights of theirs"
                )
            weights = weights_of_file(config.weights or "", self.parent) if weights is None else np.asarray(weights)
            weights = weights[part.parent_indices(np.arange(part.num_records))]
            config = config.model_copy(update={"weights": None})
        twin = type(self)(config, part, weights, rngs=nnx.clone(self.rngs), name=name)
        if twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        return twin


class Drawing:
    """The table that a view draws by, and what it was made of; compared by identity."""

    def __init__(self, table: AliasTable, how: str, given: Any = None, classes: Classes | None = None) -> None:
        self.table, self.how, self.given, self.classes = table, how, given, classes
        self.checksum = table.checksum()

    @classmethod
    def of(cls, config: SampleViewConfig, source: DataSourceModule, given: Any) -> "Drawing":
        """Return the table of the weights that were given, or of what the config says.

        Raises:
            TypeError, ValueError, SpecError: They are no weights of this source.
        """
        if isinstance(given, str | PathLike):
            raise TypeError(
                f"weights are numbers, one for each record, not {given!r:.80}; name a field or an .npy file in the config, "
                "SampleViewConfig(weights=...)"
            )
        if given is not None:
            if field := config.weights or config.balanced:
                raise ValueError(
                    f"a view of type sample has its weights twice: as an argument, and from {field!r} by its config; give one"
                )
            return cls(AliasTable.of(checked_weights(given, source, "the weights")), "by the weights given", given)
        if config.balanced is not None:
            classes = classes_of(source, config.balanced)
            weights = balancing_weights(classes)
            return cls(AliasTable.of(weights), f"each class of {config.balanced!r} equally often", classes=classes)
        if config.weights is None:
            return cls(AliasTable.of(np.ones(source.num_records)), "each equally often")
        if config.weights.endswith(".npy"):
            return cls(AliasTable.of(weights_of_file(config.weights, source)), "by the weights in a file")
        return cls(AliasTable.of(weights_of_field(config.weights, source)), f"by {config.weights!r}")


class Counts(HostState):
    """How often each record was drawn before the position that was asked for last."""

    def __init__(self) -> None:
        self._known: tuple[bytes, int, np.ndarray] | None = None

    def at(self, view: SampleView, position: int) -> np.ndarray:
        """Return int64 (num_records,): the draws of each record before ``position``."""
        key = np.asarray(view.order_key_data())
        known = self._known
        if known is None or known[0] != key.tobytes() or known[1] > position:
            known = key.tobytes(), 0, np.zeros(view.num_records, np.int64)
        _, done, counts = known
        while done < position:
            size = min(_COUNTED_AT_ONCE, position - done)
            np.add.at(counts, view.record_indices_at(done, size, key), 1)
            done += size
        self._known = known[0], done, counts
        return counts


def _chooses_records(source: DataSourceModule) -> TypeGuard[SourceView]:
    """Return whether each record of a source is one record of its parent."""
    return isinstance(source, SourceView) and type(source).parent_indices is not SourceView.parent_indices


def shard_of(source: DataSourceModule) -> tuple[int, int]:
    """Return (number of the shard, number of shards) of the order that a source serves."""
    try:
        order = source.order()
    except NotImplementedError:  # an order that is no shuffle of core: of a view, perhaps over a shard
        return shard_of(source.parent) if isinstance(source, SourceView) else (0, 1)
    return order.shard, order.num_shards
