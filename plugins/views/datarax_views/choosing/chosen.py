"""The base of views that choose some of the records of a source, by arithmetic or by a table."""

from typing import Any, ClassVar, TypeAlias

import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.devices import Aside
from datarax_core.order import Selection, TableSelection
from datarax_core.sources import DataSourceModule, SourceView

Chosen: TypeAlias = Selection | TableSelection
"""The record indices that a view chooses: found by arithmetic, or in a table."""


class Choice:
    """The record indices that a view chooses; compared by identity."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen


class ChosenView(SourceView):
    """Some of the records of a source, each once; a subclass says which, in `choose`.

    Record i of the view is always the same record of the source. The view is gathered on the device if its source is there.

    Args:
        config: The settings.
        source: Holds the records; stays usable.
        rngs: Random streams from which another key of the order than the source's is drawn.
        name: Name of the view in errors.
        chosen: The record indices, for a caller that has found them already.
    """

    renumbers: ClassVar[bool] = True
    _choice = Aside["Choice"]()

    def __init__(
        self,
        config: SourceConfig,
        source: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
        chosen: Chosen | None = None,
    ) -> None:
        super().__init__(config, source, rngs=rngs, name=name)
        self._choice = Choice(self.choose() if chosen is None else chosen)
        self.order()  # an empty shard is refused here, and not in the first batch

    def choose(self) -> Chosen:
        """Return the record indices of the parent that this view has, in the sequence of its own indices."""
        raise NotImplementedError

    @property
    def chosen(self) -> Chosen:
        """The record indices of the parent, in the sequence of the view's own."""
        return self._choice.chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the record indices of the parent for record ``indices`` of this view."""
        return np.asarray(self.chosen.parent_indices(indices))

    def traced_map(self) -> Any:
        """Return (function of arguments and traced indices, arguments): `parent_indices` in compiled code.

        All views that have a table share the function, and all parts of one split.
        """
        return self.chosen.traced(self.title) if self.chosen.fits_device else None

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the checksum of the table, or the arithmetic: the records are the same if it is."""
        return {"chosen": self.chosen.fingerprint()}

    def describe_view(self) -> str:
        """Return how many records are kept of all."""
        return f"keeps {len(self):,} of {self.parent.num_records:,} records{self._why_chosen}"

    @property
    def _why_chosen(self) -> str:
        return ""
