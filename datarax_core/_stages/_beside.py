"""A stage of names in two parts: one for the compiled step, and one for the fields that ride beside the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datarax_core.spec import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class WithBeside:
    """``inside`` for the batch, and ``outside`` for the dict of what rides beside it."""

    name: str
    inside: Callable[[Batch], Batch]
    outside: Callable[[Batch], Batch]

    def __call__(self, batch: Batch) -> Batch:
        """The batch after the stage."""
        return self.inside(batch)

    def beside(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What rides beside it then."""
        passed: dict[str, Any] = self.outside(fields)
        return passed


def unchanged(batch: Batch) -> Batch:
    """The batch."""
    return batch


def nothing(batch: Batch) -> Batch:  # noqa: ARG001 - a stage
    """A batch without fields."""
    return {}
