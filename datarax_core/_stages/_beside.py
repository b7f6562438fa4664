"""A stage of names in two parts: one for the compiled step, and one for the fields that ride beside the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datarax_core.spec import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class WithBeside:
    """``stage`` for the batch, and ``aside`` for the dict of what rides beside it."""

    name: str
    stage: Callable[[Batch], Batch]
    aside: Callable[[Any], dict[str, Any]]

    def __call__(self, batch: Batch) -> Batch:
        """The batch after the stage."""
        return self.stage(batch)

    def beside(self, fields: Any) -> dict[str, Any]:
        """What rides beside it then."""
        return self.aside(fields)


def unchanged(batch: Batch) -> Batch:
    """The batch."""
    return batch


def nothing(batch: Batch) -> Batch:  # noqa: ARG001 - a stage
    """A batch without fields."""
    return {}
