"""Which dtype holds which values: what a cast keeps, and what a device has."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.errors import StageError

FloatName: TypeAlias = Literal["float32", "float16", "bfloat16", "float64"]
"""The dtypes of numbers with a fraction."""

NumberName: TypeAlias = Literal[FloatName, "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
"""The dtypes that a field can be cast to."""


def on_device(name: str) -> np.dtype[Any]:
    """The dtype of this name.

    Raises:
        StageError: It has 64 bits, and JAX keeps 32.
    """
    dtype: np.dtype[Any] = jnp.dtype(name)
    if (kept := jax.dtypes.canonicalize_dtype(dtype)) != dtype:
        raise StageError(
            f"{name} is kept by a device only with JAX_ENABLE_X64=1, and becomes {kept} without it; choose that, or set it",
            ("dtype",),
        )
    return dtype


def require_real(field: str, dtype: Any) -> None:
    """Refuse what is neither a real number nor a bool.

    Raises:
        StageError: It is complex.
    """
    if jnp.issubdtype(dtype, np.complexfloating):
        raise StageError(f"field {field!r} is {dtype}; take real numbers of it in a stage of your own", ("field",))


def is_integer(dtype: Any) -> bool:
    """Whether it is a dtype of integers; bool is none."""
    return bool(jnp.issubdtype(dtype, np.integer))


def is_float(dtype: Any) -> bool:
    """Whether it is a dtype of real numbers with a fraction."""
    return bool(jnp.issubdtype(dtype, np.floating))


def limits(dtype: Any) -> tuple[float, float]:
    """The least and the greatest finite value; integers as Python's, which are exact."""
    if dtype == np.bool_:
        return 0, 1
    if is_integer(dtype):
        info = jnp.iinfo(dtype)  # type: ignore[no-untyped-call]  # its stubs leave the types out
        return int(info.min), int(info.max)
    greatest = float(_float_info(dtype).max)
    return -greatest, greatest


def holds(to: Any, dtype: Any) -> bool:
    """Whether every value of ``dtype`` is one of ``to``."""
    (least, greatest), (lowest, highest) = limits(dtype), limits(to)
    if is_float(dtype):
        own, other = _float_info(dtype), _float_info(to) if is_float(to) else None
        return other is not None and other.nmant >= own.nmant and highest >= greatest and other.minexp <= own.minexp
    if is_float(to):  # of integers, all up to this are held, and then every second one
        return max(-least, greatest) <= 2 ** (_float_info(to).nmant + 1) and greatest <= highest
    return lowest <= least and greatest <= highest


def _float_info(dtype: Any) -> Any:
    return jnp.finfo(dtype)  # type: ignore[no-untyped-call]  # as above
