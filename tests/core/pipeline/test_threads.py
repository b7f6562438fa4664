"""Reading by several threads: one stream, the errors of one thread, as many threads as pay, and none that is left."""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import ConfigError, DataSourceModule, Pipeline, SourceConfig
from datarax_core.pipeline import loop
from datarax_core.registry import SourceRegistry
from datarax_core.sources import from_sequence
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

pytestmark = pytest.mark.usefixtures("threads_end")


class Watch:
    """What threads did with a source."""

    def __init__(self, before: Callable[[np.ndarray], object]) -> None:
        self.before = before
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.at_once -= 1


class Watched(DataSourceModule):
    """A source whose record i is i, and which waits or fails before it reads."""

    def __init__(
        self, length: int = 60, before: Callable[[np.ndarray], object] = lambda _: None, **config: Any
    ) -> None:
        given = SourceConfig(type="watched", stochastic=True, stream_name="shuffle", **config)
        super().__init__(given, rngs=nnx.Rngs(0), name="watched")
        self.length = length
        self.watch = nnx.static(Watch(before))

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.dtype(np.int32)), "text": jax.ShapeDtypeStruct((), np.dtype(object))}

    def get_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        with self.watch:
            self.watch.before(indices)
        texts = np.empty(len(indices), object)
        texts[:] = [f"record {index}" for index in indices]
        return {"id": indices.astype(np.int32), "text": texts}


class OneAtATime(Watched):
    thread_safe: ClassVar[bool] = False


def wait(_: np.ndarray) -> None:
    time.sleep(0.002)


def ids(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["id"]).tolist() for batch in batches]


EXPECTED = ids(Pipeline(source=Watched(), batch_size=7, num_epochs=2, prefetch=0, threads=1))


@pytest.mark.parametrize("prefetch", [0, 1, 5, "auto"])
@pytest.mark.parametrize("threads", [1, 2, 9, "auto"])
@pytest.mark.parametrize("cacheable", [False, True])
def test_the_stream_is_the_same_on_any_number_of_threads(threads: Any, prefetch: Any, *, cacheable: bool) -> None:
    source = Watched(cacheable=cacheable)
    pipeline = Pipeline(source=source, batch_size=7, num_epochs=2, threads=threads, prefetch=prefetch)
    batches = list(pipeline)
    assert ids(batches) == EXPECTED
    assert all(text == f"record {i}" for b in batches for i, text in zip(np.asarray(b["id"]), b["text"], strict=True))


def test_parts_of_a_batch_and_batches_ahead_are_read_at_once() -> None:
    for prefetch, least in ((0, 4), (8, 4)):
        source = Watched(before=lambda _: time.sleep(0.01))
        assert ids(Pipeline(source=source, batch_size=7, num_epochs=2, threads=4, prefetch=prefetch)) == EXPECTED
        assert source.watch.most == least


def test_each_record_of_a_cacheable_source_is_read_once() -> None:
    read: list[int] = []
    source = Watched(cacheable=True, before=lambda indices: (wait(indices), read.extend(indices.tolist())))
    ids(Pipeline(source=source, batch_size=7, num_epochs=4, threads=6))
    assert sorted(read) == list(range(60))


def test_steps_and_loops_take_turns() -> None:
    pipeline = Pipeline(source=Watched(before=wait), batch_size=7, num_epochs=2, threads=3)
    batches = iter(pipeline)
    found = [next(batches), pipeline.step(), pipeline.step(), next(batches), pipeline.step()]
    assert ids(found) == EXPECTED[:5]
    pipeline.close()


def test_a_state_of_one_goes_on_on_another_number_of_threads() -> None:
    first = Pipeline(source=Watched(before=wait), batch_size=7, num_epochs=2, threads=5)
    batches = iter(first)
    served = [next(batches) for _ in range(6)]
    second = Pipeline(source=Watched(), batch_size=7, num_epochs=2, threads=2, prefetch=1)
    second.set_state(first.get_state())
    assert ids(served) + ids(second) == EXPECTED
    batches.close()


@pytest.mark.parametrize("threads", [1, 3, "auto"])
def test_an_error_of_a_thread_names_source_and_records_and_the_loop_can_go_on(threads: Any) -> None:
    failing = True

    def fail(indices: np.ndarray) -> None:
        wait(indices)
        if failing and 3 in indices:
            raise OSError("the disk is on fire")

    broken = next(number for number, batch in enumerate(EXPECTED) if 3 in batch)
    batches = iter(Pipeline(source=Watched(before=fail), batch_size=7, num_epochs=2, threads=threads, prefetch=4))
    served = [next(batches) for _ in range(broken)]
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is on fire") as caught:
            next(batches)
        records = ", ".join(map(str, EXPECTED[broken]))
        note = (
            f"while Watched 'watched' read the records at positions {7 * broken} to {7 * broken + 6}: records {records}"
        )
        assert caught.value.__notes__.count(note) == 1
    failing = False
    assert ids([*served, *batches]) == EXPECTED


