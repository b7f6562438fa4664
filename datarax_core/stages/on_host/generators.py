"""Random generators of host stages: one a record, a pure function of pipeline seed, stage, epoch and record index."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

Generators = Sequence[np.random.Generator]
"""The second argument of a stochastic host stage: a generator for each record of the batch."""


class RecordGenerators(Sequence[np.random.Generator]):
    """The generators of the records of a batch, each made when it is first asked for.

    A generator is a Philox stream: its key is the pipeline's key and the number of the stage, its counter begins at epoch and
    record index. So a record draws the same numbers in a batch of any size, in any thread, worker or process.

    Args:
        key_data: uint32 (2,): the pipeline's key.
        stage: Number of the stage in the pipeline.
        epochs: int64 (k,): the epoch that serves each record.
        indices: int64 (k,): the index of each record.
    """

    __slots__ = ("_epochs", "_indices", "_key", "_made")

    def __init__(self, key_data: np.ndarray, stage: int, epochs: np.ndarray, indices: np.ndarray) -> None:
        low, high = (int(part) for part in key_data)
        self._key = np.array([high << 32 | low, stage], np.uint64)
        self._epochs, self._indices = epochs, indices
        self._made: dict[int, np.random.Generator] = {}

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, row: int) -> np.random.Generator: ...
    @overload
    def __getitem__(self, row: slice) -> list[np.random.Generator]: ...
    def __getitem__(self, row: int | slice) -> Any:
        """Return the generator of a row, the same object each time, or a list of those of a slice."""
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        number = range(len(self))[row]
        made = self._made.get(number)
        if made is None:
            counter = np.array([0, 0, self._epochs[number], self._indices[number]], np.uint64)
            made = self._made[number] = np.random.Generator(np.random.Philox(counter=counter, key=self._key))
        return made
