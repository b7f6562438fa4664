"""Cache of objects on a disk of this machine: blocks and whole files, shared by the processes of one host."""

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from datarax_core.config.redaction import redacted
from datarax_core.storage.stores.stamps import Stamp

from .blocks import Blocks, CachedObject, Fetch
from .files import WholeFiles
from .space import Space, require_locks

BLOCK_BYTES: Final = 1 << 18
_LAYOUT: Final = "datarax-1"

_warned: Final[set[tuple[str, str]]] = set()
"""Folders and kinds of trouble that were warned of in this process."""


def user_cache_folder() -> str:
    """Return the folder of objects in the user's cache folder: ``$DATARAX_CACHE_DIR/objects``, or ``~/.cache/datarax/objects``.

    ``XDG_CACHE_HOME`` names another one than ``~/.cache``.
    """
    if named := os.environ.get("DATARAX_CACHE_DIR"):
        return str(Path(named, "objects"))
    usual = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    return str(Path(os.environ.get("XDG_CACHE_HOME") or usual.expanduser(), "datarax", "objects"))


class Cache:
    """Blocks and whole files of objects in a folder of this machine, by address and stamp.

    Blocks of 256 KiB lie in sparse files of up to 256 blocks, so that reading them again costs what local files cost. Any
    number of processes and threads may use one folder; what one of them removes, others that have it open read to the end. A
    process that is killed leaves nothing that others would take for a block or a file. What cannot be stored, since the disk is
    full or read only, is fetched and served all the same, with one warning. Picklable.

    (Written here, since none of the libraries does all of that: diskcache keeps no checksums, removes files that are in use,
    and fails where its folder is read only or full; the caches of fsspec have no limit, or serve one process.)

    Args:
        folder: Folder of the cache, which is made when something is stored. It may hold other things, which are left alone.
        limit: Bytes that the cache may take; what was used least lately goes first. None leaves a twentieth of the disk free,
            at most 10 GiB.
        block_bytes: Bytes of a block; caches with blocks of different sizes share no blocks.

    Raises:
        ConfigError: The system has no locks of files.
    """

    def __init__(self, folder: str, limit: int | None = None, *, block_bytes: int = BLOCK_BYTES) -> None:
        require_locks()
        self.folder, self.limit, self.block_bytes = os.path.abspath(folder), limit, block_bytes  # noqa: PTH100
        space = Space(Path(self.folder, _LAYOUT), limit)
        self._warn = partial(_warn_once, self.folder)  # not a method: a dropped cache closes its files at once
        self._blocks = Blocks(space, limit, block_bytes, self._warn)
        self._files = WholeFiles(space, self._warn)
        self._objects: dict[tuple[str, Stamp], CachedObject] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _cache, (self.folder, self.limit, self.block_bytes)

    def ranges(
        self,
        address: str,
        stamp: Stamp,
        starts: ArrayLike,
        ends: ArrayLike,
        fetch: Callable[[list[int], list[int]], list[bytes]],
    ) -> list[bytes]:
        """Return the bytes of ranges of an object, in the order given; see `ranges_of`.

        Args:
            address: The object.
            stamp: Its stamp; what is kept under another one is not used.
            starts: int64 (k,): first byte of each range.
            ends: int64 (k,): the byte after the last one of each.
            fetch: Returns the bytes of ranges that are not in the cache.
        """
        of = np.zeros(np.shape(starts), np.int64)
        return self.ranges_of(
            [(address, stamp)], of, starts, ends, lambda _, begin, end: fetch(begin.tolist(), end.tolist())
        )

    def ranges_of(
        self, objects: Sequence[tuple[str, Stamp]], of: ArrayLike, starts: ArrayLike, ends: ArrayLike, fetch: Fetch
    ) -> list[bytes]:
        """Return the bytes of ranges of several objects, in the order given; what is missing is fetched with one call.

        Blocks that are missing are fetched whole, each by one thread of this process, and kept. Only the ranges themselves are
        fetched where nothing can be kept, or once more was read than the limit holds.

        Args:
            objects: Address and stamp of each object.
            of: int64 (k,): the object of each range.
            starts: int64 (k,): first byte of each range.
            ends: int64 (k,): the byte after the last one of each.
            fetch: Returns the bytes of ranges: for the object, the first byte and the end of each, int64 (k,).
        """
        known = [self._object(address, stamp) for address, stamp in objects]
        of, starts, ends = np.asarray(of, np.int64), np.asarray(starts, np.int64), np.asarray(ends, np.int64)
        return self._blocks.ranges(known, of, starts, ends, fetch)

    def file(
        self,
        address: str,
        stamp: Stamp,
        download: Callable[[str], None],
        *,
        verify: bool = True,
        make_room: Callable[[], None] | None = None,
    ) -> AbstractContextManager[str]:
        """Return a context manager of the path of a whole object on this machine, which stays there while it is in use.

        It is fetched by one process of the host, others wait. An object that does not fit the limit beside what is in use is
        fetched for this use only, with a warning.

        Args:
            address: The object.
            stamp: Its stamp; what is kept under another one is not used.
            download: Writes the whole object to the path that it is called with, where an empty file is.
            verify: Whether a file that is kept is checked when this process uses it for the first time, which reads it all; for
                readers that check what they read themselves: False, and `is_damaged` once they find damage.
            make_room: Called if there is no room beside what is in use, to close files that are held and not needed.

        Raises:
            OSError: No disk takes the file, or ``download`` raises it.
        """
        known = self._object(address, stamp)
        if not known.is_told_apart:
            return self._files.passing(known.size, download, known.name)
        return self._files.held(known.key, known.size, download, name=known.name, verify=verify, make_room=make_room)

    def is_damaged(self, address: str, stamp: Stamp) -> bool:
        """Return whether the whole file of an object is kept, and is not as it was fetched; it is removed then."""
        return self._files.is_damaged(self._object(address, stamp).key)

    def _object(self, address: str, stamp: Stamp) -> CachedObject:
        if (known := self._objects.get((address, stamp))) is not None:
            return known
        told = stamp.etag or stamp.version or (str(stamp.changed_ns // 10**9) if stamp.changed_ns else "")
        name = redacted(address)
        if not told:
            self._warn(
                "stamp",
                f"{name} is not kept: its store says neither an etag nor a version nor a time of it, so that a changed object "
                "would be taken for this one",
            )
        key = hashlib.sha256(f"{address}\0{stamp.size}\0{told}".encode()).hexdigest()[:40]
        known = self._objects[address, stamp] = CachedObject(key, stamp.size, bool(told), name)
        return known


def _warn_once(folder: str, kind: str, message: str) -> None:
    """Warn of a kind of trouble with a folder, once in a process."""
    if (folder, kind) not in _warned:
        _warned.add((folder, kind))
        warnings.warn(f"the cache in {folder}: {message}", stacklevel=2)


def _cache(folder: str, limit: int | None, block_bytes: int) -> Cache:
    """Return a cache, as unpickling makes it."""
    return Cache(folder, limit, block_bytes=block_bytes)
