"""Random batches of every dtype of JAX and any bytes, and an assertion that two batches are equal to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

DTYPES = [
    np.dtype(name)
    for name in (
        *("bool", "int2", "int4", "int8", "int16", "int32", "int64"),
        *("uint2", "uint4", "uint8", "uint16", "uint32", "uint64"),
        *("float4_e2m1fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
        *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16", "float32", "float64"),
        *("complex64", "complex128"),
    )
]
assert all(jnp.issubdtype(dtype, np.number) or dtype == np.bool_ for dtype in DTYPES)

_BITS = {"bool": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}
SHAPES = [(), (1,), (3,), (2, 2), (2, 0, 3)]


@st.composite
def columns(draw: st.DrawFn, rows: int) -> np.ndarray:
    """Draw a column of any dtype, shape and bits, including every kind of NaN."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
    size = rows * int(np.prod(shape)) * dtype.itemsize
    highest = 2 ** _BITS.get(dtype.name, 8) - 1
    values = draw(st.lists(st.integers(0, highest), min_size=size, max_size=size))
    return np.array(values, np.uint8).view(dtype).reshape(rows, *shape)


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a batch of a few random columns, one of them nested; each record has at least one byte."""
    rows = draw(st.integers(1, 5))
    batch: dict[str, Any] = {f"x{at}": draw(columns(rows)) for at in range(draw(st.integers(0, 3)))}
    batch["inner"] = {"id": np.arange(rows, dtype=np.int32), "deep": {"y": draw(columns(rows))}}
    return batch


def assert_same(found: Any, expected: Any) -> None:
    """Assert that two batches have equal structure, dtypes, shapes and bits, and objects of equal value and type."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.hasobject:
            assert [(type(value), value) for value in one.flat] == [(type(value), value) for value in other.flat]
        else:
            assert one.tobytes() == other.tobytes()
