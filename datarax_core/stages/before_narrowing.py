"""The intake of a pipeline, found by its first stages: those that leave fields out or convert them before they are narrowed.

A stage takes part if it has a method ``before_narrowing(fields) -> fields``. It is called with a `StoredField` for each
field, in the structure of the batch, and returns those of the batch that the stage makes: moved, left out, or converted
(``field.nearest(dtype)``). The stage itself is called with the batch afterwards, as every stage is.
"""

from collections.abc import Sequence
from typing import Any

import jax

from datarax_core.records.intake import Intake, StoredField, stored_fields
from datarax_core.records.spec import ElementSpec, split_host_fields, with_fields

from .apply import stage_name
from .graph import Graph

_MASK = StoredField("", (), jax.numpy.dtype("bool"))


def takes_part(stages: Sequence[Any]) -> bool:
    """Return whether the first of the stages takes part in the intake; if not, all fields are taken as they are."""
    return bool(stages) and (isinstance(stages[0], Graph) or hasattr(stages[0], "before_narrowing"))


def intake_of(spec: ElementSpec, stages: Sequence[Any], mask_field: str | None, *, first: int = 0) -> Intake:
    """Return the intake of a pipeline.

    Args:
        spec: Element spec of the records on the host, where the stages begin.
        stages: The stages that run in compiled code.
        mask_field: Name of the mask that ``pad_last`` adds to batches; None without one.
        first: Number of the first of the stages in the pipeline, for errors.
    """
    if not takes_part(stages):
        return Intake()
    spec = split_host_fields(spec)[0]
    fields = stored_fields(spec)
    if mask_field is not None:
        fields = with_fields(fields, {mask_field: _MASK}, "the mask of pad_last")
    for number, stage in enumerate(stages, first):
        try:
            if isinstance(stage, Graph):
                return Intake.of_uses(spec, stage.uses_of(fields))
            if not hasattr(stage, "before_narrowing"):
                break
            fields = stage.before_narrowing(fields)
        except Exception as error:
            error.add_note(f"in stage {number} ({stage_name(stage)}) of the pipeline")
            raise
    return Intake.of_uses(spec, jax.tree.leaves(fields))
