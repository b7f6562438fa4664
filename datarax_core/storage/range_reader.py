"""Reader of ranges as a source uses it: with the options of its config, and the cache in which fetched bytes are kept."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Self

from numpy.typing import ArrayLike

from datarax_core.background import Ahead
from datarax_core.config.redaction import redacted

from .cache.cache import Cache
from .object_file import ObjectFile
from .options import RemoteOptions
from .ranges import ranges
from .stores.listing import entries_of
from .stores.objects import download
from .stores.stamps import Stamp, stamps_of

_REQUEST_BYTES: Final = 8 << 20
"""Bytes of one request for a part of an object that is read from front to back."""


@dataclass(frozen=True)
class RangeReader:
    """Reader of a source's files, on this machine and at addresses, with its options and its cache. Picklable."""

    options: Mapping[str, Any] | None = None
    """Options of fsspec's file system, as `RemoteOptions.storage_options`."""

    cache: Cache | None = None
    """Keeps what is fetched; None keeps nothing."""

    @classmethod
    def of(cls, config: RemoteOptions) -> Self:
        """Return the reader that a config asks for."""
        cache = None if config.cache_dir is None else Cache(config.cache_dir, config.cache_bytes)
        return cls(config.storage_options, cache)

    def stamps(self, paths: Sequence[str]) -> list[Stamp]:
        """Return the stamp of each file or object, looked at many at once.

        Raises:
            OSError: One does not exist, or may not be looked at.
        """
        return stamps_of(paths, self.options)

    def entries(self, folder: str) -> list[str]:
        """Return the addresses of the objects of a folder of a store, not of folders in it, sorted.

        Raises:
            FileNotFoundError, PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
        """
        return entries_of(folder, self.options)

    def ranges(
        self, paths: Sequence[str], starts: ArrayLike, ends: ArrayLike, stamps: Sequence[Stamp | None] | None = None
    ) -> list[bytes]:
        """Return the bytes of ranges of files, in the order given; see `ranges`."""
        return ranges(paths, starts, ends, stamps=stamps, cache=self.cache, options=self.options)

    def content(self, path: str) -> bytes:
        """Return all bytes of a small file.

        Raises:
            Whatever `stamp_of` and `ranges` raise.
        """
        (stamp,) = self.stamps([path])
        return self.ranges([path], [0], [stamp.size], [stamp])[0]

    def file(
        self, path: str, stamp: Stamp, *, verify: bool = True, make_room: Callable[[], None] | None = None
    ) -> AbstractContextManager[str]:
        """Return a context manager of the path of a whole object in the cache; see `Cache.file`.

        Raises:
            ValueError: There is no cache.
            OSError, DataFileError: It cannot be fetched, or was changed.
        """
        if self.cache is None:
            raise ValueError(f"{redacted(path)} is read as a whole file, which needs a cache: cache_dir")
        return self.cache.file(
            path,
            stamp,
            lambda to: download(path, to, stamp=stamp, options=self.options),
            verify=verify,
            make_room=make_room,
        )

    def pieces(self, path: str, stamp: Stamp, begin: int = 0, size: int = 4 * _REQUEST_BYTES) -> Generator[bytes]:
        """Yield the bytes of a file from ``begin`` on, in pieces of ``size``; the next one is fetched meanwhile.

        Raises:
            Whatever `ranges` raises.
        """

        def fetch(at: int) -> bytes:
            end = min(at + size, stamp.size)
            starts = list(range(at, end, _REQUEST_BYTES))
            parts = self.ranges([path] * len(starts), starts, [*starts[1:], end], [stamp] * len(starts))
            return parts[0] if len(parts) == 1 else b"".join(parts)

        ahead = Ahead(fetch, name="pieces-of-object")
        try:
            for at in range(begin, stamp.size, size):
                if not len(ahead):
                    ahead.request(at)
                if at + size < stamp.size:
                    ahead.request(at + size)
                yield ahead.take()
        finally:
            ahead.close()

    def open(self, path: str, stamp: Stamp) -> ObjectFile:
        """Return an object as a file object that is read from anywhere, for libraries that take no ranges."""
        return ObjectFile(
            stamp.size,
            lambda starts, ends: self.ranges([path] * len(starts), starts, ends, [stamp] * len(starts)),
        )
