"""Decoder of records that are whole .npz files, as ``np.savez`` writes them."""

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from datarax_core.config import Flag
from datarax_core.records import Batch, ElementSpec, Ragged, plain_name

from .declared import stored_names
from .dtypes import AnyArray, is_number, little_endian, native
from .fields import LARGEST, AnyColumn, declared_columns, flat_fields
from .named_values import NamedValuesDecoder, ValueField, values_at

_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the same for all, so that equal records have equal bytes; zip's earliest
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS: Final = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LONGEST_HEADER: Final = 1 << 16
_DECODER: Final = "the decoder 'npz'"


class NpzDecoder(NamedValuesDecoder):
    """Decodes records that are ``.npz`` files, with arrays by name. Nothing in them is unpickled.

    With ``fields``, only those are decoded; without, each record must have the fields of the first. The npy format has no name
    for bfloat16 and other dtypes of JAX, and stores them as V1 and V2: such arrays are read if their field is declared. Text
    and bytes become objects.
    """

    type: Literal["npz"] = "npz"
    compressed: Flag = Field(default=False, description="Write records compressed; both forms are read.")

    def named_values(self, record: bytes) -> dict[str, Any]:
        """Return the arrays of a record by name.

        Raises:
            ValueError: The record is no .npz file, is truncated, or holds something else than arrays.
        """
        return self._named(record, {})

    def reader_of(self, spec: ElementSpec) -> Callable[[bytes], dict[str, Any]]:
        """Return the function that reads a record; what would unpack to more bytes than ``spec`` says is not unpacked."""
        most = _most_bytes(spec)
        return lambda record: self._named(record, most)

    def _named(self, record: bytes, most: dict[str, int]) -> dict[str, Any]:
        try:
            return self._arrays(record, most)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
            IndexError,
        ) as error:
            raise ValueError(f"the record is no .npz file: {error}") from error

    def arrays_of(self, name: str, field: ValueField, values: list[Any]) -> list[Any] | AnyArray:  # noqa: ARG002 - the signature of the base
        """Return the values with those stored as V1 or V2 viewed as the declared dtype."""
        dtype = field.struct.dtype
        if not _is_unnamed(dtype):
            return values
        stored = np.dtype(f"V{dtype.itemsize}")
        return [value.view(dtype) if value.dtype == stored else value for value in values]

    def values_named(self, values: Sequence[Any], name: str) -> list[Any]:
        """Return the array of a field of each record: a .npz file knows no nesting."""
        return values_at(values, [plain_name(name)], name)

    def encode(self, batch: Batch) -> list[bytes]:
        """Return a .npz file for each row.

        Raises:
            ValueError: No fields are declared, the batch differs from them, or npy would change a text; names the field.
        """
        if self.fields is None:
            raise ValueError(f"{_DECODER} writes declared fields only; give it `fields`, such as for_spec() does")
        columns = declared_columns(batch, self.element_spec(), _DECODER)
        rows = range(len(next(iter(columns.values()))))
        columns = {name: _as_stored(column) for name, column in columns.items()}
        stored = stored_names(columns)
        return [self._written({stored[n]: _row(n, column, row) for n, column in columns.items()}) for row in rows]

    def _arrays(self, record: bytes, most: dict[str, int]) -> dict[str, AnyArray]:
        """Return the arrays of a record; ``most`` are the bytes that the members of some of them have at most."""
        with zipfile.ZipFile(io.BytesIO(record)) as file:
            infos = file.infolist()
            if sum(info.file_size for info in infos) > LARGEST:
                raise ValueError(f"the record unpacks to more than {LARGEST} bytes")
            arrays: dict[str, AnyArray] = {}
            wanted = None if self.fields is None else set(stored_names(self.fields).values())
            for info in infos:
                name = info.filename.removesuffix(".npy")
                if name == info.filename or name in arrays or info.compress_type not in _METHODS:
                    raise ValueError(f"the record holds {info.filename!r:.80}, which is no array that np.savez writes")
                if wanted is None or name in wanted:
                    if info.file_size > most.get(name, LARGEST):
                        raise ValueError(
                            f"field {name!r} unpacks to {info.file_size} bytes where {most[name]} are expected at most"
                        )
                    arrays[name] = self._array(name, file.read(info))
        if not arrays and self.fields is None:
            raise ValueError("the record is a .npz file without arrays")
        return arrays

    def _array(self, name: str, content: bytes) -> AnyArray:
        try:
            shape, is_fortran, dtype, start = _header(content[: _header_size(content)])
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            # from None: Python's parser raises MemoryError for headers that are nested too deeply, which is no lack of memory
            raise ValueError(f"field {name!r} of the record is no .npy file: {error}") from None
        if dtype.hasobject:
            raise ValueError(
                f"field {name!r} holds Python objects, which are never unpickled; store it as numbers or text"
            )
        if dtype.kind == "V" and self.fields is None:
            raise ValueError(
                f"field {name!r} is stored as {dtype.str[1:]}, for which npy has no name; say what it is: fields: "
                f"{{{name}: {{dtype: bfloat16, shape: {list(shape)}}}}}"
            )
        expected = math.prod(shape) * dtype.itemsize
        if len(content) - start != expected:
            raise ValueError(
                f"field {name!r} has {len(content) - start} bytes where {dtype}{list(shape)} has {expected}"
            )
        if not expected and math.prod(shape) > len(
            content
        ):  # items without bytes, such as S0, take memory all the same
            raise ValueError(f"field {name!r} is {dtype}{list(shape)}, which {len(content)} bytes do not hold")
        if not expected:
            return native(np.zeros(shape, dtype))
        array = np.frombuffer(content, dtype, offset=start)
        return native(array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape))

    def _written(self, arrays: dict[str, AnyArray]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, array, allow_pickle=False)
                info = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
                info.compress_type = _METHODS[self.compressed]
                file.writestr(info, content.getvalue())
        return buffer.getvalue()


