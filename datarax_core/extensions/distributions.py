"""Distributions that are installed, found in the folders of ``sys.path``, and the texts of their metadata.

``importlib.metadata`` takes five times as long to list a folder: it makes a path and a normalized name of each distribution.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from datarax_core.errors import printable

_CHUNK: Final = 1 << 16
"""Bytes that are read at once: more than most metadata, and less than what the allocator takes from the system each time."""

_SEPARATORS: Final = re.compile(r"[-_.]+")


class InFolder(metadata.Distribution):
    """A distribution whose metadata is a folder, or the file of an egg."""

    def __init__(self, place: str) -> None:
        self.place = place

    def read_text(self, filename: str) -> str | None:
        """Return a file of the metadata as text; None if there is no such file."""
        return _text_of(f"{self.place}/{filename}" if filename else self.place)

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Return the path of an installed file."""
        return Path(self.place).parent / path


def installed(path: Sequence[str] | None = None) -> Iterator[metadata.Distribution]:
    """Yield the distributions that are installed at this moment, those of the first folder of the path first.

    Finders of other packages, and what is no plain folder, are asked as ``importlib.metadata`` asks them.
    """
    path = list(dict.fromkeys(map(str, sys.path if path is None else path)))  # PYTHONPATH may name a folder again
    for finder in sys.meta_path:
        if finder is PathFinder:
            for folder in path:
                yield from _in_folder(folder)
        elif (find := getattr(finder, "find_distributions", None)) is not None:
            yield from find(metadata.DistributionFinder.Context(path=path))


def _in_folder(folder: str) -> Iterator[metadata.Distribution]:
    try:
        names = [] if folder.endswith(".egg") else os.listdir(folder or ".")  # noqa: PTH208 - a path of each takes longer
    except OSError:  # a zip file, for example
        names = []
    if not names:
        yield from metadata.distributions(path=[folder])
    for name in names:
        if name.lower().endswith((".dist-info", ".egg-info")):
            yield InFolder(f"{folder or '.'}/{name}")


def place_of(dist: metadata.Distribution) -> str | None:
    """Return the path of a distribution's metadata; None if it is in no folder or file."""
    if isinstance(dist, InFolder):
        return dist.place
    # Private, and much cheaper than `dist.metadata`. A distribution of another importer may have none.
    path = getattr(dist, "_path", None)
    return None if path is None else str(path)


def by_folder(dist: metadata.Distribution) -> tuple[str, str]:
    """Return (name, version) from the name of the metadata folder, such as ``numpy-2.4.0.dist-info``, as Python does."""
    place = place_of(dist)
    if place is None:
        return str(dist.metadata["Name"]), ""
    stem, _, suffix = os.path.basename(place).rpartition(".")  # noqa: PTH119 - a path takes longer than all the rest
    name, _, version = stem.partition("-")
    return printable(name), printable(version) if suffix == "dist-info" else ""


def canonical_name(name: str) -> str:
    """Return the name of a distribution as indexes compare it; ``packaging``'s function, which imports more than it needs."""
    return _SEPARATORS.sub("-", name).lower()


def is_bare(dist: metadata.Distribution) -> bool:
    """Return True for a ``dist-info`` folder without METADATA, which an interrupted installer leaves behind."""
    place = place_of(dist) or ""
    return place.endswith(".dist-info") and Path(place).is_dir() and not Path(place, "METADATA").exists()


def read_text(dist: metadata.Distribution, name: str) -> str | None:
    """Return a file of a distribution's metadata as text; None if there is no such file."""
    path = getattr(dist, "_path", None)
    return (
        _text_of(f"{path!s}/{name}") if isinstance(path, Path) else dist.read_text(name)
    )  # else: in a zip file, for example


def _text_of(place: str) -> str | None:
    try:
        file = os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # a seventh of what Path.read_text() costs
    except OSError:
        return None
    try:
        content = os.read(file, _CHUNK)
        while more := os.read(file, _CHUNK):
            content += more
        return content.decode()
    except OSError:  # a folder, for example
        return None
    finally:
        os.close(file)
