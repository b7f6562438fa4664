"""A format: how its files are made, mutated and read, and which outcome of a mutant passes.

A mutant passes if it is read as before, or is refused by an error of datarax, or by ``FileNotFoundError``, that names the file.
In a format without checksums other values may be served. Everything else is a finding.
"""

import random
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from mutation import mutated_array, mutated_bytes, mutated_json, mutated_text, place_of

from datarax_core.errors import DataraxError

Served = Any
"""What a format serves: dicts, lists, arrays, and anything that compares."""


class OtherDataError(AssertionError):
    """Other data are served than were written, although checksums would tell."""


def require_same(served: Served, reference: Served, _number: int) -> None:
    """Raise if other data are served."""
    difference = difference_of(served, reference)
    if difference:
        raise OtherDataError(f"serves other data: {difference}")


def accept(_served: Served, _reference: Served, _number: int) -> None:
    """Accept whatever is served, since the format has no checksums."""


def change_a_file(folder: Path, number: int) -> str:
    """Mutate one of the files of a folder, and return its name and where it differs."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = random.Random(f"file {number}").choice(paths)  # noqa: S311 - repeatable, not secret
    return change(path, number)


def change(path: Path, number: int) -> str:
    """Mutate a file in the way of its suffix, and return its name and where it differs."""
    content = path.read_bytes()
    mutate = _WAYS.get(path.suffix, mutated_bytes)
    mutant = mutate(content, number)
    path.write_bytes(mutant)
    return f"{path.name}, {place_of(content, mutant)}"


_WAYS: Mapping[str, Callable[[bytes, int], bytes]] = {
    ".json": mutated_json,
    ".yaml": mutated_text,
    ".toml": mutated_text,
    ".jsonl": mutated_text,
    ".npy": mutated_array,
}


class Format(NamedTuple):
    """A format of files."""

    make: Callable[[Path], None] | None
    """Write the unchanged files into a folder; None where `make_all` of the module does."""

    read: Callable[[Path, int], Served]
    """Read everything from the files of a folder; the number selects among several ways."""

    change: Callable[[Path, int], str] = change_a_file
    """Mutate files of a folder, and return the place that differs."""

    check: Callable[[Served, Served, int], None] = accept
    """Raise if what a mutant serves may not differ so from what the unchanged files serve."""

    refusals: tuple[type[Exception], ...] = (DataraxError, FileNotFoundError)
    ways: int = 2
    """Number of ways in which `read` reads."""

    folder: str = ""
    """Folder of the unchanged files in that of the module; by default the name of the format."""


def make_files(module: ModuleType, folder: Path) -> None:
    """Write the unchanged files of all formats of a module into a folder."""
    if hasattr(module, "make_all"):
        module.make_all(folder)
        return
    for name, form in module.FORMATS.items():
        (folder / name).mkdir()
        form.make(folder / name)


class Trial:
    """A format whose unchanged files have been read."""

    def __init__(self, form: Format, folder: Path) -> None:
        self._form, self._folder = form, folder
        self._references = [self._tried(None, way)[0] for way in range(form.ways)]

    def outcome(self, number: int) -> tuple[str, str]:
        """Return kind and detail of the outcome of a mutant."""
        place: list[str] = []
        try:
            served, _ = self._tried(number, number, place)
            self._form.check(served, self._references[number % self._form.ways], number)
        except _RefusedError as refusal:
            return "refused", str(refusal)[:300]
        except BaseException as error:  # noqa: BLE001 - anything else is what is looked for
            stack = " < ".join(
                f"{Path(frame.filename).name}:{frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__))
            )
            return "raw", f"{type(error).__name__}: {str(error)[:600]} [{place[0] if place else ''}] {stack[:400]}"
        return "served", ""

    def _tried(self, number: int | None, way: int, place: list[str] | None = None) -> tuple[Served, str]:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = Path(scratch) / "mutant"
            shutil.copytree(self._folder, folder)
            if number is not None and place is not None:
                place.append(self._form.change(folder, number))
            try:
                return self._form.read(folder, way), scratch
            except self._form.refusals as error:
                if number is None:
                    raise
                if scratch not in "\n".join([str(error), *getattr(error, "__notes__", ())]):
                    raise NamelessError(f"names no file: {type(error).__name__}: {error}") from error
                if _without_memory(error):
                    raise MemoryError(f"memory ran out: {error}") from error
                raise _RefusedError(f"{type(error).__name__}: {error}") from error


class NamelessError(AssertionError):
    """An error says what is wrong, but names no file."""


class _RefusedError(Exception):
    """A mutant was refused."""


def _without_memory(error: BaseException | None) -> bool:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, MemoryError):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def difference_of(one: Served, other: Served, path: str = "") -> str:
    """Return where two values differ; an empty text if they are equal, dtypes and NaN included."""
    match one, other:
        case (dict(), dict()) if one.keys() != other.keys():
            return f"{path or 'the top'} has the keys {sorted(one)}, not {sorted(other)}"
        case (list(), list()) if len(one) != len(other):
            return f"{path} has {len(one)} items, not {len(other)}"
        case (dict(), dict()):
            found = (difference_of(one[key], other[key], f"{path}.{key}") for key in one)
        case (list(), list()):
            found = (difference_of(*pair, f"{path}[{at}]") for at, pair in enumerate(zip(one, other, strict=True)))
        case (np.ndarray(), np.ndarray()) if one.dtype == other.dtype == object and one.shape == other.shape:
            found = iter([difference_of(one.ravel().tolist(), other.ravel().tolist(), path)])
        case (np.ndarray(), np.ndarray()):
            alike = one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
            return "" if alike else f"{path} is {one.dtype}{one.shape}, other values than {other.dtype}{other.shape}"
        case _:
            return "" if type(one) is type(other) and one == other else f"{path} is {one!r:.60}, not {other!r:.60}"
    return next(filter(None, found), "")
