"""Streams that cannot be rewound: nothing that was read is lost, and nothing is promised that they cannot keep."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from datarax_core import DataSourceModule, Pipeline, SourceConfig, StateError
from datarax_core.sources import StreamingSourceBase


class Live(StreamingSourceBase):
    """Records of an iterator, which nobody can read again."""

    is_live: ClassVar[bool] = True

    def __init__(self, records: Iterator[int]) -> None:
        super().__init__(SourceConfig(type="live"), name="socket")
        self.read = iter(records).__next__

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"x": jax.ShapeDtypeStruct((), np.dtype(np.int32))}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - of the base class
        while True:
            try:
                record = self.read()
            except StopIteration:
                return
            yield {"x": np.int32(record)}


class LiveBatches(Live):
    """The same, read in batches of three."""

    def batches_from(self, epoch: int, start: int) -> Iterator[Any]:
        for first in self.records_from(epoch, start):
            others = islice(self.records_from(epoch, start), 2)
            yield {"x": np.array([record["x"] for record in (first, *others)])}


def values(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["x"]).tolist() for batch in batches]


@pytest.mark.usefixtures("threads_end")
@pytest.mark.parametrize("prefetch", [0, 5, "auto"])
def test_a_new_loop_goes_on_where_the_one_before_was_left(prefetch: Any) -> None:
    records = iter(range(20))
    pipeline = Pipeline(source=Live(records), batch_size=4, prefetch=prefetch)
    batches = iter(pipeline)
    assert values([next(batches)]) == [[0, 1, 2, 3]]
    assert next(records) == 4, "nothing is read ahead"
    assert values([next(iter(pipeline)), pipeline.step()]) == [[5, 6, 7, 8], [9, 10, 11, 12]]
    assert values(pipeline) == [[13, 14, 15, 16], [17, 18, 19]]


def test_records_of_a_batch_that_were_not_served_are_the_next() -> None:
    source = LiveBatches(iter(range(100)))
    pipeline = Pipeline(source=source, batch_size=4)
    assert values([next(iter(pipeline)), next(iter(pipeline))]) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert source.get_batch(2)["x"].tolist() == [8, 9]


def test_loops_over_the_source_itself_lose_nothing() -> None:
    source = Live(iter(range(6)))
    first = [int(element["x"]) for element in islice(source, 2)]
    assert first + [int(element["x"]) for element in source] == list(range(6))
    assert list(source) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda pipeline: pipeline.get_state(),
        lambda pipeline: pipeline.source.get_state(),
        lambda pipeline: pipeline.source.set_state({}),
    ],
)
def test_a_state_is_refused(act: Callable[[Pipeline], object]) -> None:
    pipeline = Pipeline(source=Live(iter(range(9))), batch_size=4)
    with pytest.raises(
        StateError, match=r"^Live 'socket' is live \(is_live = True\): what it gave cannot be read again, so"
    ):
        act(pipeline)
    assert values(pipeline) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


@pytest.mark.parametrize(
    "act",
    [
        lambda pipeline: pipeline.reset(),
        lambda pipeline: pipeline.source.reset(),
        lambda pipeline: pipeline.source.begin_epoch(),
    ],
)
def test_it_does_not_start_over(act: Callable[[Pipeline], object]) -> None:
    pipeline = Pipeline(source=Live(iter(range(9))), batch_size=4)
    next(iter(pipeline))
    with pytest.raises(NotImplementedError, match="what it gave is gone, and it cannot start over"):
        act(pipeline)
    assert values(pipeline) == [[4, 5, 6, 7], [8]]


def test_more_epochs_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_epochs=2 asks for more than one epoch, but Live 'socket' is live"):
        Pipeline(source=Live(iter([])), batch_size=1, num_epochs=2)


def test_a_pipeline_explains_that_nothing_is_read_ahead() -> None:
    explained = Pipeline(source=Live(iter([])), batch_size=1).explain()
    assert re.search(
        "Nothing is read ahead, and there is no state to save: Live 'socket' is live, and what it gave", explained
    )


def test_a_stream_with_get_batch_may_be_live(streams: Any) -> None:
    class LiveLog(streams.Resumable):  # type: ignore[name-defined,misc]  # of a fixture
        is_live = True

    source: DataSourceModule = LiveLog()
    assert not source.capabilities.resumable
    with pytest.raises(StateError, match="is live"):
        Pipeline(source=source, batch_size=2).get_state()
