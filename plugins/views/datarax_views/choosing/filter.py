"""A view of type `filter`: the records that fulfil conditions on fields, or that a function keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx

from datarax_core.config import SourceConfig, StructuralConfig
from datarax_core.devices import Aside
from datarax_core.errors import ConfigError
from datarax_core.records import Batch
from datarax_core.sources import DataSourceModule

from .chosen import Chosen, ChosenView
from .filter_config import FilterViewConfig

Predicate = Callable[[Batch], Any]
"""Function of a batch of NumPy columns that returns one boolean a record, bool (k,)."""


@dataclass(frozen=True, eq=False)
class Rule:
    """Which records a filter keeps: conditions by field, or a function with the fields that it reads and its key."""

    where: Mapping[str, Any] | None
    predicate: Predicate | None
    fields: tuple[str, ...] | None
    key: str | None

    def apply(self, source: DataSourceModule) -> DataSourceModule:
        """Return the records of a source that are kept."""
        if self.predicate is None:
            return source.where(self.where)
        return source.filter(self.predicate, fields=self.fields, key=self.key)


class FilterView(ChosenView):
    """The records of a source that fulfil conditions on their fields, or that a function keeps.

    Conditions are those of ``source.where(...)``, a function that of ``source.filter(...)``. The records that are kept are
    found when the view is made: at once from columns that the source holds or maps, else in one pass over all records, by
    several threads and with a progress bar. Of records from files, the table of the pass is kept in the cache folder for later
    processes: under the fingerprints of source and conditions, or under ``key`` for a function.

    `over` makes of a mixture the mixture of this view of each child. The table takes 8 bytes a record of the view on the host,
    and 4 on a device; served records cost what they cost unfiltered.

    Args:
        config: The conditions, unless an argument gives them.
        source: Holds the records; stays usable.
        predicate: Function of a batch of NumPy columns that returns one boolean a record, bool (k,).
        where: Conditions by field, also those that no config can name: ranges, tuples ``(low, high)``, functions of a column.
        fields: The fields that the predicate reads, by dotted name; it is then called with a dict of these alone.
        key: Name of what the predicate computes. With it the result is kept in the cache folder; choose another one if the
            function changes.
        rngs: Random streams from which another key of the order than the source's is drawn.
        name: Name of the view in errors.
        chosen: The record indices, for a caller that has found them already.

    Raises:
        ConfigError: Nothing says which records to keep, or several arguments do.
        ValueError: No record is kept.
        SpecError: A condition names no field of the records, or cannot work on it.
        TypeError: The predicate gave something else than booleans; names the records.
        NotImplementedError: The source is a stream.
    """

    config_class: ClassVar[type[SourceConfig]] = FilterViewConfig
    config: FilterViewConfig
    _rule = Aside[Rule]()

    def __init__(
        self,
        config: StructuralConfig,
        source: DataSourceModule,
        predicate: "Predicate | Rule | None" = None,
        *,
        where: Mapping[str, Any] | None = None,
        fields: Sequence[str] | None = None,
        key: str | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
        chosen: Chosen | None = None,
    ) -> None:
        if not isinstance(config, FilterViewConfig):
            raise TypeError(f"{type(self).__name__} needs a FilterViewConfig, not {config!r:.80}")
        given = [title for title, rule in _named(config, where, predicate).items() if rule is not None]
        if len(given) != 1:
            found = f"{given[0]} and {given[1]} say it" if given else "nothing says it"
            raise ConfigError(
                "a filter keeps the records that `where` in its config says, or in Python an argument `where` or `predicate`: "
                f"{found}; give one of them"
            )
        if predicate is None and (fields is not None or key is not None):
            option = "fields" if fields is not None else "key"
            raise ValueError(f"{option} has no use without a predicate; conditions tell what they read by themselves")
        if isinstance(predicate, Rule):  # of a copy
            self._rule = predicate
        else:
            self._rule = Rule(config.where or where, predicate, None if fields is None else tuple(fields), key)
        super().__init__(config, source, rngs=rngs, name=name, chosen=chosen)

    @classmethod
    def over(
        cls,
        config: StructuralConfig,
        parent: DataSourceModule,
        predicate: Predicate | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
        **rule: Any,
    ) -> DataSourceModule:
        """Return the filter of a source; of a mixture, the mixture of the filter of each child.

        Raises:
            ValueError: Of a child nothing is left; a note names it.
        """
        if not parent.serves_each_once:
            mixed: DataSourceModule | None = parent.over_children(
                lambda child: cls.over(config, child, predicate, rngs=nnx.clone(rngs), name=name, **rule)
            )
            if mixed is not None:
                return mixed
        return cls(config, parent, predicate, rngs=rngs, name=name, **rule)

    def choose(self, config: FilterViewConfig, source: DataSourceModule) -> Chosen:  # noqa: ARG002 - the rule has all of it
        """Return the records of a source that are kept, in their sequence."""
        kept: Any = self._rule.apply(source)  # a Subset, since the parent is no mixture
        chosen: Chosen = kept.selection
        return chosen

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the parent, and the rule unless the config is."""
        return (self.parent,) if self.config.where else (self.parent, self._rule)


def _named(config: FilterViewConfig, where: Any, predicate: Any) -> dict[str, Any]:
    return {"the config's `where`": config.where, "the argument `where`": where, "`predicate`": predicate}
