"""Side of stages: the first ones of a pipeline may run on the host, and compiled programs have placeholders for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from datarax_core.records.spec import Batch

EITHER: Final = "either"
"""Value of ``on_host`` of a stage that works on both sides."""


def is_on_host(stage: Any) -> bool:
    """Return whether a stage runs on the host only: it has ``on_host = True``."""
    return getattr(stage, "on_host", False) is True


def num_on_host(stages: Sequence[Any]) -> int:
    """Return how many of the stages, the first ones, run on the host: all up to the last with ``on_host = True``."""
    return max((number for number, stage in enumerate(stages, 1) if is_on_host(stage)), default=0)


def num_by_part(stages: Sequence[Any]) -> int:
    """Return how many of these host stages, the first ones, may be called with a part of a batch.

    Those from the first with ``whole_batch = True`` on are called with all of its rows.
    """
    return next((number for number, stage in enumerate(stages) if is_of_whole_batch(stage)), len(stages))


def require_side(stage: Any) -> None:
    """Raise ``TypeError`` if ``on_host`` of a stage is neither True, False nor "either"."""
    side = getattr(stage, "on_host", False)
    if side is not True and side is not False and side != EITHER:
        raise TypeError(f"on_host is True, False or 'either', not {side!r:.80}")


def is_of_whole_batch(stage: Any) -> bool:
    """Return whether a host stage is called with all rows of a batch at once: it has ``whole_batch = True``.

    Its result for a record may depend on the other records, and the shapes of its columns may differ from batch to batch. The
    element spec says the greatest. Its method ``with_one_shape()``, if it has one, returns a stage that makes those.
    """
    return getattr(stage, "whole_batch", False) is True


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Stage in the place of a host stage in compiled programs, so that later stages keep their numbers, and their keys."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch as it is."""
        return batch


def compiled_stages(stages: Sequence[Any], on_host: int) -> tuple[Any, ...]:
    """Return the stages as compiled programs have them, with placeholders for the first ``on_host`` ones."""
    return (Placeholder(),) * on_host + tuple(stages[on_host:]) if on_host else tuple(stages)
