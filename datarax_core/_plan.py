"""All that decides how a pipeline's records become batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._batch_rule import BatchRule
from ._layout import Layout
from ._randomness import StageKeys
from .source import DataSourceModule


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What routes, programs and `Pipeline.explain` go by.

    ``part`` is (k, n) where this process reads the k-th of n parts of a stream that was split, else None.
    """

    source: DataSourceModule
    stages: Sequence[Any]
    rule: BatchRule
    randomness: StageKeys
    layout: Layout
    part: tuple[int, int] | None
    prefetch: int
    workers: int
