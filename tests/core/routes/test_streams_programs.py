"""Any sequence of loops, steps, restarts and copies over a stream serves the batches of a plain Python list."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_batches import ids, through_json

from datarax_core import Pipeline

Streams = SimpleNamespace
pytestmark = pytest.mark.usefixtures("threads_end")


MOVES = ["next", "next", "step", "loop", "resume", "reset", "clone"]


class Model:
    """A pipeline over a stream, in plain Python. ``length`` None is a stream of ``total`` records that ends."""

    def __init__(self, length: int | None, total: int, size: int, epochs: int, *, drop_last: bool) -> None:
        self.length, self.total, self.size, self.epochs, self.drop = length, total, size, epochs, drop_last
        self.at, self.start, self.resumed, self.served_any, self.over = 0, 0, True, False, False

    def loop(self) -> None:
        if self.length is not None:
            end = self.start + self.epochs * self.length
            left = end - self.at
            if not self.resumed or (left < self.size if self.drop else left <= 0):
                self.at = -(-self.at // self.length) * self.length
                self.start = self.at
        self.resumed, self.served_any, self.over = False, False, False

    def next(self) -> list[int] | None:
        if self.over:
            return None
        if self.length is not None:
            left = self.start + self.epochs * self.length - self.at
            size = min(self.size, left)
            self.over = size < self.size if self.drop else size <= 0
            return None if self.over else self._sized(size)
        for _ in range(2):
            batch = list(range(self.at, min(self.at + self.size, self.total)))
            self.at += len(batch)
            if batch and not (self.drop and len(batch) < self.size):
                self.served_any = True
                return batch
            if self.served_any:
                break
            self.at, self.served_any = 0, True
        self.over = True
        return None

    def step(self) -> list[int] | None:
        if self.length is not None:
            return self._sized(self.size)
        batch = list(range(self.at, min(self.at + self.size, self.total)))
        self.at += len(batch)
        return None if not batch or (self.drop and len(batch) < self.size) else batch

    def restore(self) -> None:
        self.resumed = True

    def reset(self) -> None:
        self.at, self.start, self.resumed = 0, 0, True

    def _sized(self, size: int) -> list[int]:
        assert self.length is not None
        rows = range(self.at, self.at + size)
        self.at += size
        return [100 * (row // self.length) + row % self.length for row in rows]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 9),
    is_sized=st.booleans(),
    size=st.integers(1, 4),
    epochs=st.integers(1, 2),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
    moves=st.lists(st.sampled_from(MOVES), min_size=1, max_size=14),
)
def test_any_sequence_of_loops_steps_and_restarts_serves_the_batches_of_a_list(  # noqa: C901 - one branch a move
    streams: Streams,
    *,
    length: int,
    is_sized: bool,
    size: int,
    epochs: int,
    drop_last: bool,
    prefetch: int,
    moves: list[str],
) -> None:
    epochs = epochs if is_sized else 1
    drop_last = drop_last and (not is_sized or size <= length * epochs)

    def make() -> Pipeline:
        source = streams.Sized(length) if is_sized else streams.Ending(length)
        return Pipeline(source=source, batch_size=size, num_epochs=epochs, drop_last=drop_last, prefetch=prefetch)

    model = Model(length if is_sized else None, length, size, epochs, drop_last=drop_last)
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
            try:
                found = ids([pipeline.step()])[0]
            except RuntimeError:
                found = None
            assert found == model.step()
        elif move == "resume":
            state = through_json(pipeline.get_state())
            pipeline, batches = make(), None
            pipeline.set_state(state)
            model.restore()
        elif move == "reset":
            pipeline.reset()
            model.reset()
            batches = None
        elif move == "clone":
            twin = pipeline.clone()
            if batches is not None:
                batches.close()
            pipeline, batches = twin, None
