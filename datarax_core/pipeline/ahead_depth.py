"""Number of batches that a loop reads ahead: a fixed one, or as many as a bounded part of the memory holds."""

from typing import Any, Final

import jax
import numpy as np

from datarax_core.devices.memory import free_memory
from datarax_core.order.numbers import Auto
from datarax_core.routes.base import Prepared

MOST_BYTES: Final = 256 << 20
"""Bytes of batches that are read ahead with ``"auto"``, at most."""

_SHARE_OF_FREE: Final = 10
"""At most this part of the memory that is free is for batches that are read ahead."""

_MOST_BATCHES: Final = 1024
"""Batches that are read ahead with ``"auto"`` at most, however small: a second of a loop of a millisecond a batch."""

_FIRST: Final = 2
"""Batches that are read ahead before the size of one is known."""

_MEASURED_ALL, _MEASURED_EVERY = 4, 16
"""Batches whose bytes are counted: so many at first, then one of so many."""


class AheadDepth:
    """Number of batches that a loop reads ahead, `batches`.

    With ``"auto"`` it is the number that fits `MOST_BYTES`, or a tenth of the memory that was free at the first batch, if that
    is less: one at least, and 1,024 at most. The largest batch that was seen counts.
    """

    def __init__(self, asked: int | Auto) -> None:
        self.batches = _FIRST if asked == "auto" else asked
        self._is_auto = asked == "auto"
        self._seen = 0
        self._largest = 0
        self._bytes = 0

    def note(self, prepared: Prepared) -> None:
        """Note a batch that was read."""
        if not self._is_auto:
            return
        self._seen += 1
        if self._seen > _MEASURED_ALL and self._seen % _MEASURED_EVERY:
            return
        if not self._bytes:
            self._bytes = min(MOST_BYTES, free_memory() // _SHARE_OF_FREE)
        self._largest = max(self._largest, bytes_of(prepared.content) + bytes_of(prepared.host_fields), 1)
        self.batches = min(max(1, self._bytes // self._largest), _MOST_BATCHES)


def bytes_of(batch: Any) -> int:
    """Return the bytes of a batch; of Python objects, those of text and bytes."""
    return sum(map(_bytes_of_column, jax.tree.leaves(batch)))


def _bytes_of_column(column: Any) -> int:
    nbytes = int(getattr(column, "nbytes", 0))
    if isinstance(column, np.ndarray) and column.dtype.hasobject:
        nbytes += sum(
            len(value) if isinstance(value, str | bytes) else getattr(value, "nbytes", 0) for value in column.flat
        )
    return nbytes
