"""Whether reading a batch takes long enough lately to be worth a thread."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, TypeVar

T = TypeVar("T")

WORTH_A_THREAD: Final = 75e-6
"""Seconds. To hand a batch from one thread to another, and the interpreter's lock back and forth, takes about as long."""

_AT_MOST: Final = 4 * WORTH_A_THREAD  # what one batch counts for, so that one hiccup does not start a thread
_AT_ONCE: Final = 10e-3  # but whoever takes this long is not asked twice
_MEMORY: Final = 8  # batches


class Pace:
    """The time that work took lately: noted on either thread, asked on one."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def timed(self, work: Callable[[Any], T], item: Any) -> T:
        """``work(item)``."""
        began = perf_counter()
        try:
            return work(item)
        finally:
            took = perf_counter() - began
            self._seconds += (min(took, _AT_MOST) - self._seconds) / _MEMORY
            if took > _AT_ONCE:
                self._seconds = _AT_MOST

    @property
    def is_slow(self) -> bool:
        """Whether the next item is worth being worked on ahead."""
        return self._seconds > WORTH_A_THREAD
