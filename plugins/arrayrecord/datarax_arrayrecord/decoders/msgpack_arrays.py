"""Arrays and scalars in msgpack, as extension types of flax.serialization."""

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import numpy as np

from .dtypes import AnyArray, is_number, native

ARRAY, COMPLEX, SCALAR = 1, 2, 3  # the extension types
_MOST_AXES: Final = 32


def extension(code: int, data: bytes) -> Any:
    """Return the array or scalar of an extension type of flax.serialization."""
    if code == COMPLEX:
        parts = _unpacked(data, raw=False)
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, float | int) for part in parts):
            raise ValueError(f"a complex number in it has not two parts: {parts!r:.80}")
        return complex(*parts)
    if code not in (ARRAY, SCALAR):
        raise ValueError(f"it has the extension type {code}; those of flax.serialization are 1 to 3")
    shape, name, content = parts_of(data)
    array = from_bytes(content, dtype_named(name), shape)
    return array if code == ARRAY else array[()]


def parts_of(data: bytes) -> tuple[list[int], bytes, bytes]:
    """Return shape, name of the dtype and bytes of an array, which fit one another."""
    parts = _unpacked(data, raw=True)
    if not isinstance(parts, list) or [*map(type, parts)] != [list, bytes, bytes]:
        raise ValueError(f"an array in it is not (shape, dtype, bytes): {parts!r:.80}")
    shape, name, content = parts
    dtype = dtype_named(name)
    if len(shape) > _MOST_AXES:
        raise ValueError(f"an array in it has {len(shape)} axes; NumPy has up to {_MOST_AXES}")
    if not all(type(n) is int and n >= 0 for n in shape) or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array in it has {len(content)} bytes, which is not what {dtype}{shape} has")
    return shape, name, content


def _unpacked(data: bytes, *, raw: bool) -> Any:
    """Return the value in the bytes of an extension type."""
    try:
        return msgpack.unpackb(data, raw=raw)
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise ValueError(f"an extension type in it is damaged: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return what an error of msgpack says, which may be nothing."""
    return str(error) or f"it is not msgpack ({type(error).__name__})"


@lru_cache(maxsize=256)
def dtype_named(name: bytes) -> np.dtype[Any]:
    """Return the dtype with the name that an array has; raise ValueError unless it is one of numbers, bools or dates."""
    try:
        dtype = np.dtype(name.decode())
    except (TypeError, ValueError, SyntaxError, OverflowError, MemoryError):
        raise ValueError(f"an array in it has the dtype {name!r:.80}, which NumPy does not know") from None
    if not (is_number(dtype) or dtype.kind in "mM"):
        raise ValueError(f"an array in it has the dtype {name!r:.80}; those of numbers, bools and dates are read")
    return dtype


def from_bytes(data: bytes, dtype: np.dtype[Any], shape: Sequence[int]) -> AnyArray:
    """Return the array with these little-endian bytes, whose number must be right."""
    if not data:
        return np.zeros(shape, dtype)
    if sys.byteorder == "big":
        return native(np.frombuffer(data, dtype.newbyteorder("<"))).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape)
