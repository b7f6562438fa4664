"""Tables that one pass over all records makes, and that are kept in the user's cache folder for later processes."""

import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import jax
import numpy as np

from datarax_core.background import usable_cores
from datarax_core.records.joining import host_column
from datarax_core.records.spec import Batch, named_fields, nbytes_of
from datarax_core.sources.blocks import BlockSize
from datarax_core.sources.known_columns import field_struct
from datarax_core.sources.source import DataSourceModule

from .table_files import TableFile

Compute = Callable[[Any, np.ndarray], Any]
"""Function of a batch of NumPy columns and the int64 (k,) indices of its records; returns (k, ...) rows of the table."""

_ROWS_AT_ONCE: Final = 1 << 20  # of columns that are held or mapped
_SEARCH_SECONDS: Final = 2.0
_SHOW_AFTER: Final = 1.0
_MOST_THREADS: Final = 16
_OF_ORDER: Final = {"order", "seed"}


def kept_table(
    source: DataSourceModule,
    compute: Compute,
    *,
    key: Any,
    dtype: Any,
    shape: tuple[int, ...] = (),
    fields: Sequence[str] | None = None,
    what: str = "filter",
) -> np.ndarray:
    """Return the table of what a function computes for each record, (num_records, ``*shape``), read-only.

    All records are read once, in blocks, by several threads; the function is called in this one, block after block. Columns
    that the source holds or maps in one piece are not read through records (`DataSourceModule.whole_column`). A progress bar is
    shown on stderr, if that is a terminal and the pass takes over a second.

    The table is kept in the user's cache folder (``DATARAX_CACHE_DIR``) for later processes, under the fingerprint of the
    source, the sizes and times of change of its files, and ``key``, if records are read from files that the source can name
    (`DataSourceModule.data_files`). A source whose files changed has another table.

    Args:
        source: Has records by index, the same in every epoch.
        compute: Function of a batch of the columns and of the record indices; returns an array (k, ``*shape``).
        key: What tells this computation from others, as JSON; None keeps nothing.
        dtype: Of the table.
        shape: Of one row of the table.
        fields: Dotted names of the fields that ``compute`` is called with, as a dict; None is all, nested as the records are.
        what: What is computed, in errors and on the progress bar.

    Raises:
        SpecError: There is no such field.
        ValueError: The records differ from epoch to epoch.
        TypeError: ``compute`` returned something else; names the records.
        Exception: Whatever ``compute`` or reading raises; a note names the record.
    """
    source.require_record_indices()
    if source.varies_by_epoch or source.reorders_by_epoch:
        raise ValueError(
            f"the records of {source.title} differ from epoch to epoch, so that a {what} of them would hold for the first "
            "epoch only; make it of the source below, before records are randomised"
        )
    dtype = np.dtype(dtype)
    for field in fields or ():
        field_struct(source, field)
    columns = _held_columns(source, fields)
    file = None if key is None or columns is not None else _file_of(source, [key, str(dtype), list(shape), what])
    table = None if file is None else file.read((source.num_records, *shape), dtype)
    if table is None:
        table, made = np.empty((source.num_records, *shape), dtype), _Rows(compute, what, source.title)
        blocks = _blocks_of(source, fields) if columns is None else _slices_of(columns, source.num_records)
        with _bar(f"{what} of {source.title}", source.num_records) as shown:
            for indices, batch in blocks:
                rows = table[indices[0] : indices[-1] + 1]
                rows[...] = made.of(batch, indices, rows)
                shown(int(indices[-1]) + 1)
        if file is not None:
            file.write(table)
    table.flags.writeable = False
    return table


# -- where a table is kept -----------------------------------------------------------------------------------------------------


