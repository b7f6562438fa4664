"""Pickling what worker processes read by, a source and host stages: errors name the part that does not pickle."""

import io
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.sources.access import Capabilities
from datarax_core.sources.columns import RecordCache

_DEPTH: Final = 8  # how many attributes deep the search for a part that does not pickle goes


class WorkerReader(Protocol):
    """What worker processes have a copy of, and read by: a source, or a source with host stages."""

    @property
    def title(self) -> str:
        """The name of the source in errors."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def differs_in_shape(self) -> bool:
        """Whether batches differ in shape; the element spec then says the greatest."""

    def element_spec(self) -> ElementSpec:
        """Return the element spec of a record."""

    def get_records(self, indices: Any) -> Batch:
        """Return the records at int (k,) ``indices``; called in a worker."""

    def record_cache(self) -> RecordCache | None:
        """Return the records that this process keeps, so that no worker reads them again; None if it keeps none."""

    def note_substituted(self, records: int) -> None:
        """Count records that workers replaced by others."""

    def get_operation_stats(self) -> dict[str, Any]:
        """Return counts, of which workers report ``skipped_count``."""


def pickled_source(source: WorkerReader) -> tuple[bytes, dict[str, Any]]:
    """Return (the pickled source, the argument of ``multiprocessing.spawn.prepare`` that a process needs to unpickle it).

    Raises:
        TypeError: The source or a host stage does not pickle, or another process cannot import its classes; says what to do.
    """
    stream = io.BytesIO()
    pickler = _MainScriptPickler(stream, pickle.HIGHEST_PROTOCOL)
    try:
        pickler.dump(source)
    except Exception as cause:
        stage, culprit = _failed_stage(source)
        remedy = (
            "leave it out in __getstate__ and open it when it is first needed"
            if stage is None
            else "define functions in a module, leave open files out in __getstate__"
        )
        raise TypeError(
            f"{source.title if stage is None else stage} cannot be sent to worker processes: {culprit} does not pickle "
            f"({cause}); {remedy}, or read with workers=0"
        ) from cause
    preparation: dict[str, Any] = {"sys_argv": sys.argv, "dir": str(Path.cwd())}
    if pickler.of_main:
        preparation |= _main_script(source, pickler.of_main)
    return stream.getvalue(), preparation


class _MainScriptPickler(pickle.Pickler):
    """Pickler that lists the classes and functions of the main script, which a new process has not imported."""

    def __init__(self, stream: io.BytesIO, protocol: int) -> None:
        super().__init__(stream, protocol)
        self.of_main: list[str] = []

    def reducer_override(self, obj: Any) -> Any:
        if getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__"):
            self.of_main.append(obj.__qualname__)
        return NotImplemented


def _main_script(source: WorkerReader, names: list[str]) -> dict[str, Any]:
    """Return the entry for ``multiprocessing.spawn.prepare`` by which a process imports the main script."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:  # python -m
        return {"init_main_from_name": spec.name}
    if (path := getattr(main, "__file__", None)) is not None and Path(path).exists():
        return {"init_main_from_path": str(Path(path).absolute())}
    raise TypeError(
        f"{source.title} cannot be sent to worker processes: {names[0]} is defined in an interactive session, which they "
        "cannot import; move it to a module of its own, or read with workers=0"
    )


def _failed_stage(source: Any) -> tuple[str | None, str]:
    """Return (title of the host stage that does not pickle, None if it is the source; the part of it that does not)."""
    for title, stage in getattr(source, "stages_by_title", {}).items():
        if not _pickles(stage):
            return title, _culprit(stage)
    return None, _culprit(getattr(source, "source", source))


def _culprit(value: Any, path: str = "it", depth: int = 0) -> str:
    """Return the path of attributes to the innermost part of ``value`` that does not pickle, and the part's type."""
    for name, part in _parts(value) if depth < _DEPTH else ():
        if not _pickles(part):
            return _culprit(part, f"{'its ' if depth == 0 else path}{'.' if depth else ''}{name}", depth + 1)
    return f"{path}, a {type(value).__name__}," if depth else path


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), part) for number, part in enumerate(value))
    else:
        state = value.__getstate__()
        yield from state.items() if isinstance(state, Mapping) else ()


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - pickling runs the value's own code, which may raise anything
        return False
    return True
