"""What hooks cost a batch: when nobody listens, and when somebody does."""

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from _measure import Row

from datarax_core import Pipeline, default_hooks, hookimpl
from datarax_memory import MemorySource, MemorySourceConfig

LIMIT, CALLS, RUNS = 50e-9, 20_000, 200


def rows() -> list[Row]:
    """Seconds a batch against the limit of the issue, and of a listener against a call of pluggy's own."""
    source = MemorySource(MemorySourceConfig(), {"x": np.zeros((4096, 8), np.float32)})
    pipeline = Pipeline(source=source, batch_size=32)
    pipeline.step()
    return [_nobody(pipeline), _somebody(pipeline)]


class _Listens:
    @hookimpl
    def datarax_batch_ready(self, pipeline: Any, step: int, batch: Any) -> None: ...


def _nobody(pipeline: Pipeline) -> Row:
    """The lines that a batch passes because there are hooks, as `Pipeline.step` and a loop have them."""
    position = pipeline.cursor.position
    host = pipeline._host  # noqa: SLF001 - what the lines read

    def checks() -> None:
        if position >= host.events.due:
            raise AssertionError
        if host.hooks.hears_batches:
            raise AssertionError

    def empty() -> None: ...

    took = _a_call(checks) - _a_call(empty)
    return Row("a batch, nobody listens", _ns(LIMIT), _ns(took), took / LIMIT, 1.0, "at most")


def _somebody(pipeline: Pipeline) -> Row:
    bare = _a_call(pipeline.step, 20)
    with default_hooks().registered(_Listens()):
        heard = _a_call(pipeline.step, 20)
    return Row("step(), one plugin listens", _ns(bare), _ns(heard), heard / bare, 1.1, "at most")


def _a_call(function: Callable[[], object], calls: int = CALLS) -> float:
    return min(timeit.repeat(function, number=calls, repeat=RUNS)) / calls


def _ns(took: float) -> str:
    return f"{took * 1e9:.0f} ns"
