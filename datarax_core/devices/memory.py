"""Memory that is available for the records of a data set, on the host and on the device."""

import functools
import os
from pathlib import Path, PurePosixPath
from typing import Final

import jax

_GROUPS: Final = Path("/proc/self/cgroup")
"""The file that names the Linux control groups of this process: lines of ``number:controllers:/path``."""

_MEMORY: Final = Path("/proc/meminfo")
"""The file with the memory of the machine in lines of ``name: number kB``."""

_OWN_MEMORY: Final = Path("/proc/self/statm")
"""The file with the pages of this process: all, and those in memory, are the first two numbers."""

_LIMIT_FILES: Final = {
    "": (Path("/sys/fs/cgroup"), "memory.max"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}
"""The folder of all groups and the file of a group's memory limit, for versions 2 and 1 of control groups."""

_SHARE_OF_HOST: Final = 4  # where the device is the CPU, at most this part of the memory is for copies of the records

_SHARE_OF_DEVICE: Final = 2


def host_memory() -> int:
    """Return the bytes of memory that this process can use: of the machine, or of its container or job if that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(_GROUPS)])


def free_memory() -> int:
    """Return the bytes of memory that this process can still take, of the machine or of its container or job."""
    own = host_memory()
    fields = dict(line.split(":", 1) for line in (_text(_MEMORY) or "").splitlines() if ":" in line)
    available = int(fields.get("MemAvailable", f"{own >> 10} kB").split()[0]) << 10
    resident = int((_text(_OWN_MEMORY) or "0 0").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return max(0, min(available, own - resident))


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
def _limits(groups: Path) -> list[int]:
    """Return the memory limits of this process's control groups and of all above them: each of them holds."""
    own = dict.fromkeys(_LIMIT_FILES, "/")  # inside of a container its group is the uppermost
    for line in (_text(groups) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(own.keys() & controllers.split(","), path))
    limits = []
    for controller, (folder, name) in _LIMIT_FILES.items():
        group = PurePosixPath(own[controller])
        for part in (group, *group.parents):
            text = _text(folder / part.relative_to("/") / name) or ""
            limits += [int(text)] if text.isdigit() else []  # a group without a limit says "max"
    return limits


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
