"""The mixture as a Grain data set: the same sequence, by a Grain selection map over the children in their orders."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import grain
import numpy as np
from grain.transforms import DatasetSelectionMap

from datarax_core.sources import DataSourceModule

from .children import Mixture
from .order import CategoricalOrder, child_keys

_ENDLESS: Final = 2**62
_CHUNK: Final = 256


def iter_dataset(mix: Any, num_epochs: int | None) -> grain.IterDataset[Any]:
    """Return the mixture as a Grain data set of ``num_epochs`` epochs; None has no end."""
    length = _ENDLESS if num_epochs is None else (mix.epoch_length or 0) * num_epochs
    if isinstance(mix.mixing, CategoricalOrder):
        data = grain.MapDataset.source(_InOrder(mix, mix.order_key_data(), length))
    else:
        keys = child_keys(np.asarray(mix.order_key_data()), len(mix.children))
        parents = [grain.MapDataset.source(_ChildInOrder(mix, number, key)) for number, key in enumerate(keys)]
        data = grain.MapDataset.select_from_datasets(parents, _Selection(mix, length))
    return data.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))


class _Selection(DatasetSelectionMap):  # type: ignore[misc]  # Grain has no types
    """Position -> (child, position in its order): the mixture's schedule."""

    def __init__(self, mix: Mixture, length: int) -> None:
        self._length = length
        self._chunk = _Chunk(mix.mixed.timeline.at)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[int, int]:
        child, place = self._chunk.at(index)
        return child, place


class _InOrder:
    """The records of a source at the positions of its order, without end."""

    def __init__(self, source: DataSourceModule, key_data: Any, length: int = _ENDLESS) -> None:
        self._source = source
        self._length = length
        self._chunk = _Chunk(lambda start, size: (np.asarray(source.record_indices_at(start, size, key_data)),))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Any:
        return self._getitems([position])[0]

    def _getitems(self, positions: Sequence[int]) -> list[Any]:
        """Return the records at several positions; Grain looks this method up by its name."""
        records = [self._chunk.at(position)[0] for position in positions]
        return [self._completed(element) for element in self._source.__getitems__(records)]

    def _completed(self, element: Any) -> Any:
        return element


class _ChildInOrder(_InOrder):
    """A child in the order in which the mixture serves it, with the fields that its records lack."""

    def __init__(self, mix: Mixture, number: int, key_data: np.ndarray) -> None:
        super().__init__(mix.children[number], key_data)
        self._fields, self._number = mix.mixed.fields, number

    def _completed(self, element: Any) -> Any:
        return self._fields.element(self._number, element)


class _Chunk:
    """Values of 256 positions at a time, since Grain asks for one position after another.

    Unlike core's `OrderReader` it may be asked by several threads at once, and holds several values for each position.
    """

    def __init__(self, compute: Callable[[int, int], tuple[np.ndarray, ...]]) -> None:
        self._compute = compute
        self._held: tuple[int, tuple[np.ndarray, ...]] = (0, (np.empty(0, np.int64),))

    def at(self, position: int) -> tuple[int, ...]:
        """Return the values at ``position``."""
        start, held = self._held
        if not 0 <= position - start < len(held[0]):
            start, held = self._held = position, self._compute(position, _CHUNK)
        return tuple(int(column[position - start]) for column in held)
