"""Values at the edges of dtypes, which formats change silently, and columns of every dtype and shape."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import jax.numpy as jnp
import numpy as np

from datarax_core.records.dtypes import float_info, is_float, is_integer, limits
from datarax_core.records.ragged import Ragged

TEXTS: Final = ("", "é", "日本語", "\U0001f600", 'a "b" \\ c', "a\tb,c", "two\nlines", "e\u0301", "0", "end\0")
"""Texts that formats of text change or cut short."""

BYTES: Final = (b"", b"\0", b"a\0", b"\xff\xfe", b"\n", bytes(range(256)))

NUMBERS: Final = tuple(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
        *("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4"),
    )
)
DATES: Final = (np.dtype("M8[s]"), np.dtype("M8[ns]"), np.dtype("m8[ms]"))
TEXT_DTYPES: Final = (str, bytes, np.dtype("U4"), np.dtype("S4"))
"""Objects that are text, objects that are bytes, and NumPy's dtypes of a fixed width."""

ALL: Final[tuple[Any, ...]] = (*NUMBERS, *DATES, *TEXT_DTYPES)

SHAPES: Final[tuple[tuple[int | None, ...], ...]] = (
    (),
    (1,),
    (3,),
    (2, 2),
    (0,),
    (2, 0, 3),
    (None,),
    (None, 2),
    (None, None),
)
"""Shapes of a record, None for an axis that varies."""

_SHAPED: Final = (np.dtype(np.float32), np.dtype(np.uint8), str)
"""Dtypes that are tried in each shape; others are tried without axes, with two, and ragged."""

_OF_OTHERS: Final = ((), (3,), (None,))


def edges_of(column: Any) -> list[Any]:
    """Return values at the edges of the dtype of a column: extremes, zeros of both signs, NaN, and text that is hard to keep.

    A column of objects is one of text, or one of bytes, as its first value is; there are none for other objects.
    """
    dtype = column.dtype
    if dtype.kind in "OSUT":
        values = column.values if isinstance(column, Ragged) else column
        first = next(iter(np.asarray(values).reshape(-1)), None)
        edges: Sequence[Any] = TEXTS if isinstance(first, str) else BYTES if isinstance(first, bytes) else ()
        if dtype.kind == "O":
            return list(edges)
        kept = [np.asarray([edge], dtype)[0] for edge in edges if not (dtype.kind == "S" and isinstance(edge, str))]
        return [edge for edge in kept if edge]
    return edges_of_dtype(dtype)


def edges_of_dtype(dtype: np.dtype[Any]) -> list[Any]:
    """Return values at the edges of a dtype of numbers, bools or dates, as scalars of the dtype."""
    if dtype.kind in "mM":
        return [np.asarray(value, "i8").view(dtype)[()] for value in (np.iinfo("i8").min, 0, -1, np.iinfo("i8").max)]
    if dtype.kind == "c":
        part = [complex(-0.0, 0.0), complex(0.0, -0.0), complex("nan"), complex(1.5, float("-inf"))]
        return [np.asarray(value, dtype)[()] for value in part]
    if dtype == np.bool_:
        return [np.True_, np.False_]
    least, most = limits(dtype)
    if is_integer(dtype):
        return [np.asarray(value).astype(dtype)[()] for value in (least, most, 0, 1)]
    if not is_float(dtype):
        return []
    edges = [-0.0, float("nan"), float("inf"), float("-inf"), float(float_info(dtype).tiny), least, most, 0.1]
    with np.errstate(all="ignore"):
        return [np.asarray(value, np.float64).astype(dtype)[()] for value in edges]


def candidates(rows: int, first: Sequence[Any] = ()) -> Iterator[tuple[Any, tuple[int | None, ...], Any]]:
    """Yield (dtype, shape, column) for dtypes and shapes of one field, the simplest first.

    Args:
        rows: Rows of a column.
        first: Dtypes that are tried before all others, in each shape.
    """
    for dtype in (*first, *(each for each in ALL if each not in first)):
        for shape in SHAPES if dtype in _SHAPED or dtype in first else _OF_OTHERS:
            yield dtype, shape, column_of(dtype, shape, rows)


def column_of(dtype: Any, shape: Sequence[int | None], rows: int) -> Any:
    """Return a column of a dtype, in which values at its edges come first; ragged if an axis varies."""
    if None not in shape:
        fixed = (rows, *(n or 0 for n in shape))
        return _array(dtype, math.prod(fixed)).reshape(fixed)
    sizes = [[row % 3 if n is None else n for n in shape] for row in range(rows)]
    values, pieces, at = _array(dtype, sum(map(math.prod, sizes))), [], 0
    for size in sizes:
        count = math.prod(size)
        pieces.append(values[at : at + count].reshape(size))
        at += count
    return Ragged.from_list(pieces, values.dtype, shape)


def _array(dtype: Any, size: int) -> np.ndarray:
    """Return an array (size,) of values that differ, those at the edges of the dtype first."""
    if dtype in (str, bytes):
        edges: Sequence[Any] = TEXTS if dtype is str else BYTES
        array = np.empty(size, object)
        array[:] = [edges[at % len(edges)] for at in range(size)]
        return array
    if dtype.kind in "SU":
        texts = ["abcd", "é", "b", "日本"] if dtype.kind == "U" else [b"abcd", b"\xff", b"b"]
        return np.asarray([texts[at % len(texts)] for at in range(size)], dtype)
    edges = edges_of_dtype(dtype)
    array = np.empty(size, dtype)
    for at in range(size):
        array[at] = edges[at % len(edges)]
    return array


def title_of(dtype: Any, shape: Sequence[int | None]) -> str:
    """Return dtype and shape of a field as messages name them."""
    name = getattr(dtype, "__name__", None) if dtype in (str, bytes) else str(dtype)
    return f"{name}{list(shape)}"


def dtype_named(name: Any) -> Any:
    """Return the dtype that an author declares by a name, a dtype, or ``str`` and ``bytes``."""
    if name in (str, bytes, "str", "bytes"):
        return {"str": str, "bytes": bytes}.get(name, name) if isinstance(name, str) else name
    return jnp.dtype(name)
