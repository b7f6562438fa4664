"""Records that are msgpack maps, with arrays as flax.serialization writes them."""

import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgpack
import numpy as np

from datarax_core.spec import Batch

from ._dtypes import AnyArray, is_number, little_endian, native
from ._fields import columns_of, flat, nested
from ._named_values import NamedValuesDecoder, ValueField

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # flax.serialization's extension types
_CHUNKED: Final = "__msgpack_chunked_array__"
"""The key that marks an array of more than a gigabyte, which flax.serialization writes in chunks."""

_PLAIN: Final = (np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_))
"""Dtypes of which one value is a number of msgpack's, and is read as what it was."""

_READ: Final = frozenset((int, float, bool, str, bytes, np.ndarray))  # what is a value as it is
_WHO: Final = "the decoder 'msgpack'"


class MsgpackDecoder(NamedValuesDecoder):
    """Maps of names to values: numbers, bools, text, bytes, lists and maps of these, and arrays of any dtype.

    Arrays and NumPy's scalars have the form that ``flax.serialization.msgpack_serialize`` gives them, and what is written
    here ``msgpack_restore`` reads. Maps in maps are nested dicts; a list is an array of its items.

    With ``fields``, those are decoded and the rest is skipped, and bytes where numbers are declared are the little-endian
    bytes of the array. Without, each record has what the first one has. No length in a record is believed that goes beyond
    its end.
    """

    type: Literal["msgpack"] = "msgpack"

    def named_values(self, record: bytes) -> dict[str, Any]:
        """The map.

        Raises:
            ValueError: It is none.
        """
        try:
            value = msgpack.unpackb(record, raw=False, strict_map_key=True, ext_hook=_extension)
        except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
            reason = str(error) or f"it is not msgpack ({type(error).__name__})"
            raise ValueError(f"the record is no map of msgpack's: {reason}") from error
        if not isinstance(value, dict):
            raise ValueError(f"the record is {_a(value)} of msgpack's, not a map of names to values")  # noqa: TRY004
        return {name: item if type(item) in _READ else _plain(item, name) for name, item in value.items()}

    def arrays_of(self, name: str, field: ValueField, values: list[Any]) -> list[Any]:
        """Bytes as the arrays of which they are the memory."""
        if bytes not in set(map(type, values)):
            return values
        dtype, shape, nbytes = field.struct.dtype, field.shape, field.nbytes
        for value in values:
            if type(value) is bytes and len(value) != nbytes:
                raise ValueError(f"field {name!r} has {len(value)} bytes where the {nbytes} of {field} are expected")
        return [_from_bytes(value, dtype, shape) if type(value) is bytes else value for value in values]

    def encode(self, batch: Batch) -> list[bytes]:
        """A map of each row.

        int64, float64, bool, text and bytes are written as msgpack has them; scalars of other dtypes and arrays as
        flax.serialization writes them, which keeps them to the bit.

        Raises:
            ValueError: The batch is not as declared, or a value is no number, text or bytes; names the field.
        """
        if self.fields is not None:
            columns = columns_of(batch, self.element_spec(), _WHO)
        else:
            columns = {name: native(column) for name, column in flat(batch, f"what {_WHO} is to write").items()}
            if len(lengths := {column.shape[:1] for column in columns.values()}) > 1 or () in lengths:
                raise ValueError(f"{_WHO} writes fields of one length, not {', '.join(map(str, sorted(lengths)))}")
        rows = zip(*(_values(name, column) for name, column in columns.items()), strict=True)
        return [msgpack.packb(nested(dict(zip(columns, row, strict=True))), use_bin_type=True) for row in rows]


