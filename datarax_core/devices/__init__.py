"""Devices: how batches lie on them, batches placed ahead of use, and callbacks from compiled code to the host.

Imports `errors`, `config`, `order` and `records`.
"""

from .prefetch import DeviceBatches, prefetch_to_device

__all__ = [
    "DeviceBatches",
    "prefetch_to_device",
]
