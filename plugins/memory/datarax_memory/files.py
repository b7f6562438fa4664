"""Columns from files: an ``.npz``, or a folder of ``.npy`` files, memory-mapped where the file allows it.

Those of this machine; `objects` reads them at addresses.
"""

import struct
import zipfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from datarax_core.errors import DataFileError
from datarax_core.files import format_clause

from .checks import REMEDY, chosen_names, joined_parts, load_errors, require_columns, require_no_shard
from .headers import array_header

_CHUNK_BYTES: Final = 1 << 20

_END_BYTES: Final = 22  # of the end of a zip archive, without a comment
_COUNTED_ELSEWHERE: Final = 0xFFFF  # in an archive of zip64


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
        found = joined_parts(arrays, wanted or (), path)
        if columns is not None:
            found = {name: found[stored] for name, stored in columns.items()}
        require_columns(found, path, columns)
    return found


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
        raise DataFileError(str(path), f"{path} is not an .npz file, or its end is missing{clause or f'; {REMEDY}'}")


def _load_folder(folder: Path, wanted: AbstractSet[str] | None, *, keep_in_memory: bool) -> dict[str, np.ndarray]:
    files = {entry.stem: entry for entry in sorted(folder.iterdir()) if entry.suffix == ".npy"}
    if not files:
        raise FileNotFoundError(f"the folder {folder} has no .npy file; save one for each field, such as image.npy")
    names = chosen_names(files, wanted, folder)
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
    require_no_shard(file.name, file, file.parent)


def _load_npy(file: Path, *, keep_in_memory: bool) -> np.ndarray:
    with load_errors(file), file.open("rb") as raw:
        header = array_header(raw, file.stat().st_size)
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
        require_all_members(archive, raw)
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        columns = {}
        for name in chosen_names(members, wanted, path):
            with load_errors(path, name):
                columns[name] = _load_member(path, raw, archive, members[name], keep_in_memory=keep_in_memory)
        return columns


def require_all_members(archive: zipfile.ZipFile, raw: IO[bytes]) -> None:
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
        header = array_header(stream, member.file_size)
    if (
        header is not None
        and header.can_be_mapped
        and member.compress_type == zipfile.ZIP_STORED
        and not keep_in_memory
    ):
        return header.mapped(path, data_offset(raw, member))
    return whole_member(archive, member)


def data_offset(raw: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Return where the data of a member begin in the file ``raw`` of an archive."""
    raw.seek(member.header_offset)
    of_name, of_extra_field = struct.unpack("<26xHH", raw.read(30))  # the data follow both
    return raw.tell() + int(of_name) + int(of_extra_field)


def whole_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return the array of a member, read whole; its checksum is compared."""
    with archive.open(member) as stream:
        array: np.ndarray = npy.read_array(stream, allow_pickle=False)
        while stream.read(_CHUNK_BYTES):  # the checksum is compared at the end
            pass
        return array
