"""Base classes of sources and stages: a Flax NNX module with a validated config, a name, random streams and statistics."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, StructuralConfig, completed
from datarax_core.devices.traces import TraceArgument
from datarax_core.order.permutation import fold_in, key_data

from .host_state import HostState, drop_host_states, renew_host_states
from .state import require_dict, restore_variables, variable_state


class DataraxModule(TraceArgument):
    """Base of every module that has a config.

    Args:
        config: The settings; kept as `config` and never changed.
        rngs: Random streams; kept as `rngs`.
        name: Name of this module in errors and reports, next to the class name.

    Raises:
        TypeError: ``config`` is no `DataraxModuleConfig`, ``rngs`` is no ``nnx.Rngs``, or ``name`` is no text.
    """

    def __init__(self, config: DataraxModuleConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        if not isinstance(config, DataraxModuleConfig):
            raise TypeError(f"{type(self).__name__} needs a config derived from DataraxModuleConfig, not {config!r}")
        if not isinstance(name, str | None):
            raise TypeError(f"the name of {type(self).__name__} is text, not {name!r:.80}")
        self.config = config
        self.rngs = checked_rngs(rngs, type(self).__name__ + (f" {name!r}" if name else ""))
        self.name = name
        self._ledger = Ledger()

    @property
    def title(self) -> str:
        """Class and name, for errors and reports: ``MemorySource 'train'``.

        Called: by errors and reports; on any thread.
        Default: class and name.
        """
        return type(self).__name__ + (f" {self.name!r}" if self.name else "")

    # -- copies ---------------------------------------------------------------------------------------------------------

    def clone(self) -> Self:
        """Return an independent twin with its own variables, counts and statistics; data that never changes is shared.

        Called: by users, and by pipelines that keep a twin.
        """
        twin = nnx.clone(self)
        renew_host_states(twin)
        return twin

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """Return a new module of this class, built with the given arguments in place of this module's own.

        A ``config`` of a base class of this module's config class, such as ``DataraxModuleConfig(cacheable=True)``, replaces
        the options that it sets. Nothing of this module's progress is copied: no position, counts or statistics.

        Raises:
            TypeError: The constructor takes other arguments than `constructor_data` returns.
        """
        arguments = (self.config if config is None else completed(config, self.config), *self.constructor_data())
        named: dict[str, Any] = {
            "rngs": self.rngs if rngs is None else rngs,
            "name": self.name if name is None else name,
        }
        own, constructor = type(self).__name__, type(self).__init__
        try:
            inspect.signature(constructor).bind(self, *arguments, **named)
        except TypeError as cause:
            raise TypeError(
                f"{own}.copy() cannot call {own}(config, ..., rngs=, name=): {cause}; define constructor_data(self) in {own}, "
                "which returns a tuple of the arguments that the constructor takes between config and rngs"
            ) from cause
        return type(self)(*arguments, **named)

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the arguments that the constructor takes between ``config`` and ``rngs``; `copy` passes them on.

        A subclass with such arguments overrides this.

        Called: by `copy`, on the thread that calls it.
        Default: an empty tuple.
        """
        return ()

    def bare(self) -> Self:
        """Return a twin for compiled code, without `HostState`; modules that are alike have equal bare graphs.

        Called: by routes, when a program is made.
        """
        twin = nnx.clone(self)
        drop_host_states(twin)
        return twin

    # -- state ----------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return every variable by dotted name: random streams and scalars as plain numbers, arrays as NumPy arrays."""
        return variable_state(self)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: A key is missing or unknown, or a value does not fit; names each such key.
        """
        require_dict(state, self.title)
        restore_variables(self, state)

    # -- random streams -------------------------------------------------------------------------------------------------

    def requires_rng_streams(self) -> list[str] | None:
        """Return the names of the random streams that this module draws from, or None."""
        return None

    def ensure_rng_streams(self, names: Iterable[str]) -> None:
        """Raise an error unless each of the named random streams exists, by its own name or as a ``default`` stream.

        Raises:
            TypeError: ``names`` is a single name, not several.
            ValueError: Streams are missing; names them, and says how to make them.

        Called: by the constructor.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"names is a list of names of random streams, such as ['shuffle'], not {names!r:.80}")
        missing = [n for n in names if self.rngs is None or not (n in self.rngs or "default" in self.rngs)]
        if missing:
            listed = ", ".join(map(repr, missing))
            raise ValueError(
                f"{self.title} draws from the random stream {listed}, which its rngs do not have; "
                f"pass rngs=nnx.Rngs({missing[0]}=0), or rngs=nnx.Rngs(0) for all streams"
            )

    # -- counts ----------------------------------------------------------------------------------------------------------

    def get_operation_stats(self) -> dict[str, int]:
        """Return the counts since the last reset: ``applied_count`` of batches, ``skipped_count`` of records.

        Applied are batches that were served, skipped are records that were substituted or dropped. Both are counted on the
        host: a batch that a user's own compiled code reads is not counted.

        Called: by users and reports.
        """
        return {"applied_count": self._ledger.applied, "skipped_count": self._ledger.skipped_in_all}

    def reset_operation_stats(self) -> None:
        """Set both counts to 0.

        Called: by users.
        """
        self._ledger.applied = self._ledger.skipped = 0
        self._ledger.skipped_by_thread.clear()

    # -- statistics of the data -----------------------------------------------------------------------------------------

    def compute_statistics(self, data: Any) -> Any:
        """Apply the config's ``batch_stats_fn`` to ``data``, and keep the result for `get_statistics`.

        Raises:
            ValueError: The config has no ``batch_stats_fn``.

        Called: by users.
        """
        if self.config.batch_stats_fn is None:
            raise ValueError(f"{self.title} has no batch_stats_fn to compute statistics with; set it in its config")
        self._ledger.statistics = self.config.batch_stats_fn(data)
        return self._ledger.statistics

    def get_statistics(self) -> Any:
        """Return the config's ``precomputed_stats`` until they are reset, then the statistics computed or set, or None.

        Called: by users.
        """
        if self.config.precomputed_stats is not None and not self._ledger.statistics_were_reset:
            return self.config.precomputed_stats
        return self._ledger.statistics

    def set_statistics(self, stats: Any) -> None:
        """Keep ``stats`` as if `compute_statistics` had returned them.

        Called: by users.
        """
        self._ledger.statistics = stats

    def reset_statistics(self) -> None:
        """Drop the statistics, the precomputed ones included.

        Called: by users.
        """
        self._ledger.statistics, self._ledger.statistics_were_reset = None, True

    def reset_cache(self) -> None:
        """Drop results that are kept to save work; a subclass that keeps any overrides this."""


