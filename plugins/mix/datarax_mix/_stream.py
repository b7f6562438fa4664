"""A mixture with a child that is read forward only: one position, and streams that stand where it says."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from datarax_core.errors import StateError
from datarax_core.records import Batch
from datarax_core.sources import DataSourceModule

from ._order import Children, by_child
from ._timeline import Timeline

Read = Callable[[int, int, int], Batch]
"""(child, first position of its order, records) -> the batch of a child that has random access."""


class StreamReading:
    """Whether it has ended, with which child, and what was read of children but not served, as the read of another failed."""

    def __init__(self, timeline: Timeline, title: str) -> None:
        self._timeline = timeline
        self._title = title
        self._ended: int | None = None
        self._held: dict[int, Batch] = {}

    def renewed(self) -> "StreamReading":
        """For a copy of the mixture, whose children stand where these do."""
        twin = StreamReading(self._timeline, self._title)
        twin._ended, twin._held = self._ended, dict(self._held)
        return twin

    @property
    def ended(self) -> int | None:
        """The child without a length that the mixture has ended with; None if it goes on."""
        return self._ended

    def parts(
        self, children: Children, position: int, size: int, read: Read
    ) -> tuple[list[tuple[int, np.ndarray, Batch]], int]:
        """([(child, its rows, its batch)], rows in all) of the next ``size`` records, from ``position``; fewer at the end.

        Raises:
            StopIteration: The mixture has ended.
        """
        if self._ended is not None:
            raise StopIteration
        which, places = self._timeline.at(position, size)
        rows_of = dict(by_child(which))
        for child in sorted(rows_of, key=lambda child: children[child].access != "stream"):
            rows = rows_of[child]
            if not rows.size:
                continue
            if children[child].access != "stream":
                self._held[child] = read(child, int(places[rows[0]]), len(rows))
                continue
            found = self._fill(child, children[child], len(rows))
            if found < len(rows):  # a stream without a length is over, and the mixture with it
                size, self._ended = int(rows[found]), child
                rows_of = {one: rows[rows < size] for one, rows in rows_of.items()}
        held, self._held = self._held, {}
        cut = {child: rows[rows < size] for child, rows in rows_of.items()}
        if not size:
            raise StopIteration
        return [(c, r, jax.tree.map(lambda leaf, r=r: leaf[: len(r)], held[c])) for c, r in cut.items() if r.size], size

    def require_whole(self) -> None:
        """Refuse to say where the mixture stands between two of its records' reads.

        Raises:
            StateError: A read has failed halfway.
        """
        if self._held:
            raise StateError(
                f"{self._title} stands at no place: a child failed to read its part of a batch; read on, or reset()"
            )

    def go_on(self, *, ended: int | None = None) -> None:
        """Forget what is under way: the children stand where the mixture does."""
        self._ended, self._held = ended, {}

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _fill(self, child: int, source: DataSourceModule, wanted: int) -> int:
        """Have ``wanted`` records of a stream held, or as many as there are before the mixture ends with it."""
        restarts = 0
        while (found := self._num_held(child)) < wanted:
            try:
                more = source.read_batch(wanted - found)
            except StopIteration:
                if self._timeline.stop == "first_exhausted" and source.epoch_length is None:
                    return found
                restarts += 1
                if restarts > 1 and self._num_held(child) == found:
                    raise ValueError(f"{source.title} is empty: it has no records to serve in {self._title}") from None
                begin_anew(source)
                continue
            restarts = 0
            held = self._held.get(child)
            self._held[child] = more if held is None else jax.tree.map(_joined, held, more)
        return wanted

    def _num_held(self, child: int) -> int:
        return next((len(leaf) for leaf in jax.tree.leaves(self._held.get(child))), 0)


def begin_anew(source: DataSourceModule) -> None:
    """Have a stream that has ended go on with its next epoch; with its first one again, if it cannot say which is next."""
    if type(source).__iter__ is not DataSourceModule.__iter__:
        iter(source)
    else:
        start_over(source)


def start_over(source: DataSourceModule, seed: int | None = None) -> None:
    """``source.reset()``, if it has one.

    Raises:
        NotImplementedError: It is a stream that has none.
    """
    if source.access == "stream" and type(source).reset is DataSourceModule.reset:
        raise NotImplementedError(f"{source.title} is a stream that cannot start over; define reset()")
    source.reset(seed)


def streams_of(children: Children) -> Iterator[tuple[int, DataSourceModule]]:
    """The children that are streams, each with its number."""
    return ((number, child) for number, child in enumerate(children) if child.access == "stream")


def _joined(*leaves: Any) -> np.ndarray:
    return np.concatenate(leaves)