def _extension(code: int, data: bytes) -> Any:
    """What flax.serialization's extension types hold."""
    if code == _COMPLEX:
        parts = msgpack.unpackb(data)
        if not isinstance(parts, list) or len(parts) != 2:
            raise ValueError(f"a complex number in it has not two parts: {parts!r:.80}")
        return complex(*parts)
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"it has the extension type {code}; those of flax.serialization are 1 to 3")
    parts = msgpack.unpackb(data, raw=True)
    if not isinstance(parts, list) or [*map(type, parts)] != [list, bytes, bytes]:
        raise ValueError(f"an array in it is not (shape, dtype, bytes): {parts!r:.80}")
    shape, name, content = parts
    dtype = _dtype_named(name)
    if not all(type(n) is int and n >= 0 for n in shape) or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array in it has {len(content)} bytes, which is not what {dtype}{shape} has")
    array = _from_bytes(content, dtype, shape)
    return array if code == _ARRAY else array[()]


@lru_cache(maxsize=256)
def _dtype_named(name: bytes) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name.decode())
    except (TypeError, ValueError, SyntaxError) as unknown:
        raise ValueError(f"an array in it has the dtype {name!r:.80}, which NumPy does not know") from unknown
    if not (is_number(dtype) or dtype.kind in "mM"):
        raise ValueError(f"an array in it has the dtype {name!r:.80}; those of numbers, bools and dates are read")
    return dtype


def _from_bytes(data: bytes, dtype: np.dtype[Any], shape: Sequence[int]) -> AnyArray:
    """The array of these little-endian bytes, which are as many as it has."""
    if not data:
        return np.zeros(shape, dtype)
    if sys.byteorder == "big":
        return native(np.frombuffer(data, dtype.newbyteorder("<"))).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape)


def _plain(value: Any, name: str) -> Any:
    """A value with its chunked arrays joined; of what no array is made of, refused."""
    if isinstance(value, dict):
        if _CHUNKED in value:
            return _joined(value, name)
        return {key: _plain(item, f"{name}.{key}") for key, item in value.items()}
    if type(value) is msgpack.Timestamp:
        raise ValueError(
            f"field {name!r} is a timestamp of msgpack's; write it as a number, or as an array of datetime64"
        )
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                raise ValueError(f"field {name!r} is a list with a dict in it, of which no array is made")  # noqa: TRY004
            _plain(item, name)
    return value


def _joined(value: dict[str, Any], name: str) -> AnyArray:
    try:
        shape = [value["shape"][str(axis)] for axis in range(len(value["shape"]))]
        chunks = [value["chunks"][str(at)] for at in range(len(value["chunks"]))]
        return np.concatenate(chunks).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"field {name!r} is no array in chunks as flax.serialization writes it: {error}") from error


def _values(name: str, column: AnyArray) -> list[Any]:
    """Each row as what is packed."""
    if column.dtype.kind in "OUS":
        if column.ndim > 1 and not column.size and len(column):
            raise ValueError(
                f"field {name!r} has lists without items, which do not say that they are of text; leave it out"
            )
        return [_texts(name, value) for value in column.tolist()]
    if column.ndim == 1 and column.dtype in _PLAIN:
        return column.tolist()
    if not (is_number(column.dtype) or column.dtype.kind in "mM"):
        raise ValueError(f"field {name!r} is {column.dtype}; {_WHO} writes numbers, bools, dates, text and bytes")
    kind = _ARRAY if column.ndim > 1 else _SCALAR
    as_written: Callable[[AnyArray], bytes] = (
        lambda row: msgpack.packb(  # noqa: E731
            (column.shape[1:], column.dtype.name, row.tobytes()), use_bin_type=True
        )
    )
    return [msgpack.ExtType(kind, as_written(row)) for row in little_endian(column)]


def _texts(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(name, item) for item in value]
    if not isinstance(value, str | bytes):
        raise ValueError(f"field {name!r} is of objects, and {_WHO} writes text and bytes of them, not {value!r:.80}")  # noqa: TRY004
    return value


def _a(value: Any) -> str:
    return "nothing (nil)" if value is None else f"a value ({type(value).__name__})"
