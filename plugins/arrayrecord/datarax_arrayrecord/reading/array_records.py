"""Reader of the records in ArrayRecord files."""

from typing import Any

import numpy as np

from datarax_core.moved import rename_attributes
from datarax_core.record_files import BadRecordPolicy, RecordReader
from datarax_core.registry import Decoder
from datarax_core.sources import FileTable, OpenFiles

from .reader import FileReader


class ArrayRecordReader(RecordReader):
    """Reads and decodes records of ArrayRecord files, with one call for each file. Picklable; a pickle holds no open files.

    Args:
        table: The files.
        decoder: Decoder of the records.
        exclude: Quarantine file; the records that it lists are neither counted nor served.
        policy: How many bad records are substituted; None raises at the first one.
        limit: How many files stay open when nobody reads.
    """

    def __init__(
        self, table: FileTable, decoder: Decoder, *, exclude: str | None, policy: BadRecordPolicy | None, limit: int
    ) -> None:
        super().__init__(table, decoder, exclude=exclude, policy=policy)
        self.files = _open_files(table, limit)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        rename_attributes(self, {"_skips": "_served_before_excluded", "_good_spec": "_readable_spec"})  # version 0.1.0
        if isinstance(self.files, OldOpenFiles):
            self.files = _open_files(self.table, self.files.limit)

    def read_stored(self, records: np.ndarray) -> list[bytes]:
        """Return the bytes of records; see `RecordReader.read_stored`."""
        return self.table.read_by_part(records, self._rows)

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self.files.close()

    def _rows(self, part: int, rows: list[int]) -> list[bytes]:
        return self.files.use(part, lambda reader: reader.read(rows))


class OldOpenFiles:
    """Pool of open files in a pickle of version 0.1.0; `ArrayRecordReader` makes a new pool with the same limit."""

    limit: int


def _open_files(table: FileTable, limit: int) -> OpenFiles[FileReader]:
    return OpenFiles(
        table, FileReader, limit=limit, option="max_open_files", not_in_forks="readers of ArrayRecord files"
    )
