"""The hook for batches: it is called before a batch is handed over, so that none is lost, and with that same batch."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from datarax_core import Pipeline, default_hooks, hookimpl

MakeSource = Callable[..., Any]


class Refuses:
    """A hook that fails once, at the second batch."""

    def __init__(self) -> None:
        self.has_failed = False
        self.states: list[dict[str, Any]] = []

    @hookimpl
    def datarax_batch_ready(self, pipeline: Pipeline, step: int) -> None:
        self.states.append(pipeline.get_state())
        if step == 1 and not self.has_failed:
            self.has_failed = True
            raise ValueError("the disk for images is full")


@pytest.mark.parametrize("route", ["loop", "step"])
@pytest.mark.parametrize("kind", ["device", "host", "stream"])
@pytest.mark.usefixtures("threads_end")
def test_a_batch_at_which_a_hook_fails_is_not_lost(
    make_source: MakeSource, make_host_source: MakeSource, streams: SimpleNamespace, route: str, kind: str
) -> None:
    source = {"device": make_source, "host": make_host_source, "stream": streams.Resumable}[kind]
    pipeline = Pipeline(source=source(*[12] * (kind != "stream")), batch_size=4)
    loop = iter(pipeline) if route == "loop" else None
    take = pipeline.step if loop is None else lambda: next(loop)
    with default_hooks().registered(Refuses()):
        first = take()
        with pytest.raises(ValueError, match="the disk for images is full") as caught:
            take()
        ids = [first["id"], take()["id"], take()["id"]]
    assert np.concatenate(ids).tolist() == list(range(12))
    assert caught.value.__notes__[-1] == ("while datarax_batch_ready of hook plugin 'Refuses' (registered by hand) ran")
    if loop is not None:
        loop.close()


def test_a_state_saved_in_a_hook_begins_with_the_batch(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(12, shuffle=True), batch_size=4)
    saver = Refuses()
    saver.has_failed = True
    with default_hooks().registered(saver):
        batches = [batch["id"].tolist() for batch in pipeline]
    pipeline.set_state(saver.states[1])
    assert [batch["id"].tolist() for batch in pipeline] == batches[1:]


def test_a_batch_is_the_one_that_is_handed_over(make_source: MakeSource) -> None:
    heard: list[Any] = []

    class Keeps:
        @hookimpl
        def datarax_batch_ready(self, batch: Any) -> None:
            heard.append(batch)

    pipeline = Pipeline(source=make_source(8), batch_size=4, stages=[lambda b: {"id": jnp.negative(b["id"])}])
    with default_hooks().registered(Keeps()):
        served = [*pipeline, pipeline.step()]
    assert all(one is other for one, other in zip(heard, served, strict=True))
