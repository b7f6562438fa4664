"""Note of lengths beside the files of a data set, such as ``train.array_record.lengths.npz``: those of its ragged fields.

With it, records are packed, cut into windows or put into buckets without a pass over them. It is an archive of NumPy with one
array for each ragged field, in the least dtype that holds the lengths, and what tells that it belongs to the files.
"""

import io
import json
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from datarax_arrayrecord.decoders import DOTTED
from datarax_core.errors import is_passing
from datarax_core.files import is_remote, without_shard
from datarax_core.records import Batch, Ragged, named_fields
from datarax_core.registry import Decoder
from datarax_core.sources import FileTable, lengths_of_column
from datarax_core.storage import RangeReader, redacted

_FORMAT: Final = "datarax-arrayrecord lengths"
_VERSION: Final = 1
_ABOUT: Final = "about"
_SHARD: Final = re.compile(r"-(\d{5,})-of-(\d{5,})")
_DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def note_path(path: str) -> str:
    """Return the path of the note of a data set, or of the data set that a file is a shard of."""
    return f"{without_shard(path)}.lengths.npz"


class NotedLengths:
    """The lengths of the ragged fields in blocks of records that pass."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def of(self, blocks: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the blocks, and note the lengths of their records."""
        for block in blocks:
            for name, column in named_fields(block).items():
                if isinstance(column, Ragged) and column.record_shape[0] is None:
                    self._parts.setdefault(name, []).append(_smallest(lengths_of_column(column)))
            yield block

    def save(self, path: str | Path, decoder: Decoder, files: Sequence[str], counts: Sequence[int]) -> None:
        """Write the note of a data set of these files; none if no field is ragged.

        Args:
            path: Path of the note.
            decoder: Decoder of the records.
            files: The files, complete.
            counts: Number of records of each file.
        """
        if not self._parts:
            return
        about = {
            "format": _FORMAT,
            "version": _VERSION,
            "decoder": _settings(decoder),
            "counts": list(counts),
            "sizes": [os.stat(file).st_size for file in files],  # noqa: PTH116 - as the stamps of files are taken
            "fields": list(self._parts),
        }
        arrays: dict[str, Any] = {f"lengths_{n}": np.concatenate(parts) for n, parts in enumerate(self._parts.values())}
        arrays[_ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **arrays)


def noted_lengths(
    table: FileTable, decoder: Decoder, field: str, ranges: RangeReader | None = None
) -> np.ndarray | None:
    """Return int64 (n,): the lengths of a field in all records of these files, by the notes beside them.

    None if a file has no note, or if the note is of other files or of another decoder; then a warning says so.

    Args:
        table: The files.
        decoder: Decoder by which they are read.
        field: Dotted name of the field.
        ranges: Reads notes at addresses.
    """
    notes: dict[str, _Note | None] = {}
    parts = []
    for path, count, stamp in zip(table.paths, table.counts.tolist(), table.stamps, strict=True):
        where = note_path(path)
        if where not in notes:
            notes[where] = (
                None if stamp is None else _note_at(where, field, _settings(decoder), ranges or RangeReader())
            )
        note = notes[where]
        if note is None or stamp is None:
            return None
        lengths = note.of_file(path, count, stamp.size)
        if lengths is None:
            return None
        parts.append(lengths)
    return np.concatenate(parts, dtype=np.int64)


class _Note:
    """The lengths of one field, as a note tells them."""

    def __init__(self, path: str, about: dict[str, Any], lengths: np.ndarray) -> None:
        self._path, self._lengths = path, lengths
        self._counts, self._sizes = list(map(int, about["counts"])), list(map(int, about["sizes"]))
        self._ends = np.cumsum([0, *self._counts]).tolist()
        if len(lengths) != self._ends[-1] or len(self._sizes) != len(self._counts) or lengths.ndim != 1:
            raise ValueError(f"it has {len(lengths)} lengths for {self._ends[-1]} records")

    def of_file(self, path: str, count: int, size: int) -> np.ndarray | None:
        """Return the lengths of the records of a file; None, with a warning, if the note is of other files."""
        found = _SHARD.search(Path(path).name)
        shard, shards = (int(found[1]), int(found[2])) if found else (0, 1)
        if shards != len(self._counts) or shard >= shards:
            _ignored(self._path, f"it is of a data set in {len(self._counts)} files, and {path} is one of {shards}")
        elif (self._counts[shard], self._sizes[shard]) != (count, size):
            noted = f"{self._counts[shard]} records in {self._sizes[shard]} bytes"
            _ignored(self._path, f"it notes {noted} for {path}, which has {count} in {size}")
        else:
            return self._lengths[self._ends[shard] : self._ends[shard + 1]]
        return None


def _note_at(path: str, field: str, settings: dict[str, Any], ranges: RangeReader) -> _Note | None:
    """Return what the note at ``path`` tells of a field; None if it is not there, or tells nothing of the field."""
    path, place = redacted(path), path
    try:
        # np.load does not close a path that it cannot read
        with _opened(place, ranges) as file, np.load(file, allow_pickle=False) as saved:
            about = json.loads(saved[_ABOUT].tobytes())
            if about["format"] != _FORMAT:
                return None
            if about["version"] != _VERSION:
                _ignored(path, f"it has version {about['version']!r}, and this datarax-arrayrecord reads {_VERSION}")
                return None
            if about["decoder"] != settings or field not in about["fields"]:
                return None  # the records are read in another form than they were written in
            return _Note(path, about, np.asarray(saved[f"lengths_{about['fields'].index(field)}"]))
    except FileNotFoundError:
        return None
    except _DAMAGE as cause:
        if is_remote(place) and is_passing(cause):
            raise
        _ignored(path, f"it cannot be read: {cause}")
        return None


def _opened(path: str, ranges: RangeReader) -> BinaryIO:
    return io.BytesIO(ranges.content(path)) if is_remote(path) else Path(path).open("rb")


def _ignored(path: str, reason: str) -> None:
    warnings.warn(
        f"the note of lengths {path} is ignored: {reason}; the lengths are read from the records instead; remove the note, or "
        "write the data set anew",
        stacklevel=2,
    )


def _settings(decoder: Decoder) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(decoder.model_dump(mode="json", context=DOTTED)))
    return settings


def _smallest(lengths: np.ndarray) -> np.ndarray:
    """Return the lengths in the least dtype that holds them."""
    return lengths.astype(np.min_scalar_type(int(lengths.max(initial=0))))
