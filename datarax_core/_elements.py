"""A source's records one by one: fetched some at a time, in the source's order."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from ._window import Window
    from .source import DataSourceModule


class ElementBlock:
    """The elements fetched last, and the stretch of the order they are of: work saved, in no state and no pickle."""

    def __init__(self) -> None:
        self._elements: list[Any] = []
        self._start = 0
        self._window: Window | None = None
        self._words: Any = None

    def at(self, source: "DataSourceModule", position: int, size: int) -> Any:
        """The element at ``position``; ``size`` of them are fetched if it is not among those held."""
        words = source.order_words()
        if self._window is None or self._words is not words:
            self._window, self._words, self._elements = source.order_window(size), words, []
        if not 0 <= position - self._start < len(self._elements):
            indices: np.ndarray = self._window.take(position, size)
            self._elements, self._start = source.get_elements(indices), position
        return self._elements[position - self._start]

    def __getstate__(self) -> dict[str, Any]:
        return vars(ElementBlock())


class ElementLoop:
    """One epoch of a source's elements. What is left of it can be iterated on: it is its own iterator."""

    def __init__(self, source: "DataSourceModule", run: int) -> None:
        self._source, self._run = source, run

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._source.cursor.is_current(self._run):
            title = self._source.title
            raise RuntimeError(f"this loop is over: {title} was iterated anew, reset or restored since it began")
        return next(self._source)
