"""Dtypes of declared fields: their names, byte order, and the bytes that are values of them.

NumPy knows the names bfloat16, float8_e4m3fn, int4 and others since JAX, which core imports, registers them.
"""

import functools
import re
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
from pydantic import BeforeValidator

from datarax_core.records import fits_device

_SHORT: Final = re.compile(r"[<=|]?[biufcSU]\d+|\?")
"""NumPy's short names of dtypes, with a width, and not big-endian."""

NUMBERS: Final = (
    r"\?|[<=|]?(b1|[iu][1248]|f[248]|c8|c16)|bool|u?int(1|2|4|8|16|32|64)"
    r"|float(16|32|64)|bfloat16|float[468]_e\w+|complex(64|128)"
)
"""Pattern for JSON Schema: names of the dtypes of numbers and bools."""

FIXED_BYTES: Final = r"[<=|]?S0*[1-9]\d*"
"""Pattern for JSON Schema: names of the dtypes of bytes of a fixed length."""

DATES_AND_TEXT: Final = r"[<=|]?U0*[1-9]\d*|object|(datetime|timedelta)64(\[\d*[A-Za-z]+\])?"
"""Pattern for JSON Schema: names of the dtypes of dates and of text."""

AnyArray: TypeAlias = np.ndarray[Any, Any]


def _dtype_name(value: Any) -> str:
    """Return the canonical name of a dtype, given by any name with a width ("<i4") or as np.int32; S8 is eight bytes."""
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        value = name_of(np.dtype(value))
    if not isinstance(value, str):
        raise ValueError(f"a dtype is a name, such as int32, not {value!r:.80}")  # noqa: TRY004 - pydantic places it
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"no dtype is named {value!r:.80}; names are such as bool, int32, float32, bfloat16")
    name = name_of(dtype)
    if value != name and not _SHORT.fullmatch(value):
        raise ValueError(f"the dtype {value!r} is not the same in every record and on every machine; write {name}")
    return name


DTypeName = Annotated[str, BeforeValidator(_dtype_name)]
"""Type of a config field that accepts a dtype or a name of one, and keeps its canonical name, without byte order."""


def dtype_rules(*patterns: str) -> tuple[dict[str, Any], ...]:
    """Return the ``schema_rules`` of a config whose ``dtype`` matches one of these patterns."""
    return ({"properties": {"dtype": {"pattern": f"^({'|'.join(patterns)})$"}}},)


def name_of(dtype: np.dtype[Any]) -> str:
    """Return the canonical name of a dtype, without its byte order."""
    return dtype.str[1:] if dtype.kind in "SU" else dtype.name


def is_number(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is one of numbers or bool that JAX has."""
    return dtype.names is None and fits_device(dtype)


def native(array: Any) -> AnyArray:
    """Return a NumPy array of the values in the byte order of this machine."""
    given: AnyArray = np.asarray(array)
    return given if given.dtype.isnative else given.astype(given.dtype.newbyteorder("="))


def little_endian(array: AnyArray) -> AnyArray:
    """Return the same values as a C-contiguous array in little-endian byte order."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def invalid_byte(column: AnyArray) -> str:
    """Return a description of a byte that is no value of the column's dtype, bool or one of less than 8 bits; else "".

    The unused bits of such a dtype are 0. NumPy would take a byte with others for True, or drop those bits.
    """
    bits = _used_bits(column.dtype)
    if bits == 8 or not column.size:
        return ""
    raw = column.view(np.uint8)
    highest = int(raw.max())
    return f"a byte of it is {highest}, which is no {column.dtype}" if highest >> bits else ""


def may_be_invalid(dtype: np.dtype[Any]) -> bool:
    """Return whether there are bytes that are no value of a dtype, as `invalid_byte` describes them."""
    return _used_bits(dtype) < 8


@functools.cache
def _used_bits(dtype: np.dtype[Any]) -> int:
    """Return how many bits of each byte a dtype uses."""
    if dtype == np.bool_:
        return 1
    width = re.search(r"\d+", dtype.name)
    return min(8, int(width[0])) if width and dtype.itemsize == 1 and dtype.kind != "S" else 8
