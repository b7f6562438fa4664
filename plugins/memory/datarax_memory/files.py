"""Columns from files: an ``.npz``, or a folder of ``.npy`` files, memory-mapped where the file allows it.

A column of varying length is two arrays, ``x`` and ``x.offsets``, or three where more than the first axis varies, with
``x.shapes``: the parts of a `Ragged`.
"""

import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from datarax_core.errors import DataFileError, SpecError
from datarax_core.files import format_clause
from datarax_core.records import Ragged

_REMEDY: Final = "write it with numpy.savez or numpy.save, without object fields"

_CHUNK_BYTES: Final = 1 << 20

_OFFSETS: Final = ".offsets"
_SHAPES: Final = ".shapes"

_END_BYTES: Final = 22  # of the end of a zip archive, without a comment
_COUNTED_ELSEWHERE: Final = 0xFFFF  # in an archive of zip64

_SHARD: Final = re.compile(r"-\d{5,}-of-\d{5,}")

_DAMAGE: Final = (
    *(ValueError, TypeError, SyntaxError, RuntimeError, OSError, EOFError, OverflowError, MemoryError),
    *(LookupError, SystemError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""The exceptions that NumPy and zipfile were seen to raise on damaged or foreign files."""


def load_columns(path: str | Path, *, keep_in_memory: bool, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the columns in ``path`` by name: arrays, or ragged columns.

    ``.npy`` files and uncompressed members of an ``.npz`` are mapped, read only: opening them is almost free, and only the
    records that are used are read. Compressed members are read at once, and so are all files if ``keep_in_memory``.

    Args:
        path: An ``.npz`` file, or a folder of ``.npy`` files.
        keep_in_memory: Whether all arrays are read into memory.
        columns: From the name of a field to the name of its array in the file; other arrays are not read. None takes all.

    Raises:
        FileNotFoundError: ``path`` does not exist, or is a folder without an ``.npy`` file.
        PermissionError: This process may not read the file or folder.
        DataFileError: A file is no NumPy file, is damaged, or holds objects, which only pickle could load; an array is
            missing, offsets do not fit their values, or the arrays are no columns of one length.
    """
    path = Path(path)
    with load_errors(path):
        _require_presence(path)
        load = _load_folder if path.is_dir() else _load_npz
        wanted = None if columns is None else set(columns.values())
        arrays = load(path, wanted, keep_in_memory=keep_in_memory)
        found = _joined_parts(arrays, wanted or (), path)
        if columns is not None:
            found = {name: found[stored] for name, stored in columns.items()}
        _require_columns(found, path, columns)
    return found


def parts_of(name: str, column: Any) -> list[str]:
    """Return the names of the arrays in the file of which a column, called ``name`` there, was made."""
    if not isinstance(column, Ragged):
        return [name]
    return [name, name + _OFFSETS, *([name + _SHAPES] if column.shapes is not None else [])]


def _joined_parts(arrays: Mapping[str, np.ndarray], wanted: Iterable[str], path: Path) -> dict[str, Any]:
    """Return arrays as columns: values with their offsets, and shapes, as one ragged column each."""
    ragged = [name for name in arrays if name + _OFFSETS in arrays and name + _OFFSETS not in wanted]
    columns: dict[str, Any] = dict(arrays)
    for name in ragged:
        values, offsets, shapes = columns[name], columns.pop(name + _OFFSETS), columns.pop(name + _SHAPES, None)
        try:
            columns[name] = Ragged(values, offsets, shapes)
        except SpecError as cause:
            parts = "offsets" if shapes is None else "offsets and shapes"
            raise DataFileError(
                str(path),
                f"{name!r} in {path} does not fit its {parts}: {cause}; save the parts of one ragged column, or leave out what "
                "belongs to other data",
            ) from cause
    return columns


def _require_columns(arrays: Mapping[str, Any], path: Path, chosen: Mapping[str, str] | None) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "V" and array.dtype.names is None:
            raise DataFileError(
                str(path),
                f"field {name!r} of {path} is {array.dtype}, raw bytes: NumPy's files forget dtypes such as bfloat16; "
                "save it as float32",
            )
    lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        found = ", ".join(f"{n!r} is a scalar" if k is None else f"{n!r} has {k}" for n, k in lengths.items())
        example = _columns_option(_of_one_length(lengths), chosen or {})
        raise DataFileError(
            str(path),
            f"the arrays in {path} are no columns of one length: {found}; each record needs a value in every field"
            + (f": choose those that belong together, such as columns: {example}" if example else ""),
        )


def _columns_option(fields: Sequence[str], chosen: Mapping[str, str]) -> str:
    """Return the option ``columns`` that chooses some fields, under the names that they have now; "" for none."""
    if any(chosen.get(field, field) != field for field in fields):
        return "{" + ", ".join(f"{field}: {chosen[field]}" for field in fields) + "}"
    return f"[{', '.join(fields)}]" if fields else ""


def _of_one_length(lengths: Mapping[str, int | None]) -> list[str]:
    """Return the names of the arrays of the first length that the most arrays have."""
    counts = Counter(length for length in lengths.values() if length is not None)
    return [name for name, length in lengths.items() if counts and length == counts.most_common(1)[0][0]]


def _chosen(found: Iterable[str], wanted: AbstractSet[str] | None, path: Path) -> list[str]:
    """Return the names that are wanted, in the order of the file; raise if one is missing."""
    names = list(found)
    if wanted is None:
        return names
    for name in sorted(wanted - set(names)):
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "name one of these"
        raise DataFileError(
            str(path),
            f"columns names {name!r}, which {path} does not have; it has {', '.join(map(repr, names))}; {hint}",
        )
    parts = {name + part for name in wanted if name + _OFFSETS in names for part in (_OFFSETS, _SHAPES)}
    return [name for name in names if name in wanted or name in parts]


def _require_presence(path: Path) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise FileNotFoundError(
            f"no such file or folder: {path}; 'path' names an .npz file or a folder of .npy files"
        ) from cause


def _require_archive(path: Path) -> None:
    if path.suffix == ".npy":
        raise DataFileError(
            str(path), f"{path} is a single .npy file, whose field has no name; give the folder it lies in"
        )
    if not path.is_file():
        raise DataFileError(
            str(path), f"{path} is neither a file nor a folder; 'path' names an .npz file or a folder of .npy files"
        )
    path.open("rb").close()  # raises PermissionError, for which is_zipfile returns False
    if not zipfile.is_zipfile(path):
        clause = format_clause(str(path), "memory")
        raise DataFileError(str(path), f"{path} is not an .npz file, or its end is missing{clause or f'; {_REMEDY}'}")


def _load_folder(folder: Path, wanted: AbstractSet[str] | None, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    files = {entry.stem: entry for entry in sorted(folder.iterdir()) if entry.suffix == ".npy"}
    if not files:
        raise FileNotFoundError(f"the folder {folder} has no .npy file; save one for each field, such as image.npy")
    names = _chosen(files, wanted, folder)
    for name in names:
        _require_whole(files[name])
    return {name: _load_npy(files[name], keep_in_memory=keep_in_memory) for name in names}


def _require_whole(file: Path) -> None:
    """Raise if an ``.npy`` file is a link to a file that is gone, or one shard of a field."""
    if file.is_symlink() and not file.exists():
        raise FileNotFoundError(
            f"no such file: {file}, a link to {file.readlink()}, which does not exist; restore that file, or remove the "
            "link"
        )
    if shard := _SHARD.search(file.stem):
        raise DataFileError(
            str(file),
            f"the folder {file.parent} holds shards, such as {file.name}, and each .npy file is read as a whole field; join "
            f"them to one {file.stem.replace(shard[0], '')}.npy",
        )


def _load_npy(file: Path, *, keep_in_memory: bool) -> np.ndarray:
    with load_errors(file), file.open("rb") as raw:
        header = _header(raw, file.stat().st_size)
        if header is not None and header.can_be_mapped and not keep_in_memory:
            return header.mapped(file, 0)
        raw.seek(0)
        array = npy.read_array(raw, allow_pickle=False)
        if raw.read(1):
            raise ValueError("it has more bytes than its header says")
        return array


def _load_npz(path: Path, wanted: AbstractSet[str] | None, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    _require_archive(path)
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        _require_all_members(archive, raw)
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        columns = {}
        for name in _chosen(members, wanted, path):
            with load_errors(path, name):
                columns[name] = _load_member(path, raw, archive, members[name], keep_in_memory=keep_in_memory)
        return columns


def _require_all_members(archive: zipfile.ZipFile, raw: IO[bytes]) -> None:
    """Raise if the directory of an archive lists fewer members than its end says: zipfile passes over what is damaged there."""
    raw.seek(-_END_BYTES - len(archive.comment), 2)
    signature, count = struct.unpack("<4s6xH", raw.read(12))
    found = len(archive.infolist())
    if signature == b"PK\5\6" and count not in (found, _COUNTED_ELSEWHERE):
        raise ValueError(f"it holds {count} arrays, and its directory lists {found}: it is damaged")


def _load_member(
    path: Path, raw: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, keep_in_memory: bool
) -> np.ndarray:
    with archive.open(member) as stream:  # checks the member's own header against the archive's directory
        header = _header(stream, member.file_size)
    if (
        header is not None
        and header.can_be_mapped
        and member.compress_type == zipfile.ZIP_STORED
        and not keep_in_memory
    ):
        raw.seek(member.header_offset)
        lengths = struct.unpack("<26xHH", raw.read(30))  # of the name and of the extra field; the data follow both
        return header.mapped(path, raw.tell() + sum(lengths))
    with archive.open(member) as stream:
        array = npy.read_array(stream, allow_pickle=False)
        while stream.read(_CHUNK_BYTES):  # the checksum is compared at the end
            pass
        return array


@dataclass(frozen=True, slots=True)
class _Header:
    """The header of an array in a file."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    length: int
    """Bytes of the header, which the data follow."""

    @property
    def can_be_mapped(self) -> bool:
        """Whether there are bytes to map; for an array of objects, reading raises the error."""
        return not (self.dtype.hasobject or not self.dtype.itemsize or 0 in self.shape or not self.shape)

    def mapped(self, path: Path, start: int) -> np.ndarray:
        """Return the array as a map of a file in which its header begins at ``start``."""
        order: Any = "F" if self.fortran_order else "C"
        return np.memmap(path, dtype=self.dtype, mode="r", offset=start + self.length, shape=self.shape, order=order)


def _header(stream: IO[bytes], size: int) -> _Header | None:
    """Return the header at the beginning of a stream of ``size`` bytes; None for a later version, which cannot be mapped.

    Raises:
        ValueError: The array has not as many bytes as follow the header, so that nothing is allocated for them.
    """
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(stream))
    if read is None:
        return None
    shape, fortran_order, dtype = read(stream)
    header = _Header(shape, fortran_order, dtype, stream.tell())
    declared, left = math.prod(shape) * dtype.itemsize, size - header.length
    if not dtype.hasobject and declared != left:
        raise ValueError(
            f"its header declares {declared} bytes, {dtype}{list(shape)}, and {left} follow: it is cut off or damaged"
        )
    return header


@contextmanager
def load_errors(path: str | Path, field: str | None = None) -> Iterator[None]:
    """Turn errors of NumPy and zipfile into a `DataFileError` that names the file, the field and the remedy."""
    place = path if field is None else f"{field!r} in {path}"
    try:
        yield
    except (DataFileError, FileNotFoundError):
        raise
    except PermissionError as cause:
        if cause.errno is None:
            raise
        raise PermissionError(f"{place} may not be read: permission denied; make it readable for this user") from cause
    except zipfile.BadZipFile as cause:
        if not str(cause).startswith("Bad CRC-32"):
            raise DataFileError(str(path), f"{place} cannot be loaded: {cause}; {_REMEDY}") from cause
        raise DataFileError(
            str(path), f"{place} is damaged: its content differs from its checksum ({cause}); restore the file"
        ) from cause
    except _DAMAGE as cause:
        raise DataFileError(str(path), f"{place} cannot be loaded: {cause}; {_REMEDY}") from cause
