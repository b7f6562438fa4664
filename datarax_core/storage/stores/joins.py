"""Near ranges of one file joined, so that one request reads them, and long ones split, so that several read them at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Request(NamedTuple):
    """A part of a file that is read at once."""

    start: int
    end: int
    """The byte after the last one."""

    members: list[int]
    """Numbers of the ranges that lie in it."""


def joined(starts: Sequence[int], ends: Sequence[int], *, gap: int, most: int) -> list[Request]:
    """Return the requests that read ranges of one file; empty ranges are in none.

    Args:
        starts: First byte of each range.
        ends: The byte after the last one of each.
        gap: Bytes between two ranges up to which they are read by one request, with what is between them.
        most: Bytes of a request to which no other range is added.
    """
    requests: list[Request] = []
    start = end = -1
    members: list[int] = []
    for number in sorted(
        (number for number in range(len(starts)) if starts[number] < ends[number]), key=starts.__getitem__
    ):
        first, last = starts[number], ends[number]
        if members and first <= end + gap and (last <= end or last - start <= most):
            members.append(number)
            end = max(end, last)
        else:
            if members:
                requests.append(Request(start, end, members))
            start, end, members = first, last, [number]
    if members:
        requests.append(Request(start, end, members))
    return requests


def is_dense(starts: Sequence[int], ends: Sequence[int], gap: int) -> bool:
    """Return whether a fourth of the ranges or more are near another one, so that joining them is worth its time."""
    if len(starts) < 2:
        return False
    first, last = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    order = first.argsort()
    near = np.count_nonzero(first[order[1:]] <= last[order[:-1]] + gap)
    return bool(4 * near >= len(starts))


def placed(
    requests: Sequence[Request], bodies: Sequence[bytes], starts: Sequence[int], ends: Sequence[int]
) -> list[bytes]:
    """Return the bytes of each range from the bodies of the requests that hold them; b"" of empty ranges."""
    found = [b""] * len(starts)
    for request, body in zip(requests, bodies, strict=True):
        if len(request.members) == 1:
            found[request.members[0]] = body
            continue
        for number in request.members:
            found[number] = body[starts[number] - request.start : ends[number] - request.start]
    return found


def pieces(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """Return the pieces of a range, each of ``length`` bytes at most, as (start, end)."""
    return [(at, min(at + length, end)) for at in range(start, end, length)]
