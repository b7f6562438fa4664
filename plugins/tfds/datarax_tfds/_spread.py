"""Work on the rows of a batch, spread over the cores."""

import os
import threading
from collections.abc import Callable
from typing import Final

_SHARE: Final = 1 << 17
"""Encoded bytes that are worth a thread: about 1.5 ms of decoding, PNG and JPEG alike; a thread starts in 0.1 to 1."""

_PIECES: Final = 8
"""Pieces for each thread: those that are soon done take more."""


def spread(work: Callable[[int, int], None], count: int, *, size: int) -> None:
    """Call ``work(start, stop)`` for all of ``count`` rows, whose encoded bytes are ``size``, in as many threads as pays.

    For work that releases the GIL. The threads are started here, and have ended when this returns: nothing is left for an
    exit or a fork to trip over. An error of any is raised here, and keeps the others from further rows.
    """
    threads = min(_cores(), count, size // _SHARE)
    if threads < 2:
        work(0, count)
        return
    step = -(-count // (threads * _PIECES))
    starts = list(range(0, count, step))
    starts.reverse()  # they are taken from the end, which is one operation
    errors: list[BaseException] = []

    def take() -> None:
        try:
            while starts:
                start = starts.pop()
                work(start, min(start + step, count))
        except IndexError:  # another took the last one
            return
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
            errors.append(error)
            starts.clear()

    helpers = [threading.Thread(target=take, name="datarax-decode", daemon=True) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    take()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
