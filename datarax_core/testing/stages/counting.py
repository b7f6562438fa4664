"""Count of the calls of a stage: a compiled stage is called only while it is traced."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any
from unittest.mock import patch

_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, functools.partial)


@contextmanager
def calls_of(stage: Any) -> Iterator[tuple[Any, Callable[[], int]]]:
    """Yield (the stage, or a function in its place, a function that returns how often it was called)."""
    count = [0]
    if isinstance(stage, _FUNCTIONS):

        @functools.wraps(stage)
        def counted(*arguments: Any) -> Any:
            count[0] += 1
            return stage(*arguments)

        yield counted, lambda: count[0]
        return
    call = type(stage).__call__

    @functools.wraps(call)
    def counted_call(self: Any, *arguments: Any) -> Any:
        count[0] += 1
        return call(self, *arguments)

    with patch.object(type(stage), "__call__", counted_call):
        yield stage, lambda: count[0]
