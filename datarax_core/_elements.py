"""A source's records one by one, by their index or in its order; and parts of it, which are named by record indices."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np

from ._batch_rule import seed_number
from ._cursor import Cursor
from ._window import Window
from .module import StructuralModule
from .spec import Batch

if TYPE_CHECKING:
    from .subset import Subset


class ElementAccess(StructuralModule):
    """What a source offers besides batches. It works as it is as a data set of Grain's and of PyTorch's ``DataLoader``."""

    elements_ahead: int = 32
    """How many elements a loop over the source fetches at once."""

    if TYPE_CHECKING:  # what the source itself brings
        cursor: Cursor

        @property
        def _block(self) -> "ElementBlock": ...
        @property
        def num_records(self) -> int: ...
        @property
        def epoch_length(self) -> int | None: ...
        def fetch(self, indices: np.ndarray) -> Batch: ...
        def order_words(self) -> Any: ...
        def order_window(self, size: int) -> Window: ...
        def _require_random_access(self) -> None: ...

    # -- by index -------------------------------------------------------------------------------------------------------

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """The records at concrete ``indices``, each by itself, as NumPy values."""
        batch = jax.tree.map(np.asarray, self.fetch(indices))
        return [jax.tree.map(lambda column: column[row], batch) for row in range(len(indices))]  # noqa: B023

    def __getitem__(self, index: int | slice) -> Any:
        """The record with this index, whatever the order, negative ones counted from the end; for a slice, a `Subset`."""
        self._require_random_access()
        if isinstance(index, slice):
            return _subset(self, range(self.num_records)[index])
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"{self.title} is indexed by an integer or a slice, not {index!r}")
        length = self.num_records
        if not -length <= index < length:
            raise IndexError(f"record {index} is out of range: {self.title} has {length} records")
        return self.get_elements(np.asarray([int(index) % length]))[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The records with these indices, as ``source[i]`` gives each, in one fetch; their arrays may be written to.

        This is what a PyTorch ``DataLoader`` reads a batch with.
        """
        self._require_random_access()
        rows = np.asarray(indices)
        if not rows.size:
            return []
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"the records of {self.title} are named by a list of integers, not {indices!r:.80}")
        length = self.num_records
        outside = (rows < -length) | (rows >= length)
        if outside.any():
            raise IndexError(f"record {rows[outside][0]} is out of range: {self.title} has {length} records")
        return [_writable(element) for element in self.get_elements(rows.astype(np.int64) % length)]

    def _getitems(self, indices: Sequence[int]) -> list[Any]:
        """`__getitems__`, by the name that Grain knows."""
        return self.__getitems__(indices)

    # -- in order -------------------------------------------------------------------------------------------------------

    @property
    def run_length(self) -> int | None:
        """How many elements a loop over this source serves: one epoch; None in a subclass whose loops have no end."""
        return self.epoch_length

    def __iter__(self) -> Iterator[Any]:
        """One epoch of elements in this source's order; a second loop is the next epoch. See `run_length`.

        A loop ends with `RuntimeError` if another one, `set_state` or `reset` came between.
        """
        self._require_random_access()
        return self.loop_over(self.cursor.begin_run(self.epoch_length, is_over=self._left_of_run() <= 0))

    def loop_over(self, run: int) -> Iterator[Any]:
        """The elements of the run with this number, which ``self.cursor.begin_run`` gave; a later run ends it."""
        return ElementLoop(self, run)

    def __next__(self) -> Any:
        """The next element of the loop that is under way."""
        left = self._left_of_run()
        if left <= 0:
            raise StopIteration
        position = self.cursor.position
        element = self._block.at(self, position, min(self.elements_ahead, left))
        self.cursor.advance(1)
        return element

    def _left_of_run(self) -> int:
        length = self.run_length
        return self.elements_ahead if length is None else self.cursor.run_start + length - self.cursor.position

    # -- parts ----------------------------------------------------------------------------------------------------------

    def split(self, *, seed: int = 0, **shares: float) -> dict[str, "Subset"]:
        """Disjoint parts of the records by name, drawn at random: ``split(train=0.9, test=0.1, seed=0)``.

        Each is a fixed set of record indices, which the seed, the number of records and the shares up to its own decide,
        whatever order this source serves. Floats are parts of one, integers numbers of records; what they leave is in no part.

        Raises:
            TypeError, ValueError: ``seed`` is no seed, or the shares cannot work; says which and why.
        """
        from ._splits import cut  # noqa: PLC0415 - with `_subset`: a subset is a source

        self._require_random_access()
        seed = seed_number(seed)
        parts = cut(shares, self.num_records, self.title)
        return {name: _subset(self, rows, seed=seed, name=name) for name, rows in parts.items()}


class ElementBlock:
    """The elements fetched last, and the stretch of the order they are of: work saved, in no state and no pickle."""

    def __init__(self) -> None:
        self._elements: list[Any] = []
        self._start = 0
        self._window: Window | None = None
        self._words: Any = None

    def at(self, source: ElementAccess, position: int, size: int) -> Any:
        """The element at ``position``; ``size`` of them are fetched if it is not among those held."""
        words = source.order_words()
        if self._window is None or self._words is not words:
            self._window, self._words, self._elements = source.order_window(size), words, []
        if not 0 <= position - self._start < len(self._elements):
            indices: np.ndarray = self._window.take(position, size)
            self._elements, self._start = source.get_elements(indices), position
        return self._elements[position - self._start]

    def held(self) -> dict[int, Any]:
        """The elements fetched and not asked for again yet, by position."""
        return dict(enumerate(self._elements, self._start))

    def __getstate__(self) -> dict[str, Any]:
        return vars(ElementBlock())


class ElementLoop:
    """One epoch of a source's elements. What is left of it can be iterated on: it is its own iterator."""

    def __init__(self, source: ElementAccess, run: int) -> None:
        self._source, self._run = source, run

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._source.cursor.is_current(self._run):
            title = self._source.title
            raise RuntimeError(f"this loop is over: {title} was iterated anew, reset or restored since it began")
        return next(self._source)


def _subset(source: Any, rows: range, *, seed: int | None = None, name: str | None = None) -> "Subset":
    from .subset import Subset  # noqa: PLC0415 - a subset is a source

    return Subset.of(source, rows, seed=seed, name=name)


def _writable(element: Any) -> Any:
    """An element whose arrays are its reader's own: PyTorch warns of arrays that it could not write to."""
    if isinstance(element, np.ndarray):
        return element if element.flags.writeable else element.copy()
    if isinstance(element, Mapping):
        return {name: _writable(value) for name, value in element.items()}
    return tuple(map(_writable, element)) if type(element) is tuple else element
