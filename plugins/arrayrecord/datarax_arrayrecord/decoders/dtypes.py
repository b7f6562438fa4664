"""Dtypes of fields by name, and which bytes are values of them."""

import functools
import re
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
from pydantic import BeforeValidator

from datarax_core.records import fits_device

_SHORT: Final = re.compile(r"[<=|]?[biufcSU]\d+|\?")
"""NumPy's short names: those that say a width, and not big-endian."""

NUMBERS: Final = (
    r"\?|[<=|]?(b1|[iu][1248]|f[248]|c8|c16)|bool|u?int(1|2|4|8|16|32|64)"
    r"|float(16|32|64)|bfloat16|float[468]_e\w+|complex(64|128)"
)
"""For JSON Schema, the names of dtypes of numbers and bools."""

FIXED_BYTES: Final = r"[<=|]?S0*[1-9]\d*"
"""Likewise, of bytes of a fixed length."""

DATES_AND_TEXT: Final = r"[<=|]?U0*[1-9]\d*|object|(datetime|timedelta)64(\[\d*[A-Za-z]+\])?"
"""Likewise, of dates, and of text."""

AnyArray: TypeAlias = np.ndarray[Any, Any]


def _named(value: Any) -> str:
    """The one name of a dtype, from any that says its width: int32, "<i4", np.int32; S8 for eight bytes of any value."""
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


DTypeName = Annotated[str, BeforeValidator(_named)]
"""A field that takes a dtype, by a name or as NumPy has it, and keeps its name; byte order is not part of it."""


def dtype_rules(*patterns: str) -> tuple[dict[str, Any], ...]:
    """The ``schema_rules`` of a config whose ``dtype`` has one of these names."""
    return ({"properties": {"dtype": {"pattern": f"^({'|'.join(patterns)})$"}}},)


def name_of(dtype: np.dtype[Any]) -> str:
    """The name by which `DTypeName` knows a dtype, whatever its byte order."""
    return dtype.str[1:] if dtype.kind in "SU" else dtype.name


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether JAX has it, bool included: a fixed number of bytes, and no bytes that NumPy cannot read."""
    return dtype.names is None and fits_device(dtype)


def native(array: Any) -> AnyArray:
    """NumPy's array of it, in this machine's byte order."""
    given: AnyArray = np.asarray(array)
    return given if given.dtype.isnative else given.astype(given.dtype.newbyteorder("="))


def little_endian(array: AnyArray) -> AnyArray:
    """The same values, C-contiguous, as little-endian bytes."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def invalid_byte(column: AnyArray) -> str:
    """What is wrong with a column whose bytes were written by others; empty if every one is a value of its dtype.

    Numbers of less than a byte fill their byte with zeros; NumPy would take what else stands there for True, or drop it.
    """
    bits = _bits(column.dtype)
    if bits == 8 or not column.size:
        return ""
    raw = column.view(np.uint8)
    highest = int(raw.max())
    return f"a byte of it is {highest}, which is no {column.dtype}" if highest >> bits else ""


@functools.cache
def _bits(dtype: np.dtype[Any]) -> int:
    """How many bits of each byte are used."""
    if dtype == np.bool_:
        return 1
    width = re.search(r"\d+", dtype.name)
    return min(8, int(width[0])) if width and dtype.itemsize == 1 and dtype.kind != "S" else 8
