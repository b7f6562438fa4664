"""Building blocks of sources whose records are in files: a table of the files, and a pool of open ones.

A source over files of any format needs three answers, and `FileTable` and `OpenFiles` give them: which file holds a record, is
the file still the one whose records were counted, and which files are open. A format brings two things of its own: a count of
the records of a file, and an object that reads rows of an open file::

    paths = ["train-0.rows", "train-1.rows"]
    stamps = [require_file(path) for path in paths]
    table = FileTable.of(paths, [stamp.size // ROW_BYTES for stamp in stamps], stamps)
    files = OpenFiles(table, RowReader)  # a class with `read(rows)` and `close()`

    def read(records: np.ndarray) -> list[bytes]:
        return table.read_by_part(records, lambda part, rows: files.use(part, lambda reader: reader.read(rows)))

Records count from 0 over all files, file after file; a row is the number of a record in its file.
"""

import os
import stat
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from datarax_core.background import leave_to_parent, renew_in_forks
from datarax_core.errors import DataFileError, RecordError

ResultT = TypeVar("ResultT")

_MANY_OPENINGS: Final = 256
_USES_OF_AN_OPENING: Final = 8
"""Openings that a warning is worth: so many, and more than one in so many uses of files."""


class Stamp(NamedTuple):
    """Size, modification time and inode of a file, which show whether the file was written to or replaced."""

    size: int
    """Bytes."""

    changed_ns: int
    """Time of the last modification, in nanoseconds."""

    inode: int

    @classmethod
    def of(cls, file: str | int) -> Self:
        """Return the stamp that a file, named by its path or its descriptor, has now. Costs a microsecond.

        Raises:
            OSError: The file does not exist, or its folder cannot be searched.
        """
        now = os.stat(file)  # noqa: PTH116 - a fifth of the time of Path.stat, and called for each file of each batch
        return cls(now.st_size, now.st_mtime_ns, now.st_ino)

    def require_same(self, path: str, now: "Stamp | None" = None) -> None:
        """Raise if the file at ``path`` has another stamp than this one.

        Args:
            path: The file.
            now: Its stamp now, if the caller has it; None looks at the file.

        Raises:
            DataFileError: The file shrank, grew, was written to, replaced or removed.
        """
        try:
            now = now or Stamp.of(path)
        except OSError as error:
            raise DataFileError(
                path, f"{path} is gone: it was removed while a source read it ({error.strerror})"
            ) from error
        if now == self:
            return
        change = (
            f"has {now.size} bytes where it had {self.size}" if now.size != self.size else "was written to or replaced"
        )
        raise DataFileError(
            path,
            f"{path} changed while a source read it: it {change}; leave files as they are, and build the source anew",
        )


