"""Bytes of many ranges of files and objects at once."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from datarax_core.config.addresses import scheme_of
from datarax_core.config.redaction import redacted
from datarax_core.errors import DataFileError

from .cache.cache import Cache
from .local import local_ranges
from .stores.failures import ServedWholeError
from .stores.objects import ObjectRanges, download, object_ranges
from .stores.stamps import Stamp, stamps_of
from .stores.stores import ObjectFacts


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
    first, last = _checked(len(paths), starts, ends)
    found: list[bytes] = [b""] * len(paths)
    groups: dict[str, list[int]] = {}
    if len(set(paths)) == 1:
        groups[paths[0]] = list(range(len(paths)))
    else:
        for number, path in enumerate(paths):
            groups.setdefault(path, []).append(number)
    objects: list[_Ranges] = []
    for path, numbers in groups.items():
        stamp = next((stamps[number] for number in numbers), None) if stamps is not None else None
        of_path = _Ranges(
            path, [first[number] for number in numbers], [last[number] for number in numbers], numbers, stamp
        )
        if scheme_of(path) is not None:
            objects.append(of_path)
            continue
        of_path.place(found, _local(of_path, threads))
    if cache is None and objects:
        for of_object, bodies in zip(objects, _fetched(objects, options, threads), strict=True):
            of_object.place(found, bodies)
    elif cache is not None and objects:
        _through(cache, objects, found, options, threads)
    return found


class _Ranges(NamedTuple):
    """Ranges of one file."""

    path: str
    starts: list[int]
    ends: list[int]
    numbers: list[int]
    """Their numbers among all ranges."""

    stamp: Stamp | None

    def place(self, found: list[bytes], bodies: Sequence[bytes]) -> None:
        """Put the bytes of these ranges at their places among all."""
        for number, body in zip(self.numbers, bodies, strict=True):
            found[number] = body

    def require_inside(self) -> None:
        """Raise if a range goes beyond the end that the stamp says, before anything is asked for."""
        if self.stamp is not None and max(self.ends) > self.stamp.size:
            number = max(range(len(self.ends)), key=self.ends.__getitem__)
            raise DataFileError(
                self.path,
                f"bytes {self.starts[number]} to {self.ends[number]} of {redacted(self.path)} cannot be read: it has "
                f"{self.stamp.size} bytes; it is cut short, or another one",
            )


def _checked(count: int, starts: ArrayLike, ends: ArrayLike) -> tuple[list[int], list[int]]:
    first, last = np.asarray(starts), np.asarray(ends)
    if first.shape != (count,) or last.shape != (count,):
        raise ValueError(
            f"ranges have one path, start and end each; there are {count} paths, starts of shape {first.shape} and ends of "
            f"shape {last.shape}"
        )
    if count and (first.dtype.kind not in "iu" or last.dtype.kind not in "iu"):
        raise TypeError(f"starts and ends are integers, not {first.dtype} and {last.dtype}")
    wrong = np.flatnonzero((first < 0) | (last < first))
    if wrong.size:
        at = int(wrong[0])
        raise ValueError(
            f"range {at} is from byte {first[at]} to {last[at]}; it has a start from 0, and an end behind it"
        )
    return first.tolist(), last.tolist()


def _local(of_path: _Ranges, threads: int | None) -> list[bytes]:
    """Return ranges of a file of this machine; the error of a changed file takes precedence over any other."""
    try:
        bodies = local_ranges(of_path.path, of_path.starts, of_path.ends, threads)
    except (OSError, DataFileError):
        if of_path.stamp is not None:
            of_path.stamp.require_same(of_path.path)
        raise
    if of_path.stamp is not None:
        of_path.stamp.require_same(of_path.path)
    return bodies


def _fetched(objects: Sequence[_Ranges], options: Mapping[str, Any] | None, threads: int | None) -> list[list[bytes]]:
    for of_object in objects:
        of_object.require_inside()
    wanted = [
        ObjectRanges(each.path, each.starts, each.ends, None if each.stamp is None else ObjectFacts(*each.stamp))
        for each in objects
    ]
    return object_ranges(wanted, options, threads)


def _through(
    cache: Cache, objects: Sequence[_Ranges], found: list[bytes], options: Mapping[str, Any] | None, threads: int | None
) -> None:
    """Place ranges of objects, as far as they are in a cache from there."""
    stamps = iter(stamps_of([each.path for each in objects if each.stamp is None], options))
    known = [each if each.stamp is not None else each._replace(stamp=next(stamps)) for each in objects]
    for each in known:
        each.require_inside()
    in_parts = [each for each in known if each.path not in _served_whole]
    try:
        _in_blocks(cache, in_parts, found, options, threads)
    except ServedWholeError as error:
        _served_whole.add(error.address)
        _through(cache, known, found, options, threads)
        return
    for each in known:
        if each.path in _served_whole and each.stamp is not None:
            with cache.file(
                each.path, each.stamp, partial(download, each.path, stamp=each.stamp, options=options)
            ) as path:
                each.place(found, local_ranges(path, each.starts, each.ends, threads))


_served_whole: Final[set[str]] = set()
"""Addresses whose servers take no ranges, as far as this process knows."""


def _in_blocks(
    cache: Cache, objects: Sequence[_Ranges], found: list[bytes], options: Mapping[str, Any] | None, threads: int | None
) -> None:
    """Place ranges of objects whose stores take ranges; what is missing in the cache is fetched all at once."""

    def fetch(of: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
        missing = []
        for number, each in enumerate(objects):
            numbers = np.flatnonzero(of == number)
            missing.append(
                each._replace(starts=starts[numbers].tolist(), ends=ends[numbers].tolist(), numbers=numbers.tolist())
            )
        missing = [each for each in missing if each.numbers]
        bodies: list[bytes] = [b""] * len(of)
        for each, of_object in zip(missing, _fetched(missing, options, threads), strict=True):
            each.place(bodies, of_object)
        return bodies

    if not objects:
        return
    stamped = [(each.path, each.stamp) for each in objects if each.stamp is not None]
    of = np.repeat(np.arange(len(objects)), [len(each.numbers) for each in objects])
    starts = [start for each in objects for start in each.starts]
    ends = [end for each in objects for end in each.ends]
    bodies = iter(cache.ranges_of(stamped, of, starts, ends, fetch))
    for each in objects:
        each.place(found, [next(bodies) for _ in each.numbers])
