"""Records by record index, from files of either format that is read without TensorFlow."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from datarax_core.record_files import ReadError
from datarax_core.sources import FileTable
from datarax_tfds.splits import FileFormat, FilePart

from .array_record import ArrayRecordFiles
from .table import OldFileTable, UnreadableError, fingerprint_of, table_of
from .tfrecord import TFRecordFiles


class RecordFiles:
    """The records of a split, read by any number of threads, with a bounded number of open files.

    Files are opened when they are needed; `close` closes them, and the next read opens them again. Picklable.

    Args:
        parts: The parts of files that make up the split; record i is the i-th record of all parts.
        file_format: Format of the files.
        title: Title of the source, for messages.

    Raises:
        FileNotFoundError, PermissionError: A file does not exist, or may not be read; the message names the file.
        DataFileError: A file is damaged, of another format, or has another number of records than its part says.
    """

    def __init__(self, parts: Sequence[FilePart], file_format: FileFormat, title: str) -> None:
        self._title = title
        self._format = file_format
        used = [part for part in parts if part.num_records]
        self._table = table_of(used)
        open_parts = TFRecordFiles.of_parts if file_format == "tfrecord" else ArrayRecordFiles
        self._files = open_parts(self._table, used)

    def __setstate__(self, state: dict[str, Any]) -> None:
        table = state["_table"]
        if isinstance(table, OldFileTable):
            self.__init__(table.parts, state["_format"], state["_title"])  # type: ignore[misc]  # a new one
            for part, stamp in zip(table.parts, table.stamps, strict=True):
                stamp.require_same(part.path)
        else:
            vars(self).update(state)

    @property
    def table(self) -> FileTable:
        """The parts."""
        return self._table

    def stored(self, records: np.ndarray) -> list[bytes]:
        """Return the records at int64 (k,) ``records``, in their order; a repeated record may be read once or several times.

        Raises:
            ReadError: A record cannot be read.
            DataFileError: A file changed since it was first opened.
            RuntimeError: This process is a fork of the one in which ArrayRecord files were opened.
        """
        try:
            return self._files.read(records)
        except UnreadableError as error:
            raise ReadError(error.reason) from (error.__cause__ or error)

    @property
    def num_records(self) -> int:
        """Number of records of all parts."""
        return self._table.num_records

    def read(self, indices: np.ndarray) -> list[bytes]:
        """Return the records at int64 (k,) ``indices``, in their order; a repeated record may be read once or several times.

        Raises:
            RecordError: A record cannot be read; the message names the record, its file and the reason.
            DataFileError: A file changed since it was first opened.
            RuntimeError: This process is a fork of the one in which ArrayRecord files were opened.
        """
        try:
            return self._files.read(indices)
        except UnreadableError as error:
            problem = f"cannot be read: {error.reason}"
            raise self._table.record_error(error.record, problem, error.reason, title=self._title) from (
                error.__cause__ or error
            )

    def place(self, index: int) -> tuple[str, int]:
        """Return (path, row in that file) of a record."""
        return self._table.place(index)

    def require_unchanged(self) -> None:
        """Raise if a file changed since it was first opened.

        Raises:
            DataFileError: A file shrank, grew, was written to, replaced or removed.
        """
        for part in range(len(self._table.paths)):
            self._table.require_unchanged(part)

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: format, names and sizes of the files, their rows; no folders."""
        return {"file_format": self._format, **fingerprint_of(self._table)}

    def close(self) -> None:
        """Close all files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
