"""What runs and is open in this process while a promise is tested: files, and how often threads switch."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DESCRIPTORS: Final = Path("/dev/fd")
"""Folder in which a system lists the open files of a process; some have none."""


def open_files() -> dict[int, str]:
    """Return the file of each open file descriptor, as text; none where the system does not list them."""
    if not DESCRIPTORS.exists():
        return {}
    found = {}
    for name in os.listdir(DESCRIPTORS):  # noqa: PTH208 - numbers, not paths
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of the listing itself
            continue
        entry = DESCRIPTORS / name
        found[int(name)] = str(entry.readlink()) if entry.is_symlink() else f"file {status.st_ino}"
    return found


@contextmanager
def switching_often() -> Iterator[None]:
    """Switch threads as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
