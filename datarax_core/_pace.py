"""Whether reading a batch takes long enough to be worth a thread."""

from collections import deque
from typing import Final

WORTH_A_THREAD: Final = 75e-6
"""Seconds. To hand a batch from one thread to another, and the interpreter's lock back and forth, takes about as long."""

_AT_ONCE: Final = 1e-3  # whoever takes this long is not asked twice
_ASKED: Final = 3  # batches; the quickest of them tells, since any may have met a hiccup
_AHEAD_AT_FIRST, _AHEAD_AT_MOST, _GROWTH = 64, 4096, 4


class Pace:
    """Decides from the batches that a loop reads itself. Those read on a thread do not tell: they wait for the loop, too.

    So while reading is slow, the loop reads ahead for 64 batches, and then some itself to see whether it still is; then for
    256, and so on.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_ASKED)
        self._left = 0
        self._next = _AHEAD_AT_FIRST

    @property
    def is_slow(self) -> bool:
        """Whether the next batches are worth being read ahead."""
        return self._left > 0 or WORTH_A_THREAD < 0

    def note_own(self, seconds: float) -> None:
        """Note how long it took the loop to read a batch itself."""
        self._seconds.append(seconds)
        is_slow = len(self._seconds) == _ASKED and min(self._seconds) > WORTH_A_THREAD
        if is_slow or seconds > max(_AT_ONCE, WORTH_A_THREAD):
            self._left, self._next = self._next, min(self._next * _GROWTH, _AHEAD_AT_MOST)
            self._seconds.clear()

    def note_ahead(self) -> None:
        """Note that a batch was read ahead."""
        self._left -= 1
