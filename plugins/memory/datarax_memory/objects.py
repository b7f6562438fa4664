"""Columns from addresses: an ``.npz`` object, or ``.npy`` objects below a common prefix, read whole or by ranges of rows."""

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import IO, Any, Final, TypeAlias, TypeGuard

import numpy as np
from numpy.lib import format as npy

from datarax_core.errors import DataFileError
from datarax_core.records import Ragged
from datarax_core.storage import ObjectFile, RangeReader, Stamp, redacted

from .checks import (
    OFFSETS,
    REMEDY,
    SHAPES,
    chosen_names,
    joined_parts,
    load_errors,
    ragged_names,
    require_columns,
    require_no_shard,
)
from .files import data_offset, require_all_members, whole_member
from .headers import Header, array_header
from .stored import Checksum, StoredArray, StoredRagged, read_whole

IN_MEMORY_BYTES: Final = 256 << 20
"""Bytes up to which all columns are read at once, unless the config says where they lie."""

_HEAD_BYTES: Final = 8 << 10
"""Bytes in which the header of an array is found; of a member of an archive, with the archive's own header before it."""

_END_BYTES: Final = 64 << 10
"""Bytes in which the directory of an archive is mostly found."""

_REQUEST_BYTES: Final = 8 << 20

_Part: TypeAlias = StoredArray | np.ndarray