class StructuralModule(DataraxModule):
    """A module that shapes the stream: a source, or a stage that has a config.

    Raises:
        ValueError: The config is stochastic, and ``rngs`` is None or lacks the random stream that the config names.
    """

    config: StructuralConfig
    """The settings, as the constructor was given them; never changed.

    Called: read by everything, on any thread.
    """

    def __init__(self, config: StructuralConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        if not isinstance(config, StructuralConfig):
            raise TypeError(f"{type(self).__name__} needs a config derived from StructuralConfig, not {config!r}")
        super().__init__(config, rngs=rngs, name=name)
        self.stochastic = config.stochastic
        self.stream_name = config.stream_name
        if self.stochastic and rngs is None:
            raise ValueError(
                f"{self.title} is stochastic and needs random numbers: pass rngs=nnx.Rngs({self.stream_name}=0), or any seed"
            )
        self.ensure_rng_streams(self.requires_rng_streams() or [])

    def requires_rng_streams(self) -> list[str] | None:
        """Return the config's ``stream_name`` in a list if the config is stochastic, else None.

        Called: by the constructor.
        Default: the config's ``stream_name`` if it is stochastic.
        """
        return [self.stream_name] if self.stochastic and self.stream_name else None

    def process(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002 - the name that users know
        """Process ``input``; a subclass defines how.

        Called: by ``module(input)``.
        Default: none; a module that is called writes it. Sources and stages need not.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define process(); write it, or call what it does define"
        )

    def __call__(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
        """Call `process`.

        Called: by users.
        Default: `process`.
        """
        return self.process(input, *args, **kwargs)


@dataclass(eq=False)
class Ledger(HostState):
    """Counts and statistics of a module; a clone starts with those of the original."""

    applied: int = 0
    skipped: int = 0
    """Records that were skipped before this ledger was made: by the original of a clone."""
    statistics: Any = None
    statistics_were_reset: bool = False
    skipped_by_thread: dict[int, int] = field(default_factory=dict, init=False)
    """Records that were skipped since, by the thread that read them: each thread counts for itself, and none waits."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"skipped_by_thread": {}, **state})  # version 0.1.0 pickled none

    @property
    def skipped_in_all(self) -> int:
        """Records that were skipped by all threads."""
        return self.skipped + sum(list(self.skipped_by_thread.values()))

    @property
    def skipped_here(self) -> int:
        """Records that were skipped by the thread that asks."""
        return self.skipped_by_thread.get(get_ident(), 0)

    @skipped_here.setter
    def skipped_here(self, count: int) -> None:
        self.skipped_by_thread[get_ident()] = count

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the counts and statistics."""
        return self.applied, self.skipped_in_all, self.statistics, self.statistics_were_reset


def checked_rngs(rngs: nnx.Rngs | None, title: str) -> nnx.Rngs | None:
    """Return ``rngs`` unchanged if they are random streams or None.

    Raises:
        TypeError: ``rngs`` is something else, such as a seed; names ``title``.
    """
    if not isinstance(rngs, nnx.Rngs | None):
        raise TypeError(f"rngs of {title} are random streams, such as nnx.Rngs(0), or None, not {rngs!r:.80}")
    return rngs


def draw_key_data(stream: nnx.RngStream) -> np.ndarray:
    """Draw the next key of a random stream, and return its data, uint32 (w,).

    The key is that of ``stream()``, to the bit, without the two programs that JAX would compile for it: a tenth of a second
    of the first batch.
    """
    key, count = stream.key[...], stream.count[...]
    if any(isinstance(value, jax.core.Tracer) or value.ndim or len(value.devices()) > 1 for value in (key, count)):
        return np.asarray(key_data(stream()))
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return np.asarray(key_data(stream()))
    number = np.asarray(count)
    place = (
        count.sharding if count.committed else None
    )  # a count that is bound to no device stays so: pipelines over meshes take it
    stream.count[...] = jax.device_put(number + np.uint32(1), place)
    drawn: np.ndarray = fold_in(np.asarray(key_data(key)), number[None])[:, 0]
    return drawn
