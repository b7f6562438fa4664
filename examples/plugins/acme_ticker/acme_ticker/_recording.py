"""Recordings: gzip files of ticks, and the file ``recording.json`` that lists them."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datarax_core import DataFileError, RecordError
from datarax_core.config import Count, Name
from datarax_core.sources import require_file

from ._ticks import tick_of


class File(BaseModel):
    """A file of ticks, as the list has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    ticks: Count


class Listed(BaseModel):
    """The content of ``recording.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbols: tuple[Name, ...] = Field(min_length=1)
    files: tuple[File, ...] = Field(min_length=1)


class Recording:
    """The files of a recording, and how many ticks each has. It holds no open file, so that it pickles."""

    def __init__(self, path: str, listed: Listed) -> None:
        self._path, self._symbols = path, {symbol: place for place, symbol in enumerate(listed.symbols)}
        self._files = [str(Path(path).parent / file.name) for file in listed.files]
        self._stamps = [require_file(file, f"{path} lists it") for file in self._files]
        self._digest = hashlib.sha256(listed.model_dump_json().encode()).hexdigest()[:16]
        self.counts = [file.ticks for file in listed.files]

    @classmethod
    def at(cls, path: str) -> Self:
        """Return the recording that a file lists."""
        require_file(path, "'recording' names the file recording.json of a recording")
        try:
            listed = Listed.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, ValidationError) as error:
            raise DataFileError(
                path, f"{path} is no list of files of ticks, as a recorder writes it: {error}"
            ) from error
        return cls(path, listed)

    @property
    def num_files(self) -> int:
        """The number of files."""
        return len(self._files)

    @property
    def num_ticks(self) -> int:
        """The number of ticks in all files."""
        return sum(self.counts)

    def fingerprint(self) -> dict[str, Any]:
        """Return a digest of the list: symbols, names of files, numbers of ticks. No path, so that files may be moved."""
        return {"recording": self._digest}

    def ticks(self, file: int, start: int) -> Iterator[dict[str, Any]]:
        """Yield the ticks of a file from the ``start``-th on; lines before it are read, and no records made of them.

        Raises:
            DataFileError: The file is damaged, was changed, or has another number of ticks than the list says.
            RecordError: A line is no tick.
        """
        path, count, rows = self._files[file], self.counts[file], 0
        self._stamps[file].require_same(path)
        try:
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                for row, line in enumerate(lines):
                    rows = row + 1
                    if start <= row < count:
                        yield self._tick(file, row, line)
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
            self._stamps[file].require_same(path)
            raise DataFileError(
                path, f"{path} is damaged, or no gzip file of ticks: {error}; record it again"
            ) from error
        self._stamps[file].require_same(path)
        if rows != count:
            raise DataFileError(path, f"{path} has {rows} ticks where {self._path} says {count}; record it again")

    def _tick(self, file: int, row: int, line: str) -> dict[str, Any]:
        try:
            return tick_of(line, self._symbols)
        except ValueError as error:
            record, path = sum(self.counts[:file]) + row, self._files[file]
            raise RecordError(
                f"tick {row} of {path} cannot be read: {error} (record {record} of the recording)",
                record=record,
                reason=str(error),
                path=path,
                row=row,
            ) from error
