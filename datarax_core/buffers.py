"""Host memory that a device can take over."""

import math
from typing import Any, Final

import numpy as np

ALIGNMENT: Final = 64
"""Bytes. On a CPU, JAX takes over an array that starts at a multiple of this, and copies any other."""


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new array, not filled, which `jax.device_put` takes over without a copy on a CPU: write to it only before that."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array: np.ndarray = memory[start : start + size].view(dtype).reshape(shape)
    return array
