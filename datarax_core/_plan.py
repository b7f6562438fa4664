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

    @property
    def epoch_length(self) -> int | None:
        """Records in one epoch, of all processes together; None for a stream without a length."""
        length = self.source.epoch_length
        return None if length is None else length * (1 if self.part is None else self.part[1])

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again."""
        part = {} if self.part is None else {"part": list(self.part)}
        return self.source.fingerprint() | self.rule_fingerprint() | part

    def rule_fingerprint(self) -> dict[str, Any]:
        """Of it what is not the source's: equal on all processes."""
        return self.rule.fingerprint() | self.randomness.fingerprint()
