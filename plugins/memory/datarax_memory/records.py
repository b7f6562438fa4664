"""The records of a memory source: the data as it was given, and the columns made of it."""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from datarax_core.files import is_remote
from datarax_core.records import Ragged
from datarax_core.sources import Columns, columns_of
from datarax_core.storage import RangeReader

from .checks import parts_of
from .config import MemorySourceConfig
from .file_columns import FileColumns, StoredColumns
from .files import load_columns
from .objects import load_stored_columns
from .stored import StoredArray, StoredRagged

Origin: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Records:
    """The records that all copies of a source share; compared by identity, and outside of the nnx graph."""

    data: Any
    """The data as it was given: a dict of arrays or a sequence of elements; arrays by name if it was read from files."""

    columns: Columns

    elements: tuple[Any, ...] | None
    """The elements of a list or tuple, served as single elements; None if the data are columns."""

    origin: Origin
    """The path that the data were read from (None: they were passed), whether files were read into memory, and the columns
    that were chosen, if any were."""


def records_of(config: MemorySourceConfig, data: Any, title: str) -> Records:
    """Return the records of ``data``, or of the files that the config names.

    ``data`` may be the `Records` of another source, which are shared unless path or ``cacheable`` differ.

    Raises:
        TypeError, ValueError: Both data and a path are given, or neither; ``cacheable`` is set, but nothing is mapped; or
            `columns_of` refuses the data.
        FileNotFoundError, PermissionError: `load_columns` cannot read the path.
    """
    chosen = config.stored_columns
    origin: Origin = (config.path, config.cacheable, *(() if chosen is None else (tuple(chosen.items()),)))
    if isinstance(data, Records):
        if data.origin == origin:
            return data
        data = None if data.origin[0] is not None else data.data
    if (data is None) == (config.path is None):
        given = "neither data nor a path" if data is None else "both data and a path"
        raise ValueError(f"{title} was given {given}; pass data, or name a path in its config")
    if config.path is not None:
        return _of_path(config, config.path, origin)
    if config.cacheable:
        data = _read_in(data, title)
    if isinstance(data, Columns):
        return Records(data.columns, data, None, origin)
    elements = tuple(data) if isinstance(data, list | tuple) else None
    return Records(data, columns_of(data, title), elements, origin)


def _of_path(config: MemorySourceConfig, path: str, origin: Origin) -> Records:
    chosen = config.stored_columns
    if is_remote(path):
        read_all = True if config.cacheable else {"device": True, "host": False}.get(config.placement)
        data = load_stored_columns(RangeReader.of(config), path, read_all=read_all, columns=chosen)
    else:
        data = load_columns(path, keep_in_memory=config.cacheable, columns=chosen)
    named = {name: name for name in data} if chosen is None else chosen
    stored = [part for name, column in data.items() for part in parts_of(named[name], column)]
    is_stored = any(isinstance(column, StoredArray | StoredRagged) for column in data.values())
    return Records(data, (StoredColumns if is_stored else FileColumns)(data, path, stored), None, origin)


def _read_in(data: Any, title: str) -> Any:
    """Return the data with memory-mapped columns read into memory; other columns unchanged."""
    if isinstance(data, np.ndarray | Ragged) and _is_mapped(data):
        return _in_memory(data)
    if isinstance(data, Mapping) and any(map(_is_mapped, data.values())):
        return {name: _in_memory(column) if _is_mapped(column) else column for name, column in data.items()}
    raise ValueError(
        f"{title} has cacheable=True, but no column of its data is memory-mapped: all of it is in memory already, and "
        "nothing would be read or kept; leave cacheable out"
    )


def _in_memory(column: Any) -> Any:
    return column.copy() if isinstance(column, Ragged) else np.array(column)


def _is_mapped(column: Any) -> bool:
    column = column.values if isinstance(column, Ragged) else column
    while column is not None and not isinstance(column, np.memmap | mmap.mmap):
        column = getattr(column, "base", None)
    return column is not None


def unchangeable(element: Any) -> Any:
    """Return an element of a list with its arrays as read-only views, so that a loop cannot change the data."""
    if isinstance(element, np.ndarray):
        view = element.view()
        view.flags.writeable = False
        return view
    if isinstance(element, Mapping):
        return {name: unchangeable(value) for name, value in element.items()}
    return tuple(map(unchangeable, element)) if type(element) is tuple else element
