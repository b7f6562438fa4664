"""A stage of names in two parts: one for the compiled step, and one for the fields that ride beside the batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from datarax_core.spec import Batch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WithBeside:
    """``stage`` for the batch; and of what rides beside it, that which is ``kept``, as (old name, new name)."""

    name: str
    stage: Callable[[Batch], Batch]
    kept: tuple[tuple[str, str], ...]

    def __call__(self, batch: Batch) -> Batch:
        """The batch after the stage."""
        return self.stage(batch)

    def beside(self, fields: Mapping[str, T]) -> dict[str, T]:
        """What rides beside it then."""
        return {new: fields[old] for old, new in self.kept}


def unchanged(batch: Batch) -> Batch:
    """The batch."""
    return batch


def nothing(batch: Batch) -> Batch:  # noqa: ARG001 - a stage
    """A batch without fields."""
    return {}
