"""Feature to decode, and how packed integers, floats and bytes become values of its dtype."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from datarax_core.records import limits

from .dtypes import AnyArray
from .example_wire import LISTS
from .fields import fixed_axes
from .joined import Payloads

_OBJECT: Final = np.dtype(object)

_AT_ONCE: Final = 1 << 15
"""Bytes of integers that are read at a time: few enough that all that is computed of them stays in the processor's cache."""

_LONGEST_VARINT: Final = 10
"""Bytes of a 64-bit integer, which has seven bits in each."""

_WORD: Final = 8
_MASKS: Final = np.array(
    [0x7F7F7F7F7F7F7F7F >> 8 * (_WORD - min(width, _WORD)) for width in range(_LONGEST_VARINT + 1)], np.uint64
)
"""The bits of an integer of so many bytes in the first eight bytes from its start on."""

_TOP_BITS: Final = np.array(
    [1 << 63, *(0x8080808080808080 >> 8 * (_WORD - width) for width in range(1, _WORD + 1))], np.uint64
)
"""The highest bits of so many bytes; that of the last byte of an integer is not set. No word agrees with those of no byte."""

_BYTE: Final = np.uint64(8)
"""The number of bits of a byte, as the dtype that shifts words."""

_PAIRS: Final = (
    (np.uint64(1), np.uint64(0x007F007F007F007F), np.uint64(0x7F007F007F007F00)),
    (np.uint64(2), np.uint64(0x00003FFF00003FFF), np.uint64(0x3FFF00003FFF0000)),
    (np.uint64(4), np.uint64(0x000000000FFFFFFF), np.uint64(0x0FFFFFFF00000000)),
)
"""Shifts that bring the bits of eight bytes together: those of a byte to its neighbour, then of pairs, then of fours."""


class FeatureSpec(NamedTuple):
    """Feature to decode: its dtype, its shape, and the default of records that lack it."""

    name: str
    dtype: np.dtype[Any]
    """Dtype of the column; that of objects for bytes and text."""

    shape: tuple[int | None, ...]
    """Shape in a record; None for the first axis if it varies from record to record."""

    is_text: bool = False
    """Whether the objects are text, not bytes."""

    default: AnyArray | None = None
    """Value of records that lack the feature, which broadcasts to ``shape``; None raises for them."""

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """Axes that do not vary: all of them, or all but the first."""
        return fixed_axes(self.shape)

    @property
    def size(self) -> int:
        """Number of values in a record; if its first axis varies, in each item of it."""
        return math.prod(self.fixed_shape)

    @property
    def is_ragged(self) -> bool:
        """Whether the first axis varies from record to record."""
        return None in self.shape

    @property
    def holds_objects(self) -> bool:
        """Whether the values are bytes or text."""
        return self.dtype == _OBJECT

    def __str__(self) -> str:
        dtype = ("str" if self.is_text else "bytes") if self.holds_objects else self.dtype
        return f"{dtype}{list(self.shape)}"

    def require_default(self, found: Sequence[str]) -> AnyArray:
        """Return the default, for records that lack the feature, and have the features ``found``."""
        if self.default is None:
            has = ", ".join(map(repr, found))
            raise ValueError(f"the feature {self.name!r} is missing; the record has {has or 'no features':.200}")
        return self.default

    def of_floats(self, values: AnyArray) -> AnyArray:
        """Return float32 values in the dtype of the feature, one of floats; raise if it cannot hold one."""
        if self.dtype == np.float32:
            return values
        with np.errstate(all="ignore"):
            fitted: AnyArray = values.astype(self.dtype)
        lost = np.isfinite(values) != np.isfinite(fitted.astype(np.float32))
        if lost.any():
            raise self.mismatch(f"the value {values[lost][0]:g}", f"a number that {self.dtype} holds")
        return fitted

    def of_integers(self, values: AnyArray) -> AnyArray:
        """Return int64 values in the dtype of the feature, one of integers or bools; raise if it cannot hold one."""
        low, high = limits(self.dtype)
        outside = (values < low) | (values > high) if (low, high) != limits(np.dtype(np.int64)) else None
        if outside is not None and outside.any():
            raise self.mismatch(f"the value {values[outside][0]}", f"{self.dtype}, {low} to {high},")
        return values.astype(self.dtype, copy=False)

    def of_bytes(self, value: bytes) -> Any:
        """Return a value of a bytes_list as bytes or text, as declared."""
        if not self.is_text:
            return value
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the feature {self.name!r} is declared as str, and its bytes {value!r:.80} are no UTF-8 text; "
                "declare it as bytes"
            ) from error

    def values_of(self, payloads: Payloads) -> list[Any]:
        """Return payloads of one value each as bytes or text, as declared."""
        if not self.is_text:
            return payloads.each()
        try:
            return payloads.texts()
        except UnicodeDecodeError:
            return list(map(self.of_bytes, payloads.each()))  # raises, and says which text it is

    def require_floats(self) -> None:
        """Raise unless the dtype is one of floats."""
        if not _is_a(self.dtype, np.floating):
            raise self.mismatch("a float_list", f"{self}, an int64_list or raw bytes,")

    def require_integers(self) -> None:
        """Raise unless the dtype is one of integers or bools."""
        if not (_is_a(self.dtype, np.integer) or self.dtype == np.bool_):
            raise self.mismatch("an int64_list", f"{self}, a float_list or raw bytes,")

    def require_bytes(self, kind: int) -> None:
        """Raise unless a list of this kind holds bytes, for a feature of bytes or text."""
        if LISTS[kind] != "bytes_list":
            raise self.mismatch(f"the list {LISTS[kind]}", f"a bytes_list, {self},")

    def other_count(self, found: str) -> ValueError:
        """Return the error about a feature with another number of values."""
        error = self.mismatch(found)
        if len(self.shape) > 1:
            return error
        return ValueError(f"{error}; if their number varies from record to record, declare the shape [null]")

    def mismatch(self, found: str, expected: str = "") -> ValueError:
        """Return the error about a feature that is not as declared."""
        return ValueError(f"the feature {self.name!r} has {found} where {expected or self} is expected")


