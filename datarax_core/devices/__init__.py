"""Devices: layouts and placement of batches, prefetching to devices, and host callbacks of compiled code.

Imports `errors`, `config`, `order` and `records`.
"""

from .aside import Aside
from .callbacks import original_errors
from .prefetch import DeviceBatches, prefetch_to_device

__all__ = [
    "Aside",
    "DeviceBatches",
    "original_errors",
    "prefetch_to_device",
]
