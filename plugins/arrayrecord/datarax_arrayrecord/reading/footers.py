"""Numbers of records of files at addresses, counted by the ends of the files: the index of a file is at its end.

array_record itself counts them: it opens a sparse file of the same size that has only the beginning and the end of the object.
Where the index begins it says itself, in the error about the part that is missing, so that two requests an object are enough,
for all objects at once.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from datarax_core.errors import DataFileError
from datarax_core.storage import RangeReader, Stamp

from .reader import FileReader

_HEAD: Final = 1 << 16
_TAIL: Final = 1 << 18
_MISSING: Final = re.compile(r"chunk at (\d+)")


class Counted(NamedTuple):
    """Number of records of a file, and the number of those that are written as one group."""

    num_records: int
    group_size: int


def counts_at_addresses(addresses: Sequence[str], stamps: Sequence[Stamp], ranges: RangeReader) -> list[Counted]:
    """Return what the indices of files at addresses say. Costs two rounds of requests, and memory for the indices.

    Args:
        addresses: The files.
        stamps: Stamp of each.
        ranges: Reads them.

    Raises:
        DataFileError: A file is no ArrayRecord file, or is damaged; names it.
        OSError, ConfigError: As `datarax_core.storage.ranges`.
    """
    sizes = [stamp.size for stamp in stamps]
    heads = ranges.ranges(addresses, [0] * len(sizes), [min(_HEAD, size) for size in sizes], stamps)
    begins = [max(0, size - _TAIL) for size in sizes]
    found: dict[int, Counted] = {}
    waiting = list(range(len(sizes)))
    while waiting:
        tails = ranges.ranges(
            [addresses[each] for each in waiting],
            [begins[each] for each in waiting],
            [sizes[each] for each in waiting],
            [stamps[each] for each in waiting],
        )
        for each, tail in zip(waiting, tails, strict=True):
            counted = _counted(addresses[each], heads[each], tail, sizes[each], begins[each])
            if isinstance(counted, Counted):
                found[each] = counted
            else:
                begins[each] = counted
        waiting = [each for each in waiting if each not in found]
    return [found[each] for each in range(len(sizes))]


def _counted(address: str, head: bytes, tail: bytes, size: int, begin: int) -> Counted | int:
    """Return what the index says; where to begin to read instead, if a part of it is missing."""
    handle, path = tempfile.mkstemp(suffix=".array_record")
    try:
        with os.fdopen(handle, "wb") as file:
            file.truncate(size)
            file.write(head)
            file.seek(begin)
            file.write(tail)
        try:
            reader = FileReader(address, path)
        except DataFileError as error:
            if not begin:
                raise
            missing = _MISSING.search(str(error))
            wanted = int(missing[1]) if missing else size
            return wanted if wanted < begin else max(0, size - 4 * (size - begin))
        counted = Counted(reader.num_records, reader.group_size)
        reader.close()
        return counted
    finally:
        Path(path).unlink()
