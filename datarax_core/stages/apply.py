"""Applying stages to a batch one after another, and checking that they are stages before."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from datarax_core.errors import StageError
from datarax_core.extensions.contract import contract_fault, origin_of
from datarax_core.registry.stages import Stage

from .field_paths import no_such_field
from .randomness import RecordIds, is_stochastic, stage_arguments, takes_record_indices

_FAILED: Final = "_datarax_stage"
"""Attribute of errors with the number of the stage that raised them."""

_FLAGS: Final = {"stochastic = True": "keys", "takes_record_indices = True": "indices"}
"""Attributes of stages, and the arguments that stages with them take."""


def apply_stages(stages: Sequence[Any], batch: Any, record_ids: RecordIds | None = None, *, first: int = 0) -> Any:
    """Return the batch after all stages; a note on an error names the stage that raised it.

    Args:
        stages: Callables that take a batch, and the other arguments that `stage_arguments` returns for them.
        batch: The batch.
        record_ids: Ids of the records, for stages that take keys or record indices.
        first: Number of the first stage in its pipeline, for keys and errors.

    Raises:
        TypeError, PluginContractError: A stage returned None.
        StageError: A stage looked for a field that one of its options names, and the batch has no such field.
        RuntimeError: A stage raised ``StopIteration``.
    """
    for number, stage in enumerate(stages, first):
        try:
            made = stage(batch, *stage_arguments(stage, number, record_ids))
        except StopIteration as error:  # a loop over batches would take it for its own end
            raise RuntimeError(f"stage {number} ({stage_name(stage)}) of the pipeline raised StopIteration") from error
        except Exception as error:
            named = without_field(error, stage, batch) or error
            note_failed(named, stage, number)
            if named is error:
                raise
            raise named from error
        if made is None:
            raise stage_fault(stage, f"stage {number}", "returned None; a stage returns the batch it made")
        batch = made
    return batch


def without_field(error: Exception, stage: Any, batch: Any) -> StageError | None:
    """Return the error that names the option if ``error`` is a KeyError for a field that an option of the stage names."""
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(name, str) or not isinstance(batch, Mapping) or name in batch:
        return None
    options = [
        option for option, value in getattr(stage, "__dict__", {}).items() if value == name and type(value) is str
    ]
    return no_such_field(batch, name, (options[0],)) if options else None


def stage_name(stage: Any) -> str:
    """Return the name of a stage in errors and reports: its type in a config, its name, or its class."""
    if isinstance(stage, Stage):
        return stage.type
    return getattr(stage, "name", None) or getattr(stage, "__name__", None) or type(stage).__name__


def note_failed(error: Exception, stage: Any, number: int) -> None:
    """Note on an error which stage of a pipeline raised it."""
    error.add_note(f"in stage {number} ({stage_name(stage)}) of the pipeline")
    with suppress(AttributeError):  # of a class with slots
        setattr(error, _FAILED, getattr(error, _FAILED, number))


def failed_stage(error: BaseException) -> int | None:
    """Return the number of the stage that `note_failed` noted on an error; None if there is none."""
    return getattr(error, _FAILED, None)


def require_stages(stages: Any) -> None:
    """Raise ``TypeError`` if ``stages`` is no sequence of callables that have a hash."""
    if callable(stages) or not isinstance(stages, Sequence):
        raise TypeError(f"stages is a list of callables, not {type(stages).__name__}")
    for number, stage in enumerate(stages):
        require_stage(stage, f"stage {number}")


def require_stage(stage: Any, title: str) -> None:
    """Raise ``TypeError`` if a stage is no instance that can be called, or has no hash; ``title`` is its name in the message.

    A class whose instances are no stages, such as ``dict``, may be a stage itself.

    Raises:
        TypeError, PluginContractError: It does not take the arguments that it is called with.
    """
    if isinstance(stage, type) and any({"__call__", "build"} & vars(base).keys() for base in stage.__mro__):
        name = stage.__name__
        raise TypeError(f"{title} is the class {name}; give an instance of it, such as {name}(...)")
    if not callable(stage):
        raise TypeError(f"{title} is not callable: {stage!r}; a stage takes a batch and returns one")
    require_hash(stage, title)
    _require_arguments(stage, title)


def _require_arguments(stage: Any, title: str) -> None:
    """Raise if a stage does not take the arguments that it is called with; a stage whose signature is unknown passes."""
    flags = {"keys": is_stochastic(stage), "indices": takes_record_indices(stage)}
    names = ["batch", *(name for name, is_set in flags.items() if is_set)]
    try:
        signature = inspect.signature(stage, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*names)
    except TypeError as cause:
        why = " and ".join(flag for flag, name in _FLAGS.items() if flags[name]) or f"neither {' nor '.join(_FLAGS)}"
        taken = ", ".join(names)
        head = f"{stage_name(stage)}({taken})" if hasattr(stage, "__qualname__") else f"__call__(self, {taken})"
        problem = f"has {why}, so it is called with ({taken}), which its signature {signature} does not take"
        raise stage_fault(stage, title, f"{problem} ({cause}); write def {head}") from cause


def stage_fault(stage: Any, title: str, problem: str) -> Exception:
    """Return the error for a stage that breaks the protocol: of its plugin, or a ``TypeError`` if no plugin defines it."""
    if origin_of(stage) is None:
        return TypeError(f"{title} ({stage_name(stage)}) {problem}")
    return contract_fault("stage", stage, f" {problem}", stage_name(stage))


def require_hash(stage: Any, title: str) -> None:
    """Raise ``TypeError`` if a stage has no hash, which compiled programs are looked up by; says how a dataclass gets one."""
    try:
        hash(stage)
    except TypeError as cause:
        raise TypeError(
            f"{title} ({stage_name(stage)}) has no hash to find its compiled program by: {cause}; if it is a dataclass, write "
            "@dataclass(eq=False) or @dataclass(frozen=True)"
        ) from cause
