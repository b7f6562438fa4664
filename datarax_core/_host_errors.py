"""Errors of host callbacks as they were raised: of those that end a compiled program, JAX hands on the text alone."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def noting(call: Callable[..., T], *arguments: Any) -> T:
    """``call(*arguments)``, for the inside of a callback: an error is noted for every `raising_noted` under way."""
    try:
        return call(*arguments)
    except Exception as error:
        for noted in tuple(_under_way.values()):
            noted.append(error)
        raise


def raising_noted(program: Callable[..., T], *arguments: Any) -> T:
    """The results of a compiled program, waited for. What a callback of it raised is raised as it was.

    With its class, traceback, cause and notes, that is; JAX makes a ``ValueError`` or a ``JaxRuntimeError`` of it.
    """
    noted: list[Exception] = []
    _under_way[id(noted)] = noted
    try:
        return jax.block_until_ready(program(*arguments))  # type: ignore[no-any-return]  # what it was given
    except Exception as failure:
        original = next((error for error in noted if _is_told_by(failure, error)), None)
        if original is None:
            raise
    finally:
        del _under_way[id(noted)]
    raise original  # here, and not in the handler, which would replace the context that it was raised in


def _is_told_by(failure: Exception, error: Exception) -> bool:
    """Whether a program failed for this error: programs of other threads note theirs as well."""
    return failure is not error and type(error).__name__ in str(failure) and str(error) in str(failure)


_under_way: dict[int, list[Exception]] = {}
"""The errors noted for each program under way. JAX runs callbacks on threads of its own, so that none knows its program."""
