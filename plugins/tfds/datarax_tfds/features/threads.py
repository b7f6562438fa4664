"""Threads of decoding: rows in several pieces, and the cores that each of several decodings has."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from datarax_core.background import usable_cores

_THREAD_BYTES: Final = 1 << 17
"""Encoded bytes that are worth a thread: 1.5 ms of decoding, PNG or JPEG, where starting a thread takes 0.1 to 1 ms."""

_PIECES: Final = 8
"""Pieces of work for each thread: a thread that is done early takes another piece."""

_shares: Final = threading.local()
"""By thread: ``parts``, how many decodings go on beside one another."""


def run_on_rows(work: Callable[[int, int], None], count: int, *, size: int, piece: int = 1) -> None:
    """Call ``work(start, stop)`` for pieces that cover ``count`` rows, in as many threads as the work is worth.

    The work should release the GIL. All threads are started and ended within this call, so that none is left at an exit or a
    fork of the process. The first error of any thread is raised here, and no thread begins another piece after it.

    Args:
        work: Processes the rows ``start .. stop``.
        count: Number of rows.
        size: Encoded bytes of all rows.
        piece: Rows that are worth being one piece, if there are as many for each thread.
    """
    threads = min(_own_cores(), count, size // _THREAD_BYTES)
    if threads < 2:
        work(0, count)
        return
    step = max(-(-count // (threads * _PIECES)), min(piece, -(-count // (threads * 2))))
    starts = list(range(0, count, step))
    starts.reverse()  # `pop()` takes from the end, in one atomic operation
    errors: list[BaseException] = []

    def take() -> None:
        try:
            while starts:
                start = starts.pop()
                work(start, min(start + step, count))
        except IndexError:  # another thread took the last piece
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
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


@contextmanager
def share_of_cores(parts: int) -> Iterator[None]:
    """Have decoding in this thread use no more than one of ``parts`` of the cores: others go on beside it."""
    _shares.parts = parts
    try:
        yield
    finally:
        del _shares.parts


def _own_cores() -> int:
    return max(1, usable_cores() // getattr(_shares, "parts", 1))
