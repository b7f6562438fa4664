"""Bytes of many ranges of files and objects at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from .cache import Cache
from .stamps import Stamp


def ranges(
    paths: Sequence[str],
    starts: ArrayLike,
    ends: ArrayLike,
    *,
    stamps: Sequence[Stamp | None] | None = None,
    cache: Cache | None = None,
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """Return the bytes of ranges of files, in the order given.

    Ranges of one file that are near one another are read by one request, and many requests are under way at once: on this
    machine by a pool of threads (``preadv``), at addresses by fsspec. Requests to stores that fail by a lost connection, a
    time-out, 429, 5xx or a short body are sent again, with a growing random wait between; others never.

    Args:
        paths: File of each range, (k,): paths of this machine, or addresses.
        starts: int64 (k,): first byte of each range.
        ends: int64 (k,): the byte after the last one of each.
        stamps: Stamp of the file of each range, (k,), or None for a file that is not checked for changes. Checks cost no
            request at stores that take conditions (``https://``, ``s3://``), and one for each object elsewhere.
        cache: Keeps what is fetched from addresses; None keeps nothing.
        threads: How many requests are under way at once, at most; None chooses.
        options: Options of the store at addresses, as `RemoteOptions.storage_options`.

    Raises:
        DataFileError: A file has another stamp, or ends before a range does.
        FileNotFoundError, PermissionError: A file is absent, or may not be read.
        ConnectionError, TimeoutError: A store could not be reached, or failed again and again; names the address without
            credentials, the range, the cause and the number of tries.
        ConfigError: A package that reads the scheme is not installed; says which.
    """
    raise NotImplementedError
