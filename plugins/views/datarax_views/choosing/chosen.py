"""The base of views that choose some of the records of a source, by arithmetic or by a table."""

from typing import Any, Self, TypeAlias

from flax import nnx

from datarax_core.config import StructuralConfig
from datarax_core.order import Selection, TableSelection
from datarax_core.sources import DataSourceModule, SourceView, Subset

Chosen: TypeAlias = Selection | TableSelection
"""The record indices that a view chooses: found by arithmetic, or in a table."""


class ChosenView(Subset):
    """Some of the records of a source, each once; a subclass says which, in `choose`.

    Record i of the view is always the same record of the source. The view is gathered on the device if its source is there.

    Args:
        config: The settings.
        source: Holds the records; stays usable.
        rngs: Random streams from which another key of the order than the source's is drawn.
        name: Name of the view in errors.
        chosen: The record indices, for a caller that has found them already.
    """

    def __init__(
        self,
        config: StructuralConfig,
        source: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
        chosen: Chosen | None = None,
    ) -> None:
        if not isinstance(config, type(self).config_class):
            raise TypeError(f"{type(self).__name__} needs a {type(self).config_class.__name__}, not {config!r:.80}")
        if chosen is None and not _has_records(source):
            SourceView.__init__(self, config, source, rngs=rngs, name=name)  # refuses the source, and says why
        if chosen is None:
            source.require_record_indices()
            chosen = self.choose(config, source)
        super().__init__(config, source, chosen, rngs=rngs, name=name)

    def choose(self, config: Any, source: DataSourceModule) -> Chosen:
        """Return the record indices of a source that this view has, in the sequence of its own indices."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Name in errors and reports: ``FilterView 'short' of MemorySource 'documents'``."""
        return f"{type(self).__name__} {f'{self.name!r} ' if self.name else ''}of {self.parent.title}"

    def describe_view(self) -> str:
        """Return how many records are kept of all, and why."""
        return f"{super().describe_view()}{self._why_chosen}"

    @property
    def _why_chosen(self) -> str:
        return ""

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the parent; the records are chosen anew, as another config may choose others."""
        return (self.parent,)

    def over_parents(self, *parents: DataSourceModule) -> Self:
        """Return the records with the same indices of another source, which has as many."""
        twin: Self = type(self)(self.config, *parents, rngs=nnx.clone(self.rngs), name=self.name, chosen=self.selection)
        return twin


def _has_records(source: Any) -> bool:
    return isinstance(source, DataSourceModule) and source.access != "stream" and source.serves_each_once
