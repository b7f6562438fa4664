"""Values that are ordinary Python objects, whose text depends on addresses or on the hash seed of the process."""

import json
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from datarax_core.sources import DataSourceModule, from_sequence
from datarax_memory import MemorySource, MemorySourceConfig


@dataclass
class Point:
    x: float
    tags: frozenset[str]


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value
        self.itself = self


class Slotted:
    __slots__ = ("tags",)

    def __init__(self, tags: Any) -> None:
        self.tags = tags

    def __repr__(self) -> str:
        return f"Slotted({self.tags!r})"


def sources(x: float = 1.0) -> list[DataSourceModule]:
    """Return sources over records with instances and sets."""
    column = np.empty(4, object)
    column[:] = [Point(x, frozenset("abcdefgh")), {"a", "b", "c", "d", None}, Plain({"k": {"x", "y", "z"}}), 0]
    column[3] = Slotted(deque([{"r", "s", "t", "u"}]))
    memory = MemorySource(MemorySourceConfig(), {"x": column, "y": [1, 2, 3, 4]})
    return [memory, from_sequence([{"x": value} for value in column])]


def print_states() -> None:
    """Print the states of the sources as JSON."""
    json.dump([source.get_state() for source in sources()], sys.stdout)
