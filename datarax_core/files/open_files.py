"""Pool of open files: each is lent to one thread at a time, and a bounded number of them stay open between uses."""

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from datarax_core.background import leave_to_parent, renew_in_forks
from datarax_core.errors import DataFileError

from .table import FileTable

ResultT = TypeVar("ResultT")

_MANY_OPENINGS: Final = 256
_USES_OF_AN_OPENING: Final = 8
"""Openings that a warning is worth: so many, and more than one in so many uses of files."""


class Closable(Protocol):
    """An open file of any format. It must also close itself when it is garbage collected.

    A file that several threads may read at once has ``may_be_shared = True``, an attribute or property, and ``users``, the
    number of threads that read it now, which the pool sets.

    A file that stays the one that was opened whatever happens to its path, such as a copy of an object on this machine, or that
    checks what it reads by itself, has ``keeps_version = True``: the pool does not look at the path again after each use.
    """

    def close(self) -> None:
        """Close the file; called once, and must not raise."""


FileT = TypeVar("FileT", bound=Closable)


class OpenFiles(Generic[FileT]):
    """Pool of open files, which lends each to one thread at a time and keeps a bounded number of them open between uses.

    Files are opened when they are first used, and again after `close`. Any number of threads may use the pool; if several use
    one file at once, the file is opened for each of them, unless it may be shared (see `Closable`). The pool is picklable if
    ``open_file`` is; the pickle holds no open files, and a fork of the process opens files of its own.

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
        self._lent: dict[str, list[_Lent[FileT]]] = {}
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}  # held while a file is opened
        self._process = os.getpid()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave the open files to the parent, which shares their positions, and make the lock anew."""
        self._lock = threading.Lock()
        leave_to_parent((self._idle, self._lent))
        self._idle, self._lent, self._opening = OrderedDict(), {}, {}
        self._num_idle = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _pool, (self._table, self._open_file, self._limit, self._not_in_forks, self._option)

    def use(self, part: int, read: Callable[[FileT], ResultT]) -> ResultT:
        """Return what ``read`` returns for the open file of a part; the file is not lent to others meanwhile.

        The file is checked for changes before it is opened, and after it was read unless it keeps its version (see `Closable`);
        at an address, each check costs a request. If ``read`` raises, the file is closed,
        since its reading position is unknown, and the error of a changed file takes precedence.

        Raises:
            DataFileError: The file changed since the table was made.
            RuntimeError: This process is a fork of the one in which the pool was made, where such files do not work.
        """
        self.require_own_process()
        lent = self._take(part)
        try:
            result = read(lent.file)
        except BaseException:  # an interrupted reader, too, may stand anywhere
            lent.is_broken = True
            self._give_back(lent)
            self._table.require_unchanged(part)
            raise
        try:
            if not getattr(lent.file, "keeps_version", False):
                self._table.require_unchanged(part)
        except DataFileError:
            lent.is_broken = True
            raise
        finally:
            self._give_back(lent)
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

    def _take(self, part: int) -> "_Lent[FileT]":
        path = self._table.paths[part]
        if (lent := self._lent_again(path)) is not None:
            return lent
        with self._lock:
            opening = self._opening.setdefault(path, threading.Lock())
        with opening:  # a file that may be shared is opened once by all threads that wait here
            if (lent := self._lent_again(path)) is not None:
                return lent
            with self._lock:
                self._uses += 1
                is_too_often = self._closed is not None and path in self._closed and self._is_reopened_too_often()
            if is_too_often:
                self._warn()
            self._table.require_unchanged(part)
            try:
                file = self._open_file(path)
            except OSError:
                self.close()
                file = self._open_file(path)
            with self._lock:
                return self._newly_lent(path, file)

    def _lent_again(self, path: str) -> "_Lent[FileT] | None":
        """Return a file that is open: one that nobody uses, or one that may be shared; None if there is none."""
        with self._lock:
            if files := self._idle.pop(path, None):
                self._uses += 1
                file = files.pop()
                self._num_idle -= 1
                if files:  # several threads read this file at once
                    self._idle[path] = files
                return self._newly_lent(path, file)
            for lent in self._lent.get(path, ()):
                if lent.may_be_shared:
                    self._uses += 1
                    lent.set_users(lent.users + 1)
                    return lent
        return None

    def _newly_lent(self, path: str, file: FileT) -> "_Lent[FileT]":
        lent = _Lent(path, file)
        lent.set_users(1)
        self._lent.setdefault(path, []).append(lent)
        return lent

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

    def _give_back(self, lent: "_Lent[FileT]") -> None:
        unused: FileT | None = None
        path, file = lent.path, lent.file
        with self._lock:
            lent.set_users(lent.users - 1)
            if lent.users:
                return
            of_path = self._lent.get(path, [])
            if lent in of_path:
                of_path.remove(lent)
            if not of_path:
                self._lent.pop(path, None)
            if lent.is_broken:
                unused = file
            else:
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


@dataclass(slots=True, eq=False)
class _Lent(Generic[FileT]):
    """An open file that is in use, by several threads if it may be shared."""

    path: str
    file: FileT
    users: int = 0
    is_broken: bool = False

    @property
    def may_be_shared(self) -> bool:
        return not self.is_broken and getattr(self.file, "may_be_shared", False)

    def set_users(self, users: int) -> None:
        self.users = users
        if hasattr(self.file, "users"):
            self.file.users = users


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
