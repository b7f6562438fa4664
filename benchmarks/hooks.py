"""Cost of hooks per batch, without and with a plugin that implements one."""

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from _measure import Row, limited, paired

from datarax_core import Pipeline, default_hooks, hookimpl
from datarax_memory import MemorySource, MemorySourceConfig

LIMIT, HEARD, CALLS, RUNS = 50e-9, 5e-6, 20_000, 51


def rows() -> list[Row]:
    """Measure seconds a batch against the limits."""
    source = MemorySource(MemorySourceConfig(), {"x": np.zeros((4096, 8), np.float32)})
    pipeline = Pipeline(source=source, batch_size=32)
    pipeline.step()
    return [_no_plugin(pipeline), _one_plugin()]


class _Listener:
    @hookimpl
    def datarax_batch_ready(self, pipeline: Any, step: int, batch: Any) -> None: ...


def _no_plugin(pipeline: Pipeline) -> Row:
    """Measure the lines that a batch passes because there are hooks, as `Pipeline.step` and a loop have them."""
    position = pipeline.cursor.position
    progress = pipeline._progress  # noqa: SLF001 - the lines read it

    def checks() -> None:
        if position >= progress.events.due:
            raise AssertionError
        if progress.hooks.hears_batches:
            raise AssertionError

    def empty() -> None: ...

    pairs = paired(lambda: _a_call(empty), lambda: _a_call(checks), RUNS)
    return limited([took - nothing for nothing, took in pairs], LIMIT, what="a batch, no plugin listens")


def _one_plugin() -> Row:
    hooks = default_hooks()
    with hooks.registered(_Listener()):
        call = lambda: hooks.call.datarax_batch_ready(pipeline=None, step=0, batch=None)  # noqa: E731 - it is timed
        return limited([_a_call(call) for _ in range(RUNS)], HEARD, what="a batch, one plugin listens")


def _a_call(function: Callable[[], object]) -> float:
    return timeit.timeit(function, number=CALLS) / CALLS
