"""Memory that is available for the records of a data set, on the host and on the device."""

import functools
import os
from pathlib import Path
from typing import Final

import jax

_LIMIT_FILES: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files that hold the memory limit of a container, in versions 2 and 1 of Linux control groups."""

_SHARE_OF_HOST: Final = 4  # where the device is the CPU, at most this part of the memory is for copies of the records

_SHARE_OF_DEVICE: Final = 2


def host_memory() -> int:
    """Return the bytes of memory that this process can use: the machine's, or those of its container if that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_limit_in, _LIMIT_FILES))])


def fits_device_memory(nbytes: int) -> bool:
    """Return whether ``placement="auto"`` puts ``nbytes`` of records on the device.

    It does if they take at most half of an accelerator's memory, or, where the device is the CPU, a quarter of `host_memory`.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return nbytes * jax.local_device_count() * _SHARE_OF_HOST <= host_memory()  # over a mesh each device has a copy
    stats = device.memory_stats() or {}
    return bool(nbytes * _SHARE_OF_DEVICE <= stats.get("bytes_limit", nbytes * _SHARE_OF_DEVICE))


@functools.cache  # read for each batch otherwise: a source with placement="auto" asks where its records are
def _limit_in(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # a group without a limit says "max"
