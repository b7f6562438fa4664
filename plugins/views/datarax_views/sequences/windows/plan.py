"""Arithmetic of windows: how many a sequence has, and where each begins. All of it is in 64 bits, and any window is O(log n).

A window begins every ``stride`` elements of a sequence. Many sequences, such as episodes, are cut one after another; what is
held of them is the number of windows up to the end of each.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

Remainder: TypeAlias = Literal["drop", "pad", "overlap"]
"""What becomes of the end of a sequence that a whole window does not fit in, as a window begins there: it is left out, or
completed by padding, or the last window begins earlier, so that it ends with the sequence."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The way in which windows are cut from one sequence.

    Args:
        length: Elements of a window.
        stride: Elements from the beginning of a window to that of the next.
        shift: Elements by which the targets of a window come after its inputs; 0 for none.
        remainder: What becomes of the end of a sequence.
    """

    length: int
    stride: int
    shift: int = 0
    remainder: Remainder = "drop"

    @property
    def span(self) -> int:
        """Elements that a window and its targets cover."""
        return self.length + self.shift

    @property
    def shortest(self) -> int:
        """Elements of the shortest sequence that has a window."""
        return self.shift + 1 if self.remainder == "pad" else self.span

    def counts(self, lengths: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the number of windows of sequences of these lengths, int64 (k,)."""
        whole = (lengths - self.span) // self.stride + 1
        if self.remainder == "drop":
            return np.asarray(np.maximum(whole, 0))
        started = (lengths - self.shift - 1) // self.stride + 1  # windows that begin before the end
        needed = -((self.span - lengths) // self.stride) + 1  # windows until one reaches the end
        return np.where(lengths < self.shortest, 0, np.minimum(np.maximum(needed, 1), started))

    def count(self, length: int) -> int:
        """Return the number of windows of one sequence."""
        return int(self.counts(np.asarray([length], np.int64))[0])

    def starts(self, numbers: np.ndarray, lengths: np.ndarray | int) -> np.ndarray:
        """Return int64 (k,): where windows with these numbers, int64 (k,), begin in sequences of these lengths."""
        starts: np.ndarray = numbers * self.stride
        return np.minimum(starts, lengths - self.span) if self.remainder == "overlap" else starts

    def left_over(self, length: int) -> int:
        """Return how many elements at the end of one sequence are in no window, nor among the targets of one."""
        count = self.count(length)
        if not count:
            return length
        last = int(self.starts(np.asarray([count - 1]), length)[0])
        return max(0, length - last - self.span)


class Places(NamedTuple):
    """Where windows begin: the number of the sequence, int64 (k,), and the element in it, int64 (k,)."""

    sequences: np.ndarray
    starts: np.ndarray


class Windows(Protocol):
    """The windows of one sequence, or of many, one after another."""

    @property
    def cut(self) -> Cut:
        """How each sequence is cut."""

    @property
    def num_windows(self) -> int:
        """Number of windows."""

    def places(self, indices: np.ndarray) -> Places:
        """Return where the windows with these int64 (k,) numbers, all in range, begin."""


@dataclass(frozen=True, slots=True)
class WindowsOfAlike:
    """The windows of ``num_sequences`` sequences that all have ``length`` elements: nothing is held."""

    cut: Cut
    length: int
    num_sequences: int = 1
    num_windows: int = field(init=False)
    """Number of windows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_windows", self.cut.count(self.length) * self.num_sequences)

    def places(self, indices: np.ndarray) -> Places:
        """Return where the windows with these int64 (k,) numbers, all in range, begin."""
        sequences, numbers = np.divmod(indices, self.num_windows // self.num_sequences)
        return Places(sequences, self.cut.starts(numbers, self.length))


class WindowsOfMany:
    """The windows of sequences of any lengths.

    Args:
        cut: How each sequence is cut.
        lengths: int64 (n,): the elements of each sequence. Held if windows may begin earlier than their number says.
    """

    def __init__(self, cut: Cut, lengths: np.ndarray) -> None:
        self.cut = cut
        self.ends = np.cumsum(cut.counts(lengths), dtype=np.int64)
        """int64 (n,): the number of windows of each sequence and of all before it."""
        self.num_windows = int(self.ends[-1]) if len(self.ends) else 0
        """Number of windows."""
        self._lengths = lengths if cut.remainder == "overlap" else None

    def places(self, indices: np.ndarray) -> Places:
        """Return where the windows with these int64 (k,) numbers, all in range, begin."""
        sequences = self.ends.searchsorted(indices, side="right")
        numbers = indices - np.where(sequences > 0, self.ends[sequences - 1], 0)
        return Places(sequences, self.cut.starts(numbers, 0 if self._lengths is None else self._lengths[sequences]))
