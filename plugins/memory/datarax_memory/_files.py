"""Columns from files: an ``.npz``, or a folder of ``.npy`` files, memory-mapped where the file allows it."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

_REMEDY = "write it with numpy.savez or numpy.save"


def load_columns(path: str | Path, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    """The arrays in ``path`` by name.

    ``.npy`` files and uncompressed members of an ``.npz`` are mapped, read only, so that opening costs next to nothing and
    what is never used is never read. Compressed members are read, and so is everything if ``keep_in_memory``.

    Raises:
        FileNotFoundError: Nothing is there, or the folder has no ``.npy`` file.
        ValueError: A file is no NumPy file, is damaged, or holds objects, which only pickle could load.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"the folder {path} has no .npy file; save one for each field, such as image.npy")
        return {file.stem: _load_npy(file, keep_in_memory=keep_in_memory) for file in files}
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}; 'path' names an .npz file or a folder of .npy files")
    if path.suffix == ".npy":
        raise ValueError(f"{path} is a single .npy file, whose field has no name; give the folder it lies in")
    if not zipfile.is_zipfile(path):
        path.open("rb").close()  # a file that may not be read says so itself
        raise ValueError(f"{path} is not an .npz file; {_REMEDY}")
    return _load_npz(path, keep_in_memory=keep_in_memory)


def _load_npy(file: Path, *, keep_in_memory: bool) -> np.ndarray:
    try:
        return np.load(file, mmap_mode=None if keep_in_memory else "r", allow_pickle=False)
    except (ValueError, EOFError) as cause:
        raise ValueError(f"{file} cannot be loaded: {cause}; {_REMEDY}, without object fields") from cause


def _load_npz(path: Path, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    columns = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                mappable = member.compress_type == zipfile.ZIP_STORED and not keep_in_memory
                mapped = _map_member(path, raw, member) if mappable else None
                if mapped is None:
                    with archive.open(member) as stream:
                        mapped = npy.read_array(stream, allow_pickle=False)
                columns[name] = mapped
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as cause:
        raise ValueError(f"{path} cannot be loaded: {cause}; {_REMEDY}, without object fields") from cause
    return columns


def _map_member(path: Path, raw: IO[bytes], member: zipfile.ZipInfo) -> np.ndarray | None:
    """The member as a map of the file, or None where a map cannot be (objects, empty arrays)."""
    raw.seek(member.header_offset)
    local = raw.read(zipfile.sizeFileHeader)
    name_length, extra_length = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
    start = member.header_offset + zipfile.sizeFileHeader + name_length + extra_length
    raw.seek(start)
    shape, fortran_order, dtype = _npy_header(raw)
    if dtype.hasobject or 0 in shape or not shape:
        return None
    order: Any = "F" if fortran_order else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=raw.tell(), shape=shape, order=order)


def _npy_header(raw: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(raw)
    return npy.read_array_header_1_0(raw) if version == (1, 0) else npy.read_array_header_2_0(raw)
