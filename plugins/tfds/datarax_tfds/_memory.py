"""How much memory there is, and how much the arrays of a data set would take."""

import math
import os
from pathlib import Path
from typing import Final

from datarax_core.records import ElementSpec, named_fields

_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""What a container may use, where it has a limit: by the two versions of Linux's control groups."""

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container that this process runs in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([memory, *filter(None, map(_limit, _LIMITS))])


def array_bytes(spec: ElementSpec, num_records: int, stored_bytes: int) -> int:
    """Bytes of the arrays of so many records; text and bytes among them count as they are stored, at most ``stored_bytes``."""
    fields = named_fields(spec).values()
    numbers: int = sum(math.prod(field.shape) * field.dtype.itemsize for field in fields)
    has_objects = any(field.dtype.hasobject for field in fields)
    return numbers * num_records + (stored_bytes if has_objects else 0)


def in_words(nbytes: int) -> str:
    """A size for people: ``1.3 GiB``."""
    size, unit = float(nbytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _limit(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
