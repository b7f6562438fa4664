"""The files of a source: how many records each has, which of them a record index names, and whether they are still the same."""

import hashlib
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from datarax_core.errors import DataFileError

from ._paths import is_remote
from ._reader import FileReader


class Stamp(NamedTuple):
    """What a file was when it was first opened. Remote ones have none of it."""

    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Self | None:
        """That of a file now.

        Raises:
            OSError: It is not there, or not to be looked at.
        """
        if is_remote(path):
            return None
        now = os.stat(path)  # noqa: PTH116 - a fifth of what a Path costs, once a file a batch
        return cls(now.st_size, now.st_mtime_ns, now.st_ino)


@dataclass(frozen=True, eq=False, slots=True)
class FileTable:
    """Files in their order, and where the records of each begin. Record i is the i-th of all, file after file."""

    paths: tuple[str, ...]
    counts: np.ndarray
    """int64 (files,): records in each."""

    starts: np.ndarray
    """int64 (files,): the record index of the first one of each."""

    ends: np.ndarray
    """int64 (files,): that behind the last one of each."""

    stamps: tuple[Stamp | None, ...]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Self:
        """Open each file once, and close it again; 0.1 to 4 ms a file, as its index is long.

        Raises:
            FileNotFoundError, PermissionError: It is not there, or may not be read.
            DataFileError: It is empty, no ArrayRecord file, or damaged.
        """
        counts, stamps, grouped = [], [], {}
        for path in paths:
            stamps.append(_require_readable(path))
            reader = FileReader(path)
            counts.append(reader.num_records)
            if reader.group_size > 1:
                grouped[path] = reader.group_size
            reader.close()
        if grouped:
            path, size = next(iter(grouped.items()))
            warnings.warn(
                f"{len(grouped)} of {len(paths)} files, {path} first, are written in groups of {size} records, all of "
                "which are read and decompressed to get at one of them; write them with the option group_size:1, as "
                "datarax_arrayrecord.write does",
                stacklevel=2,
            )
        sizes = np.asarray(counts, np.int64)
        ends = np.cumsum(sizes)
        return cls(tuple(paths), sizes, ends - sizes, ends, tuple(stamps))

    @property
    def num_records(self) -> int:
        """Records in all files."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def place(self, record: int) -> tuple[int, int]:
        """(number of the file, row in it) of a record."""
        file = int(np.searchsorted(self.ends, record, side="right"))
        return file, record - int(self.starts[file])

    def require_unchanged(self, file: int) -> None:
        """Refuse a file that is no longer the one whose records were counted: its reader gives what it likes by then.

        Raises:
            DataFileError: It shrank, grew, was written to, replaced or removed.
        """
        path, stamp = self.paths[file], self.stamps[file]
        try:
            now = Stamp.of(path)
        except OSError as error:
            raise DataFileError(
                path, f"{path} is gone: it was removed while a source read it ({error.strerror})"
            ) from error
        if now is None or stamp is None or now == stamp:
            return
        what = (
            f"has {now.size} bytes where it had {stamp.size}"
            if now.size != stamp.size
            else "was written to or replaced"
        )
        raise DataFileError(
            path,
            f"{path} changed while a source read it: it {what}; leave files as they are, and build the source anew",
        )

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again: names, sizes and lengths of the files; not where they lie."""
        digest = hashlib.sha256()
        for path, count, stamp in zip(self.paths, self.counts.tolist(), self.stamps, strict=True):
            digest.update(f"{Path(path).name}\0{count}\0{stamp.size if stamp else 0}\n".encode())
        size = sum(stamp.size for stamp in self.stamps if stamp)
        return {"files": len(self.paths), "bytes": size, "names_and_sizes": digest.hexdigest()[:16]}


def _require_readable(path: str) -> Stamp | None:
    if is_remote(path):
        return None
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataFileError(
            path, f"the name of {path!r} is no UTF-8, and array_record opens no other; rename it"
        ) from error
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - as above
            raise DataFileError(path, f"{path} is no ordinary file, but a folder, a pipe or a device")
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {path}") from error
    except PermissionError as error:
        raise PermissionError(f"permission denied: {path}; make the file readable for this user") from error
    if empty:
        raise DataFileError(path, f"{path} is empty: 0 bytes; it was never written, or a copy of it was interrupted")
    return Stamp.of(path)
