"""Files of a source: how many records each has, and the facts about them that a restored state must match."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datarax_core.config import without_query
from datarax_core.errors import DataFileError
from datarax_core.files import is_remote
from datarax_core.sources import FileTable, Stamp, content_of_files, require_file
from datarax_core.storage import RangeReader, redacted

from .footers import Counted, counts_at_addresses
from .reader import FileReader


def table_of(paths: Sequence[str], ranges: RangeReader) -> FileTable:
    """Return the table of ArrayRecord files, each of which is opened once to count its records.

    Costs 0.1 to 4 ms a file, depending on the length of its index; for all files at addresses, a few rounds of requests for
    their ends. Warns if files are written in groups of several records.

    Raises:
        FileNotFoundError, PermissionError: A file does not exist, or may not be read.
        DataFileError: A file is empty, damaged, or not an ArrayRecord file.
        ConnectionError, TimeoutError: A file is at an address, and its store cannot be reached.
    """
    remote = [path for path in paths if is_remote(path)]
    stamps_of_remote = ranges.stamps(remote) if remote else []
    for path, stamp in zip(remote, stamps_of_remote, strict=True):
        _require_bytes(path, stamp)
    counted = dict(zip(remote, counts_at_addresses(remote, stamps_of_remote, ranges), strict=True)) if remote else {}
    stamp_of = dict(zip(remote, stamps_of_remote, strict=True))
    counts, stamps, group_sizes = [], [], {}
    for path in paths:
        stamps.append(stamp_of[path] if path in stamp_of else _stamp_of(path))
        of_file = counted[path] if path in counted else _counted(path)
        counts.append(of_file.num_records)
        if of_file.group_size > 1:
            group_sizes[path] = of_file.group_size
    if group_sizes:
        path, size = next(iter(group_sizes.items()))
        warnings.warn(
            f"{len(group_sizes)} of {len(paths)} files, {path} first, are written in groups of {size} records, all of which "
            "are read and decompressed to get at one of them; write them with the option group_size:1, as "
            "datarax_arrayrecord.write does",
            stacklevel=2,
        )
    return FileTable.of(paths, counts, stamps)


def fingerprint_of(table: FileTable, ranges: RangeReader) -> dict[str, Any]:
    """Return the facts that a restored state must match: names, sizes, counts and a sample of the files, not their folders.

    Files at addresses have those that the same files on this machine have.
    """
    digest = hashlib.sha256()
    for path, count, stamp in zip(table.paths, table.counts.tolist(), table.stamps, strict=True):
        digest.update(f"{Path(without_query(path)).name}\0{count}\0{stamp.size if stamp else 0}\n".encode())
    size = sum(stamp.size for stamp in table.stamps if stamp)
    content = content_of_files(table.paths, RangeReader(ranges.options), table.stamps)
    return {
        "files": len(table.paths),
        "bytes": size,
        "names_and_sizes": digest.hexdigest()[:16],
        **({} if content is None else {"content": content}),
    }


def _counted(path: str) -> Counted:
    reader = FileReader(path)
    counted = Counted(reader.num_records, reader.group_size)
    reader.close()
    return counted


def _stamp_of(path: str) -> Stamp:
    """Return the stamp of a file that may be an ArrayRecord file."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataFileError(
            path, f"the name of {path!r} is no UTF-8, and array_record opens no other; rename it"
        ) from error
    stamp = require_file(path)
    _require_bytes(path, stamp)
    return stamp


def _require_bytes(path: str, stamp: Stamp) -> None:
    if not stamp.size:
        raise DataFileError(
            path, f"{redacted(path)} is empty: 0 bytes; it was never written, or a copy of it was interrupted"
        )
