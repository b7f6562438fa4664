"""Arguments of compiled functions that lose what they write: modules under plain ``jax.jit``, which ``nnx.jit`` would keep."""

import sys
from typing import Any, Final
from weakref import WeakSet

from flax import nnx
from flax.errors import TraceContextError

from .aside import HoldsAside


class TraceArgument(HoldsAside, nnx.Module):
    """Base of modules that tell apart how they came into a trace: split and merged by flax, or as a pytree of jax's own."""

    @classmethod
    def _pytree__unflatten(cls, *parts: Any) -> Any:
        module = super()._pytree__unflatten(*parts)
        _unflattened.add(module)
        return module


_unflattened: Final[WeakSet[TraceArgument]] = WeakSet()
"""The modules that jax itself made of a pytree: arguments of its transformations."""


def require_updates_kept(module: TraceArgument, title: str, action: str) -> None:
    """Raise if a module is an argument of plain ``jax.jit``, which drops what the function writes to it.

    For a trace that is under way. A module that the function split and merged by itself is no such argument.

    Args:
        module: The module, whose variables are traced.
        title: Name of the module in the error.
        action: The call that writes to it.

    Raises:
        RuntimeError: Names the remedy.
    """
    if module in _unflattened and _is_plain_jit():
        raise RuntimeError(
            f"{title} is an argument of plain jax.jit, which drops the position that {action} moves, so that every call would "
            "serve the same batch; use nnx.jit in place of jax.jit"
        )


def closed_over(cause: TraceContextError, cursor: nnx.Module, title: str, action: str) -> Exception:
    """Return the error for a traced function that closes over ``title``; ``cause``, if another module is the reason."""
    if not _is_closed_over(cursor):
        return cause
    return RuntimeError(
        f"cannot {action} {title} in a traced function that closes over it: compiled code would serve the same batch in every "
        "call; make it an argument of the function, under nnx.jit"
    )


def _is_closed_over(module: nnx.Module) -> bool:
    variable = next(node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.Variable))
    try:
        variable.set_raw_value(variable.get_raw_value())
    except TraceContextError:
        return True
    return False


def _is_plain_jit() -> bool:
    """Return whether the innermost trace was begun by ``jax.jit``, and not by flax for an ``nnx.jit``."""
    frame, called = sys._getframe(1), ""  # noqa: SLF001 - jax does not say what began a trace
    while frame is not None and not _module_of(frame).startswith("jax."):
        frame, called = frame.f_back, _module_of(frame)  # type: ignore[assignment]  # None at the end
    is_jit = False
    while frame is not None and _module_of(frame).startswith("jax."):
        is_jit = is_jit or _module_of(frame) == "jax._src.pjit"
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return is_jit and not called.startswith("flax.")


def _module_of(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", ""))
