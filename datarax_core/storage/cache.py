"""Cache of objects on a disk of this machine: blocks and whole files, shared by the processes of one host."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from .stamps import Stamp


class Cache:
    """Blocks and whole files of objects in a folder of this machine, by address and stamp.

    Args:
        folder: Folder of the cache, which is made if there is none.
        limit: Bytes that the cache may take; those used least lately go first. None for no limit.
    """

    def __init__(self, folder: str, limit: int | None = None) -> None:
        self.folder, self.limit = folder, limit

    def ranges(
        self,
        address: str,
        stamp: Stamp,
        starts: Sequence[int],
        ends: Sequence[int],
        fetch: Callable[[list[int], list[int]], list[bytes]],
    ) -> list[bytes]:
        """Return the bytes of ranges of an object, in the order given.

        Args:
            address: The object.
            stamp: Its stamp; what is kept under another one is not used.
            starts: First byte of each range.
            ends: The byte after the last one of each.
            fetch: Returns the bytes of ranges that are not in the cache.
        """
        raise NotImplementedError

    def file(self, address: str, stamp: Stamp, download: Callable[[str], None]) -> AbstractContextManager[str]:
        """Return a context manager of the path of a whole object on this machine, which stays there while it is in use.

        Args:
            address: The object.
            stamp: Its stamp; what is kept under another one is not used.
            download: Writes the whole object to the path that it is called with.
        """
        raise NotImplementedError
