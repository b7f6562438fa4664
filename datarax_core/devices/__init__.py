"""Devices: layouts, placement and memory of batches, prefetching to devices, and host callbacks of compiled code.

Imports `errors`, `config`, `order` and `records`.
"""

from .aside import Aside
from .callbacks import original_errors
from .memory import fits_device_memory, host_memory
from .prefetch import DeviceBatches, prefetch_to_device

__all__ = [
    "Aside",
    "DeviceBatches",
    "fits_device_memory",
    "host_memory",
    "original_errors",
    "prefetch_to_device",
]
