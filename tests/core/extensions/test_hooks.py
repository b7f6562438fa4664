"""Calls of hooks by a pipeline, and their times: opened, batches, epochs, closed, each exactly once."""

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, default_hooks, hookimpl
from datarax_memory import MemorySource, MemorySourceConfig

MakeSource = Callable[..., Any]


class Diary:
    """Hooks that write down their calls for one pipeline."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.stats: list[dict[str, Any]] = []

    @hookimpl
    def datarax_pipeline_opened(self, pipeline: Pipeline) -> None:
        self.entries.append(f"opened at {pipeline.cursor.position}")

    @hookimpl
    def datarax_batch_ready(self, step: int, batch: Any) -> None:
        self.entries.append(f"batch {step} of {len(batch['id'])}")

    @hookimpl
    def datarax_epoch_finished(self, epoch: int, stats: dict[str, Any]) -> None:
        self.entries.append(f"epoch {epoch}")
        self.stats.append(stats)

    @hookimpl
    def datarax_pipeline_closed(self, pipeline: Pipeline) -> None:
        self.entries.append(f"closed at {pipeline.cursor.position}")

    def read(self) -> list[str]:
        """Return the lines that were written since the last call."""
        entries, self.entries = self.entries, []
        return entries


@pytest.fixture
def diary() -> Iterator[Diary]:
    diary = Diary()
    with default_hooks().registered(diary):
        yield diary
        gc.collect()  # a pipeline that a test dropped calls its hooks before the next test begins


# -- loops --------------------------------------------------------------------------------------------------------------


def test_a_loop_is_opened_announced_and_closed(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(10), batch_size=4)
    assert diary.read() == []
    for _ in pipeline:
        diary.entries.append("work")
    expected = ["opened at 0", "batch 0 of 4", "work", "batch 1 of 4", "work", "batch 2 of 2", "work", "epoch 0"]
    assert diary.read() == [*expected, "closed at 10"]
    assert diary.stats[0]["records"] == 10
    list(pipeline)
    expected = ["opened at 10", "batch 3 of 4", "batch 4 of 4", "batch 5 of 2", "epoch 1", "closed at 20"]
    assert diary.read() == expected


def test_an_epoch_is_over_when_the_batch_after_it_is_asked_for(make_host_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_host_source(8), batch_size=4, num_epochs=None)
    loop = iter(pipeline)
    next(loop), next(loop)
    assert diary.read() == ["opened at 0", "batch 0 of 4", "batch 1 of 4"]
    next(loop)
    assert diary.read() == ["epoch 0", "batch 2 of 4"]
    loop.close()
    assert diary.read() == ["closed at 12"]


def test_a_batch_of_several_epochs_finishes_each(make_source: MakeSource, diary: Diary) -> None:
    list(Pipeline(source=make_source(3), batch_size=7, num_epochs=3))
    assert diary.read() == [
        "opened at 0",
        "batch 0 of 7",
        "epoch 0",
        "epoch 1",
        "batch 1 of 2",
        "epoch 2",
        "closed at 9",
    ]


def test_what_drop_last_leaves_out_is_over_with_its_run(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(10), batch_size=4, drop_last=True)
    list(pipeline)
    assert diary.read() == ["opened at 0", "batch 0 of 4", "batch 1 of 4", "epoch 0", "closed at 8"]
    pipeline.step()  # past the end of the epoch, which was announced
    assert diary.read() == ["opened at 8", "batch 2 of 4"]
    list(pipeline)
    assert diary.read() == ["closed at 12", "opened at 20", "batch 3 of 4", "batch 4 of 4", "epoch 2", "closed at 28"]


@pytest.mark.parametrize("end", ["break", "close", "another", "reset", "set_state", "pipeline.close"])
def test_a_loop_that_is_left_is_closed_once_and_finished_nothing(
    make_source: MakeSource, diary: Diary, end: str
) -> None:
    pipeline = Pipeline(source=make_source(10), batch_size=4)
    loop = iter(pipeline)
    next(loop)
    diary.read()
    ends: dict[str, Callable[[], object]] = {
        "break": lambda: None,
        "close": loop.close,
        "another": lambda: list(pipeline),
        "reset": pipeline.reset,
        "set_state": lambda: pipeline.set_state(pipeline.get_state()),
        "pipeline.close": pipeline.close,
    }
    ends[end]()
    del loop, ends
    gc.collect()
    reported = diary.read()
    assert reported[0] == "closed at 4"
    batches = ["batch 1 of 4", "batch 2 of 4", "batch 3 of 2"]
    assert reported[1:] == (["opened at 10", *batches, "epoch 1", "closed at 20"] if end == "another" else [])


def test_a_loop_that_is_over_announces_nothing_more(make_source: MakeSource, diary: Diary) -> None:
    loop = iter(Pipeline(source=make_source(4), batch_size=4))
    next(loop)
    assert next(loop, None) is None
    diary.read()
    assert next(loop, None) is None
    loop.close()
    del loop
    gc.collect()
    assert diary.read() == []


def test_a_closed_loop_that_is_taken_up_again_opens_again(make_source: MakeSource, diary: Diary) -> None:
    loop = iter(Pipeline(source=make_source(8), batch_size=4))
    next(loop)
    loop.close()
    assert diary.read() == ["opened at 0", "batch 0 of 4", "closed at 4"]
    next(loop)
    loop.close()
    assert diary.read() == ["opened at 4", "batch 1 of 4", "epoch 0", "closed at 8"]


def test_a_loop_that_fails_goes_on_and_is_closed_when_it_is_dropped(make_host_source: MakeSource, diary: Diary) -> None:
    source = make_host_source(8)
    pipeline = Pipeline(source=source, batch_size=4, prefetch=0)
    loop = iter(pipeline)
    source.reads.fail = True
    with pytest.raises(OSError, match="the disk is gone"):
        next(loop)
    source.reads.fail = False
    next(loop)
    assert diary.read() == ["opened at 0", "batch 0 of 4"]
    del loop
    gc.collect()
    assert diary.read() == ["closed at 4"]


# -- step and scan ------------------------------------------------------------------------------------------------------


def test_steps_are_opened_by_the_first_and_closed_with_the_pipeline(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    pipeline.step(), pipeline.step()
    assert diary.read() == ["opened at 0", "batch 0 of 4", "batch 1 of 4"]
    pipeline.step()
    assert diary.read() == ["epoch 0", "batch 2 of 4"]
    pipeline.close()
    pipeline.close()
    assert diary.read() == ["closed at 12"]
    pipeline.step()
    assert diary.read() == ["opened at 12", "batch 3 of 4"]
    del pipeline
    gc.collect()
    assert diary.read() == ["epoch 1", "closed at 16"]


def test_a_loop_goes_on_with_what_steps_opened(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    pipeline.step()
    list(pipeline)
    assert diary.read() == ["opened at 0", "batch 0 of 4", "batch 1 of 4", "epoch 0", "closed at 8"]


def test_a_scan_announces_its_epochs_and_no_batch(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    pipeline.scan(lambda batch: batch["id"].sum(), length=5)
    assert diary.read() == ["opened at 0", "epoch 0", "epoch 1"]
    pipeline.step()
    assert diary.read() == ["batch 0 of 4"]
    pipeline.reset()
    assert diary.read() == ["epoch 2", "closed at 24"]


def test_epochs_of_compiled_steps_are_announced_when_the_host_looks_again(
    make_source: MakeSource, diary: Diary
) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    step = nnx.jit(lambda p: p.step())
    for _ in range(5):
        step(pipeline)
    assert diary.read() == []
    pipeline.close()
    assert diary.read() == ["opened at 20", "epoch 0", "epoch 1", "closed at 20"]


def test_closing_needs_the_host(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    with pytest.raises(RuntimeError, match=r"cannot close a pipeline inside a compiled function"):
        nnx.jit(lambda p: p.close())(pipeline)


def test_closing_loses_nothing(make_host_source: MakeSource) -> None:
    def served(*, close: bool) -> list[int]:
        pipeline = Pipeline(source=make_host_source(20, shuffle=True), batch_size=4, num_epochs=2)
        loop = iter(pipeline)
        ids = [next(loop)["id"].tolist() for _ in range(3)]
        if close:
            pipeline.close()
            loop = iter(pipeline)
        ids += [batch["id"].tolist() for batch in loop]
        return [number for batch in ids for number in batch]

    assert served(close=True) == served(close=False)


def test_epochs_without_a_hook_cost_nothing_and_are_not_announced_later(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(2), batch_size=4)
    default_hooks().unregister(diary)
    pipeline.scan(lambda batch: batch["id"].sum(), length=1_000_000)  # two million epochs
    default_hooks().register(diary)
    pipeline.step()
    pipeline.close()
    assert diary.read() == ["batch 0 of 4", "epoch 2000000", "epoch 2000001", "closed at 4000004"]


def test_a_pipeline_may_be_reset_inside_compiled_code(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    pipeline.step()

    nnx.jit(lambda p: p.reset())(pipeline)
    assert pipeline.cursor.position == 0
    assert diary.read() == ["opened at 0", "batch 0 of 4"]


# -- states and copies --------------------------------------------------------------------------------------------------


def test_an_epoch_that_is_served_again_is_announced_again_and_one_before_a_state_is_not(
    make_source: MakeSource, diary: Diary
) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4, num_epochs=2)
    loop = iter(pipeline)
    for _ in range(3):
        next(loop)
    state = pipeline.get_state()
    pipeline.set_state(state)
    assert diary.read()[-3:] == ["epoch 0", "batch 2 of 4", "closed at 12"]
    list(pipeline)
    assert diary.read() == ["opened at 12", "batch 3 of 4", "epoch 1", "closed at 16"]
    pipeline.reset()
    list(pipeline)
    assert diary.read()[3:5] == ["epoch 0", "batch 6 of 4"]


@pytest.mark.parametrize("twin_of", [Pipeline.clone, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])  # noqa: S301
def test_a_copy_is_closed_and_goes_on_by_itself(
    make_source: MakeSource, diary: Diary, twin_of: Callable[[Pipeline], Pipeline]
) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    pipeline.step(), pipeline.step()
    diary.read()
    twin = twin_of(pipeline)
    twin.step()
    assert diary.read() == ["opened at 8", "batch 0 of 4"]
    pipeline.step()
    assert diary.read() == ["epoch 0", "batch 2 of 4"]
    del twin
    gc.collect()
    assert diary.read() == ["closed at 12"]


def test_copies_that_compiled_code_makes_close_nothing(make_source: MakeSource, diary: Diary) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4)
    pipeline.step()
    graphdef, state = nnx.split(pipeline)
    del graphdef, state
    merged = nnx.merge(*nnx.split(pipeline))
    del merged
    gc.collect()
    assert diary.read() == ["opened at 0", "batch 0 of 4"]


def test_whatever_is_open_is_closed_at_the_end(make_source: MakeSource, diary: Diary) -> None:
    pipelines = [Pipeline(source=make_source(8), batch_size=4) for _ in range(2)]
    pipelines[0].step()
    loop = iter(pipelines[1])
    diary.read()
    default_hooks().close_pipelines()
    assert sorted(diary.read()) == ["closed at 0", "closed at 4"]
    del loop


def test_one_that_fails_to_be_closed_keeps_no_other_open(make_source: MakeSource, diary: Diary) -> None:
    class Fails:
        @hookimpl(trylast=True)
        def datarax_pipeline_closed(self, pipeline: Pipeline) -> None:
            raise OSError(f"no room for the log of {pipeline.source.title}")

    pipelines = [Pipeline(source=make_source(8, name=name), batch_size=4) for name in ("a", "b")]
    for pipeline in pipelines:
        pipeline.step()
    diary.read()
    with (
        default_hooks().registered(Fails()),
        pytest.raises(OSError, match="no room for the log of EagerSourceBase 'a'"),
    ):
        default_hooks().close_pipelines()
    assert diary.read() == ["closed at 4", "closed at 4"]
    default_hooks().close_pipelines()
    assert diary.read() == []


# -- streams ------------------------------------------------------------------------------------------------------------


def test_the_end_of_a_stream_without_a_length_is_that_of_an_epoch(streams: SimpleNamespace, diary: Diary) -> None:
    pipeline = Pipeline(source=streams.Ending(6), batch_size=4, prefetch=0)
    list(pipeline)
    assert diary.read() == ["opened at 0", "batch 0 of 4", "batch 1 of 2", "epoch 0", "closed at 6"]
    list(pipeline)
    assert diary.read() == ["opened at 6", "batch 2 of 4", "batch 3 of 2", "epoch 1", "closed at 12"]
    pipeline.reset()
    pipeline.step(), pipeline.step()
    assert diary.read() == ["opened at 0", "batch 4 of 4", "batch 5 of 4"]
    pipeline.step()
    assert diary.read() == ["epoch 0", "batch 6 of 4"]


def test_a_stream_with_a_length_announces_its_epochs(streams: SimpleNamespace, diary: Diary) -> None:
    list(Pipeline(source=streams.Sized(5), batch_size=4, num_epochs=2))
    expected = ["batch 0 of 4", "batch 1 of 4", "epoch 0", "batch 2 of 2", "epoch 1"]
    assert diary.read() == ["opened at 0", *expected, "closed at 10"]


# -- those who come late ------------------------------------------------------------------------------------------------


def test_a_hook_registered_during_a_loop_is_called_for_the_rest(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(8), batch_size=4, num_epochs=3)
    loop = iter(pipeline)
    for _ in range(3):
        next(loop)
    late = Diary()
    assert not default_hooks().hears_batches
    with default_hooks().registered(late):
        next(loop), next(loop)
    assert late.read() == ["batch 3 of 4", "epoch 1", "batch 4 of 4"]
    next(loop)
    loop.close()
    assert late.read() == []


@pytest.mark.parametrize("how", ["step", "loop"])
def test_a_pipeline_that_is_dropped_with_a_cycle_still_has_its_counts(how: str) -> None:
    class Counts:
        records: list[int] = []

        @hookimpl
        def datarax_pipeline_closed(self, pipeline: Any) -> None:
            self.records.append(pipeline.stats()["records"])

    with default_hooks().registered(Counts()):
        pipeline = Pipeline(source=MemorySource(MemorySourceConfig(), {"x": np.arange(10.0)}), batch_size=2)
        gc.collect(0)  # the older of two objects is told last then
        loop = iter(pipeline) if how == "loop" else None
        pipeline.step() if loop is None else next(loop)
        holder: list[Any] = [pipeline, loop]
        del pipeline, loop
        holder.append(holder)
        del holder
        gc.collect()
    assert Counts.records == [2]
