"""The two files that describe a data set, ``dataset_info.json`` and ``features.json``: checked, then read by TFDS.

TFDS imports the module of any class that the files name, so that whoever writes them chooses which code runs. Here only classes
of TFDS itself are imported; any other must have been imported by the program that reads the data set.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import DataFileError
from datarax_tfds.backends import tensorflow_datasets

from .folders import FEATURES, INFO, REMEDY, json_object

_OF_TFDS: Final = "tensorflow_datasets."
_CLASS_KEYS: Final = ("pythonClassName", "python_class_name", "type")
"""Keys under which a class is named: both spellings that protobuf takes, and that of old versions of TFDS."""

_DEEPEST: Final = 64
"""Levels of features within one another; TFDS follows each by a call of its own, and the deepest public ones have ten."""


def read_only_builder(folder: Path) -> Any:
    """Return TFDS's builder of a data set on disk, which reads and never prepares.

    Raises:
        DataFileError: One of the two files is damaged, or names a class of features that is not one of TFDS's own and that
            nobody imported; the message names the file.
    """
    tfds = tensorflow_datasets()
    for file in (INFO, FEATURES):
        _require_known_classes(folder / file, json_object(folder / file))
    try:
        return tfds.builder_from_directory(folder)
    except Exception as cause:  # TFDS checks little of what it reads, so that any error may come of it
        raise unreadable(folder, cause) from cause


def unreadable(folder: Path, cause: Exception) -> DataFileError:
    """Return the error of a description that TFDS, or this package, cannot make sense of."""
    reason = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    return DataFileError(
        str(folder),
        f"TFDS cannot read what {folder / INFO} and {folder / FEATURES} say of their data set: {reason:.500}; {REMEDY}",
    )


def _require_known_classes(path: Path, content: Any) -> None:
    """Raise if a file names a class whose module TFDS would import, and that is not one of TFDS's own."""
    registered = tensorflow_datasets().features.FeatureConnector._registered_features  # noqa: SLF001 - no public name
    for name in _class_names(content, path, 0):
        if name in registered or name.startswith(_OF_TFDS) or "." not in name:
            continue
        module = name.rpartition(".")[0]
        raise DataFileError(
            str(path),
            f"{path} names the feature class {name!r:.200}, which is none of TFDS's own: to read the data set, TFDS imports "
            f"the module {module!r:.200} and runs its code; if you trust it, import it before you open the data set",
        )


def _class_names(content: Any, path: Path, depth: int) -> Iterator[str]:
    """Yield the names of all classes in a file, also those in JSON that is held as text."""
    if depth > 2 * _DEEPEST:
        raise DataFileError(
            str(path), f"{path} is damaged: it has more than {_DEEPEST} features in one another; {REMEDY}"
        )
    if isinstance(content, dict):
        for key, value in content.items():
            if key in _CLASS_KEYS and isinstance(value, str):
                yield value
            yield from _class_names(value, path, depth + 1)
    elif isinstance(content, list):
        for value in content:
            yield from _class_names(value, path, depth + 1)
    elif isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        try:
            inner = json.loads(content)
        except (ValueError, RecursionError):  # a text that only looks like it
            return
        yield from _class_names(inner, path, depth + 1)