def test_an_interrupted_step_is_read_again() -> None:
    times = 0

    def interrupted(_: np.ndarray) -> None:
        nonlocal times
        times += 1
        if times == 2:
            raise KeyboardInterrupt

    pipeline = Pipeline(source=Watched(before=interrupted), batch_size=7, threads=3)
    with pytest.raises(KeyboardInterrupt):
        pipeline.step()
    assert ids([pipeline.step()]) == EXPECTED[:1]
    pipeline.close()


def test_a_thousand_abandoned_loops_leave_no_thread() -> None:
    pipeline = Pipeline(source=Watched(), batch_size=7, num_epochs=None, threads=4, prefetch=3)
    before = threading.active_count()
    for _ in range(1000):
        batches = iter(pipeline)
        next(batches)
        del batches
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        threading.Event().wait(0.001)


def test_closing_a_pipeline_ends_its_threads() -> None:
    pipeline = Pipeline(source=Watched(before=wait), batch_size=7, num_epochs=None, threads=4)
    batches = iter(pipeline)
    next(batches)
    pipeline.step()
    pipeline.close()  # the fixture waits for the threads, while the pipeline is there
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("datarax-read") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)
    assert pipeline.step() is not None
    pipeline.close()


# -- how many ---------------------------------------------------------------------------------------------------------------


class Slow:
    """A list whose elements are waited for."""

    def __init__(self, length: int, seconds: float) -> None:
        self.length, self.seconds = length, seconds

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, int]:
        time.sleep(self.seconds)
        return {"id": index}


def test_threads_are_added_where_reading_waits_and_the_pipeline_says_so() -> None:
    pipeline = Pipeline(source=from_sequence(Slow(1200, 0.002)), batch_size=24)
    began = time.perf_counter()
    assert [one for batch in ids(pipeline) for one in batch] == list(range(1200))
    assert time.perf_counter() - began < 1200 * 0.002 / 2
    stats = pipeline.stats()
    assert stats["threads"] >= 4
    assert stats["waited_of_reading"] > 0.8
    assert f"\nMeasured so far: the reader waits {stats['waited_of_reading']:.0%} of the time: " in pipeline.explain()
    assert "several threads read parts of a batch, and batches ahead, as many threads as pay" in pipeline.explain()


def test_one_thread_reads_where_reading_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "WORTH_A_THREAD", 75e-6)
    pipeline = Pipeline(source=from_sequence([{"id": i} for i in range(2000)]), batch_size=20, num_epochs=3)
    assert len(ids(pipeline)) == 300
    assert pipeline.stats().get("threads", 1) == 1


def test_a_source_that_is_not_thread_safe_is_read_by_one_thread_at_a_time() -> None:
    source = OneAtATime(before=wait)
    pipeline = Pipeline(source=source, batch_size=7, num_epochs=2)
    batches = iter(pipeline)
    served = [next(batches)]
    pipeline.get_state()  # reads a sample of the records meanwhile
    assert ids([*served, *batches]) == EXPECTED
    assert source.watch.most == 1
    assert "OneAtATime 'watched' says that it is not thread-safe: one thread reads it at a time." in pipeline.explain()


def test_all_that_reads_what_is_not_thread_safe_takes_turns() -> None:
    watch = Watch(wait)

    class Data:
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> dict[str, int]:
            with watch:
                time.sleep(0.0005)
            return {"id": index}

    source = from_sequence(Data(), thread_safe=False)
    pipeline = Pipeline(source=source, batch_size=7, num_epochs=None)
    pipeline.get_state()
    others = [pipeline, pipeline.clone(), Pipeline(source=source.copy(), batch_size=7, num_epochs=None)]
    loops = [iter(each) for each in others]
    for _ in range(3):
        served = [next(batches)["id"].tolist() for batches in loops]
        assert served == [served[0]] * 3
    pipeline.step()
    assert watch.most == 1


def test_a_stage_of_one_thread_is_called_by_one_at_a_time() -> None:
    watch = Watch(wait)

    class Turns:
        on_host, thread_safe = True, False

        def __call__(self, batch: Any) -> Any:
            with watch:
                time.sleep(0.002)
            return {"id": batch["id"]}

    pipeline = Pipeline(source=Watched(), stages=[Turns()], batch_size=7, num_epochs=None)
    batches, others = iter(pipeline), iter(pipeline.clone())
    for _ in range(4):
        assert next(batches)["id"].tolist() == next(others)["id"].tolist()
    pipeline.step()
    assert watch.most == 1


def test_a_number_for_a_source_that_is_not_thread_safe_is_refused() -> None:
    parts = OneAtATime().split(train=0.5)
    mixed = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2), [Watched(), OneAtATime()], rngs=nnx.Rngs(0))
    for source, name in (
        (OneAtATime(), "OneAtATime"),
        (parts["train"], "Subset 'train' of OneAtATime"),
        (mixed, "Mix"),
    ):
        with pytest.raises(
            ValueError, match=rf"^threads=2 read .* at once, but {name}.*\(thread_safe = False\); leave threads"
        ):
            Pipeline(source=source, batch_size=2, threads=2)
        Pipeline(source=source, batch_size=2, threads=1)


