"""Orders: integer arithmetic from positions of an endless stream to record indices.

Each rule has one implementation that runs on NumPy and under ``jax.jit``, equal to the bit. Imports `errors` and `background`.
"""

from datarax_core.moved import forward_names

from .batch_sizes import BatchSizes, OneBatchSize, ScheduledBatchSizes
from .numbers import as_integer, record_numbers, seed_number, whole_number
from .order import HOST_LIMIT, ORDER_RULE, Order, epochs_of
from .permutation import DEVICE_LIMIT, fold_in, key_data
from .reader import OrderReader
from .selection import Selection, cut
from .tables import TableSelection, first_twice

__all__ = [
    "DEVICE_LIMIT",
    "HOST_LIMIT",
    "ORDER_RULE",
    "BatchSizes",
    "OneBatchSize",
    "Order",
    "OrderReader",
    "ScheduledBatchSizes",
    "Selection",
    "TableSelection",
    "as_integer",
    "cut",
    "epochs_of",
    "first_twice",
    "fold_in",
    "key_data",
    "record_numbers",
    "seed_number",
    "whole_number",
]

__getattr__ = forward_names(
    __name__,
    {
        "Integers": "datarax_core.order.permutation",
        "key_words": "datarax_core.order.permutation:key_data",
    },
)
