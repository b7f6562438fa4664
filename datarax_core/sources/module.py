"""What every part of a pipeline is: a Flax NNX module with a validated config, a name, random streams and statistics."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, StructuralConfig

from .host_state import HostState, drop_host_states, renew_host_states
from .state import require_dict, restore_variables, variable_state


@dataclass(eq=False)
class Ledger(HostState):
    """Counts and statistics of a module; a clone starts with those of the original."""

    applied: int = 0
    skipped: int = 0
    statistics: Any = None
    statistics_were_reset: bool = False

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the counts and statistics."""
        return self.applied, self.skipped, self.statistics, self.statistics_were_reset


def checked_rngs(rngs: nnx.Rngs | None, title: str) -> nnx.Rngs | None:
    """The random streams that ``title`` was given.

    Raises:
        TypeError: They are something else, such as a seed.
    """
    if not isinstance(rngs, nnx.Rngs | None):
        raise TypeError(f"rngs of {title} are random streams, such as nnx.Rngs(0), or None, not {rngs!r:.80}")
    return rngs


class DataraxModule(nnx.Module):
    """Base of everything that has a config.

    Args:
        config: Validated settings; kept as `config`, never changed.
        rngs: Random streams, kept as `rngs`.
        name: How errors and reports call this module; the class name if None.

    Raises:
        TypeError: ``config`` is no `DataraxModuleConfig`, ``rngs`` no ``nnx.Rngs``, or ``name`` no text.
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
        """Class and name, as errors give it: ``MemorySource 'train'``."""
        return type(self).__name__ + (f" {self.name!r}" if self.name else "")

    # -- copies ---------------------------------------------------------------------------------------------------------

    def clone(self) -> Self:
        """An independent twin: its own variables, counters and statistics; data that never changes is shared."""
        twin = nnx.clone(self)
        renew_host_states(twin)
        for _, node in nnx.iter_graph(twin):
            if isinstance(node, DataraxModule):
                node._renew_host_state()  # noqa: SLF001 - of this class
        return twin

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """A new module of this class, built anew with what is given in place of its own; nothing of its progress."""
        return type(self)(
            self.config if config is None else config,
            *self.constructor_data(),
            rngs=self.rngs if rngs is None else rngs,
            name=self.name if name is None else name,
        )

    def constructor_data(self) -> tuple[Any, ...]:
        """What the constructor takes between ``config`` and ``rngs``, for `copy`; a subclass with arguments there says."""
        return ()

    def bare(self) -> Self:
        """A twin for compiled code, without what is on the host only: modules that are alike have equal bare graphs."""
        twin = nnx.clone(self)
        drop_host_states(twin)
        for _, node in nnx.iter_graph(twin):
            if isinstance(node, DataraxModule):
                node._drop_host_state()  # noqa: SLF001 - of this class
        return twin

    def _renew_host_state(self) -> None:
        """Do nothing; plugins that do not use `HostState` yet override this."""

    def _drop_host_state(self) -> None:
        """Do nothing; plugins that do not use `HostState` yet override this."""

    # -- state ----------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Every variable by dotted name: random streams and scalars as plain numbers, arrays as NumPy arrays."""
        return variable_state(self)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: Names every key that is missing or unknown, or whose shape differs.
        """
        require_dict(state, self.title)
        restore_variables(self, state)

    # -- random streams -------------------------------------------------------------------------------------------------

    def requires_rng_streams(self) -> list[str] | None:
        """Names of the random streams this module draws from, or None."""
        return None

    def ensure_rng_streams(self, names: Iterable[str]) -> None:
        """Check that each stream exists, by its name or through a ``default`` stream.

        Raises:
            TypeError: ``names`` is one name, not several.
            ValueError: Names the streams that are missing, and how to make them.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"names are those of random streams, such as ['shuffle'], not {names!r:.80}")
        missing = [n for n in names if self.rngs is None or not (n in self.rngs or "default" in self.rngs)]
        if missing:
            listed = ", ".join(map(repr, missing))
            raise ValueError(
                f"{self.title} draws from the random stream {listed}, which its rngs do not have; "
                f"pass rngs=nnx.Rngs({missing[0]}=0), or rngs=nnx.Rngs(0) for all streams"
            )

    # -- what it did ----------------------------------------------------------------------------------------------------

    def get_operation_stats(self) -> dict[str, int]:
        """Batches served (``applied_count``), and records substituted or dropped (``skipped_count``), since the reset.

        Counted on the host: what compiled code of a user's own serves is not seen.
        """
        return {"applied_count": self._ledger.applied, "skipped_count": self._ledger.skipped}

    def reset_operation_stats(self) -> None:
        """Both counts back to 0."""
        self._ledger.applied = self._ledger.skipped = 0

    # -- statistics of the data -----------------------------------------------------------------------------------------

    def compute_statistics(self, data: Any) -> Any:
        """What the config's ``batch_stats_fn`` says of ``data``; remembered for `get_statistics`.

        Raises:
            ValueError: The config has no ``batch_stats_fn``.
        """
        if self.config.batch_stats_fn is None:
            raise ValueError(f"{self.title} has no batch_stats_fn to compute statistics with; set it in its config")
        self._ledger.statistics = self.config.batch_stats_fn(data)
        return self._ledger.statistics

    def get_statistics(self) -> Any:
        """The config's ``precomputed_stats`` until they are reset, else what was computed or set, else None."""
        if self.config.precomputed_stats is not None and not self._ledger.statistics_were_reset:
            return self.config.precomputed_stats
        return self._ledger.statistics

    def set_statistics(self, stats: Any) -> None:
        """Remember ``stats`` as if they had been computed here."""
        self._ledger.statistics = stats

    def reset_statistics(self) -> None:
        """Forget what was computed or set, and no longer give the precomputed ones."""
        self._ledger.statistics, self._ledger.statistics_were_reset = None, True

    def reset_cache(self) -> None:
        """Drop whatever was kept to save work; the next use does that work again. Nothing is kept here."""


class StructuralModule(DataraxModule):
    """A module that shapes the stream: a source, or a stage that has a config.

    Raises:
        ValueError: The config is stochastic and ``rngs`` is None, or lacks the stream that the config names.
    """

    config: StructuralConfig

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
        """The config's ``stream_name``, if it is stochastic."""
        return [self.stream_name] if self.stochastic and self.stream_name else None

    def process(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002 - the name that users know
        """What the module does to its input; a subclass writes it."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define process(); write it, or call what it does define"
        )

    def __call__(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
        """`process`."""
        return self.process(input, *args, **kwargs)
