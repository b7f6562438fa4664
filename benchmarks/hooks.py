"""Cost of hooks per batch, without and with a plugin that implements one."""

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from _measure import Row

from datarax_core import Pipeline, default_hooks, hookimpl
from datarax_memory import MemorySource, MemorySourceConfig

LIMIT, HEARD, CALLS, RUNS = 50e-9, 5e-6, 20_000, 100


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

    took = _a_call(checks) - _a_call(empty)
    return Row("a batch, no plugin listens", _ns(LIMIT), _ns(took), took / LIMIT, 1.0, "at most")


def _one_plugin() -> Row:
    hooks = default_hooks()
    with hooks.registered(_Listener()):
        took = _a_call(lambda: hooks.call.datarax_batch_ready(pipeline=None, step=0, batch=None))
    return Row("a batch, one plugin listens", _ns(HEARD), _ns(took), took / HEARD, 1.0, "at most")


def _a_call(function: Callable[[], object]) -> float:
    return min(timeit.repeat(function, number=CALLS, repeat=RUNS)) / CALLS


def _ns(took: float) -> str:
    return f"{took * 1e9:.0f} ns"
