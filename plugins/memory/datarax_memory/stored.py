"""Arrays and ragged columns in objects of a store, of which only the rows are read that are asked for."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Self, TypeAlias

import numpy as np

from datarax_core import aligned_empty
from datarax_core.errors import DataFileError, SpecError
from datarax_core.records import Ragged
from datarax_core.storage import RangeReader, Stamp

_REQUEST_BYTES: Final = 8 << 20
_AT_ONCE_BYTES: Final = 64 << 20
"""Bytes of one request, and of the requests that are under way at once, where whole arrays are read."""


class Checksum(NamedTuple):
    """What an archive says of a member."""

    of_header: int
    """CRC-32 of the bytes in front of the data."""
    expected: int
    """CRC-32 of all of the member."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredArray:
    """An array in an object, in the order of C. Indexing reads rows, and copies nothing else. Picklable.

    Costs requests whenever it is indexed; `read_rows` reads of several arrays at once.
    """

    reader: RangeReader
    address: str
    stamp: Stamp
    begin: int
    """Offset of the first row in the object."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    title: str
    """The array in errors: its name and where it lies, without credentials."""
    checksum: Checksum | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return _rows_at(self, index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001 - NumPy's signature
        if copy is False:
            raise ValueError(f"{self.title} is not in memory, and becomes an array by a copy only")
        (array,) = read_whole([self])
        return array if dtype is None else array.astype(dtype)

    def spans(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (starts, ends) of rows in the object, int64 (k,) each."""
        starts = self.begin + indices * self.row_bytes
        return starts, starts + self.row_bytes

    def rows_of(self, parts: Sequence[bytes], rows: int) -> np.ndarray:
        """Return ``rows`` rows as an array, given their bytes, in memory that a device can use without a copy."""
        out = aligned_empty((rows, *self.shape[1:]), self.dtype)
        out[...] = np.frombuffer(b"".join(parts), self.dtype).reshape(out.shape)
        return out


@dataclass(frozen=True, eq=False, slots=True)
class StoredRagged:
    """A ragged column whose values lie in an object; its offsets and shapes are in memory.

    Raises:
        SpecError: Offsets or shapes do not fit the values.
    """

    values: StoredArray
    frame: Ragged
    """The column without values: zeros in their place, all of which are one."""

    @classmethod
    def of(cls, values: StoredArray, offsets: Any, shapes: Any = None, record_shape: Any = None) -> Self:
        """Return the column of these parts."""
        zeros = np.broadcast_to(np.zeros((), values.dtype), values.shape)
        return cls(values, Ragged(zeros, offsets, shapes, record_shape=record_shape))

    def __reduce__(self) -> tuple[Any, ...]:
        frame = self.frame
        shape = None if frame.shapes is None else frame.record_shape
        return type(self).of, (self.values, frame.offsets, frame.shapes, shape)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The number of records, and the shape of a record, None for each axis that varies."""
        return self.frame.shape

    @property
    def shapes(self) -> np.ndarray | None:
        """See `Ragged.shapes`."""
        return self.frame.shapes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """The number of axes, that of records included."""
        return self.frame.ndim

    @property
    def nbytes(self) -> int:
        """Bytes of the values of all records."""
        return self.frame.nbytes

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: Any) -> Any:
        return _rows_at(self, index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:  # noqa: FBT001 - NumPy's signature
        raise SpecError("records of varying length make no one array: read them by their numbers, column[indices]")

    def spans(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (starts, ends) of records in the object, int64 (k,) each."""
        offsets, size = self.frame.offsets, self.values.row_bytes
        return self.values.begin + offsets[indices] * size, self.values.begin + offsets[indices + 1] * size

    def records_of(self, parts: Sequence[bytes], indices: np.ndarray) -> Ragged:
        """Return records as a ragged column, given their bytes."""
        lengths = self.frame.lengths[indices]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        values = self.values.rows_of(parts, int(offsets[-1]))
        if self.frame.shapes is None:
            return Ragged(values, offsets)
        return Ragged(values, offsets, self.frame.shapes[indices], record_shape=self.frame.record_shape)


StoredColumn: TypeAlias = StoredArray | StoredRagged


def read_rows(columns: Mapping[str, StoredColumn], indices: np.ndarray) -> dict[str, Any]:
    """Return rows of columns by name, those of all columns read at once.

    Args:
        columns: The columns, all read by the reader of the first one.
        indices: int64 (k,): the rows, all in range; they may repeat.

    Raises:
        DataFileError: An object was changed, or removed.
        ConnectionError, TimeoutError, PermissionError: The store cannot be read.
    """
    indices = indices.astype(np.int64, copy=False)
    if not len(indices) or not columns:
        return {name: _made(column, [], indices) for name, column in columns.items()}
    spans = [column.spans(indices) for column in columns.values()]
    arrays = [_array(column) for column in columns.values()]
    parts = arrays[0].reader.ranges(
        [array.address for array in arrays for _ in range(len(indices))],
        np.concatenate([starts for starts, _ in spans]),
        np.concatenate([ends for _, ends in spans]),
        [array.stamp for array in arrays for _ in range(len(indices))],
    )
    size = len(indices)
    return {
        name: _made(column, parts[number * size : (number + 1) * size], indices)
        for number, (name, column) in enumerate(columns.items())
    }


