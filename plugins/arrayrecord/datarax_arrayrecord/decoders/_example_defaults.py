"""Values that stand for a feature that a record does not have: checked in the config, and as an array."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._dtypes import AnyArray, limits


def plain(default: Any) -> Any:
    """The default in terms of JSON, which has no NaN and no bytes: text stands for both."""
    if isinstance(default, np.ndarray | np.generic):
        default = default.tolist()
    if isinstance(default, list | tuple):
        return [plain(item) for item in default]
    if isinstance(default, bytes):
        return default.decode()
    if isinstance(default, float) and not math.isfinite(default):
        return str(default)
    return default


def array_of(default: Any, name: str, shape: tuple[int, ...]) -> AnyArray:
    """The default as an array that broadcasts to the field."""
    if name in ("bytes", "str"):
        values = np.array(default, object)
        if not all(isinstance(value, str) for value in values.flat):
            raise ValueError(f"a default of {name} is text, not {default!r:.80}")
        if name == "bytes":
            values = np.vectorize(str.encode, otypes=[object])(values) if values.size else values
    else:
        values = _numbers(default, np.dtype(name))
    if values.shape not in ((), shape):
        raise ValueError(
            f"the default {default!r:.80} has shape {list(values.shape)} where [] or {list(shape)} is expected"
        )
    return values


def _numbers(default: Any, dtype: np.dtype[Any]) -> AnyArray:
    given = np.array(default, object)
    is_whole = dtype == np.bool_ or jnp.issubdtype(dtype, np.integer)
    if not all(isinstance(value, (bool, int) if is_whole else (bool, int, float, str)) for value in given.flat):
        raise ValueError(f"the default {default!r:.80} is no {dtype}")
    return _integers(default, given, dtype) if is_whole else _floats(default, given, dtype)


def _integers(default: Any, given: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    low, high = limits(dtype)
    if any(not low <= value <= high for value in given.flat):
        raise ValueError(f"the default {default!r:.80} is out of range: {dtype} holds {low} to {high}")
    return given.astype(np.uint64 if low == 0 else np.int64).astype(dtype)


def _floats(default: Any, given: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    try:
        wide = given.astype(np.float64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the default {default!r:.80} is no {dtype}: {error}") from error
    with np.errstate(all="ignore"):
        fitted: AnyArray = wide.astype(dtype)
    if (np.isfinite(wide) != np.isfinite(fitted.astype(np.complex128))).any():
        raise ValueError(f"the default {default!r:.80} is out of range for {dtype}")
    return fitted
