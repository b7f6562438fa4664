"""Values that are ordinary Python objects, whose text depends on addresses or on the hash seed of the process."""

import json
import sys
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


def sources(x: float = 1.0) -> list[DataSourceModule]:
    """Return sources over records with instances and sets."""
    column = np.empty(3, object)
    column[:] = [Point(x, frozenset("abcdefgh")), {"a", "b", "c", "d", None}, Plain({"k": {"x", "y", "z"}})]
    memory = MemorySource(MemorySourceConfig(), {"x": column, "y": [1, 2, 3]})
    return [memory, from_sequence([{"x": value} for value in column])]


def print_states() -> None:
    """Print the states of the sources as JSON."""
    json.dump([source.get_state() for source in sources()], sys.stdout)
