"""The files of a source as they were when it was built, and reading from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from datarax_core import DataFileError


class Stamp(NamedTuple):
    """What tells a file from one that was written in its place."""

    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Self:
        """That of a file now."""
        now = Path(path).stat()
        return cls(now.st_size, now.st_mtime_ns, now.st_ino)


@dataclass(frozen=True, eq=False, slots=True)
class ParquetFile:
    """A file and its footer, which says what is in it. No handle stays open between two reads."""

    path: str
    stamp: Stamp
    footer: pq.FileMetaData
    schema: pa.Schema

    @classmethod
    def of(cls, path: str) -> Self:
        """The file at ``path``. Reads its footer and no row.

        Raises:
            DataFileError: It is empty, truncated, or no Parquet file.
            OSError: It may not be read.
        """
        stamp = Stamp.of(path)
        Path(path).open("rb").close()  # says in Python's own words if it may not be read
        try:
            with pa.OSFile(path) as handle:
                opened = pq.ParquetFile(handle)
                return cls(path, stamp, opened.metadata, opened.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(
                path, f"{path} is no Parquet file, or is damaged: {_one_line(error)}; write it again"
            ) from error

    def rows_of_groups(self) -> list[int]:
        """How many rows each row group has."""
        return [self.footer.row_group(number).num_rows for number in range(self.footer.num_row_groups)]

    def read(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        """Columns of one row group.

        Raises:
            DataFileError: They are damaged, which names them; or the file is no longer the one that it was.
        """
        self.require_unchanged()
        try:
            table = self._read(row_group, columns)
        except (pa.ArrowException, OSError) as error:
            self.require_unchanged()  # if it changed, that is what went wrong
            damaged = [name for name in columns if not self._can_read(row_group, name)]
            raise DataFileError(
                self.path,
                f"{self.path}: row group {row_group} cannot be read, column {', '.join(map(repr, damaged or columns))}: "
                f"{_one_line(error)}; the file is damaged, write it again",
            ) from error
        self.require_unchanged()
        return table

    def require_unchanged(self) -> None:
        """Refuse a file that was written to, replaced or removed: its footer describes another one.

        Raises:
            DataFileError: It was.
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
