"""Records by their index, whatever the format of the files that they are in."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from datarax_core.errors import RecordError
from datarax_tfds.splits import FileFormat, FilePart

from .array_record import ArrayRecordFiles
from .table import FileTable, UnreadableError
from .tfrecord import TFRecordFiles


class RecordFiles:
    """The records of a split, read by any number of threads, with a bounded number of files open.

    Files are opened when they are needed; `close` closes them, and the next read opens them again. Pickles.

    Args:
        parts: The parts of files that make up the split; record i is the i-th of all.
        file_format: What wrote the files.
        title: What errors call the source.

    Raises:
        FileNotFoundError, PermissionError: A file is not there, or may not be read; names it.
        DataFileError: A file is damaged or foreign, or has not as many records as its part says.
    """

    def __init__(self, parts: Sequence[FilePart], file_format: FileFormat, title: str) -> None:
        self._title = title
        self._format = file_format
        self._table = FileTable.of(parts)
        self._files = (TFRecordFiles if file_format == "tfrecord" else ArrayRecordFiles)(self._table)

    @property
    def num_records(self) -> int:
        """Records of all parts."""
        return self._table.num_records

    def read(self, indices: np.ndarray) -> list[bytes]:
        """The records at int64 (k,) ``indices``, in that order; repeats are read once or more.

        Raises:
            RecordError: One of them cannot be read; says which, where and why.
            DataFileError: A file changed since it was first opened.
            RuntimeError: Of ArrayRecord files: this process is a fork of the one in which they were opened.
        """
        try:
            return self._files.read(indices)
        except UnreadableError as error:
            raise self._bad(int(indices[error.row]), f"cannot be read: {error.reason}", error.reason) from (
                error.__cause__ or error
            )

    def undecodable(self, index: int, reason: str) -> RecordError:
        """What is to be raised of the record at ``index``, which was read, and is not what it should be."""
        return self._bad(index, f"cannot be decoded: {reason}", reason)

    def place(self, index: int) -> tuple[str, int]:
        """(path, number of the record in that file) of the record at ``index``."""
        return self._table.place(index)

    def require_same(self) -> None:
        """Refuse files that changed since they were first opened.

        Raises:
            DataFileError: One shrank, grew, was written to, replaced or removed.
        """
        for part in range(len(self._table.parts)):
            self._table.require_same(part)

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again: format, names and sizes of files, which of their records; no folders."""
        return {"file_format": self._format, **self._table.fingerprint()}

    def close(self) -> None:
        """Close all files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _bad(self, index: int, trouble: str, reason: str) -> RecordError:
        path, row = self.place(index)
        return RecordError(
            f"record {row} of {path} {trouble} (record {index} of {self._title})",
            record=index,
            reason=reason,
            path=path,
            row=row,
        )
