"""Parquet files: their footers, checks that they did not change, and reading of row groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from datarax_core import DataFileError


class Stamp(NamedTuple):
    """Size, time of change and inode of a file, which differ if it was written to or replaced."""

    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Self:
        """Return the stamp that a file has now."""
        now = Path(path).stat()
        return cls(now.st_size, now.st_mtime_ns, now.st_ino)


@dataclass(frozen=True, eq=False, slots=True)
class ParquetFile:
    """A file and its footer, which lists its columns and row groups. No file handle stays open between two reads."""

    path: str
    stamp: Stamp
    footer: pq.FileMetaData
    schema: pa.Schema

    @classmethod
    def of(cls, path: str) -> Self:
        """Read the footer of the file at ``path``, and no row.

        Raises:
            DataFileError: The file is empty, truncated, or no Parquet file.
            OSError: The file may not be read.
        """
        stamp = Stamp.of(path)
        Path(path).open("rb").close()  # raises Python's own error if the file may not be read
        try:
            with pa.OSFile(path) as handle:
                opened = pq.ParquetFile(handle)
                return cls(path, stamp, opened.metadata, opened.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(
                path, f"{path} is no Parquet file, or is damaged: {_one_line(error)}; write it again"
            ) from error

    def rows_of_groups(self) -> list[int]:
        """Return the number of rows of each row group."""
        return [self.footer.row_group(number).num_rows for number in range(self.footer.num_row_groups)]

    def read(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        """Read columns of one row group.

        Raises:
            DataFileError: Columns are damaged, which the message names; or the file changed since its footer was read.
        """
        self.require_unchanged()
        try:
            table = self._read(row_group, columns)
        except (pa.ArrowException, OSError) as error:
            self.require_unchanged()  # a change of the file explains the error better
            damaged = [name for name in columns if not self._can_read(row_group, name)]
            raise DataFileError(
                self.path,
                f"{self.path}: row group {row_group} cannot be read, column {', '.join(map(repr, damaged or columns))}: "
                f"{_one_line(error)}; the file is damaged, write it again",
            ) from error
        self.require_unchanged()
        return table

    def require_unchanged(self) -> None:
        """Raise if the file was written to, replaced or removed since its footer was read.

        Raises:
            DataFileError: The file changed, or is gone.
        """
        try:
            now = Stamp.of(self.path)
        except OSError as error:
            raise DataFileError(self.path, f"{self.path} is gone: it was removed while a source read it") from error
        if now != self.stamp:
            raise DataFileError(
                self.path,
                f"{self.path} changed while a source read it; leave files as they are, and build the source anew",
            )

    def _read(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        with pa.OSFile(self.path) as handle:
            file = pq.ParquetFile(handle, metadata=self.footer, page_checksum_verification=True)
            return file.read_row_group(row_group, list(columns))

    def _can_read(self, row_group: int, column: str) -> bool:
        try:
            self._read(row_group, [column])
        except (pa.ArrowException, OSError):
            return False
        return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
