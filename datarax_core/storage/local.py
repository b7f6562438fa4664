"""Ranges of files of this machine: one after another in memory, on a pool of threads once they are waited for."""

import os
from collections.abc import Sequence
from itertools import repeat
from time import perf_counter
from typing import Final

from datarax_core.errors import DataFileError

from .stores.joins import is_dense, joined, placed
from .stores.threads import pool

GAP: Final = 4096
"""Bytes between two ranges up to which they are read by one call: a page, which the system reads anyway."""

MOST: Final = 1 << 22
_WAITED: Final = 2e-4
"""Seconds of a call from which on the next ones are made by several threads: the file does not lie in memory."""

_AT_ONCE: Final = 16

_CALLS: Final = 64
"""Calls between two looks at the clock."""

_LARGE: Final = 1 << 18
"""Bytes of a call from which on several threads copy from memory quicker than one."""


def local_ranges(path: str, starts: Sequence[int], ends: Sequence[int], threads: int | None = None) -> list[bytes]:
    """Return the bytes of ranges of one file of this machine, in the order given.

    Args:
        path: The file.
        starts: First byte of each range.
        ends: The byte after the last one of each.
        threads: How many threads read at once, at most; None chooses.

    Raises:
        DataFileError: The file ends before a range does.
        OSError: It cannot be opened or read.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        if not is_dense(starts, ends, GAP):
            return _one_by_one(file, path, starts, ends, threads)
        requests = joined(starts, ends, gap=GAP, most=MOST)
        begins, stops = [request.start for request in requests], [request.end for request in requests]
        return placed(requests, _one_by_one(file, path, begins, stops, threads), starts, ends)
    finally:
        os.close(file)


def _one_by_one(file: int, path: str, starts: Sequence[int], ends: Sequence[int], threads: int | None) -> list[bytes]:
    """Return the bytes of ranges, each read by a call; by several threads from the first call on that is waited for."""
    bodies: list[bytes] = []
    wanted = [end - start for start, end in zip(starts, ends, strict=True)]
    while len(bodies) < len(starts):
        at = len(bodies)
        stop = at + (_CALLS if at else 1)
        began = perf_counter()
        bodies += map(os.pread, repeat(file), wanted[at:stop], starts[at:stop])
        seconds, calls = perf_counter() - began, len(bodies) - at
        is_waited_for = wanted[at] >= _LARGE or seconds > _WAITED * calls
        if is_waited_for and len(starts) - len(bodies) > 1 and threads != 1:
            at = len(bodies)
            each = -(-(len(starts) - at) // min(threads or _AT_ONCE, len(starts) - at))
            parts = [
                (wanted[begin : begin + each], starts[begin : begin + each]) for begin in range(at, len(starts), each)
            ]
            for found in pool("files").map(lambda part: list(map(os.pread, repeat(file), *part)), parts):
                bodies += found
    if list(map(len, bodies)) != wanted:  # a call may return fewer bytes than there are
        return [_read(file, path, start, end) for start, end in zip(starts, ends, strict=True)]
    return bodies


def _read(file: int, path: str, start: int, end: int) -> bytes:
    """Return a range of an open file by as many calls as it takes."""
    parts: list[bytes] = []
    have, wanted = 0, end - start
    while have < wanted and (body := os.pread(file, wanted - have, start + have)):
        parts.append(body)
        have += len(body)
    if have < wanted:
        size = os.fstat(file).st_size
        raise DataFileError(
            path,
            f"bytes {start} to {end} of {path} cannot be read: it has {size} bytes; the file is cut short, or "
            "another one",
        )
    return b"".join(parts)