def read_whole(arrays: Sequence[StoredArray]) -> list[np.ndarray]:
    """Return all of some arrays, read in large ranges, many at once; checksums are compared where there are some.

    Raises:
        DataFileError: An object was changed or removed, or differs from its checksum.
        ConnectionError, TimeoutError, PermissionError: The store cannot be read.
    """
    made = [aligned_empty(array.shape, array.dtype) for array in arrays]
    checksums = [0 if array.checksum is None else array.checksum.of_header for array in arrays]
    pieces = [
        (number, start, min(start + _REQUEST_BYTES, array.nbytes))
        for number, array in enumerate(arrays)
        for start in range(0, array.nbytes, _REQUEST_BYTES)
    ]
    most = _AT_ONCE_BYTES // _REQUEST_BYTES
    for first in range(0, len(pieces), most):
        some = pieces[first : first + most]
        parts = arrays[0].reader.ranges(
            [arrays[number].address for number, _, _ in some],
            np.asarray([arrays[number].begin + start for number, start, _ in some], np.int64),
            np.asarray([arrays[number].begin + end for number, _, end in some], np.int64),
            [arrays[number].stamp for number, _, _ in some],
        )
        for (number, start, end), part in zip(some, parts, strict=True):
            made[number].reshape(-1).view(np.uint8)[start:end] = np.frombuffer(part, np.uint8)
            if arrays[number].checksum is not None:
                checksums[number] = zlib.crc32(part, checksums[number])
    for array, checksum in zip(arrays, checksums, strict=True):
        _require(array, checksum)
    return made


def require_checksum(array: StoredArray) -> None:
    """Raise if the content of an array differs from its checksum; reads all of it, a piece at a time.

    Raises:
        DataFileError: It differs.
    """
    assert array.checksum is not None  # noqa: S101 - the caller looked
    checksum = array.checksum.of_header
    for start in range(0, array.nbytes, _AT_ONCE_BYTES):
        starts = list(range(start, min(start + _AT_ONCE_BYTES, array.nbytes), _REQUEST_BYTES))
        ends = [*starts[1:], min(start + _AT_ONCE_BYTES, array.nbytes)]
        begins, stops = (array.begin + np.asarray(places, np.int64) for places in (starts, ends))
        for part in array.reader.ranges([array.address] * len(starts), begins, stops, [array.stamp] * len(starts)):
            checksum = zlib.crc32(part, checksum)
    _require(array, checksum)


def _require(array: StoredArray, checksum: int) -> None:
    if array.checksum is not None and checksum != array.checksum.expected:
        raise DataFileError(
            array.address,
            f"{array.title} is damaged: its content differs from its checksum; restore the object",
        )


def _made(column: StoredColumn, parts: Sequence[bytes], indices: np.ndarray) -> Any:
    if isinstance(column, StoredRagged):
        return column.records_of(parts, indices)
    return column.rows_of(parts, len(indices))


def _array(column: StoredColumn) -> StoredArray:
    return column.values if isinstance(column, StoredRagged) else column


def _rows_at(column: Any, index: Any) -> Any:
    """Return the rows of a stored column that a slice or numbers name; of one number, the row."""
    if isinstance(index, slice):
        index = np.arange(*index.indices(len(column)))
    indices = np.asarray(index)
    rows = read_rows({"": column}, _numbers(np.atleast_1d(indices), len(column)))[""]
    return rows if indices.ndim else rows[0]


def _numbers(indices: np.ndarray, length: int) -> np.ndarray:
    """Return rows as numbers from 0, int64 (k,), given numbers, also from the end, or a mask."""
    if indices.dtype == np.bool_:
        if indices.shape != (length,):
            raise IndexError(f"a mask of shape {list(indices.shape)} does not fit a column of {length} rows")
        return np.flatnonzero(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise TypeError(f"rows are chosen by numbers, a slice, or a mask, not by {indices.dtype}{list(indices.shape)}")
    numbers = indices.astype(np.int64)
    if len(numbers) and not (-length <= numbers.min() and numbers.max() < length):
        raise IndexError(
            f"row {numbers[(numbers < -length) | (numbers >= length)][0]} is out of range: there are {length}"
        )
    return np.where(numbers < 0, numbers + length, numbers)