def _file_of(source: DataSourceModule, key: list[Any]) -> TableFile | None:
    """Return the file that keeps a table; None if the data cannot be told from other data for sure."""
    files = source.data_files()
    if not files:
        return None
    try:
        stamps = [(path, os.stat(path)) for path in files]  # noqa: PTH116 - many files
    except OSError:
        return None
    stamped = [[os.path.basename(path), stamp.st_size, stamp.st_mtime_ns] for path, stamp in stamps]  # noqa: PTH119
    facts = {name: value for name, value in source.fingerprint().items() if name not in _OF_ORDER}
    text = json.dumps([facts, stamped, key], sort_keys=True, default=repr)
    return TableFile(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


# -- the pass ------------------------------------------------------------------------------------------------------------------


def _held_columns(source: DataSourceModule, fields: Sequence[str] | None) -> dict[str, Any] | None:
    if fields is None:
        return None
    columns = {field: source.whole_column(field) for field in fields}
    return None if any(column is None for column in columns.values()) else columns


def _slices_of(columns: dict[str, Any], length: int) -> Iterator[tuple[np.ndarray, Batch]]:
    for start in range(0, length, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, length)
        yield np.arange(start, stop), {field: column[start:stop] for field, column in columns.items()}


def _blocks_of(source: DataSourceModule, fields: Sequence[str] | None) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield (record indices, records) of all blocks in sequence; threads read some blocks ahead."""

    def read(indices: np.ndarray) -> Batch:
        batch = jax.tree.map(host_column, source.fetch_on_host(indices))
        if fields is None:
            return batch
        named = named_fields(batch)
        return {field: named[field] for field in fields}

    threads = min(_MOST_THREADS, 2 * usable_cores()) if source.is_thread_safe else 1
    size, start, length = BlockSize(), 0, source.num_records
    waiting: deque[tuple[np.ndarray, Future[Batch]]] = deque()
    pool = ThreadPoolExecutor(threads, "datarax-table")
    try:
        while start < length or waiting:
            while start < length and len(waiting) < threads:
                indices = np.arange(start, min(start + size.records, length))
                waiting.append((indices, pool.submit(read, indices)))
                start += len(indices)
            indices, block = waiting.popleft()
            batch = block.result()
            size.note(len(indices), nbytes_of(batch))
            yield indices, batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a table, computed block by block and checked."""

    compute: Compute
    what: str
    title: str

    def of(self, batch: Batch, indices: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return what the function gives for a block, to be written into ``rows``."""
        span = f"records {indices[0]} .. {indices[-1]} of {self.title}"
        try:
            found = np.asarray(self.compute(batch, indices))
        except Exception as error:
            error.add_note(f"while the {self.what} was computed for {span}")
            error.add_note(_first_to_fail(self.compute, batch, indices))
            raise
        if found.shape != rows.shape or not _becomes(found.dtype, rows.dtype):
            wanted = "one boolean a record" if rows.dtype.kind == "b" else f"{rows.dtype} of shape {list(rows.shape)}"
            raise TypeError(
                f"the {self.what} gave {found.dtype} of shape {list(found.shape)} for {span}, {len(indices)} in all; return "
                f"{wanted}, an array in their order"
            )
        return found


def _becomes(found: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    return found == dtype if dtype.kind == "b" else np.can_cast(found, dtype, "same_kind")


def _first_to_fail(compute: Compute, batch: Batch, indices: np.ndarray) -> str:
    """Return a sentence on the first record that fails by itself."""
    began = perf_counter()
    for row, index in enumerate(indices.tolist()):
        if perf_counter() - began > _SEARCH_SECONDS:
            return f"of these, the first {row} do not fail by themselves; the others were not tried, as that takes long"
        one = jax.tree.map(lambda column, row=row: column[row : row + 1], batch)
        try:
            compute(one, indices[row : row + 1])
        except Exception as error:  # noqa: BLE001 - the function may raise anything; the error of the block is raised
            return f"record {index} fails by itself: {type(error).__name__}: {error!s:.200}"
    return "none of these records fails by itself"


# -- progress ------------------------------------------------------------------------------------------------------------------


def _bar(text: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Return a context that gives a function of the number of records done; it shows a bar on a terminal after a second."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return _Bar(text, total) if is_terminal else nullcontext(lambda _done: None)


class _Bar(AbstractContextManager[Callable[[int], None]]):
    def __init__(self, text: str, total: int) -> None:
        self._text, self._total, self._began = text, total, perf_counter()
        self._display: Any = None

    def __enter__(self) -> Callable[[int], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()

    def _show(self, done: int) -> None:
        if self._display is None:
            if perf_counter() - self._began < _SHOW_AFTER:
                return
            from rich.console import Console  # noqa: PLC0415 - a pass of less than a second needs none
            from rich.progress import Progress  # noqa: PLC0415

            self._display = Progress(console=Console(stderr=True), transient=True)
            self._display.start()
            self._task = self._display.add_task(self._text, total=self._total)
        self._display.update(self._task, completed=done)
