"""A shuffled order that is cheap to read: row groups are shuffled, and rows within windows."""

from dataclasses import dataclass

import numpy as np

from datarax_core.order import Order, fold_in


@dataclass(frozen=True, eq=False, slots=True)
class WindowedOrder:
    """An order with another shuffle in each epoch, made of two of the core's shuffles.

    The row groups are shuffled, and their rows form a sequence in that order. The sequence is cut into windows, and the rows
    of each window are shuffled: a batch touches the row groups of a window, and no others.

    Args:
        rows: int64 (groups,): rows of each row group.
        window: Rows of a window.
    """

    rows: np.ndarray
    window: int

    def record_indices(self, start: int, size: int, key: np.ndarray) -> np.ndarray:
        """Return int64 (size,): the records at positions ``start .. start + size`` of the order that ``key`` selects.

        Cost: O(groups + size) for each epoch that is touched.
        """
        group_key, window_key = fold_in(key, np.arange(2, dtype=np.uint32)).T
        length = int(self.rows.sum())
        found = [np.empty(0, np.int64)]
        epoch, offset = divmod(start, length)
        while size:
            taken = min(size, length - offset)
            places = self._in_windows(epoch, offset, taken, window_key)
            found.append(self._in_groups(epoch, places, group_key))
            size, epoch, offset = size - taken, epoch + 1, 0
        return np.concatenate(found)

    def _in_windows(self, epoch: int, offset: int, size: int, key: np.ndarray) -> np.ndarray:
        """Return the places in the sequence of rows that an epoch serves from ``offset`` on, shuffled within windows."""
        length = int(self.rows.sum())
        rest = length % self.window  # rows of the last window, if it is shorter
        whole = length - rest
        in_whole = min(size, max(0, whole - offset))
        places = []
        if in_whole:  # each window is an epoch of this order, so that each has another shuffle
            shuffled = Order(self.window).record_indices(epoch * whole + offset, in_whole, key)
            windows = np.arange(offset, offset + in_whole) // self.window
            places.append(windows * self.window + shuffled)
        if size > in_whole:
            places.append(
                whole + Order(rest).record_indices(epoch * rest + max(0, offset - whole), size - in_whole, key)
            )
        return np.concatenate(places)

    def _in_groups(self, epoch: int, places: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Return the records at these places in the sequence of rows, for the epoch's order of row groups."""
        groups = Order(len(self.rows)).record_indices(epoch * len(self.rows), len(self.rows), key)
        ends = np.cumsum(self.rows[groups])
        starts = np.cumsum(self.rows) - self.rows
        at = np.searchsorted(ends, places, side="right")
        records: np.ndarray = starts[groups[at]] + places - (ends - self.rows[groups])[at]
        return records
