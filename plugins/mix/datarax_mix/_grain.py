"""The mixture as a data set of Grain's: the same sequence, by a selection map of ours over the children in their order."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grain
import numpy as np
from grain.transforms import DatasetSelectionMap

from datarax_core.sources import DataSourceModule

from ._order import Drawn, child_keys

if TYPE_CHECKING:
    from ._source import MixDataSourcesNode

_ENDLESS = 2**62
_AT_ONCE = 256


def iter_dataset(mix: "MixDataSourcesNode", num_epochs: int | None) -> grain.IterDataset[Any]:
    """See `MixDataSourcesNode.to_grain_iter_dataset`."""
    length = _ENDLESS if num_epochs is None else (mix.epoch_length or 0) * num_epochs
    if isinstance(mix.mixing, Drawn):
        data = grain.MapDataset.source(_InOrder(mix, mix.order_key_data(), length))
    else:
        keys = child_keys(np.asarray(mix.order_key_data()), len(mix.children))
        parents = [grain.MapDataset.source(_Child(mix, number, keys[number])) for number in range(len(mix.children))]
        data = grain.MapDataset.select_from_datasets(parents, _Selection(mix, length))
    return data.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))


class _Stretch:
    """What an order says of 256 positions at a time: Grain asks for one after another, from several threads perhaps."""

    def __init__(self, compute: Callable[[int, int], tuple[np.ndarray, ...]]) -> None:
        self._compute = compute
        self._held: tuple[int, tuple[np.ndarray, ...]] = (0, (np.empty(0, np.int64),))

    def at(self, position: int) -> tuple[int, ...]:
        start, held = self._held
        if not 0 <= position - start < len(held[0]):
            start, held = self._held = position, self._compute(position, _AT_ONCE)
        return tuple(int(column[position - start]) for column in held)


class _Selection(DatasetSelectionMap):  # type: ignore[misc]  # Grain has no types
    """Position -> (child, position in its order): the schedule."""

    def __init__(self, mix: "MixDataSourcesNode", length: int) -> None:
        self._length = length
        self._stretch = _Stretch(mix.timeline.at)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[int, int]:
        child, place = self._stretch.at(index)
        return child, place


class _InOrder:
    """The records of a source at the positions of its order, without end."""

    def __init__(self, source: DataSourceModule, words: Any, length: int = _ENDLESS) -> None:
        self._source = source
        self._length = length
        self._stretch = _Stretch(lambda start, size: (np.asarray(source.record_indices_at(start, size, words)),))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Any:
        return self._getitems([position])[0]

    def _getitems(self, positions: Sequence[int]) -> list[Any]:
        records = [self._stretch.at(position)[0] for position in positions]
        return [self._completed(element) for element in self._source.__getitems__(records)]

    def _completed(self, element: Any) -> Any:
        return element


class _Child(_InOrder):
    """A child in the order that the mixture serves it in, with the fields that its records lack."""

    def __init__(self, mix: "MixDataSourcesNode", number: int, words: np.ndarray) -> None:
        super().__init__(mix.children[number], words)
        self._fields, self._number = mix.fields, number

    def _completed(self, element: Any) -> Any:
        return self._fields.element(self._number, element)
