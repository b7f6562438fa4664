"""Measurements of `drx bench`: a pipeline and its source alone read the same records, alternately."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from flax import nnx

from datarax_core import Pipeline
from datarax_core._cli.timing import Spread, timed


def test_the_source_alone_reads_the_very_records_that_the_pipeline_served(
    make_host_source: "Callable[..., Any]",
) -> None:
    source, alone = make_host_source(1000, shuffle=True), make_host_source(1000, shuffle=True)
    pipeline = Pipeline(source=source, batch_size=7, num_epochs=None, rngs=nnx.Rngs(0), prefetch=0)
    found = timed(pipeline, alone, seconds=0.05, repeats=2, note=lambda _done: None)
    assert [repeat.records for repeat in found.repeats] == [7 * found.batches] * 2
    served, read = source.reads.calls, alone.reads.calls[1:]  # the first one opens files
    last = found.batches
    assert served[-last:] == read[-last:]
    assert served[-2 * last - 1 : -last - 1] == read[:last]  # a batch between the repeats is not counted


def test_of_a_stream_too(streams: SimpleNamespace) -> None:
    source, alone = streams.Resumable(), streams.Resumable()
    pipeline = Pipeline(source=source, batch_size=7, num_epochs=None, rngs=nnx.Rngs(0), prefetch=0)
    found = timed(pipeline, alone, seconds=0.02, repeats=2, note=lambda _done: None)
    served = source.watch.reads[-found.batches :]
    assert alone.watch.reads[-found.batches :] == served


def test_a_pipeline_that_ends_is_measured_as_far_as_it_goes(streams: SimpleNamespace) -> None:
    pipeline = Pipeline(source=streams.Ending(5), batch_size=2, rngs=nnx.Rngs(0))
    assert timed(pipeline, streams.Ending(5), seconds=1, repeats=3, note=lambda _done: None).repeats == []


def test_epochs_of_a_stream_without_a_length_are_measured(streams: SimpleNamespace) -> None:
    pipeline = Pipeline(source=streams.Ending(50), batch_size=2, num_epochs=None, rngs=nnx.Rngs(0))
    assert len(timed(pipeline, streams.Ending(50), seconds=0.1, repeats=3, note=lambda _done: None).repeats) == 3


def test_noise_is_how_far_apart_the_ends_are() -> None:
    spread = Spread.of([1.0, 4.0, 2.0])
    assert (spread.median, spread.low, spread.high, spread.noise) == (2.0, 1.0, 4.0, 1.5)