def require_file(path: str, advice: str = "") -> Stamp:
    """Return the stamp of an ordinary file that this process may read.

    Args:
        path: The file.
        advice: How to get the file, appended to the message if there is none, such as ``"prepare the data set anew"``.

    Raises:
        FileNotFoundError: The file does not exist.
        PermissionError: The file may not be read.
        DataFileError: The path is that of a folder, a pipe or a device.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - see `Stamp.of`
            raise DataFileError(path, f"{path} is no ordinary file, but a folder, a pipe or a device")
        with open(path, "rb"):  # noqa: PTH123 - see `Stamp.of`
            return Stamp.of(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {path}{advice and f'; {advice}'}") from error
    except PermissionError as error:
        raise PermissionError(f"permission denied: {path}; make the file readable for this user") from error


@dataclass(frozen=True, eq=False, slots=True)
class FileTable:
    """Files in their order, with the number of records of each, and the stamp that each had when they were counted.

    A part is a run of consecutive records of one file: mostly the whole file. A source that serves only some rows of a file,
    such as a split of a data set, has parts with those rows; several parts may belong to one file. Record i of the table is
    the i-th record of all parts, part after part. A table is picklable, and unpickling does not look at the files.
    """

    paths: tuple[str, ...]
    """File of each part."""

    counts: np.ndarray
    """int64 (parts,): number of records of each part."""

    offsets: np.ndarray
    """int64 (parts,): record index minus row, the same for all records of a part."""

    ends: np.ndarray
    """int64 (parts,): record index after the last record of each part."""

    stamps: tuple[Stamp | None, ...]
    """Stamp of each file; None for a file that is not on this machine, which is never checked for changes."""

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        counts: Sequence[int],
        stamps: Sequence[Stamp | None],
        first_rows: Sequence[int] | None = None,
    ) -> Self:
        """Return the table of parts in their order.

        Args:
            paths: File of each part.
            counts: Number of records of each part.
            stamps: Stamp of each file, taken before its records were counted (see `require_file`).
            first_rows: Row of the first record of each part; None for whole files, which begin at row 0.

        Raises:
            ValueError: The arguments differ in length.
        """
        rows = [0] * len(paths) if first_rows is None else first_rows
        if not len(paths) == len(counts) == len(stamps) == len(rows):
            raise ValueError(
                f"a file table has one count, stamp and first row for each of its {len(paths)} paths, "
                f"not {len(counts)}, {len(stamps)} and {len(rows)}"
            )
        sizes = np.asarray(counts, np.int64)
        ends = np.cumsum(sizes)
        return cls(tuple(paths), sizes, ends - sizes - np.asarray(rows, np.int64), ends, tuple(stamps))

    @property
    def num_records(self) -> int:
        """Number of records of all parts."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def parts_of(self, records: np.ndarray) -> np.ndarray:
        """Return the part of each record, int64 (k,), for int64 (k,) record indices."""
        parts: np.ndarray = self.ends.searchsorted(records, side="right")  # faster than np.searchsorted for few records
        return parts

    def rows_of(self, records: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Return the row of each record in its file, int64 (k,), for int64 (k,) record indices and the part of each."""
        rows: np.ndarray = records - self.offsets[parts]
        return rows

    def place(self, record: int) -> tuple[str, int]:
        """Return (path, row) of a record."""
        records = np.asarray([record])
        parts = self.parts_of(records)
        return self.paths[int(parts[0])], int(self.rows_of(records, parts)[0])

    def require_unchanged(self, part: int) -> None:
        """Raise if the file of a part is not the one whose records were counted. Costs a microsecond.

        A reader of a file that was changed under it may return anything. Call this after each read, before the records are
        used, as `OpenFiles.use` does.

        Raises:
            DataFileError: The file shrank, grew, was written to, replaced or removed.
        """
        stamp = self.stamps[part]
        if stamp is not None:
            stamp.require_same(self.paths[part])

    def read_by_part(
        self, records: np.ndarray, read_rows: Callable[[int, list[int]], Sequence[ResultT]]
    ) -> list[ResultT]:
        """Return one value for each record, in the order of ``records``, read with one call for each part.

        Args:
            records: int64 (k,) record indices, each in range; they may repeat.
            read_rows: Called with a part and the rows to read of its file; returns a value for each row, in their order. If
                several parts are read, the rows of each ascend, since files are read fastest from front to back.
        """
        if not len(records):
            return []
        parts = self.parts_of(records)
        rows = self.rows_of(records, parts)
        if (parts == parts[0]).all():
            return list(read_rows(int(parts[0]), rows.tolist()))
        order = np.argsort(records)
        sorted_parts = parts[order]
        edges = [0, *(np.flatnonzero(sorted_parts[1:] != sorted_parts[:-1]) + 1).tolist(), len(order)]
        sorted_rows: list[int] = rows[order].tolist()
        places: list[int] = order.tolist()
        values: list[Any] = [None] * len(places)
        for part, (begin, end) in zip(sorted_parts[edges[:-1]].tolist(), pairwise(edges), strict=True):
            for place, value in zip(places[begin:end], read_rows(part, sorted_rows[begin:end]), strict=True):
                values[place] = value
        return values

    def record_error(
        self, record: int, problem: str, reason: str, *, title: str, index: int | None = None
    ) -> RecordError:
        """Return the error of a record that cannot be served, which names its file, its row and its record index.

        Args:
            record: Record index in this table.
            problem: Predicate of the message, such as ``"cannot be read: its checksum is wrong"``.
            reason: The cause alone, for the error's ``reason``.
            title: Title of the source, which the message names.
            index: Record index in the source, if it differs from that in the table.
        """
        path, row = self.place(record)
        index = record if index is None else index
        return RecordError(
            f"record {row} of {path} {problem} (record {index} of {title})",
            record=index,
            reason=reason,
            path=path,
            row=row,
        )


class Closable(Protocol):
    """An open file of any format. It must also close itself when it is garbage collected."""

    def close(self) -> None:
        """Close the file; called once, and must not raise."""


FileT = TypeVar("FileT", bound=Closable)


class OpenFiles(Generic[FileT]):
    """Pool of open files, which lends each to one thread at a time and keeps a bounded number of them open between uses.

    Files are opened when they are first used, and again after `close`. Any number of threads may use the pool; if several use
    one file at once, the file is opened for each of them. The pool is picklable if ``open_file`` is; the pickle holds no open
    files, and a fork of the process opens files of its own.

    Args:
        table: The files.
        open_file: Opens a file by its path. If it raises OSError, all files that are not in use are closed, and it is called
            once more, since the process may have too many open files.
        limit: How many files stay open when nobody uses them; those unused for longest are closed first.
        option: Option of the source that sets ``limit``, which a warning names if files are opened again and again; None if
            there is none, and no warning.
        not_in_forks: Plural noun for the open files in the error that a use in a forked process raises, such as ``"readers of
            ArrayRecord files"``; None if a fork of the process in which the pool was made may use the pool.
    """

    def __init__(
        self,
        table: FileTable,
        open_file: Callable[[str], FileT],
        *,
        limit: int = 256,
        option: str | None = None,
        not_in_forks: str | None = None,
    ) -> None:
        self._table = table
        self._open_file = open_file
        self._limit = limit
        self._not_in_forks = not_in_forks
        self._option = option
        self._uses = self._reopened = 0
        # paths of files closed for lack of room; None if no warning is to be given any more
        self._closed: set[str] | None = None if option is None else set()
        self._idle: OrderedDict[str, list[FileT]] = OrderedDict()  # by path, those used last at the end
        self._num_idle = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave the open files to the parent, which shares their positions, and make the lock anew."""
        self._lock = threading.Lock()
        leave_to_parent(self._idle)
        self._idle = OrderedDict()
        self._num_idle = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _pool, (self._table, self._open_file, self._limit, self._not_in_forks, self._option)

    def use(self, part: int, read: Callable[[FileT], ResultT]) -> ResultT:
        """Return what ``read`` returns for the open file of a part; the file is not lent to others meanwhile.

        The file is checked for changes before it is opened and after it was read. If ``read`` raises, the file is closed,
        since its reading position is unknown, and the error of a changed file takes precedence.

        Raises:
            DataFileError: The file changed since the table was made.
            RuntimeError: This process is a fork of the one in which the pool was made, where such files do not work.
        """
        self.require_own_process()
        file = self._take(part)
        try:
            result = read(file)
        except BaseException:  # an interrupted reader, too, may stand anywhere
            file.close()
            self._table.require_unchanged(part)
            raise
        try:
            self._table.require_unchanged(part)
        except DataFileError:
            file.close()
            raise
        self._give_back(self._table.paths[part], file)
        return result

    def close(self) -> None:
        """Close all files that are not in use; the next use opens them again."""
        with self._lock:
            files = [file for of_one_path in self._idle.values() for file in of_one_path]
            self._idle.clear()
            self._num_idle = 0
        for file in files:
            file.close()

    def require_own_process(self) -> None:
        """Raise in a fork of the process in which the pool was made, if such files do not work there.

        A reader with threads of its own waits for ever in a fork, where those threads do not exist.

        Raises:
            RuntimeError: This process is such a fork.
        """
        if self._not_in_forks is not None and os.getpid() != self._process:
            raise RuntimeError(
                f"this source was built in process {self._process} and is used in a fork of it, {os.getpid()}, where "
                f"{self._not_in_forks} hang; start processes by 'spawn' or 'forkserver' (of a PyTorch DataLoader: "
                "multiprocessing_context='spawn'), or build the source in the child"
            )

    def _take(self, part: int) -> FileT:
        path = self._table.paths[part]
        with self._lock:
            self._uses += 1
            if files := self._idle.pop(path, None):
                file = files.pop()
                self._num_idle -= 1
                if files:  # several threads read this file at once
                    self._idle[path] = files
                return file
            is_too_often = self._closed is not None and path in self._closed and self._is_reopened_too_often()
        if is_too_often:
            self._warn()
        self._table.require_unchanged(part)
        try:
            return self._open_file(path)
        except OSError:
            self.close()
            return self._open_file(path)

    def _is_reopened_too_often(self) -> bool:
        """Count another opening of a file that was closed for lack of room; return True once it costs much of the time."""
        self._reopened += 1
        if self._reopened < _MANY_OPENINGS or self._reopened * _USES_OF_AN_OPENING < self._uses:
            return False
        self._closed = None
        return True

    def _warn(self) -> None:
        files = len(set(self._table.paths))
        warnings.warn(
            f"{self._reopened} times in {self._uses} uses, a file was opened again that had been closed, since only "
            f"{self._limit} stay open: reading is much slower so; set {self._option} to {files}, the number of files"
            f"{_room_for_files()}",
            stacklevel=2,
        )

    def _give_back(self, path: str, file: FileT) -> None:
        unused = None
        with self._lock:
            self._idle.setdefault(path, []).append(file)
            self._idle.move_to_end(path)
            self._num_idle += 1
            if self._num_idle > self._limit:
                oldest, files = next(iter(self._idle.items()))
                unused = files.pop()
                self._num_idle -= 1
                if not files:
                    del self._idle[oldest]
                if self._closed is not None:
                    self._closed.add(oldest)
        if unused is not None:
            unused.close()


def _pool(
    table: FileTable,
    open_file: Callable[[str], Any],
    limit: int,
    not_in_forks: str | None,
    option: str | None = None,
) -> OpenFiles[Any]:
    """Return a pool without open files, as unpickling makes it."""
    return OpenFiles(table, open_file, limit=limit, not_in_forks=not_in_forks, option=option)


def _room_for_files() -> str:
    """Return the system's limit of open files as part of a sentence; "" if there is none."""
    import resource  # noqa: PLC0415 - not on every system

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return "" if soft == resource.RLIM_INFINITY else f" (this process may have {soft} open: ulimit -n)"


class LocalFilesOnlyMixin:
    """Attribute and check of a source that may download its data: ``local_files_only = True`` forbids all downloads."""

    local_files_only: bool = False

    def _check_local_cache(self, expected_paths: Iterable[str | PathLike[str]], *, dataset_name: str) -> None:
        """Raise if downloads are forbidden and a file is missing; call it before any network attempt.

        Raises:
            TypeError: ``expected_paths`` is one path, not several.
            FileNotFoundError: ``local_files_only`` is set and a path is missing; names the data set and every missing path.
        """
        if isinstance(expected_paths, str | PathLike) or not isinstance(expected_paths, Iterable):
            raise TypeError(
                f"expected_paths are the paths of {dataset_name!r}, a list of them, not {expected_paths!r:.80}"
            )
        if not self.local_files_only:
            return
        missing = [path for path in expected_paths if not Path(path).exists()]
        if missing:
            raise not_on_this_machine(dataset_name, missing)


def not_on_this_machine(dataset_name: str, missing: Iterable[str | PathLike[str]], hint: str = "") -> FileNotFoundError:
    """Return the error of a data set that is missing where ``local_files_only`` forbids a download.

    Args:
        dataset_name: The data set.
        missing: Its missing files and folders.
        hint: Appended to the message; says what there is instead, or what to do.
    """
    return FileNotFoundError(
        f"data set {dataset_name!r} is not on this machine and local_files_only=True forbids fetching it; "
        f"missing: {', '.join(map(str, missing))}{hint}"
    )