def _most_bytes(spec: ElementSpec) -> dict[str, int]:
    """Return how many bytes the member of each field has at most; text and bytes may be of any length."""
    leaves = flat_fields(spec, "the element spec")
    return {
        stored: _LONGEST_HEADER + math.prod(leaves[name].shape) * leaves[name].dtype.itemsize
        for name, stored in stored_names(leaves).items()
        if leaves[name].dtype != np.dtype(object) and None not in leaves[name].shape
    }


def _header_size(content: bytes) -> int:
    """Return the number of bytes of an npy file before those of the array."""
    width = 2 if content[6:7] == b"\x01" else 4
    return 8 + width + int.from_bytes(content[8 : 8 + width], "little")


@lru_cache(maxsize=1024)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether the order is Fortran's, dtype and size of the header; cached, since records share headers."""
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it has version {version}, of structured dtypes")
    shape, is_fortran, dtype = _HEADERS[version](file)
    if any(n < 0 for n in shape):
        raise ValueError(f"it has the shape {shape}")
    return shape, is_fortran, dtype, len(header)


def _is_unnamed(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is one of ml_dtypes, for which the npy format has no name."""
    return is_number(dtype) and dtype.type.__module__ != "numpy"


def _as_stored(column: AnyColumn) -> AnyColumn:
    """Return a column in little-endian byte order, with a dtype that npy has a name for."""
    if isinstance(column, Ragged):
        own = column.compact()
        return own.with_values(_as_stored(own.values))
    column = little_endian(column)
    return column.view(f"V{column.dtype.itemsize}") if _is_unnamed(column.dtype) else column


def _row(name: str, column: AnyColumn, row: int) -> AnyArray:
    """Return a row of a column as an array without objects."""
    if column.dtype != np.dtype(object):
        return np.asarray(column[row])
    values = column[row]
    items = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else [values]
    if not items:
        return np.empty(np.shape(values), "U1")
    types = set(map(type, items))
    if len(types) > 1 or not types <= {str, bytes}:
        raise ValueError(
            f"field {name!r} is of objects, and {_DECODER} writes text or bytes of them, not {values!r:.80}"
        )
    zero: Any = "\0" if types == {str} else b"\0"
    if any(item.endswith(zero) for item in items):
        raise ValueError(f"field {name!r} has a value that ends with zeros, which npy drops; msgpack keeps them")
    return np.array(values.tolist() if isinstance(values, np.ndarray) else values)
