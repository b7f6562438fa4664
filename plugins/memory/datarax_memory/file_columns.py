"""Columns that were loaded from files, and checks of what the files hold: text as it is served, and an archive's checksums."""

import functools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.errors import DataFileError, RecordError
from datarax_core.records import Ragged
from datarax_core.sources import Columns

from .checks import load_errors

_LAST_CODE_POINT: Final = 0x10FFFF

_CHUNK_BYTES: Final = 1 << 22


class FileColumns(Columns):
    """Columns from files, mapped or not. Text is checked when it is read: NumPy makes anything of damaged code points."""

    def __init__(self, columns: Mapping[str, Any], path: str, stored: Sequence[str]) -> None:
        super().__init__("dict", columns)
        self.path = path
        self.stored = tuple(stored)
        """Names of the columns in the file."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "path": self.path, "stored": self.stored}

    def rows(self, indices: Any) -> Any:
        """Return the records at concrete ``indices``, or the record at one index.

        Raises:
            RecordError: A text is damaged; names record, field and file.
        """
        rows = super().rows(indices)
        self._require_text(rows, indices)
        return rows

    def whole_column(self, field: str) -> Any:
        """Return the column of a field; None for text, which is checked as its records are read, or if there is none."""
        column = super().whole_column(field)
        return None if column is None or column.dtype.kind == "U" else column

    def host_fields(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``.

        Raises:
            RecordError: A text is damaged; names record, field and file.
        """
        fields = super().host_fields(indices)
        self._require_text(fields, indices)
        return fields

    def require_checksums(self) -> None:
        """Raise if the content of an ``.npz`` differs from its checksums; each state of a file is read once a process.

        Raises:
            DataFileError: Names the file and the field.
        """
        path = Path(self.path)
        if path.is_file():
            now = path.stat()
            if wrong := _damage_in(path, self.stored, (now.st_size, now.st_mtime_ns, now.st_ino)):
                raise DataFileError(self.path, wrong)

    def _require_text(self, fields: Mapping[str, Any], indices: Any) -> None:
        for name, column in self.columns.items():
            if column.dtype.kind != "U" or not column.dtype.itemsize:
                continue
            # a scalar of NumPy is made of the code points already, so that a single record is looked up in the column
            text = fields[name] if np.ndim(indices) else column[np.atleast_1d(indices)]
            values = text.compact().values if isinstance(text, Ragged) else text
            points = np.ascontiguousarray(values).view(np.dtype(np.uint32).newbyteorder(column.dtype.byteorder))
            if points.size and points.max() > _LAST_CODE_POINT:
                row = int(np.argmax((points > _LAST_CODE_POINT).reshape(len(values), -1).any(axis=1)))
                if isinstance(text, Ragged):
                    row = int(np.searchsorted(text.compact().offsets, row, "right")) - 1
                record = int(np.atleast_1d(indices)[row])
                reason = f"field {name!r} is damaged text, with a code point beyond U+10FFFF; restore the file"
                raise RecordError(
                    f"record {record} of {self.path} cannot be read: {reason}",
                    record=record,
                    reason=reason,
                    path=self.path,
                    row=record,
                )


@functools.lru_cache(maxsize=256)
def _damage_in(path: Path, stored: Sequence[str], state: tuple[int, ...]) -> str:  # noqa: ARG001 - `state` is part of the key
    """Return the error of the first column whose checksum is wrong; "" if there is none."""
    try:
        with load_errors(path), zipfile.ZipFile(path) as archive:
            return next(filter(None, (_damage_of(archive, name, path) for name in stored)), "")
    except DataFileError as damaged:
        return str(damaged)


def _damage_of(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    with load_errors(path, name), archive.open(f"{name}.npy") as member:
        try:
            while member.read(_CHUNK_BYTES):
                pass
        except zipfile.BadZipFile as differs:  # at its end
            return f"{name!r} in {path} is damaged: its content differs from its checksum ({differs}); restore the file"
    return ""
