"""Pool of open files: each is lent to one thread at a time, and a bounded number of them stay open between uses."""

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from datarax_core.background import leave_to_parent, renew_in_forks
from datarax_core.errors import DataFileError

from .table import FileTable

ResultT = TypeVar("ResultT")

_MANY_OPENINGS: Final = 256
_USES_OF_AN_OPENING: Final = 8
"""Openings that a warning is worth: so many, and more than one in so many uses of files."""


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
