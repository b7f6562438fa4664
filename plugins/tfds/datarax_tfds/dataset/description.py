"""The two files that describe a data set, ``dataset_info.json`` and ``features.json``: checked, then read by TFDS.

TFDS imports the module of any class that the files name, so that whoever writes them chooses which code runs. Here only classes
of TFDS itself are imported; any other must have been imported by the program that reads the data set.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import DataFileError
from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.splits import DamagedSplit

from .folders import FEATURES, INFO, REMEDY, json_object

_OF_TFDS: Final = "tensorflow_datasets."
_CLASS_KEYS: Final = ("pythonClassName", "python_class_name", "type")
"""Keys under which a class is named: both spellings that protobuf takes, and that of old versions of TFDS."""

_DEEPEST: Final = 100
"""Levels of objects within one another in the files, as for protobuf; ten features in one another have thirty."""

_MOST_AXES: Final = 32
_MOST_VALUES: Final = 1 << 44
"""Values of a field of a record; the smallest take as many bytes."""


_OF_DAMAGE: Final[tuple[type[Exception], ...]] = (
    *(ArithmeticError, AssertionError, AttributeError, DamagedSplit, LookupError, RecursionError),
    *(TypeError, UnicodeError),
)


def read_only_builder(folder: Path) -> Any:
    """Return TFDS's builder of a data set on disk, which reads and never prepares.

    Raises:
        DataFileError: One of the two files is damaged, or names a class of features that is not one of TFDS's own and that
            nobody imported; the message names the file.
    """
    tfds = tensorflow_datasets()
    for file in (INFO, FEATURES):
        _require_known_classes(folder / file, json_object(folder / file))
    with understood(folder, Exception):  # TFDS checks little of what it reads, so that any error may come of it
        return tfds.builder_from_directory(folder)


@contextmanager
def understood(folder: Path, *errors: type[Exception]) -> Iterator[None]:
    """Raise, for errors that come of a damaged description, one that names its two files.

    Args:
        folder: Folder of the data set.
        errors: Classes of such errors, besides those that no valid description leads to.

    Raises:
        DataFileError: TFDS, or this package, could not make sense of the description.
    """
    try:
        yield
    except DataFileError:
        raise
    except (*_OF_DAMAGE, *errors) as cause:
        reason = str(cause) if isinstance(cause, ValueError | DamagedSplit) else f"{type(cause).__name__}: {cause}"
        raise DataFileError(
            str(folder),
            f"TFDS cannot read what {folder / INFO} and {folder / FEATURES} say of their data set: {reason:.500}; {REMEDY}",
        ) from cause


def require_counts(splits: Mapping[str, Any], folder: Path) -> None:
    """Raise if a file of a split is said to have fewer than 0 records, which TFDS would leave out.

    Raises:
        DataFileError: There is such a file.
    """
    for name, split in splits.items():
        if any(length < 0 for length in split.shard_lengths):
            path = folder / INFO
            raise DataFileError(
                str(path),
                f"{path} is damaged: split {name!r:.200} has a file of {min(split.shard_lengths)} records; {REMEDY}",
            )


def require_possible(features: Any, folder: Path) -> None:
    """Raise if a field is declared in a way that no record can be.

    Raises:
        DataFileError: A field has a size that no file holds, or holds nothing at all.
    """
    infos = {name: feature.get_tensor_info() for name, feature in features.items()}
    impossible = next(_impossible(infos, ()), "it declares no field" if not infos else None)
    if impossible is not None:
        path = folder / FEATURES
        raise DataFileError(str(path), f"{path} is damaged: {impossible}; {REMEDY}")


def _impossible(infos: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with fields, given the TensorInfo of each."""
    if isinstance(infos, Mapping):
        if names and not infos:
            yield f"the field {'.'.join(names)!r:.200} is declared without anything in it"
        for name, inner in infos.items():
            yield from _impossible(inner, (*names, name))
        return
    shape = tuple(getattr(infos, "shape", None) or ())
    sizes = [size for size in shape if size is not None]
    if len(shape) > _MOST_AXES or any(size < 0 for size in sizes) or math.prod(sizes) > _MOST_VALUES:
        yield f"the field {'.'.join(names)!r:.200} has the shape {list(shape)!r:.200}, which no record can have"


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
    if depth > _DEEPEST:
        raise DataFileError(
            str(path), f"{path} is damaged: it has more than {_DEEPEST} objects in one another; {REMEDY}"
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
