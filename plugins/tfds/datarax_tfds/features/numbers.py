"""Unpacking of numbers to arrays: floats of 4 bytes, and varints (7 bits a byte, lowest first).

Bit 8 is set in each byte of a varint except the last.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import jax.numpy as jnp
import numpy as np

from datarax_core.records import limits

from .stored import FLOATS, INTEGERS, Unfit, counted

_limits: Final = cache(limits)

AnyArray: TypeAlias = np.ndarray[Any, Any]

_CHUNK: Final = 1 << 16
"""Bytes that are unpacked together: enough to outweigh the cost of NumPy's calls, few enough to stay in the CPU's cache."""

_LONGEST: Final = 10  # bytes of the longest varint of 64 bits


@cache
def feature_type_of(dtype: np.dtype[Any]) -> int:
    """Return the type of feature as which TFDS stores numbers of this dtype."""
    return FLOATS if jnp.issubdtype(dtype, np.floating) else INTEGERS


def put_numbers(packed: Sequence[bytes], out: AnyArray) -> None:
    """Fill a (rows, values) array with the packed numbers of each row.

    Raises:
        Unfit: A row has another number of values, or a value that does not fit the dtype.
    """
    row, size = 0, out.shape[1]
    for chunk in _chunks(packed):
        values, ends = _unpacked(chunk, out.dtype)
        if not (ends == np.arange(1, len(chunk) + 1) * size).all():
            raise Unfit(counted(ends[0], "value"))
        out[row : row + len(chunk)] = values.reshape(len(chunk), size)
        row += len(chunk)


def varying_numbers(packed: Sequence[bytes], dtype: np.dtype[Any]) -> Iterator[AnyArray]:
    """Yield the numbers of each row as an array of its own.

    Raises:
        Unfit: A value does not fit the dtype.
    """
    for chunk in _chunks(packed):
        values, ends = _unpacked(chunk, dtype)
        start = 0
        for end in ends.tolist():
            yield values[start:end].astype(dtype)
            start = end


def joined_numbers(packed: Sequence[bytes], dtype: np.dtype[Any]) -> tuple[AnyArray, AnyArray]:
    """Return the numbers of all rows as one array, and the end of each row in it, int64 (rows,).

    Raises:
        Unfit: A value does not fit the dtype.
    """
    values, ends, count = [np.empty(0, dtype)], [np.empty(0, np.int64)], 0
    for chunk in _chunks(packed):
        numbers, of_chunk = _unpacked(chunk, dtype)
        values.append(numbers.astype(dtype))
        ends.append(of_chunk + count)
        count += len(numbers)
    return np.concatenate(values), np.concatenate(ends)


def numbers_of(packed: bytes, dtype: np.dtype[Any]) -> AnyArray:
    """Return the numbers of one row; raises as `varying_numbers` does."""
    return next(varying_numbers([packed], dtype))


def _chunks(packed: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    start, size = 0, 0
    for stop, one in enumerate(packed):
        if size and size + len(one) > _CHUNK:
            yield packed[start:stop]
            start, size = stop, 0
        size += len(one)
    if start < len(packed):
        yield packed[start:]


def _unpacked(packed: Sequence[bytes], dtype: np.dtype[Any]) -> tuple[AnyArray, AnyArray]:
    """Return (all numbers of the rows, the end of each row in them). They fit ``dtype``, but their dtype may differ from it."""
    stored = np.frombuffer(b"".join(packed), np.uint8)
    stops = np.cumsum(np.fromiter(map(len, packed), np.int64, len(packed)))
    if feature_type_of(dtype) == INTEGERS:
        return _integers(stored, stops, dtype)
    if (stops % 4).any():
        raise Unfit(f"floats of {stops[0]} bytes")
    return _floats_that_fit(stored.view("<f4"), dtype), stops // 4


def _integers(stored: AnyArray, stops: AnyArray, dtype: np.dtype[Any]) -> tuple[AnyArray, AnyArray]:
    is_last = stored < 0x80
    if is_last.all():  # each number is one byte
        return _that_fit(stored, dtype), stops
    begins = np.empty(len(stored), np.bool_)
    begins[0], begins[1:] = True, is_last[:-1]
    if not is_last[stops[stops > 0] - 1].all():
        raise Unfit("an integer that ends before its last byte")
    starts = np.flatnonzero(begins)
    ends = np.searchsorted(starts, stops)
    if dtype == np.uint8 and not (~is_last[:-1] & (stored[1:] != 1)).any():
        return stored.take(starts), ends  # 128 to 255: the first byte is the number, the second is 1
    return _that_fit(_long_integers(stored, starts), dtype), ends


def _long_integers(stored: AnyArray, starts: AnyArray) -> AnyArray:
    """Return the varints that begin at ``starts``, int64 (n,)."""
    widths = np.diff(starts, append=len(stored))
    longest = int(widths.max())
    if longest > _LONGEST:
        raise Unfit(f"an integer of {longest} bytes")
    bits = stored & 0x7F
    values = bits.take(starts).astype(np.uint64)
    for place in range(1, longest):
        more = bits.take(starts + place, mode="clip").astype(np.uint64)
        values |= np.where(widths > place, more << np.uint64(7 * place), np.uint64(0))
    return values.view(np.int64)


def _that_fit(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return the values if all of them fit the dtype; else raise `Unfit`."""
    if dtype == np.uint64:  # TFDS stores the bits of an int64
        return values.view(np.uint64) if values.dtype == np.int64 else values
    low, high = _limits(dtype)
    if len(values) and dtype != np.int64:
        least, most = int(values.min()), int(values.max())
        if least < low or most > high:
            raise Unfit(f"the value {least if least < low else most}")
    return values


def _floats_that_fit(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    if dtype == np.float32:
        return values
    with np.errstate(all="ignore"):  # signalling NaNs and overflow warn; overflow is refused below
        fitted = values.astype(dtype)
    lost = np.isfinite(values) & ~np.isfinite(fitted.astype(np.float32))
    if lost.any():
        raise Unfit(f"the value {values[lost][0]:g}")
    return fitted
