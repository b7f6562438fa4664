"""Reader of the records in ArrayRecord files."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from datarax_core.errors import DataFileError
from datarax_core.files import is_remote
from datarax_core.moved import rename_attributes
from datarax_core.record_files import BadRecordPolicy, ReadError, RecordReader
from datarax_core.registry import Decoder
from datarax_core.sources import FileTable, OpenFiles
from datarax_core.storage import RangeReader

from .reader import FileReader
from .shards import Shards


class ArrayRecordReader(RecordReader):
    """Reads and decodes records of ArrayRecord files, with one call for each file. Picklable; a pickle holds no open files.

    Args:
        table: The files.
        decoder: Decoder of the records.
        exclude: Quarantine file; the records that it lists are neither counted nor served.
        policy: How many bad records are substituted; None raises at the first one.
        limit: How many files stay open when nobody reads.
        ranges: Reads what is at addresses, and has a cache if files are.
    """

    reads_ahead: ClassVar[bool] = True

    def __init__(
        self,
        table: FileTable,
        decoder: Decoder,
        *,
        exclude: str | None,
        policy: BadRecordPolicy | None,
        limit: int,
        ranges: RangeReader,
    ) -> None:
        super().__init__(table, decoder, exclude=exclude, policy=policy, ranges=ranges)
        self.ranges, self.shards = ranges, Shards(table, ranges)
        self.files = _open_files(table, limit, self.shards)
        self.shards.make_room = self.files.close

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        rename_attributes(self, {"_skips": "_served_before_excluded", "_good_spec": "_readable_spec"})  # version 0.1.0
        if "shards" not in state:  # before addresses were read
            self.ranges = RangeReader()
            self.shards = Shards(self.table, self.ranges)
        if isinstance(self.files, OldOpenFiles):
            self.files = _open_files(self.table, self.files.limit, self.shards)
        self.shards.make_room = self.files.close

    def read_stored(self, records: np.ndarray) -> list[bytes]:
        """Return the bytes of records; see `RecordReader.read_stored`."""
        if self.shards.has_addresses:
            self.shards.prepare(np.unique(self.table.parts_of(records)).tolist())
        return self.table.read_by_part(records, self._rows)

    def expect(self, indices: np.ndarray, then: Sequence[int], *, all_at_once: bool) -> None:
        """Note which records are read next, so that files at addresses are fetched before they are needed.

        Args:
            indices: int64 (k,): the next records, in their order.
            then: Indices of records of the files that are read after those.
            all_at_once: Whether the files are read in turn, not one after another.
        """
        parts = self.table.parts_of(self._table_indices(np.asarray([*indices.tolist(), *then], np.int64)))
        edges = np.flatnonzero(np.concatenate([[True], parts[1:] != parts[:-1]]))
        self.shards.expect(list(dict.fromkeys(parts[edges].tolist())), all_at_once=all_at_once)

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self.files.close()

    def _rows(self, part: int, rows: list[int]) -> list[bytes]:
        try:
            return self.files.use(part, lambda reader: reader.read(rows))
        except (ReadError, DataFileError) as error:
            if not self.shards.is_stale(part, error):
                raise
        self.files.close()  # other readers of that file, too
        return self.files.use(part, lambda reader: reader.read(rows))


class OldOpenFiles:
    """Pool of open files in a pickle of version 0.1.0; `ArrayRecordReader` makes a new pool with the same limit."""

    limit: int


def _open_files(table: FileTable, limit: int, shards: Shards) -> OpenFiles[FileReader]:
    noun = "readers of ArrayRecord files"
    if not shards.has_addresses:
        return OpenFiles(table, FileReader, limit=limit, option="max_open_files", not_in_forks=noun)
    # a file that was fetched is looked at by its reader; a look at its object would be a request for each read
    stamps = tuple(None if is_remote(path) else stamp for path, stamp in zip(table.paths, table.stamps, strict=True))
    return OpenFiles(
        replace(table, stamps=stamps), shards.open, limit=limit, option="max_open_files", not_in_forks=noun
    )
