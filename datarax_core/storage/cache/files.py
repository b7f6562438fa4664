"""Whole files of a cache: fetched once for all processes of a host, and kept where they are while they are in use."""

import errno
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final

from .space import NOTE, PART, Space, lock

DISK_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})
"""Numbers of errors of a disk that takes no more, or nothing."""

_STEP: Final = 1 << 22
_numbers: Final = count()


class HeldFile:
    """A file that stays where it is until this object is closed; a context manager of its path.

    Args:
        path: The file.
        fd: Its descriptor, which is locked, and is closed with this object.
        is_passing: Whether the file is removed then.
    """

    def __init__(self, path: str, fd: int, *, is_passing: bool = False) -> None:
        self.path, self.fd, self.is_passing = path, fd, is_passing
        self._process = os.getpid()

    def __enter__(self) -> str:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let the file be removed, by the cache or now."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            if self.is_passing and os.getpid() == self._process and os.fstat(fd).st_nlink:
                with suppress(OSError):
                    os.unlink(self.path)  # noqa: PTH108
            os.close(fd)


class WholeFiles:
    """Whole files in a folder, by key, each with a note of its checksum.

    Args:
        space: The space that they take.
        warn: Called with the kind of a trouble, and with what a user should know of it.
    """

    def __init__(self, space: Space, warn: Callable[[str, str], None]) -> None:
        self._space, self._warn = space, warn
        self._verified: set[tuple[str, int, int]] = set()

    def held(
        self,
        key: str,
        size: int,
        download: Callable[[str], None],
        *,
        name: str,
        verify: bool,
        make_room: Callable[[], None] | None,
    ) -> HeldFile:
        """Return a file that is held: the one that is kept, or one that is fetched now.

        Args:
            key: Key of the file.
            size: Its bytes.
            download: Writes the file to the path that it is called with, which exists and is empty.
            name: Name for messages.
            verify: Whether the checksum of a kept file is looked at when this process uses it for the first time.
            make_room: Called if there is no room, since all that could be removed is in use.

        Raises:
            OSError: There is no room for the file on any disk, or ``download`` raises it.
        """
        while True:
            if (kept := self._kept(key, size, verify=verify)) is not None:
                return kept
            try:
                part, is_own = self._part(key, size)
            except OSError as error:
                self._warn("disk", f"{name} is not kept: {error}")
                return self.passing(size, download, name)
            if not is_own:  # until the one that fetches the file holds it as its readers do, or was killed
                lock(part.fd, shared=True)
                part.close()
                continue
            part.is_passing = True
            if not os.path.exists(self._path(key)):  # noqa: PTH110 - as the others
                try:
                    self._fetch(part, key, size, download, make_room)
                except _RemovedError:
                    part.close()
                    continue
                except _NotKeptError as error:
                    part.close()
                    self._warn(error.kind, f"{name} is not kept: {error}")
                    return self.passing(size, download, name)
                return part
            part.close()

    def is_damaged(self, key: str) -> bool:
        """Return whether a file is kept and is not as it was written; removes it in that case."""
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if _checksum(fd) == _note(path).get("crc32"):
                return False
            self._discard(path, fd)
        finally:
            os.close(fd)
        return True

    def passing(self, size: int, download: Callable[[str], None], name: str) -> HeldFile:
        """Return a file that is removed when it is closed, in the folder of the cache or in that of temporary files."""
        cause: OSError | None = None
        for folder in (str(self._space.files), tempfile.gettempdir()):
            path = os.path.join(folder, f"passing-{os.getpid()}-{next(_numbers)}.{size}{PART}")  # noqa: PTH118
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                cause = error
                continue
            part = HeldFile(path, fd, is_passing=True)
            lock(fd)
            try:
                _fill(part, size, download)
            except (OSError, _RemovedError) as error:
                part.close()
                if isinstance(error, OSError) and error.errno not in DISK_ERRNOS:
                    raise
                cause = error if isinstance(error, OSError) else OSError(errno.ENOENT, f"{folder} was removed")
            else:
                return part
        raise OSError(
            cause.errno if cause else errno.ENOSPC,
            f"{name}, {size:,} bytes, is read as a whole file, and no disk takes it ({cause}); name a folder with room: "
            "cache_dir",
        ) from cause

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return str(self._space.files / key)

    def _kept(self, key: str, size: int, *, verify: bool) -> HeldFile | None:
        """Return the file that is kept, held; None if there is none, or if it was damaged and is removed."""
        path = self._path(key)
        try:
            held = HeldFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            lock(held.fd, shared=True)
            facts = os.fstat(held.fd)
        except OSError:
            return None
        if not facts.st_nlink:  # removed before it was locked
            held.close()
            return self._kept(key, size, verify=verify)
        note = _note(path)
        mark = (key, facts.st_mtime_ns, facts.st_ino)
        is_as_noted = facts.st_size == size and (note.get("size"), note.get("mtime_ns")) == (size, facts.st_mtime_ns)
        if is_as_noted and verify and mark not in self._verified:
            is_as_noted = _checksum(held.fd) == note["crc32"]
        if not is_as_noted:
            self._discard(path, held.fd)
            held.close()
            return None
        self._verified.add(mark)
        with suppress(OSError):
            os.utime(f"{path}{NOTE}")
        return held

    def _discard(self, path: str, fd: int) -> None:
        with suppress(OSError), self._space.hold():
            if os.path.samestat(os.stat(path), os.fstat(fd)):  # noqa: PTH116 - else it was fetched anew meanwhile
                os.unlink(path)  # noqa: PTH108

    def _part(self, key: str, size: int) -> tuple[HeldFile, bool]:
        """Return the file that ``key`` is fetched into, and whether this call has locked it, and no other one.

        Raises:
            OSError: The folder takes no files.
        """
        self._space.files.mkdir(parents=True, exist_ok=True)
        path = f"{self._path(key)}.{size}{PART}"
        with self._space.hold():  # what is not locked is taken for one of a killed process
            part = HeldFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
            is_own = lock(part.fd, wait=False)
        if is_own:
            os.ftruncate(part.fd, 0)
        return part, is_own

    def _fetch(
        self, part: HeldFile, key: str, size: int, download: Callable[[str], None], make_room: Callable[[], None] | None
    ) -> None:
        """Fetch a file into a part, and make it the file that is kept."""
        try:
            fits = self._space.reserve(size, part=part.path)
            if not fits and make_room is not None:
                make_room()
                fits = self._space.reserve(size, part=part.path)
        except OSError as error:
            raise _NotKeptError("disk", str(error)) from error
        if not fits:
            raise _NotKeptError("limit", f"it takes {size:,} bytes, and cache_bytes leaves no room for them")
        try:
            _fill(part, size, download)
            crc, facts = _checksum(part.fd), os.fstat(part.fd)
            os.fsync(part.fd)
            note = {"size": size, "crc32": crc, "mtime_ns": facts.st_mtime_ns}
            path = self._path(key)
            with self._space.hold():
                passing = Path(f"{path}.{os.getpid()}.0{PART}")  # removed by others if this process is killed here
                try:
                    passing.write_text(json.dumps(note), encoding="utf-8")
                    passing.replace(f"{path}{NOTE}")
                    os.replace(part.path, path)  # noqa: PTH105
                except FileNotFoundError:
                    raise _RemovedError from None
                part.path, part.is_passing = path, False
                lock(part.fd, shared=True)  # nobody removes it here, where it may be locked by none for a moment
        except BaseException as error:
            self._space.release(size)
            if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
                raise _NotKeptError("disk", str(error)) from error
            part.close()
            raise
        self._verified.add((key, facts.st_mtime_ns, facts.st_ino))


class _RemovedError(Exception):
    """The folder of the cache was removed while a file was fetched into it."""


class _NotKeptError(Exception):
    """A file cannot be kept, and why; ``kind`` is the kind of the trouble."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _fill(part: HeldFile, size: int, download: Callable[[str], None]) -> None:
    os.ftruncate(part.fd, 0)
    try:
        download(part.path)
    except FileNotFoundError:
        if not os.fstat(part.fd).st_nlink:
            raise _RemovedError from None
        raise
    facts = os.fstat(part.fd)
    if not facts.st_nlink:
        raise _RemovedError
    if (found := facts.st_size) != size:
        raise ConnectionError(f"{found:,} bytes came of a file of {size:,}")


def _note(path: str) -> dict[str, int]:
    """Return the note of a kept file; an empty one if there is none that can be read."""
    try:
        note = json.loads(Path(f"{path}{NOTE}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and "crc32" in note else {}


def _checksum(fd: int) -> int:
    crc, at = 0, 0
    while content := os.pread(fd, _STEP, at):
        crc, at = zlib.crc32(content, crc), at + len(content)
    return crc
