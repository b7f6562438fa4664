"""Elements that are written into the arrays of those before: producers that do so are found early, and elements copied."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from copy import copy, deepcopy
from typing import Any, Final

import numpy as np

_WATCHED: Final = 8
"""Elements from the start of a reader on that are copied in any case, and compared with those before."""

_BACK: Final = 2
"""Elements before that one is compared with: some producers write into two buffers in turn."""

_STRUCTURE: Final = (dict, OrderedDict, defaultdict)
"""The dicts that are structure; others may be read-only."""


class Watch:
    """Notes whether elements share memory with those before; elements go through `seen`, which copies where it has to.

    A batch is put together of several elements, so that an array that is written anew for each would be served several times
    with its last values.

    Args:
        is_reused: Whether it is known that they do.
    """

    def __init__(self, *, is_reused: bool = False) -> None:
        self.is_reused = is_reused
        self._left = _WATCHED
        self._before: list[tuple[Any, set[int]]] = []  # the elements as well, as memory that is freed is used again

    def seen(self, element: Any) -> Any:
        """Return an element, or a copy of it: of the first ones, and of all once two of those were found to share memory."""
        if self.is_reused:
            return _copied(element)
        if not self._left:
            return element
        self._left -= 1
        memory = set(_memory_of(element))
        self.is_reused = any(memory & before for _, before in self._before)
        self._before = [] if self.is_reused or not self._left else [*self._before[1 - _BACK :], (element, memory)]
        return _copied(element)


def _memory_of(value: Any) -> Iterator[int]:
    """Yield numbers that tell the memory of containers and arrays in an element."""
    if isinstance(value, dict | list):
        yield id(value)
    if isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _memory_of(entry)
    elif isinstance(value, np.ndarray):
        if value.size:
            yield value.__array_interface__["data"][0]
    elif callable(pointer := getattr(value, "data_ptr", None)):  # a tensor of PyTorch
        yield pointer()


def _copied(value: Any) -> Any:
    """Return an element whose containers and arrays nobody else writes to."""
    if type(value) in _STRUCTURE:
        made = copy(value)
        for key, entry in value.items():
            made[key] = _copied(entry)
        return made
    if isinstance(value, list):
        return [_copied(entry) for entry in value] if type(value) is list else copy(value)
    if isinstance(value, tuple):
        entries = [_copied(entry) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    if isinstance(value, np.ndarray):
        return value.copy()
    return deepcopy(value) if callable(getattr(value, "data_ptr", None)) else value
