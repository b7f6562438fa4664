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
from .stored import StoredArray, StoredRagged, read_rows, require_checksum

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

        Those of an object at an address were compared when it was read.

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
            if name not in fields or column.dtype.kind != "U" or not column.dtype.itemsize:
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


class StoredColumns(FileColumns):
    """Columns at an address, of which some are stored: their rows are read from there whenever they are asked for."""

    @property
    def stored_columns(self) -> dict[str, StoredArray | StoredRagged]:
        """The columns that are not in memory, by name."""
        return {name: column for name, column in self.columns.items() if isinstance(column, StoredArray | StoredRagged)}

    def rows(self, indices: Any) -> Any:
        """Return the records at concrete ``indices``, or the record at one index; all fields are read at once.

        Raises:
            DataFileError: An object was changed or removed.
            ConnectionError, TimeoutError, PermissionError: The store cannot be read.
            RecordError: A text is damaged; names record, field and file.
        """
        if np.ndim(indices):
            return self.arranged(self._read(list(self.columns), np.asarray(indices)))
        rows = self._read(list(self.columns), np.atleast_1d(indices))
        return self.arranged({name: column[0] for name, column in rows.items()})

    def host_fields(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``; see `rows`."""
        held = set(self.on_device)
        return self._read([name for name in self.columns if name not in held], indices)

    def whole_column(self, field: str) -> Any:
        """Return the column of a field if it is in memory; None for a stored one, for text, and if there is none."""
        name = dict(zip(self.by_field(), self.columns, strict=True)).get(field)
        if name is None or name in self.stored_columns or self.columns[name].dtype.kind == "U":
            return None
        return self.columns[name]

    def require_checksums(self) -> None:
        """Raise if the content of an archive differs from its checksums; reads all of it.

        Raises:
            DataFileError: Names the object and the field.
        """
        for column in self.stored_columns.values():
            array = column.values if isinstance(column, StoredRagged) else column
            if array.checksum is not None:
                require_checksum(array)

    def _read(self, names: Sequence[str], indices: np.ndarray) -> dict[str, Any]:
        stored = self.stored_columns
        read = read_rows({name: stored[name] for name in names if name in stored}, indices)
        fields = {name: read[name] if name in read else self.columns[name][indices] for name in names}
        self._require_text(fields, indices)
        return fields


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
