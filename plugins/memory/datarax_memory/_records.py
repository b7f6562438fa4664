"""The records of a source: what it was given, and the columns made of it."""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from datarax_core.sources import Columns, columns_of

from ._config import MemorySourceConfig
from ._files import load_columns

Origin: TypeAlias = tuple[str | None, bool]


@dataclass(frozen=True, eq=False, slots=True)
class Records:
    """Shared by the copies of a source; compared by identity, and outside of every graph."""

    data: Any
    """As it was given: a dict of arrays, or a sequence of elements; arrays by name if it was read from files."""

    columns: Columns

    elements: tuple[Any, ...] | None
    """The elements of a list or tuple, for those who want them one at a time; None where the columns are all there is."""

    origin: Origin
    """The path that it was read from, and whether files were read in whole."""


def records_of(config: MemorySourceConfig, data: Any, title: str) -> Records:
    """The records of ``data``, or of the files that the config names; of another source's records those themselves.

    Raises:
        TypeError, ValueError: Both are given, or neither; ``cacheable`` has nothing to read; or the data cannot be
            served, see `columns_of`.
        FileNotFoundError, PermissionError: See `load_columns`.
    """
    origin = config.path, config.cacheable
    if isinstance(data, Records):
        if data.origin == origin:
            return data
        data = None if data.origin[0] is not None else data.data
    if (data is None) == (config.path is None):
        given = "neither data nor a path" if data is None else "both data and a path"
        raise ValueError(f"{title} was given {given}; pass data, or name a path in its config")
    if config.path is not None:
        data = load_columns(config.path, keep_in_memory=config.cacheable)
    elif config.cacheable:
        data = _read_in(data, title)
    if isinstance(data, Columns):
        return Records(data.columns, data, None, origin)
    elements = tuple(data) if isinstance(data, list | tuple) else None
    return Records(data, columns_of(data if elements is None else elements, title), elements, origin)


def _read_in(data: Any, title: str) -> Any:
    """Memory-mapped columns as arrays in memory; those that are there already as they are."""
    if isinstance(data, np.ndarray) and _is_mapped(data):
        return np.array(data)
    if isinstance(data, Mapping) and any(map(_is_mapped, data.values())):
        return {name: np.array(column) if _is_mapped(column) else column for name, column in data.items()}
    raise ValueError(
        f"{title} has cacheable=True, but no column of its data is memory-mapped: all of it is in memory already, and "
        "nothing would be read or kept; leave cacheable out"
    )


def _is_mapped(column: Any) -> bool:
    while column is not None and not isinstance(column, np.memmap | mmap.mmap):
        column = getattr(column, "base", None)
    return column is not None


def unchangeable(element: Any) -> Any:
    """An element of a list, as it was given, but that its arrays are read-only views: a loop cannot change the data."""
    if isinstance(element, np.ndarray):
        view = element.view()
        view.flags.writeable = False
        return view
    if isinstance(element, Mapping):
        return {name: unchangeable(value) for name, value in element.items()}
    return tuple(map(unchangeable, element)) if type(element) is tuple else element