@lru_cache(maxsize=256)
def _is_a(dtype: np.dtype[Any], kind: type[np.generic]) -> bool:
    return bool(jnp.issubdtype(dtype, kind))


def integers(packed: npt.NDArray[np.uint8], is_last: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the integers in packed bytes, uint8 (n,), the last of which ends one.

    Args:
        packed: The bytes.
        is_last: Which bytes are the last ones of an integer: those below 128.

    Raises:
        ValueError: An integer has more bytes than one of 64 bits; says how many.
    """
    count = int(np.count_nonzero(is_last))
    if count == len(packed):  # a byte each
        return packed.astype(np.int64)
    if len(packed) <= _AT_ONCE:
        return _integers(packed, is_last)
    found, at, done = np.empty(count, np.int64), 0, 0
    while at < len(packed):
        stop = min(at + _AT_ONCE, len(packed))
        stop += int(np.argmax(is_last[stop - 1 :]))  # an integer is not cut
        part = _integers(packed[at:stop], is_last[at:stop])
        found[done : done + len(part)] = part
        at, done = stop, done + len(part)
    return found


def of_words(words: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Return the integer in each span; None if one is longer than eight bytes, or is not one integer.

    Args:
        words: int64 (n,), the first eight bytes from the start of each span on.
        sizes: int64 (n,), the number of bytes of each span.
    """
    widest = int(sizes.max())
    if widest > _WORD:
        return None
    found, ends = words.view(np.uint64), _TOP_BITS[sizes]
    if (found & ends).tobytes() != (ends >> _BYTE).tobytes():  # set in all bytes but the last one
        return None
    return _compressed(found & _MASKS[sizes], widest).view(np.int64)


def _integers(packed: npt.NDArray[np.uint8], is_last: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    widest = int(widths.max())
    if widest > _LONGEST_VARINT:
        raise ValueError(f"a value of {widest} bytes")
    padded = packed.tobytes() + bytes(_WORD)
    words: npt.NDArray[Any] = np.take(np.ndarray((len(packed) + 1,), "<u8", padded, 0, (1,)), starts)
    words &= _MASKS[widths]
    words = _compressed(words, widest)
    if widest > _WORD:
        for place in range(_WORD, widest):
            longer = np.flatnonzero(widths > place)
            bits = (packed[starts[longer] + place] & 0x7F).astype(np.uint64)
            words[longer] |= bits << np.uint64(7 * place)
    return words.view(np.int64)


def _compressed(words: npt.NDArray[Any], widest: int) -> npt.NDArray[Any]:
    """Return the lowest seven bits of each byte of each word, up to the byte ``widest``, with no bits between them."""
    for shift, low, high in _PAIRS:
        if shift < widest:
            words = (words & low) | ((words & high) >> shift)
    return words
