"""Devices: layouts and placement of batches, prefetching to devices, and host callbacks of compiled code.

Imports `errors`, `config`, `order` and `records`.
"""

from .prefetch import DeviceBatches, prefetch_to_device

__all__ = [
    "DeviceBatches",
    "prefetch_to_device",
]