def load_stored_columns(
    reader: RangeReader, address: str, *, read_all: bool | None, columns: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the columns at an address by name: arrays and ragged columns, or stored ones, whose rows are read when needed.

    Compressed members of an archive are read at once, and so are text in ragged columns and arrays in the order of Fortran,
    whose rows are not contiguous; offsets and shapes of ragged columns are always in memory.

    Args:
        reader: Reads the objects.
        address: The address of an ``.npz`` object, or the prefix of ``.npy`` objects.
        read_all: Whether all columns are read; None reads all of up to `IN_MEMORY_BYTES`.
        columns: From the name of a field to the name of its array; other arrays are not read. None takes all.

    Raises:
        FileNotFoundError, PermissionError: There is no such object, or it may not be read.
        ConnectionError, TimeoutError: The store cannot be reached.
        DataFileError: An object is no NumPy file, is damaged, or holds objects, which only pickle could load; an array is
            missing, offsets do not fit their values, or the arrays are no columns of one length.
    """
    shown = redacted(address)
    wanted = None if columns is None else set(columns.values())
    with load_errors(shown):
        opened = _open_archive if _is_archive(address) else _open_folder
        arrays = opened(reader, address, shown, wanted)
    ragged = ragged_names(arrays, wanted or ())
    at_once = {name + part for name in ragged for part in (OFFSETS, SHAPES)}
    at_once |= {name for name in ragged if arrays[name].dtype.kind in "US"}
    stored_bytes = sum(array.nbytes for array in arrays.values() if isinstance(array, StoredArray))
    if read_all or (read_all is None and stored_bytes <= IN_MEMORY_BYTES):
        at_once = set(arrays)
    arrays = _read(arrays, at_once)
    found = joined_parts(arrays, wanted or (), shown, _ragged)
    if columns is not None:
        found = {name: found[stored] for name, stored in columns.items()}
    require_columns(found, shown, columns)
    return found


def _is_archive(address: str) -> bool:
    return address.partition("?")[0].endswith((".npz", ".npy"))


def _ragged(values: _Part, offsets: Any, shapes: Any) -> Ragged | StoredRagged:
    return (
        StoredRagged.of(values, offsets, shapes) if isinstance(values, StoredArray) else Ragged(values, offsets, shapes)
    )


def _read(arrays: Mapping[str, _Part], names: Collection[str]) -> dict[str, _Part]:
    """Return the arrays, of which those with these names are read."""
    stored = {name: array for name, array in arrays.items() if name in names and isinstance(array, StoredArray)}
    return {**arrays, **dict(zip(stored, read_whole(list(stored.values())), strict=True))}


@dataclass(frozen=True, slots=True)
class _Object:
    """An object that is being opened."""

    reader: RangeReader
    address: str
    shown: str
    """The address without credentials."""
    stamp: Stamp
    file: ObjectFile

    def array(self, header: Header, begin: int, title: str, checksum: Checksum | None = None) -> StoredArray:
        """Return an array whose rows begin at an offset of the object."""
        return StoredArray(self.reader, self.address, self.stamp, begin, header.dtype, header.shape, title, checksum)

    def fetch(self, start: int, end: int) -> None:
        """Fetch bytes that will be read."""
        starts = range(start, end, _REQUEST_BYTES)
        self.file.fetch(starts, [min(first + _REQUEST_BYTES, end) for first in starts])


# -- archives ------------------------------------------------------------------------------------------------------------


def _open_archive(reader: RangeReader, address: str, shown: str, wanted: AbstractSet[str] | None) -> dict[str, _Part]:
    if shown.partition("?")[0].endswith(".npy"):
        raise DataFileError(
            shown, f"{shown} is a single .npy object, whose field has no name; give the folder it lies in"
        )
    (stamp,) = reader.stamps([address])
    opened = _Object(reader, address, shown, stamp, reader.open(address, stamp))
    opened.fetch(max(0, stamp.size - _END_BYTES), stamp.size)
    stream = io.BufferedReader(opened.file, _HEAD_BYTES)
    if not zipfile.is_zipfile(stream):
        raise DataFileError(shown, f"{shown} is not an .npz object, or its end is missing; {REMEDY}")
    with zipfile.ZipFile(stream) as archive:
        require_all_members(archive, stream)
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        names = chosen_names(members, wanted, shown)
        heads = [members[name].header_offset for name in names]
        opened.file.fetch(heads, [head + _HEAD_BYTES for head in heads])
        arrays: dict[str, _Part] = {}
        for name in names:
            with load_errors(shown, name):
                arrays[name] = _member(opened, name, archive, members[name], stream)
        return arrays


def _member(opened: _Object, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, stream: IO[bytes]) -> _Part:
    with archive.open(member) as content:  # checks the member's own header against the archive's directory
        header = array_header(content, member.file_size)
    if _has_rows(header) and member.compress_type == zipfile.ZIP_STORED:
        begin = data_offset(stream, member)
        stream.seek(begin)
        checksum = Checksum(zlib.crc32(stream.read(header.length)), member.CRC)
        return opened.array(header, begin + header.length, f"{name!r} in {opened.shown}", checksum)
    opened.fetch(
        member.header_offset, min(member.header_offset + _HEAD_BYTES + member.compress_size, opened.stamp.size)
    )
    return whole_member(archive, member)


# -- folders -------------------------------------------------------------------------------------------------------------


def _open_folder(reader: RangeReader, address: str, shown: str, wanted: AbstractSet[str] | None) -> dict[str, _Part]:
    entries = [entry for entry in reader.entries(address) if entry.endswith(".npy")]
    found = {entry.rpartition("/")[2].removesuffix(".npy"): entry for entry in entries}
    if not found:
        raise FileNotFoundError(
            f"{shown} has no .npy object; 'path' names an .npz object, or a folder of .npy objects, one for each field, such "
            "as image.npy"
        )
    names = chosen_names(found, wanted, shown)
    for name in names:
        require_no_shard(f"{name}.npy", redacted(found[name]), shown)
    addresses = [found[name] for name in names]
    stamps = reader.stamps(addresses)
    heads = reader.ranges(addresses, [0] * len(names), [min(stamp.size, _HEAD_BYTES) for stamp in stamps], stamps)
    return {
        name: _npy(_Object(reader, address, redacted(address), stamp, reader.open(address, stamp)), head)
        for name, address, stamp, head in zip(names, addresses, stamps, heads, strict=True)
    }


def _npy(opened: _Object, head: bytes) -> _Part:
    opened.file.hold(0, head)
    with load_errors(opened.shown), io.BufferedReader(opened.file, _HEAD_BYTES) as stream:
        header = array_header(stream, opened.stamp.size)
        if _has_rows(header):
            return opened.array(header, header.length, opened.shown)
        opened.fetch(len(head), opened.stamp.size)
        stream.seek(0)
        array: np.ndarray = npy.read_array(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError("it has more bytes than its header says")
        return array


def _has_rows(header: Header | None) -> TypeGuard[Header]:
    """Return whether the rows of an array lie one after another, each at an offset that is known."""
    return header is not None and header.can_be_mapped and not header.fortran_order
