"""Which data sets TFDS knows by name, and which one may have been meant."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ._installed import tensorflow_datasets


def builder_class(name: str) -> Any:
    """The class by which TFDS prepares a data set; None if it knows none of that name. Touches no network.

    Raises:
        ImportError: Its module imports what is not installed.
    """
    core = tensorflow_datasets().core
    try:
        return core.registered.imported_builder_cls(core.naming.camelcase_to_snakecase(name))
    except core.registered.DatasetNotFoundError:
        return None


def importable_builder_class(name: str) -> Any:
    """That class, or None as well where its module imports what is not installed: for those who need not have it."""
    try:
        return builder_class(name)
    except ImportError:
        return None


def known_names(dirs: Iterable[Path]) -> list[str]:
    """The data sets that TFDS can prepare, and the folders of ``dirs``; without network, in about 0.3 s."""
    on_disk = {path.name for folder in dirs if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    registered = tensorflow_datasets().core.registered.list_imported_builders()
    return sorted({*registered, *on_disk} - {"downloads"})
