"""Reading of batches before they are fetched, as a source offers it to each loop over its records."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Expected(Protocol):
    """A batch that is fetched soon."""

    def cancel(self) -> None:
        """Note that nobody is going to fetch it."""


class ReadingAhead(Protocol):
    """Reading of the batches that one loop fetches next: it changes when records are read, and never which.

    One thread begins batches, and fetches them in that order.
    """

    @property
    def has_room(self) -> bool:
        """Whether more batches are worth beginning."""

    def begin(self, indices: np.ndarray) -> Expected | None:
        """Begin to read the records at int (k,) ``indices``, which are fetched after all that were begun before.

        Returns None for a batch that is not read ahead.
        """

    def take_readings(self) -> list[tuple[Any, int]]:
        """Return what the watch measured since the last call, with the number of batches that each reading was for."""

    def close(self) -> None:
        """Leave all batches that were begun."""


class Measured(Protocol):
    """Measurement of one read, begun when this was made."""

    def read(self, rows: int) -> Any:
        """Return what it took to read so many rows."""


Watch = Callable[[], Measured]
"""Begins the measurement of a read, on the thread that reads."""


@dataclass(frozen=True, slots=True)
class MappedAhead:
    """Reading ahead of a source whose records are those of another, at other indices.

    Args:
        ahead: Of the other source.
        mapped: From the indices of the one source to those of the other.
    """

    ahead: ReadingAhead
    mapped: Callable[[np.ndarray], np.ndarray]

    @property
    def has_room(self) -> bool:
        """Whether more batches are worth beginning."""
        return self.ahead.has_room

    def begin(self, indices: np.ndarray) -> Expected | None:
        """Begin to read the records at ``indices``; None if they are not read ahead."""
        return self.ahead.begin(self.mapped(indices))

    def take_readings(self) -> list[tuple[Any, int]]:
        """Return what was measured since the last call."""
        return self.ahead.take_readings()

    def close(self) -> None:
        """Leave all batches that were begun."""
        self.ahead.close()
