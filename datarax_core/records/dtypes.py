"""Dtypes of fields: which of them devices have, and the range of values of each."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KEY_REMEDY = (
    "serve their key data, jax.random.key_data(keys), and wrap it in a stage, jax.random.wrap_key_data(key_data)"
)


@functools.cache
def fits_device(dtype: np.dtype[Any]) -> bool:
    """Return whether JAX has this dtype, unchanged or narrowed to 32 bits; it has none for text, bytes, dates and objects.

    Raises:
        TypeError: The dtype is that of PRNG keys, which no NumPy array holds.
    """
    if _is_key(dtype):
        raise TypeError(f"a record has a field of PRNG keys ({dtype}); {_KEY_REMEDY}")
    known = dtype == np.bool_ or jnp.issubdtype(dtype, np.number)
    is_timedelta = dtype.kind == "m"  # which NumPy counts among the integers
    return bool(known and not is_timedelta and dtype not in (np.longdouble, np.clongdouble))


def goes_to_device(leaf: Any) -> bool:
    """Return whether a device can hold a column, or a field that a spec describes: dtype and shape are those of an array."""
    return None not in leaf.shape and fits_device(leaf.dtype)


def is_text(dtype: Any) -> bool:
    """Return whether this is one of NumPy's dtypes of text or bytes; columns of objects may hold either, too."""
    return isinstance(dtype, np.dtype) and dtype.kind in "UTS"


def dtype_title(dtype: Any) -> str:
    """Return the name of a dtype in reports and fingerprints: ``text`` or ``bytes`` whatever the width, else NumPy's name."""
    if not is_text(dtype):
        return str(dtype)
    return "bytes" if dtype.kind == "S" else "text"


def are_one_kind(one: Any, other: Any) -> bool:
    """Return whether a field may have either dtype: text of any width, bytes of any width, and objects in place of both."""
    if one == other:
        return True
    if not (is_text(one) or is_text(other)):
        return False
    return dtype_title(one) == dtype_title(other) or np.dtype(object) in (one, other)


def common_text(dtypes: Sequence[Any]) -> Any:
    """Return the dtype that holds values of dtypes of one kind: the widest, or objects if any is of another sort."""
    first, *others = dict.fromkeys(dtypes)
    if not others:
        return first
    sorts = {dtype.kind for dtype in (first, *others)}
    return np.result_type(first, *others) if len(sorts) == 1 and sorts <= {"U", "S"} else np.dtype(object)


def require_no_key(description: str, value: Any) -> None:
    """Raise if a value is an array of PRNG keys, before NumPy is asked about its dtype.

    Args:
        description: The value in words, for the error.
        value: Any value of a record.

    Raises:
        TypeError: The value holds PRNG keys.
    """
    if isinstance(value, jax.Array) and _is_key(value.dtype):
        raise TypeError(f"{description} holds PRNG keys ({value.dtype}); {_KEY_REMEDY}")


@functools.cache
def limits(dtype: Any) -> tuple[float, float]:
    """Return the least and the greatest finite value of a dtype: Python integers, which are exact, for integers and bool.

    Args:
        dtype: Bool, or a dtype of integers or real numbers; JAX's own, such as int4 and bfloat16, included.
    """
    if dtype == np.bool_:
        return 0, 1
    if jnp.issubdtype(dtype, np.integer):
        info = jnp.iinfo(dtype)  # type: ignore[no-untyped-call]  # its stubs leave the types out
        return int(info.min), int(info.max)
    greatest = float(jnp.finfo(dtype).max)  # type: ignore[no-untyped-call]  # the same stubs
    return -greatest, greatest


def is_integer(dtype: Any) -> bool:
    """Return whether ``dtype`` is a dtype of integers; bool is not."""
    return bool(jnp.issubdtype(dtype, np.integer))


def is_float(dtype: Any) -> bool:
    """Return whether ``dtype`` is a dtype of real floats."""
    return bool(jnp.issubdtype(dtype, np.floating))


def float_info(dtype: Any) -> Any:
    """Return the digits and the range of a dtype of floats, as ``jax.numpy.finfo`` does."""
    return jnp.finfo(dtype)  # type: ignore[no-untyped-call]  # its stubs leave the types out


def holds(to: Any, dtype: Any) -> bool:
    """Return whether ``to`` holds every value of ``dtype`` unchanged: both are bool, integers, or real floats."""
    (least, greatest), (lowest, highest) = limits(dtype), limits(to)
    if is_float(dtype):
        own, other = float_info(dtype), float_info(to) if is_float(to) else None
        return other is not None and other.nmant >= own.nmant and highest >= greatest and other.minexp <= own.minexp
    if is_float(to):  # a float with n bits of fraction holds all integers up to 2**(n + 1), and only some above
        return max(-least, greatest) <= 2 ** (float_info(to).nmant + 1) and greatest <= highest
    return lowest <= least and greatest <= highest


def _is_key(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))
