"""Space of a cache on its disk: counted for all processes of a host, and made free by removing what was used least lately."""

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datarax_core.background import renew_in_forks
from datarax_core.errors import ConfigError

from .segments import bytes_in_segment

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]  # `require_locks` says so

NOTE: Final = ".json"
PART: Final = ".part"

_STATE: Final = struct.Struct("<QQ")
_SPARE: Final = 32
"""More is removed than is needed, by this part of the limit, so that files are not looked through again and again."""

_FREE_SHARE: Final = 20
_MOST_FREE: Final = 10 << 30
"""Without a limit, this part of the disk is left free, at most so many bytes."""


def require_locks() -> None:
    """Raise where there are no locks of files that end with their process, as on Windows.

    Raises:
        ConfigError: Says what to do.
    """
    if _fcntl is None:
        raise ConfigError("a cache needs the file locks of Linux and macOS; leave cache_dir out, or read in WSL")


def lock(fd: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed, or its process ends, however it ends; return False if another one has it locked.

    Args:
        fd: The open file.
        shared: Whether others may lock it so, too. A lock that is held is changed.
        wait: Whether to wait for others.
    """
    kind = _fcntl.LOCK_SH if shared else _fcntl.LOCK_EX
    try:
        _fcntl.flock(fd, kind if wait else kind | _fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


@dataclass(slots=True)
class _Kept:
    """Something in the cache that can be removed: a segment, or a whole file with its note."""

    used: float
    size: int
    path: str
    note: str | None


class Space:
    """Bytes that a cache takes, in a file that the processes of a host lock, count in, and read.

    What is to be stored is counted before it is written, so that the limit holds whenever a process is killed; the count is
    made anew from the files when a process begins to store, and when room is made.

    Args:
        folder: Folder of the cache.
        limit: Bytes that may be taken; None leaves a twentieth of the disk free, at most 10 GiB.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.blocks, self.files = folder / "blocks", folder / "files"
        self._folder, self._limit = folder, limit
        self._path = str(folder / "state")
        self._lock = threading.Lock()
        self._fd = -1
        self._is_counted = False
        self.last_removed_use = 0.0
        """Time of the last use of what was removed for this process: since the epoch, in seconds."""
        renew_in_forks(self)

    def __del__(self) -> None:
        self._close()

    def renew_in_fork(self) -> None:
        """Open the file anew: a fork shares the locks of its parent otherwise."""
        self._lock = threading.Lock()
        self._close()

    def generation(self) -> int:
        """Return a number that grows whenever something is removed; 0 if nothing was stored here yet. Costs a microsecond."""
        if self._fd < 0:
            return 0
        return int(_STATE.unpack(os.pread(self._fd, _STATE.size, 0).ljust(_STATE.size, b"\0"))[1])

    def reserve(
        self, size: int, before_removing: Callable[[], None] = lambda: None, *, part: str | None = None
    ) -> bool:
        """Count bytes that are going to be stored, and make room for them; return False if there is no room to be made.

        Args:
            size: The bytes.
            before_removing: Called before files are looked through, to note what was used in files.
            part: The file that the bytes are going to be stored in, if there is one already.

        Raises:
            OSError: The folder cannot be made, or is read only.
        """
        if self._limit is not None and size > self._limit:
            return False
        with self._locked():
            total, generation = self._state()
            if not self._is_counted:
                total = sum(kept.size for kept in self._all_kept()) + self._parts(part)
                self._is_counted = True
            if size > (room := self._room(total)):
                before_removing()
                total, room = self._after_removing(size + (self._limit or 0) // _SPARE, part)
                generation += 1
            fits = size <= room
            self._write(total + size if fits else total, generation)
        return fits

    def release(self, size: int) -> None:
        """Count bytes no more that were reserved, and are not stored."""
        with suppress(OSError), self._locked():
            total, generation = self._state()
            self._write(max(total - size, 0), generation)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock of the cache: nobody removes or counts anything meanwhile.

        Raises:
            OSError: The folder cannot be made, or is read only.
        """
        with self._locked():
            yield

    # -- inside ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            while True:
                if self._fd < 0:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                lock(self._fd)
                if os.fstat(self._fd).st_nlink:
                    break
                self._close()  # somebody removed the folder
                self._is_counted = False
            try:
                yield
            finally:
                _fcntl.flock(self._fd, _fcntl.LOCK_UN)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _state(self) -> tuple[int, int]:
        total, generation = _STATE.unpack(os.pread(self._fd, _STATE.size, 0).ljust(_STATE.size, b"\0"))
        return total, generation

    def _write(self, total: int, generation: int) -> None:
        os.pwrite(self._fd, _STATE.pack(total, generation), 0)

    def _room(self, total: int) -> int:
        if self._limit is not None:
            return self._limit - total
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - min(disk.f_blocks * disk.f_frsize // _FREE_SHARE, _MOST_FREE)

    def _after_removing(self, wanted: int, part: str | None) -> tuple[int, int]:
        """Remove what was used least lately until there is room for so many bytes; return the bytes taken, and the room."""
        parts = self._parts(part)
        kept = sorted(self._all_kept(), key=lambda each: each.used)
        total = parts + sum(each.size for each in kept)
        room = self._room(total)
        for each in kept:
            if room >= wanted:
                break
            if _remove(each):
                total, room = total - each.size, room + each.size
                self.last_removed_use = max(self.last_removed_use, each.used)
        return total, room

    def _all_kept(self) -> Iterator[_Kept]:
        """Yield all that can be removed."""
        for sizes in _entries(self.blocks):
            block_bytes = int(sizes.name.partition("x")[0])
            for prefix in _entries(sizes.path):
                for of_object in _entries(prefix.path):
                    for segment in _entries(of_object.path):
                        with suppress(OSError):  # removed meanwhile
                            used = segment.stat().st_mtime
                            yield _Kept(used, bytes_in_segment(segment.path, block_bytes), segment.path, None)
        for entry in _entries(self.files):
            if not entry.name.endswith((NOTE, PART)):
                note = entry.path + NOTE
                with suppress(OSError):
                    size, used = entry.stat().st_size, entry.stat().st_mtime
                    with suppress(OSError):
                        used = os.stat(note).st_mtime  # noqa: PTH116 - as the others
                    yield _Kept(used, size, entry.path, note)

    def _parts(self, own: str | None) -> int:
        """Remove what killed processes left of downloads, and return the bytes that those in progress take, but for ``own``."""
        total = 0
        for entry in _entries(self.files):
            if entry.name.endswith(PART) and entry.path != own:
                with suppress(OSError):
                    fd = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
                    try:
                        if lock(fd, wait=False):
                            os.unlink(entry.path)  # noqa: PTH108
                        else:
                            total += int(entry.name.split(".")[-2])
                    finally:
                        os.close(fd)
        return total


def _remove(kept: _Kept) -> bool:
    """Remove a file of the cache; return False if it is a whole file that is in use, or cannot be removed."""
    try:
        if kept.note is None:
            os.unlink(kept.path)  # noqa: PTH108
            with suppress(OSError):
                os.rmdir(os.path.dirname(kept.path))  # noqa: PTH106, PTH120 - unless there are other segments
            return True
        fd = os.open(kept.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not lock(fd, wait=False):
                return False
            os.unlink(kept.path)  # noqa: PTH108
            with suppress(OSError):
                os.unlink(kept.note)  # noqa: PTH108
        finally:
            os.close(fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _entries(folder: str | Path) -> list[Any]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
