"""Parts of files as a table of core's, and the checks that TFDS's description of a data set makes possible."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datarax_core.config import without_query
from datarax_core.errors import DataFileError
from datarax_core.sources import FileTable, Stamp, content_of_files, require_file
from datarax_core.storage import RangeReader
from datarax_tfds.splits import FilePart


def table_of(parts: Sequence[FilePart]) -> FileTable:
    """Return the table of the parts of a split, with the stamp that each file has now.

    Raises:
        FileNotFoundError, PermissionError: A file does not exist, or may not be read.
        DataFileError: A path is that of a folder, a pipe or a device.
    """
    paths = [part.path for part in parts]
    stamps = [require_file(path, "prepare the data set anew") for path in paths]
    return FileTable.of(paths, [part.num_records for part in parts], stamps, [part.start for part in parts])


def fingerprint_of(table: FileTable, reader: RangeReader | None = None) -> dict[str, Any]:
    """Return the facts that a restored state must match: names, sizes, rows and a sample of the files; not their folders.

    Args:
        table: The files.
        reader: Reads those at addresses; None if there are none.
    """
    digest = hashlib.sha256()
    sizes: dict[str, int] = {}
    starts = (table.ends - table.counts - table.offsets).tolist()
    for path, start, count, stamp in zip(table.paths, starts, table.counts.tolist(), table.stamps, strict=True):
        sizes[path] = stamp.size if stamp else 0
        digest.update(f"{Path(without_query(path)).name}\0{start}\0{start + count}\0{sizes[path]}\n".encode())
    stamps = dict(zip(table.paths, table.stamps, strict=True))
    content = content_of_files(list(sizes), reader, [stamps[path] for path in sizes])
    return {
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "parts": digest.hexdigest()[:16],
        **({} if content is None else {"content": content}),
    }


def require_count(part: FilePart, count: int) -> None:
    """Raise if the file of a part has another number of records than the data set's description says.

    Raises:
        DataFileError: The file has ``count`` records, and the description says another number.
    """
    if count != part.records_in_file:
        raise DataFileError(
            part.path,
            f"{part.path} has {count} records, where the data set's own description says {part.records_in_file}: one of them "
            "is of another version; copy the folder of the data set again, or prepare it anew",
        )


class UnreadableError(Exception):
    """Error of a record that cannot be read: ``record`` is its record index in the table, ``reason`` says why."""

    def __init__(self, record: int, reason: str) -> None:
        super().__init__(reason)
        self.record, self.reason = record, reason


class OldFileTable:
    """A file table in a pickle of version 0.1.0; `RecordFiles` makes its table anew from the parts, and compares the stamps."""

    parts: tuple[FilePart, ...]
    stamps: tuple[Stamp, ...]

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.parts, _, _, self.stamps = state


class OldFiles:
    """Readers of files in a pickle of version 0.1.0, which are made anew; nothing is kept."""

    def __init__(self, *args: Any) -> None:
        """Accept all that a pickle holds."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""
