"""The view."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from flax import nnx

from datarax_core import DataSourceModule, SourceConfig, SourceView

from ._config import AcmeEveryConfig


class AcmeEvery(SourceView):
    """Every n-th record of a source, or all the others: frames of a film, or a test set that is spread over time.

    Args:
        config: Config of the view.
        parent: The source.
        rngs: Random streams, for a view that is shuffled with a key of its own.
        name: Name of the view in errors.

    Raises:
        ValueError: The source has no such record.
    """

    config_class: ClassVar[type[SourceConfig]] = AcmeEveryConfig
    config: AcmeEveryConfig
    renumbers: ClassVar[bool] = True

    def __init__(
        self,
        config: AcmeEveryConfig,
        parent: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, parent, rngs=rngs, name=name)
        self._numbers = np.int32(config.every), np.int32(config.first)  # the same objects at each call of traced_map
        if not len(self):
            raise ValueError(
                f"{self.title} keeps no record: there are {parent.num_records}, and 'every', 'first' and 'keep' leave out all"
            )

    def __len__(self) -> int:
        these = -(-max(0, self.parent.num_records - self.config.first) // self.config.every)
        return these if self.config.keep == "these" else self.parent.num_records - these

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the source's record index for each index of this view."""
        find, numbers = self.traced_map()
        return np.asarray(find(numbers, indices))

    def traced_map(self) -> tuple[Callable[[Any, Any], Any], Any]:
        """Return the rule of `parent_indices`, which compiled code runs too, and its arguments."""
        return (these_of if self.config.keep == "these" else others_of), self._numbers

    def describe_view(self) -> str:
        """Return what plans show of this view."""
        return f"keeps {len(self):,} of {self.parent.num_records:,} records"


def these_of(numbers: Any, indices: Any) -> Any:
    """Return the place of the i-th of every n-th record, for NumPy indices and traced ones."""
    every, first = numbers
    return first + every * indices


def others_of(numbers: Any, indices: Any) -> Any:
    """Return the place of the i-th of the others, ``every - 1`` of which are in each run of ``every`` records."""
    every, first = numbers
    place = indices % (every - 1)
    return every * (indices // (every - 1)) + place + (place >= first)
