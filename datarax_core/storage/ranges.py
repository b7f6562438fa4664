"""Bytes of many ranges of files and objects at once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from datarax_core.config.addresses import scheme_of
from datarax_core.config.redaction import redacted
from datarax_core.errors import DataFileError

from .cache import Cache
from .failures import ServedWholeError
from .local import local_ranges
from .objects import ObjectRanges, download, object_ranges
from .stamps import Stamp, stamp_of
from .stores import ObjectFacts
from .threads import pool


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
    """Place ranges of objects, as far as they are in a cache from there; objects are waited for at the same time."""

    def read(each: _Ranges) -> list[bytes]:
        stamp = each.stamp or stamp_of(each.path, options)
        known = each._replace(stamp=stamp)
        known.require_inside()

        def fetch(starts: list[int], ends: list[int]) -> list[bytes]:
            (bodies,) = _fetched([known._replace(starts=starts, ends=ends)], options, threads)
            return bodies

        try:
            return cache.ranges(each.path, stamp, each.starts, each.ends, fetch)
        except ServedWholeError:
            pass
        with cache.file(each.path, stamp, lambda to: download(each.path, to, ObjectFacts(*stamp), options)) as path:
            return local_ranges(path, each.starts, each.ends, threads)

    results = [read(objects[0])] if len(objects) == 1 else pool("objects").map(read, objects)
    for each, bodies in zip(objects, results, strict=True):
        each.place(found, bodies)
