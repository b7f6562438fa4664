"""What a source has beside its graph: work saved on the host, and its records taken apart for compiled code."""

import threading
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from ._elements import ElementBlock
from ._layout import PlacedOnce
from ._record_cache import RecordCache
from .spec import Batch, ElementSpec


class SourceParts:
    """What a source holds on the host to save work; outside of its graph, and in no state."""

    def __init__(self) -> None:
        self.cache: RecordCache | None = None
        self.spec: ElementSpec | None = None
        self.block = ElementBlock()
        self.placed = PlacedOnce()
        self.callback = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceParts, ()  # a pickle carries no work that can be done again


@dataclass(frozen=True, slots=True)
class MergedRecords:
    """The records of a source taken apart by ``nnx.split``; held against its element spec while they are traced."""

    graphdef: Any

    def __call__(self, state: Any, indices: jax.Array) -> Batch:
        source = nnx.merge(self.graphdef, state)
        source._host = SourceParts()  # noqa: SLF001 - of its class, here and below
        batch: Batch = source._checked_records(indices)  # noqa: SLF001
        return batch
