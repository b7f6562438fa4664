"""Applying stages to a batch one after another, and checking that they are stages before."""

from collections.abc import Sequence
from typing import Any

from datarax_core.registry.stages import Stage

from .randomness import RecordIds, stage_arguments


def apply_stages(stages: Sequence[Any], batch: Any, record_ids: RecordIds | None = None, *, first: int = 0) -> Any:
    """Return the batch after all stages; a note on an error names the stage that raised it.

    Args:
        stages: Callables that take a batch, and the other arguments that `stage_arguments` returns for them.
        batch: The batch.
        record_ids: Ids of the records, for stages that take keys or record indices.
        first: Number of the first stage in its pipeline, for keys and errors.

    Raises:
        TypeError: A stage returned None.
        RuntimeError: A stage raised ``StopIteration``.
    """
    for number, stage in enumerate(stages, first):
        try:
            batch = stage(batch, *stage_arguments(stage, number, record_ids))
        except StopIteration as error:  # a loop over batches would take it for its own end
            raise RuntimeError(f"stage {number} ({stage_name(stage)}) of the pipeline raised StopIteration") from error
        except Exception as error:
            error.add_note(f"in stage {number} ({stage_name(stage)}) of the pipeline")
            raise
        if batch is None:
            raise TypeError(f"stage {number} ({stage_name(stage)}) returned None; a stage returns the batch it made")
    return batch


def stage_name(stage: Any) -> str:
    """Return the name of a stage in errors and reports: its type in a config, its name, or its class."""
    if isinstance(stage, Stage):
        return stage.type
    return getattr(stage, "name", None) or getattr(stage, "__name__", None) or type(stage).__name__


def require_stages(stages: Any) -> None:
    """Raise ``TypeError`` if ``stages`` is no sequence of callables that have a hash."""
    if callable(stages) or not isinstance(stages, Sequence):
        raise TypeError(f"stages is a list of callables, not {type(stages).__name__}")
    for number, stage in enumerate(stages):
        require_stage(stage, f"stage {number}")


def require_stage(stage: Any, title: str) -> None:
    """Raise ``TypeError`` if a stage is not callable or has no hash; ``title`` is its name in the message."""
    if not callable(stage):
        raise TypeError(f"{title} is not callable: {stage!r}; a stage takes a batch and returns one")
    require_hash(stage, title)


def require_hash(stage: Any, title: str) -> None:
    """Raise ``TypeError`` if a stage has no hash, which compiled programs are looked up by; says how a dataclass gets one."""
    try:
        hash(stage)
    except TypeError as cause:
        raise TypeError(
            f"{title} ({stage_name(stage)}) has no hash to find its compiled program by: {cause}; if it is a dataclass, write "
            "@dataclass(eq=False) or @dataclass(frozen=True)"
        ) from cause
