"""Columns from files: an ``.npz``, or a folder of ``.npy`` files, memory-mapped where the file allows it."""

import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

_REMEDY: Final = "write it with numpy.savez or numpy.save, without object fields"

_SHARD: Final = re.compile(r"-\d{5,}-of-\d{5,}")

_DAMAGE: Final = (
    *(ValueError, TypeError, SyntaxError, RuntimeError, OSError, EOFError, OverflowError, MemoryError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""The exceptions that NumPy and zipfile were seen to raise on damaged or foreign files."""


def load_columns(path: str | Path, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    """Return the arrays in ``path`` by name.

    ``.npy`` files and uncompressed members of an ``.npz`` are mapped, read only: opening them is almost free, and only the
    records that are used are read. Compressed members are read at once, and so are all files if ``keep_in_memory``.

    Raises:
        FileNotFoundError: ``path`` does not exist, or is a folder without an ``.npy`` file.
        PermissionError: This process may not read the file or folder.
        ValueError: A file is no NumPy file, is damaged, or holds objects, which only pickle could load.
    """
    path = Path(path)
    with _load_errors(path):
        _require_presence(path)
        if path.is_dir():
            columns = _load_folder(path, keep_in_memory=keep_in_memory)
        else:
            _require_archive(path)
            columns = _load_npz(path, keep_in_memory=keep_in_memory)
    for name, column in columns.items():
        if column.dtype.kind == "V" and column.dtype.names is None:
            raise ValueError(
                f"field {name!r} of {path} is {column.dtype}, raw bytes: NumPy's files forget dtypes such as bfloat16; "
                "save it as float32"
            )
    return columns


def _require_presence(path: Path) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise FileNotFoundError(
            f"no such file or folder: {path}; 'path' names an .npz file or a folder of .npy files"
        ) from cause


def _require_archive(path: Path) -> None:
    if path.suffix == ".npy":
        raise _LoadError(f"{path} is a single .npy file, whose field has no name; give the folder it lies in")
    if not path.is_file():
        raise _LoadError(f"{path} is neither a file nor a folder; 'path' names an .npz file or a folder of .npy files")
    path.open("rb").close()  # raises PermissionError, for which is_zipfile returns False
    if not zipfile.is_zipfile(path):
        raise _LoadError(f"{path} is not an .npz file, or its end is missing; {_REMEDY}")


def _load_folder(folder: Path, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    files = sorted(entry for entry in folder.iterdir() if entry.suffix == ".npy")
    for file in files:
        if file.is_symlink() and not file.exists():
            raise FileNotFoundError(
                f"no such file: {file}, a link to {file.readlink()}, which does not exist; restore that file, or remove the "
                "link"
            )
        if shard := _SHARD.search(file.stem):
            raise _LoadError(
                f"the folder {folder} holds shards, such as {file.name}, and each .npy file is read as a whole field; join "
                f"them to one {file.stem.replace(shard[0], '')}.npy"
            )
    if not files:
        raise FileNotFoundError(f"the folder {folder} has no .npy file; save one for each field, such as image.npy")
    return {file.stem: _load_npy(file, keep_in_memory=keep_in_memory) for file in files}


def _load_npy(file: Path, *, keep_in_memory: bool) -> np.ndarray:
    with _load_errors(file), file.open("rb") as raw:
        mapped = None if keep_in_memory else _mapped(file, raw)
        raw.seek(0)
        return npy.read_array(raw, allow_pickle=False) if mapped is None else mapped


def _load_npz(path: Path, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    columns = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            with _load_errors(f"{name!r} in {path}"):
                columns[name] = _load_member(path, raw, archive, member, keep_in_memory=keep_in_memory)
    return columns


def _load_member(
    path: Path, raw: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, keep_in_memory: bool
) -> np.ndarray:
    if member.compress_type == zipfile.ZIP_STORED and not keep_in_memory:
        raw.seek(member.header_offset)
        lengths = struct.unpack("<26xHH", raw.read(30))  # of the name and of the extra field; the data follow both
        raw.seek(sum(lengths), 1)
        mapped = _mapped(path, raw)
        if mapped is not None:
            return mapped
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _mapped(path: Path, raw: IO[bytes]) -> np.ndarray | None:
    """Return the array that begins at the position of ``raw`` as a map of the file; None if it cannot be mapped.

    An array without bytes cannot be mapped, nor can an array of objects; for the latter, reading raises the error.
    """
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(raw))
    if header is None:
        return None
    shape, fortran_order, dtype = header(raw)
    if dtype.hasobject or not dtype.itemsize or 0 in shape or not shape:
        return None
    order: Any = "F" if fortran_order else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=raw.tell(), shape=shape, order=order)


@contextmanager
def _load_errors(place: str | Path) -> Iterator[None]:
    """Turn errors of NumPy and zipfile into errors that name ``place`` and the remedy; `_LoadError` passes unchanged."""
    try:
        yield
    except (_LoadError, FileNotFoundError):
        raise
    except PermissionError as cause:
        if cause.errno is None:
            raise
        raise PermissionError(f"{place} may not be read: permission denied; make it readable for this user") from cause
    except _DAMAGE as cause:
        raise _LoadError(f"{place} cannot be loaded: {cause}; {_REMEDY}") from cause


class _LoadError(ValueError):
    """A file cannot be loaded; the message names the file and the remedy."""
