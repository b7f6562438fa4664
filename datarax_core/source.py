"""The source protocol: what holds records, and says in which order they are served."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from ._batch_rule import seed_number, whole_number
from ._cursor import Cursor
from ._elements import ElementBlock
from ._host_calls import records_by_callback
from ._outlook import Outlook
from ._permutation import key_words
from ._record_cache import RecordCache
from ._source_parts import MergedRecords, SourceParts
from ._state import require_dict, require_keys, require_position, require_same, restore_variables, variable_state
from ._whole_access import WholeAccess
from ._window import Window, stretch_of
from .capabilities import Access, Capabilities
from .config import DataraxModuleConfig, SourceConfig, StructuralConfig
from .errors import SpecError
from .order import ORDER_RULE, Order, epochs_of
from .spec import Batch, ElementSpec, check_batch, describe, device_spec, split_beside


class OrderKey(nnx.Variable[Any]):
    """uint32 (w,): the words of the key that a source's shuffle is drawn from."""


class DataSourceModule(Outlook, WholeAccess):
    """A source of records.

    An author writes ``__len__``, `element_spec` and `get_records`; everything else follows from them. An author whose order
    is neither sequential nor the core's shuffle writes `record_indices_at` as well. A forward-only stream writes
    `get_batch`, `reset`, `get_state` and `set_state` instead. One with a length goes on with its next epoch by itself; one
    without may end, and then gives what is left, and after that raises ``StopIteration``.

    A source draws its order's key once, from the random stream that its config names, when it is built.

    A batch that was given away is never written to again: on a CPU its memory may be that of the batch on the device.
    """

    _not_saved: ClassVar[tuple[str, ...]] = ("cursor.",)
    """How the names of variables begin that are in no state: what is saved in another form, or belongs to others."""

    config_class: ClassVar[type[SourceConfig]]
    """The config that ``type:`` in a file selects; its ``type`` field defaults to the registered name."""

    traceable: ClassVar[bool] = False
    """Whether `get_records` takes traced indices: True for a source whose records live on the device."""

    positions_ahead: int = 1 << 14
    """How many record indices of the order are computed at once, and held: in a millisecond, 128 KiB."""

    def __init__(self, config: StructuralConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        words = self._first_key(rngs)
        self.order_key = None if words is None else OrderKey(words)
        self.is_random_order = self.stochastic
        self.cursor = Cursor()
        self._host = SourceParts()

    @classmethod
    def from_config(cls, config: SourceConfig, build: Callable[[SourceConfig], "DataSourceModule"]) -> Self:
        """The source that a config describes.

        Args:
            config: Of this class's `config_class`.
            build: Makes the sources that ``config`` nests; its ``rngs`` are the random streams meant for this one.
        """
        return cls(config, rngs=getattr(build, "rngs", None))

    # -- what an author writes ------------------------------------------------------------------------------------------

    def element_spec(self) -> ElementSpec:
        """Pytree of ``jax.ShapeDtypeStruct`` for one record; never reads the whole data set."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define element_spec(); return a jax.ShapeDtypeStruct for each field of a record"
        )

    def get_records(self, indices: Any) -> Batch:
        """The records at int (k,) ``indices`` as a batch, rows in that order. Stateless."""
        raise NotImplementedError(
            f"{type(self).__name__} has no random access: it does not define get_records(); read it with get_batch()"
        )

    def record_indices_at(self, start: int | jax.Array, size: int, key: Any = None) -> Any:
        """int (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects.

        In sequence, or the core's shuffle if `is_random_order`; epoch after epoch, without end. See `Order.record_indices`.

        Raises:
            ValueError: The order is random and ``key`` is None.
        """
        self._require_random_access()
        if self.is_random_order and key is None:
            raise ValueError(
                f"{self.title} is shuffled: pass the key that selects the order, such as jax.random.key(0), "
                "or source.order_words() for the source's own"
            )
        return self.order().record_indices(start, size, key if self.is_random_order else None)

    # -- access ---------------------------------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """How records are reached: by compiled code, by the host, or forward only."""
        if type(self).get_records is DataSourceModule.get_records:
            return "stream"
        return "device" if self.traceable else "host"

    @property
    def capabilities(self) -> Capabilities:
        """What this source can do, derived from what its class defines."""
        indexed = self.access != "stream"
        return Capabilities(
            random_access=indexed,
            batched_reads=True,
            traceable=self.access == "device",
            resumable=indexed or type(self).set_state is not DataSourceModule.set_state,
            sized=hasattr(type(self), "__len__"),
        )

    def order(self) -> Order:
        """The positions this source serves, as arithmetic."""
        return Order(self._length())

    @property
    def epoch_length(self) -> int | None:
        """Records in one epoch of what this source serves; None for a stream without a length."""
        if self.access == "stream":
            return len(self) if hasattr(type(self), "__len__") else None  # type: ignore[arg-type]  # was just seen
        return self.order().epoch_length

    @property
    def num_records(self) -> int:
        """How many record indices there are: ``len(self)``, unless an epoch is not each record once."""
        return self._length()

    def epochs_at(self, start: int | jax.Array, size: int) -> Any:
        """int (size,): which epoch serves the records at positions ``start .. start + size``.

        Epoch and record index together name one serving of a record: what random stages make of it depends on these.
        """
        return epochs_of(start, size, self.epoch_length or 1)

    def fetch(self, indices: np.ndarray) -> Batch:
        """`get_records`, checked against the element spec, and through the cache if the config says ``cacheable``."""
        cache = self.record_cache()
        return self._checked_records(indices) if cache is None else cache.fetch(indices, self._checked_records)

    def record_cache(self) -> RecordCache | None:
        """Where records that were read once are kept; None if the config does not say ``cacheable``."""
        if self.config.cacheable and self._host.cache is None:
            self._host.cache = RecordCache(self.num_records, self.element_spec())
        return self._host.cache

    def get_batch_at(self, start: int | jax.Array, size: int, key: Any = None) -> Batch:
        """The records at positions ``start .. start + size``: stateless, and traceable in ``start`` and ``key``.

        Under a trace a source that only the host can read is reached by a callback, and fields that no device has are
        refused by name.

        Raises:
            TypeError, ValueError: ``size`` is not a whole number from 1, or ``start`` is negative.
        """
        indices = self.record_indices_at(start, whole_number("size", size, at_least=1), key)
        return self.fetch_traced(indices) if isinstance(indices, jax.core.Tracer) else self.fetch(indices)

    def get_batch(self, batch_size: int) -> Batch:
        """The next ``batch_size`` records of this source's own order; the one method that a stream must write."""
        self._require_random_access()
        batch_size = whole_number("batch_size", batch_size, at_least=1)
        batch = self.get_batch_at(self.cursor.here, batch_size, self.order_words())
        self.cursor.advance(batch_size)
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """The next records of a stream for a pipeline, which counts what it serves itself; `get_batch`, unless that counts."""
        return self.get_batch(batch_size)

    def skip(self, count: int) -> None:
        """Leave out the next ``count`` records of a stream, by reading them; one that can do better overrides it."""
        self.read_batch(count)

    def process_part(self, part: int, num_parts: int) -> Self | None:  # noqa: ARG002 - what a subclass needs
        """The stream of the ``part``-th of ``num_parts`` disjoint parts of the records, each of one length, if it has such.

        Asked for when several processes share a pipeline. None: each process reads every record and keeps its rows.
        """
        return None

    def note_served(self, batches: int) -> None:
        """Count batches of this source's records that were handed over; see `get_operation_stats`."""
        self._ledger.applied += batches

    def note_substituted(self, records: int) -> None:
        """Count records in whose place others were read; see `get_operation_stats`."""
        self._ledger.skipped += records

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:  # noqa: ARG002 - what a subclass needs
        """`fetch` under a trace: device dtypes, fields that no device has refused by name.

        ``over_mesh`` says that the trace runs on devices other than those that data was placed on.
        """
        self.require_no_beside()
        return self._checked_records(indices) if self.access == "device" else self.fetch_by_callback(indices)

    def fetch_by_callback(self, indices: jax.Array) -> Batch:
        """The records under a trace by way of the host, which `fetch_on_host` is called on as the program runs.

        Fields that no device has are left out.
        """
        return records_by_callback(self, indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """`fetch` without compiled code, which a callback from compiled code must not run."""
        return self.fetch(indices)

    @property
    def callback_lock(self) -> threading.Lock:
        """Held while the host answers compiled code: the devices of a mesh ask at once, and authors read without locks."""
        return self._host.callback

    def require_no_beside(self) -> None:
        """Refuse compiled code if there are fields that no device has."""
        beside = split_beside(self.element_spec())[1]
        if beside:
            raise SpecError(
                f"{self.title} has fields that compiled code cannot carry: {', '.join(sorted(beside))}; "
                "leave them out, or iterate from Python, where they ride beside the batch; a stage such as "
                "{type: select, fields: [image, label]} leaves out what it does not name"
            )

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """(function of arrays and indices, the arrays): how a compiled step reads this *device* source.

        The arrays are the step's arguments, never constants in it; the function is hashable, so that equal pipelines share
        one program. ``sharding`` puts a copy of them on every device that it names; None leaves them where they are.
        """
        graphdef, state = nnx.split(self.bare())
        return MergedRecords(graphdef), state if sharding is None else self._host.placed.put(state, sharding)

    def beside_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:  # noqa: ARG002 - what a subclass needs
        """The fields of a *device* source that no device has, at concrete ``indices``."""
        return {}

    # -- progress -------------------------------------------------------------------------------------------------------

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """A new source over the same records, from position 0, with what is given in place of its own.

        Without ``rngs`` a shuffled copy serves the order that this source serves, and draws nothing from its streams.
        """
        twin = super().copy(config=config, rngs=nnx.clone(self.rngs) if rngs is None else rngs, name=name)
        if rngs is None and twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        return twin

    def reset(self, seed: int | None = None) -> None:
        """Back to the start of the first epoch; with ``seed``, of the order that building with ``nnx.Rngs(seed)`` gives."""
        if seed is not None:
            self._reseed(seed_number(seed))
        self.cursor.restore(0, 0)

    def order_words(self) -> Any:
        """The key of this source's own order as uint32 words; None for records in sequence."""
        return self.order_key.get_raw_value() if self.is_random_order and self.order_key is not None else None

    def set_random_order(self, enabled: bool) -> None:  # noqa: FBT001 - the signature that users know
        """Serve records shuffled, or in sequence; the position stays.

        Raises:
            TypeError: ``enabled`` is not True or False.
            ValueError: There is no random stream to shuffle with.
        """
        if not isinstance(enabled, bool | np.bool_):
            raise TypeError(f"the order of {self.title} is random or not: True or False, not {enabled!r:.80}")
        if enabled and self.order_key is None:
            raise ValueError(
                f"{self.title} cannot shuffle: it was built without a random stream; build it as stochastic"
            )
        self.is_random_order = bool(enabled)

    def order_window(self, size: int, *, background: bool = False) -> Window:
        """This source's own order for concrete positions, held a stretch of at least ``size`` at a time; for one thread."""
        words = self.order_words()

        def compute(start: int, count: int) -> np.ndarray:
            return np.array(self.record_indices_at(start, count, words))

        capacity = stretch_of(self.epoch_length or 1, size, at_most=self.positions_ahead)
        return Window(compute, capacity=capacity, background=background)

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again, as JSON: class, length, element spec, order and its key."""
        words = self.order_words()
        is_stream = self.access == "stream"
        return {
            "source": type(self).__name__,
            "length": self.epoch_length if is_stream else self._length(),
            "element_spec": describe(self.element_spec()),
            "order": "stream"
            if is_stream
            else f"{'shuffled' if words is not None else 'sequential'}, rule {ORDER_RULE}",
            "seed": None if words is None else np.asarray(words).tolist(),
        }

    def get_state(self) -> dict[str, Any]:
        """Where this source stands, and what it is: a few hundred bytes of JSON, no data but variables of its own."""
        variables = {n: v for n, v in variable_state(self).items() if not n.startswith(self._not_saved)}
        if self.order_key is not None:
            variables["order_key"] = variables["order_key"].tolist()
        progress = {"position": self.cursor.position, "run_start": self.cursor.run_start}
        return {**progress, "variables": variables, "fingerprint": self.fingerprint()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: Names all that differs between the source that the state is of and this one.
        """
        require_dict(state, self.title)
        require_keys(state, {"position", "run_start", "variables", "fingerprint"}, self.title)
        require_same(state["fingerprint"], self.fingerprint(), self.title)
        position, run_start = require_position(state, self.title)
        variables = state["variables"]
        if isinstance(variables, dict):
            variables = variables | {n: v for n, v in variable_state(self).items() if n.startswith(self._not_saved)}
        restore_variables(self, variables)
        self.cursor.restore(position, run_start)

    def reset_cache(self) -> None:
        """Drop the records kept for ``cacheable``; the next fetch reads them again."""
        self._host.cache = None

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _length(self) -> int:
        if not hasattr(type(self), "__len__"):
            raise TypeError(f"{self.title} has no length: it does not define __len__()")
        return len(self)  # type: ignore[arg-type]  # defined by the subclass, as was just seen

    def _require_random_access(self) -> None:
        if self.access == "stream":
            raise NotImplementedError(
                f"{type(self).__name__} is a stream without random access; read it with get_batch()"
            )

    def _checked_records(self, indices: Any) -> Batch:
        if self._host.spec is None:
            self._host.spec = self.element_spec()
        try:
            batch, spec = self.get_records(indices), self._host.spec
        except StopIteration as error:  # a loop would take it for its own end
            raise RuntimeError(f"{self.title} raised StopIteration for records that its length says it has") from error
        if isinstance(indices, jax.core.Tracer):
            spec = split_beside(spec)[0]
        check_batch(batch, device_spec(spec) if self.access == "device" else spec, len(indices), origin=self.title)
        return batch

    def _first_key(self, rngs: nnx.Rngs | None) -> np.ndarray | None:
        return self._drawn_key(rngs) if self.stochastic else None

    def _drawn_key(self, rngs: nnx.Rngs | None) -> np.ndarray:
        if rngs is self.rngs:  # others are nnx.Rngs(seed), which have every stream
            self.ensure_rng_streams([self.stream_name or "default"])
        return np.asarray(key_words(rngs[self.stream_name or "default"]()))  # type: ignore[index]  # checked above

    def _reseed(self, seed: int) -> None:
        if self.order_key is not None:
            self.order_key.set_raw_value(self._drawn_key(nnx.Rngs(seed)))

    @property
    def _block(self) -> ElementBlock:
        return self._host.block

    def _renew_host_state(self) -> None:
        super()._renew_host_state()
        self._host = SourceParts()
        self.cursor.renew()

    def _drop_host_state(self) -> None:
        super()._drop_host_state()
        del self._host
        self.cursor.drop_run()
