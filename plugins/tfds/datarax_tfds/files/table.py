"""The files of a split: which of their records a record index names, and whether they are still the same."""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from datarax_core.errors import DataFileError
from datarax_tfds.splits import FilePart


class Stamp(NamedTuple):
    """What a file was when it was looked at."""

    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, file: str | int) -> Self:
        """That of a file now: of a path, or of an open one.

        Raises:
            OSError: It is not there, or not to be looked at.
        """
        now = os.stat(file)  # noqa: PTH116 - a fifth of what a Path costs, once a file a batch
        return cls(now.st_size, now.st_mtime_ns, now.st_ino)

    def require_same(self, path: str, now: "Stamp | None" = None) -> None:
        """Refuse the file at ``path`` if it is another one than it was.

        Raises:
            DataFileError: It shrank, grew, was written to, replaced or removed.
        """
        try:
            now = now or Stamp.of(path)
        except OSError as error:
            raise DataFileError(
                path, f"{path} is gone: it was removed while a source read it ({error.strerror})"
            ) from error
        if now == self:
            return
        what = (
            f"has {now.size} bytes where it had {self.size}" if now.size != self.size else "was written to or replaced"
        )
        raise DataFileError(
            path,
            f"{path} changed while a source read it: it {what}; leave files as they are, and build the source anew",
        )


@dataclass(frozen=True, eq=False, slots=True)
class FileTable:
    """Parts of files in their order. Record i is the i-th of all, part after part."""

    parts: tuple[FilePart, ...]
    """Those that have records."""

    ends: np.ndarray
    """int64 (parts,): the record index behind the last one of each."""

    shifts: np.ndarray
    """int64 (parts,): what a record index of each is more than the record's number in the file."""

    stamps: tuple[Stamp, ...]

    @classmethod
    def of(cls, parts: Sequence[FilePart]) -> Self:
        """Look at each file.

        Raises:
            FileNotFoundError, PermissionError: It is not there, or may not be read.
            DataFileError: It is a folder, a pipe or a device.
        """
        used = tuple(part for part in parts if part.num_records)
        counts = np.asarray([part.num_records for part in used], np.int64)
        ends = np.cumsum(counts)
        shifts = ends - counts - np.asarray([part.start for part in used], np.int64)
        return cls(used, ends, shifts, tuple(_require_file(part.path) for part in used))

    @property
    def num_records(self) -> int:
        """Records of all parts."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def parts_of(self, indices: np.ndarray) -> np.ndarray:
        """int64 (k,): the part of each record."""
        return np.searchsorted(self.ends, indices, side="right")

    def rows_of(self, indices: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """int64 (k,): the number of each record in its file, given its part."""
        rows: np.ndarray = indices - self.shifts[parts]
        return rows

    def place(self, index: int) -> tuple[str, int]:
        """(path, number in that file) of a record."""
        indices = np.asarray([index])
        parts = self.parts_of(indices)
        return self.parts[int(parts[0])].path, int(self.rows_of(indices, parts)[0])

    def require_same(self, part: int) -> None:
        """Refuse the file of a part if it changed since; see `Stamp.require_same`."""
        self.stamps[part].require_same(self.parts[part].path)

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again: names and sizes of files, and which of their records; not where they lie."""
        digest = hashlib.sha256()
        for part, stamp in zip(self.parts, self.stamps, strict=True):
            digest.update(f"{Path(part.path).name}\0{part.start}\0{part.stop}\0{stamp.size}\n".encode())
        size = sum({part.path: stamp.size for part, stamp in zip(self.parts, self.stamps, strict=True)}.values())
        return {"files": len({part.path for part in self.parts}), "bytes": size, "parts": digest.hexdigest()[:16]}

    def require_count(self, part: int, count: int) -> None:
        """Refuse a file that has another number of records than the data set says.

        Raises:
            DataFileError: It has.
        """
        path, told = self.parts[part].path, self.parts[part].records_in_file
        if count != told:
            raise DataFileError(
                path,
                f"{path} has {count} records, where the data set's own description says {told}: one of them is of another "
                "version; copy the folder of the data set again, or prepare it anew",
            )


def _require_file(path: str) -> Stamp:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - as above
            raise DataFileError(path, f"{path} is no ordinary file, but a folder, a pipe or a device")
        with open(path, "rb"):  # noqa: PTH123 - as above
            return Stamp.of(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {path}; prepare the data set anew") from error
    except PermissionError as error:
        raise PermissionError(f"permission denied: {path}; make the file readable for this user") from error


class UnreadableError(Exception):
    """One of the records that were asked for cannot be read: ``row`` is its place in the call, ``reason`` says why."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason
