"""An order that is cheap to read: row groups shuffled, and rows among a window of them."""

from dataclasses import dataclass

import numpy as np

from datarax_core.order import Order, fold_in


@dataclass(frozen=True, eq=False, slots=True)
class WindowedOrder:
    """Epoch after epoch, each another one; both shuffles are the core's.

    The row groups are shuffled, and their rows in that order are a sequence. It is cut into windows, and the rows of each
    are shuffled: a batch touches the row groups of a window, and no others.

    Args:
        rows: int64 (groups,): how many each row group has.
        window: How many rows are shuffled among one another.
    """

    rows: np.ndarray
    window: int

    def record_indices(self, start: int, size: int, words: np.ndarray) -> np.ndarray:
        """int64 (size,): the records at positions ``start .. start + size`` of the order that a key's ``words`` select.

        Cost: O(groups + size) for each epoch that is touched.
        """
        of_groups, of_windows = fold_in(words, np.arange(2, dtype=np.uint32)).T
        length = int(self.rows.sum())
        found = [np.empty(0, np.int64)]
        epoch, offset = divmod(start, length)
        while size:
            taken = min(size, length - offset)
            places = self._in_windows(epoch, offset, taken, of_windows)
            found.append(self._in_groups(epoch, places, of_groups))
            size, epoch, offset = size - taken, epoch + 1, 0
        return np.concatenate(found)

    def _in_windows(self, epoch: int, offset: int, size: int, words: np.ndarray) -> np.ndarray:
        """The places in the sequence of rows that an epoch serves from ``offset`` on: those of each window shuffled."""
        length = int(self.rows.sum())
        rest = length % self.window  # in the last window, if it is short
        whole = length - rest
        in_whole = min(size, max(0, whole - offset))
        places = []
        if in_whole:  # an epoch of this order is a window, so that each has another shuffle
            shuffled = Order(self.window).record_indices(epoch * whole + offset, in_whole, words)
            windows = np.arange(offset, offset + in_whole) // self.window
            places.append(windows * self.window + shuffled)
        if size > in_whole:
            places.append(
                whole + Order(rest).record_indices(epoch * rest + max(0, offset - whole), size - in_whole, words)
            )
        return np.concatenate(places)

    def _in_groups(self, epoch: int, places: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The records at places in the sequence of rows that this epoch's order of the row groups makes."""
        groups = Order(len(self.rows)).record_indices(epoch * len(self.rows), len(self.rows), words)
        ends = np.cumsum(self.rows[groups])
        starts = np.cumsum(self.rows) - self.rows
        at = np.searchsorted(ends, places, side="right")
        records: np.ndarray = starts[groups[at]] + places - (ends - self.rows[groups])[at]
        return records
