"""Ranges of files of this machine: one after another in memory, on a pool of threads once they are waited for."""

import os
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from datarax_core.errors import DataFileError

from .joins import Request, joined, placed
from .threads import pool

GAP: Final = 4096
"""Bytes between two ranges up to which they are read by one call: a page, which the system reads anyway."""

MOST: Final = 1 << 22
_WAITED: Final = 2e-4
"""Seconds of a call from which on the next ones are made by several threads: the file does not lie in memory."""

_AT_ONCE: Final = 16

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
    requests = joined(starts, ends, gap=GAP, most=MOST)
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        bodies: list[bytes] = []
        while len(bodies) < len(requests):
            now = requests[len(bodies)]
            began = perf_counter()
            bodies.append(_read(file, path, now))
            rest = requests[len(bodies) :]
            is_waited_for = now.end - now.start >= _LARGE or perf_counter() - began > _WAITED
            if is_waited_for and len(rest) > 1 and threads != 1:
                each = -(-len(rest) // min(threads or _AT_ONCE, len(rest)))
                parts = [rest[at : at + each] for at in range(0, len(rest), each)]
                for found in pool("files").map(lambda part: [_read(file, path, one) for one in part], parts):
                    bodies += found
    finally:
        os.close(file)
    return placed(requests, bodies, starts, ends)


def _read(file: int, path: str, request: Request) -> bytes:
    """Return bytes of an open file; one read may return fewer than are asked for."""
    wanted = request.end - request.start
    body = os.pread(file, wanted, request.start)
    if len(body) == wanted:
        return body
    parts, have = [body], len(body)
    while body and have < wanted:
        body = os.pread(file, wanted - have, request.start + have)
        parts.append(body)
        have += len(body)
    if have < wanted:
        size = os.fstat(file).st_size
        raise DataFileError(
            path,
            f"bytes {request.start} to {request.end} of {path} cannot be read: it has {size} bytes; the file is cut short, or "
            "another one",
        )
    return b"".join(parts)
