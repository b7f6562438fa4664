"""Any sequence of loops, steps, restarts and copies over a stream serves the batches of a plain Python list."""

import copy
import math
import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_batches import ids, through_json

from datarax_core import DataSourceModule, Pipeline, StreamingSourceBase, StructuralConfig

Streams = SimpleNamespace
pytestmark = pytest.mark.usefixtures("threads_end")

COPIES = {
    "clone": Pipeline.clone,
    "nnx.clone": nnx.clone,
    "deepcopy": copy.deepcopy,
    "pickle": lambda pipeline: pickle.loads(pickle.dumps(pipeline)),  # noqa: S301 - our own
}
MOVES = ["next", "next", "next", "step", "loop", "leave", "resume", "reset", *COPIES]


class Counted(StreamingSourceBase):
    """A stream without a length: record r of epoch e is 100 * e + r."""

    def __init__(self, total: int) -> None:
        super().__init__(StructuralConfig())
        self.total = total

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        for record in range(start, self.total):
            yield {"id": np.int32(100 * epoch + record)}


class CountedWithLength(Counted):
    """The same stream, whose length is known."""

    def __len__(self) -> int:
        return self.total


class CountedInBlocks(Counted):
    """The same stream, read in blocks of three records."""

    def batches_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        for first in range(start, self.total, 3):
            yield {"id": 100 * epoch + np.arange(first, min(first + 3, self.total), dtype=np.int32)}


class Model:
    """A pipeline over a stream with ``length`` records an epoch, in plain Python.

    A run over a stream whose length is known begins with a whole epoch, and another one with the rest of an epoch.
    """

    def __init__(self, length: int, size: int, epochs: float, *, is_sized: bool, drop_last: bool) -> None:
        self.length, self.size, self.epochs, self.is_sized, self.drop = length, size, epochs, is_sized, drop_last
        self.at, self.end, self.is_resumed, self.in_loop = 0, epochs * length, True, False
        self.may_begin_later = False

    def loop(self) -> None:
        is_over = self.end - self.at < (self.size if self.drop else 1)
        self.may_begin_later = not self.is_sized and not self.in_loop
        if not self.is_resumed or (is_over and not self.in_loop):
            self.may_begin_later = not self.is_sized
            if self.is_sized:
                self.at = -(-self.at // self.length) * self.length
            self.end = (self.at // self.length + self.epochs) * self.length
        self.is_resumed, self.in_loop = False, True

    def next(self) -> list[int] | None:
        if not self.in_loop:
            return None
        size = int(min(self.size, self.end - self.at))
        if size <= 0 or (self.drop and size < self.size):
            if not self.is_sized and size > 0:
                self.at += size
            if self.may_begin_later:
                self.end = (self.at // self.length + self.epochs) * self.length
                self.may_begin_later = False
                return self.next()
            self.in_loop = False
            return None
        self.may_begin_later = False
        return self._batch(size)

    def step(self) -> list[int]:
        return self._batch(self.size)

    def leave(self) -> None:
        self.in_loop = False

    def restore(self) -> None:
        self.is_resumed = True

    def reset(self) -> None:
        self.at, self.end, self.is_resumed, self.in_loop = 0, self.epochs * self.length, True, False

    def _batch(self, size: int) -> list[int]:
        rows = range(self.at, self.at + size)
        self.at += size
        return [100 * (row // self.length) + row % self.length for row in rows]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 9),
    kind=st.sampled_from(["foreign", "sized", "counted", "in blocks"]),
    size=st.integers(1, 4),
    epochs=st.sampled_from([1, 2, 3, None]),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
    moves=st.lists(st.sampled_from(MOVES), min_size=1, max_size=16),
)
def test_any_sequence_of_loops_steps_and_restarts_serves_the_batches_of_a_list(  # noqa: C901 - one branch a move
    streams: Streams,
    *,
    length: int,
    kind: str,
    size: int,
    epochs: int | None,
    drop_last: bool,
    prefetch: int,
    moves: list[str],
) -> None:
    drop_last = drop_last and (epochs is None or size <= length * epochs)
    sources: dict[str, Any] = {
        "foreign": streams.Sized,
        "sized": CountedWithLength,
        "counted": Counted,
        "in blocks": CountedInBlocks,
    }

    def make() -> Pipeline:
        source: DataSourceModule = sources[kind](length)
        return Pipeline(source=source, batch_size=size, num_epochs=epochs, drop_last=drop_last, prefetch=prefetch)

    model = Model(length, size, epochs or math.inf, is_sized=kind in ("foreign", "sized"), drop_last=drop_last)
    pipeline, batches = make(), None
    for move in moves:
        if move == "loop" or (move == "next" and batches is None):
            batches = iter(pipeline)
            model.loop()
        if move == "next":
            assert batches is not None
            batch = next(batches, None)
            assert (batch if batch is None else ids([batch])[0]) == model.next()
        elif move == "step":
            assert ids([pipeline.step()])[0] == model.step()
        elif move == "leave":
            if batches is not None:
                model.leave()
            batches = None
        elif move == "resume":
            state = through_json(pipeline.get_state())
            pipeline, batches = make(), None
            pipeline.set_state(state)
            model.restore()
        elif move == "reset":
            pipeline.reset()
            model.reset()
            batches = None
        elif move in COPIES:
            twin: Pipeline = COPIES["clone" if kind == "foreign" else move](pipeline)
            if move == "nnx.clone":
                twin.stats()  # its first use
            if batches is not None:
                next(batches, None)
            pipeline, batches = twin, None
            model.restore()
