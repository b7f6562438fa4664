"""Programs of a stage as text and constants, found by tracing: equal ones make the same, and nothing has to be compiled."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|\bid=\d+")


def traced(function: Any, *arguments: Any) -> list[Any]:
    """Return the program of a function of arrays, in a form that ``==`` compares: operations, and the bytes of constants."""
    program = jax.make_jaxpr(function)(*arguments)
    constants = [(str(each.dtype), each.shape, each.tobytes()) for each in _constants(program)]
    return [_ADDRESS.sub("", str(program)), *constants]


def _constants(program: Any) -> Iterator[np.ndarray]:
    """Yield the constants of a program, and of all programs that it calls."""
    yield from map(np.asarray, getattr(program, "consts", ()))
    inner = getattr(program, "jaxpr", program)
    for equation in getattr(inner, "eqns", ()):
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
        ):
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                yield from _constants(value)
