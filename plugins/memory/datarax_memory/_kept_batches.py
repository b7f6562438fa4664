"""The batches used last, for ``cache_size``."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from datarax_core.records import Batch


class KeptBatches:
    """Up to ``capacity`` batches by the records in them; the one that was not used for longest goes first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[bytes, Batch] = OrderedDict()

    def get(self, indices: np.ndarray, make: Callable[[np.ndarray], Batch]) -> Batch:
        """The batch of these records: a kept one, or else what ``make`` gives. The caller may change it."""
        key = np.asarray(indices, np.int64).tobytes()
        batch = self._kept.pop(key, None)  # in one go: parts of one source may be read on several threads
        if batch is None:
            batch = make(indices)
        self._kept[key] = batch
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return jax.tree.map(_own, batch)

    def __getstate__(self) -> dict[str, Any]:
        return vars(KeptBatches(self.capacity))  # a pickle carries no work that can be done again

    def clear(self) -> None:
        """Keep none of them any longer."""
        self._kept.clear()


def _own(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf
