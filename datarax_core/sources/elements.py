"""Single elements of a source: the block that a loop fetched last, the loop, and copies that may be written to."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np

from datarax_core.modules.host_state import HostState
from datarax_core.order.reader import OrderReader


class ElementSource(Protocol):
    """A source, as far as a loop over its elements uses it."""

    cursor: Any

    @property
    def title(self) -> str:
        """The source in messages."""

    def __next__(self) -> Any: ...

    def order_key_data(self) -> Any:
        """Return the key data of the order."""

    def order_reader(self, size: int) -> OrderReader:
        """Return a reader of the order."""

    def indices_to_read(self, start: int, indices: Any) -> Any:
        """Return the indices by which records are read."""

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return records one by one."""


class ElementBlock(HostState):
    """The elements that a loop fetched last, by position; clones and pickles start without any."""

    def __init__(self) -> None:
        self._elements: list[Any] = []
        self._start = 0
        self._reader: OrderReader | None = None
        self._key_data: Any = None

    def at(self, source: ElementSource, position: int, size: int) -> Any:
        """Return the element at ``position``; fetch ``size`` elements from there on if it is not held."""
        key_data = source.order_key_data()
        if self._reader is None or self._key_data is not key_data:
            self._reader, self._key_data, self._elements = source.order_reader(size), key_data, []
        if not 0 <= position - self._start < len(self._elements):
            indices: np.ndarray = self._reader.take(position, size)
            self._elements, self._start = source.get_elements(source.indices_to_read(position, indices)), position
        return self._elements[position - self._start]

    def held(self) -> dict[int, Any]:
        """Return the elements that are held, by position."""
        return dict(enumerate(self._elements, self._start))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(ElementBlock()))  # only a pickle of version 0.1.0 has a state, that of an empty block


class ElementLoop:
    """Iterator over the elements of one run of a source; a later run of the source ends it."""

    def __init__(self, source: ElementSource, run: int) -> None:
        self._source, self._run = source, run

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._source.cursor.is_current(self._run):
            title = self._source.title
            raise RuntimeError(f"this loop is over: {title} was iterated anew, reset or restored since it began")
        return next(self._source)

    def __del__(self) -> None:  # the loop was left
        if "_run" in vars(self) and not self._source.cursor.leaves_loop_later(self._run):
            self._source.cursor.end_loop(self._run)


def writable(element: Any) -> Any:
    """Copy arrays that cannot be written to: PyTorch warns of each."""
    if isinstance(element, np.ndarray):
        return element if element.flags.writeable else element.copy()
    if isinstance(element, Mapping):
        return {name: writable(value) for name, value in element.items()}
    return tuple(map(writable, element)) if type(element) is tuple else element
