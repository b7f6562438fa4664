"""Parquet files, here and at addresses: their footers, checks that they did not change, and reading of row groups."""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from datarax_core import DataFileError
from datarax_core.files import is_remote
from datarax_core.storage import RangeReader, Stamp, redacted

_FOOTER_BYTES = 64 << 10
"""Bytes at the end of a file in which its footer is mostly found."""


@dataclass(frozen=True, eq=False, slots=True)
class ParquetFile:
    """A file and its footer, which lists its columns and row groups. No file handle stays open between two reads."""

    path: str
    stamp: Stamp
    footer: pq.FileMetaData
    schema: pa.Schema
    reader: RangeReader

    @classmethod
    def of(cls, path: str, stamp: Stamp, reader: RangeReader) -> Self:
        """Read the footer of the file at ``path``, and no row.

        Args:
            path: The file, or its address.
            stamp: Its stamp.
            reader: Reads files at addresses.

        Raises:
            DataFileError: The file is empty, truncated, or no Parquet file.
            OSError: The file may not be read.
        """
        if not is_remote(path):
            Path(path).open("rb").close()  # raises Python's own error if the file may not be read
        try:
            with _opened(path, stamp, reader, [(max(0, stamp.size - _FOOTER_BYTES), stamp.size)]) as handle:
                opened = pq.ParquetFile(handle)
                return cls(path, stamp, opened.metadata, opened.schema_arrow, reader)
        except (ConnectionError, TimeoutError):
            raise
        except (pa.ArrowException, OSError) as error:
            shown = redacted(path)
            raise DataFileError(
                path, f"{shown} is no Parquet file, or is damaged: {_one_line(error)}; write it again"
            ) from error

    def rows_of_groups(self) -> list[int]:
        """Return the number of rows of each row group."""
        return [self.footer.row_group(number).num_rows for number in range(self.footer.num_row_groups)]

    def read(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        """Read columns of one row group; of a file at an address, the ranges of all of them at once.

        Raises:
            DataFileError: Columns are damaged, which the message names; or the file changed since its footer was read.
            ConnectionError, TimeoutError: The store of a file at an address cannot be reached.
        """
        self.require_unchanged()
        try:
            table = self._read(row_group, columns)
        except (ConnectionError, TimeoutError):
            raise
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
        """Raise if a file of this machine was written to, replaced or removed since its footer was read.

        Those at addresses are checked by the requests that read them.

        Raises:
            DataFileError: The file changed, or is gone.
        """
        if not is_remote(self.path):
            self.stamp.require_same(self.path)

    def _read(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        with _opened(self.path, self.stamp, self.reader, self._spans(row_group, columns)) as handle:
            file = pq.ParquetFile(handle, metadata=self.footer, page_checksum_verification=True)
            return file.read_row_group(row_group, list(columns))

    def _spans(self, row_group: int, columns: Sequence[str]) -> list[tuple[int, int]]:
        """Return (start, end) of the bytes of columns of a row group, of each of their leaves."""
        group = self.footer.row_group(row_group)
        chunks = [group.column(number) for number in range(group.num_columns)]
        spans = []
        for chunk in chunks:
            if chunk.path_in_schema.partition(".")[0] in columns:
                start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
                spans.append((start, start + chunk.total_compressed_size))
        return spans

    def _can_read(self, row_group: int, column: str) -> bool:
        try:
            self._read(row_group, [column])
        except (pa.ArrowException, OSError):
            return False
        return True


def _opened(
    path: str, stamp: Stamp, reader: RangeReader, spans: Sequence[tuple[int, int]]
) -> AbstractContextManager[Any]:
    """Return a file of Arrow; of one at an address, the spans are fetched now, all at once."""
    if not is_remote(path):
        return pa.OSFile(path)  # type: ignore[no-any-return]  # pyarrow ships no types
    file = reader.open(path, stamp)
    file.fetch([start for start, _ in spans], [end for _, end in spans])
    return pa.PythonFile(io.BufferedReader(file), mode="r")  # type: ignore[no-any-return]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