def test_a_data_set_that_keeps_a_position_is_read_by_one_thread() -> None:
    threads: set[int] = set()

    class OneFile(Slow):
        def __getitem__(self, index: int) -> dict[str, int]:
            threads.add(threading.get_ident())
            return super().__getitem__(index)

    source = from_sequence(OneFile(64, 0.002), thread_safe=False, name="one file")
    with pytest.raises(ValueError, match="SequenceSource 'one file' says that it may be read by one thread only"):
        Pipeline(source=source, batch_size=16, threads=2)
    pipeline = Pipeline(source=source, batch_size=16, num_epochs=3)
    assert len(ids(pipeline)) == 12
    assert len(threads) <= 2, "the loop's and the one that reads ahead"
    assert not source.copy().is_thread_safe
    with pytest.raises(TypeError, match="thread_safe of SequenceSource is True or False, not 1"):
        from_sequence([], thread_safe=1)  # type: ignore[arg-type]  # what is tested


def test_mixtures_are_read_by_several_threads() -> None:
    def mixture(before: Callable[[np.ndarray], object]) -> Any:
        config = MixDataSourcesConfig(num_sources=2, weights=[0.7, 0.3])
        return MixDataSourcesNode(config, [Watched(50, before), Watched(30)], rngs=nnx.Rngs(0))

    expected = ids(Pipeline(source=mixture(lambda _: None), batch_size=7, prefetch=0, threads=1))
    assert ids(Pipeline(source=mixture(wait), batch_size=7, threads=3)) == expected


def test_a_device_source_and_a_stream_are_not_read_by_threads(make_device_source: Any, streams: Any) -> None:
    with pytest.raises(
        ValueError, match=r"threads=2 read records for a source on the host, but .* is on the device; leave"
    ):
        Pipeline(source=make_device_source(20), batch_size=2, threads=2)
    with pytest.raises(
        ValueError, match=r"threads=2 read .*, but .* is a stream, which only one can read; leave threads out"
    ):
        Pipeline(source=streams.Sized(10), batch_size=2, threads=2)


@pytest.mark.parametrize(
    ("threads", "error", "of_config"),
    [
        (
            0,
            "threads is at least 1, not 0; or 'auto', as many as pay",
            "threads: should be greater than or equal to 1, or 'auto', n",
        ),
        (
            -1,
            "threads is at least 1, not -1; or 'auto'",
            "threads: should be greater than or equal to 1, or 'auto', not -1",
        ),
        (2.5, "threads is an integer, not 2.5; or 'auto'", "threads: should be a valid integer, or 'auto', not 2.5"),
        (True, "threads is an integer, not True; or 'auto'", "threads: should be a valid integer, or 'auto', not True"),
        (
            "many",
            "threads is an integer, not 'many'; or 'auto'",
            "threads: should be a valid integer, or 'auto', not 'many'",
        ),
    ],
)
def test_a_number_of_threads_that_is_none_is_refused(threads: Any, error: str, of_config: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Pipeline(source=Watched(), batch_size=7, threads=threads)
    with pytest.raises(ConfigError, match=of_config):
        Pipeline.from_config({"source": {"type": "memory"}, "batch_size": 7, "threads": threads})


def test_a_config_says_the_number_of_threads() -> None:
    class Config(SourceConfig):
        type: str = "watched"

    class Source(Watched):
        config_class = Config

        def __init__(self, config: Config, *, rngs: nnx.Rngs | None = None) -> None:  # noqa: ARG002 - of the base class
            super().__init__()

    registry = SourceRegistry()
    registry.register(Source)
    pipeline = Pipeline.from_config({"source": {"type": "watched"}, "batch_size": 7, "threads": 3}, registry)
    assert pipeline.threads == 3
    assert "3 threads read parts of a batch, and batches ahead." in pipeline.explain()


# -- reading ahead, bounded by bytes -----------------------------------------------------------------------------------------


def test_small_batches_are_read_far_ahead_and_large_ones_are_not() -> None:
    def ahead(length: int) -> int:
        read = 0

        def count(indices: np.ndarray) -> None:
            nonlocal read
            read += len(indices)
            wait(indices)

        class Wide(Watched):
            def element_spec(self) -> Any:
                return {"x": jax.ShapeDtypeStruct((length,), np.dtype(np.uint8))}

            def get_records(self, indices: np.ndarray) -> Any:
                self.watch.before(indices)
                return {"x": np.zeros((len(indices), length), np.uint8)}

        batches = iter(Pipeline(source=Wide(10**6, count), batch_size=2, num_epochs=None, threads=1))
        for _ in range(3):
            next(batches)
            time.sleep(0.15)
        del batches
        return read // 2

    assert ahead(10) > 30
    assert ahead(60 << 20) <= 3 + 3
