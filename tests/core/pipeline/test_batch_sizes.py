"""Batch sizes that change at positions: the same records as with one size, cut where the schedule says, by every route."""

import json
from collections.abc import Callable
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, Rebatch, SpecError, StateError
from datarax_core.order import BatchSizes, ScheduledBatchSizes

MakeSource = Callable[..., Any]
SCHEDULE = [[0, 8], [30, 12], [80, 5]]  # from position 0: 4 batches of 8, 4 of 12 from 32 on, and of 5 from 80 on
LENGTH = 100
SIZES = [8] * 4 + [12] * 4 + [5] * 4


def ids_of(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["id"]).tolist() for batch in batches]


def cut(ids: list[int], sizes: list[int]) -> list[list[int]]:
    ends = list(accumulate(sizes))
    return [ids[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@pytest.fixture(params=["device", "host", "third party's host"])
def make(
    request: pytest.FixtureRequest, make_source: MakeSource, make_host_source: MakeSource
) -> Callable[..., Pipeline]:
    """Make a pipeline with the schedule over a shuffled source."""

    def make(**options: Any) -> Pipeline:
        if request.param == "third party's host":
            source = make_host_source(LENGTH, shuffle=True)
        else:
            source = make_source(LENGTH, shuffle=True, placement=request.param)
        return Pipeline(**{"source": source, "batch_size": SCHEDULE} | options)

    return make


def double(batch: Any) -> Any:
    return {**batch, "x": batch["x"] * 2}


class Bits(nnx.Module):
    """A stage with a key for each record."""

    stochastic = True

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        return {**batch, "bits": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}


def test_every_route_serves_the_same_records_cut_by_the_schedule(make: Callable[..., Pipeline]) -> None:
    alone = Pipeline(source=make().source, batch_size=1, stages=[double, Bits()], rngs=nnx.Rngs(1), num_epochs=2)
    one_by_one = list(alone)
    ids = [int(batch["id"][0]) for batch in one_by_one]
    bits = [int(batch["bits"][0]) for batch in one_by_one]
    pipeline = make(stages=[double, Bits()], rngs=nnx.Rngs(1), num_epochs=2)
    assert len(pipeline) == 4 + 4 + 24
    loop = list(pipeline)
    sizes = SIZES[:8] + [5] * 24
    assert ids_of(loop) == cut(ids, sizes)
    assert [np.asarray(batch["bits"]).tolist() for batch in loop] == cut(bits, sizes)
    pipeline.reset()
    assert ids_of(pipeline.step() for _ in range(9)) == cut(ids, sizes)[:9]
    assert pipeline.cursor.position == 85
    pipeline.reset()
    scanned = [row for length in (1, 3, 4) for row in pipeline.scan(lambda batch: batch["id"], length=length).tolist()]
    assert scanned == cut(ids, sizes)[:8]


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.usefixtures("threads_end")
def test_loops_end_within_a_stage_and_later_runs_begin_where_the_schedule_stands(
    make: Callable[..., Pipeline], prefetch: int
) -> None:
    pipeline = make(prefetch=prefetch, batch_size=[[0, 8], [130, 30]])
    assert [len(batch) for batch in ids_of(pipeline)] == [8] * 12 + [4]
    assert len(pipeline) == 7  # of the next run
    assert pipeline.plan().splitlines()[:3] == [
        "7 batches a run (batches of 8, 30 from record 130 on, 1 epoch)",
        "  from position 100: 4 batches of 8",
        "  from position 132: 3 batches of 30",
    ]
    assert [len(batch) for batch in ids_of(pipeline)] == [8] * 4 + [30, 30, 8]
    assert [len(batch) for batch in ids_of(pipeline)] == [30, 30, 30, 10]
    pipeline.reset()
    loop = iter(pipeline)
    assert [len(next(loop)["id"]) for _ in range(12)] == [8] * 12
    assert len(pipeline) == 13  # of the run under way
    assert len(pipeline.step()["id"]) == 8  # from position 96 into the next epoch
    assert pipeline.cursor.position == 104
    loop.close()


def test_the_last_batch_is_dropped_or_completed_to_the_size_of_its_stage(make: Callable[..., Pipeline]) -> None:
    schedule = [[0, 8], [10, 20]]
    assert [len(batch["id"]) for batch in make(batch_size=schedule, drop_last=True)] == [8, 8, 20, 20, 20, 20]
    assert len(make(batch_size=schedule, drop_last=True)) == 6
    padded = list(make(batch_size=schedule, pad_last="valid"))
    assert [len(batch["id"]) for batch in padded] == [8, 8, 20, 20, 20, 20, 20]
    assert [int(batch["valid"].sum()) for batch in padded] == [8, 8, 20, 20, 20, 20, 4]
    assert make(batch_size=schedule, drop_last=True).plan().splitlines()[:3] == [
        "6 batches a run (batches of 8, 20 from record 10 on, 1 epoch, drop_last)",
        "  from position 0: 2 batches of 8",
        "  from position 16: 4 batches of 20",
    ]
    with pytest.raises(ValueError, match=r"^batch_size=101 with drop_last leaves no batch of the 100 records"):
        make(batch_size=[[0, 101], [500, 8]], drop_last=True)


def test_states_go_on_at_every_batch_and_within_every_stage(make: Callable[..., Pipeline]) -> None:
    pipeline = make(num_epochs=2)
    states, ids = [pipeline.get_state()], []
    for batch in pipeline:
        ids += ids_of([batch])
        states.append(pipeline.get_state())
    assert states[0]["fingerprint"]["batch_size"] == SCHEDULE
    resumed = make(num_epochs=2)
    for number, state in enumerate(states):
        resumed.set_state(json.loads(json.dumps(state)))
        assert ids_of(resumed) == ids[number:]
    one, other = make(batch_size=8), make(batch_size=[[0, 8], [31, 12]])
    for stranger in (one, other):
        with pytest.raises(StateError, match=r"batch_size was .* and is \[\[0, 8\], \[30, 12\], \[80, 5\]\]"):
            resumed.set_state(stranger.get_state())
        with pytest.raises(
            StateError, match=r"nnx.update .* batch_size was .* and is several sizes \(checksum [89a-f]"
        ):
            written_and_stepped(resumed, stranger)
        resumed = make(num_epochs=2)
    twin = make(num_epochs=2)
    nnx.update(twin, nnx.state(make(num_epochs=2)))
    assert ids_of([twin.step()]) == ids[:1]


def test_workers_and_threads_read_batches_of_every_size(make_host_source: MakeSource) -> None:
    expected = ids_of(Pipeline(source=make_host_source(LENGTH, shuffle=True), batch_size=SCHEDULE, prefetch=0))
    options: list[dict[str, Any]] = [{"workers": 1}, {"threads": 3}]
    for option in options:
        pipeline = Pipeline(source=make_host_source(LENGTH, shuffle=True), batch_size=SCHEDULE, **option)
        assert ids_of(pipeline) == expected
        pipeline.close()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_streams_serve_by_a_schedule_too(streams: SimpleNamespace, prefetch: int) -> None:
    options: dict[str, Any] = {"batch_size": [[0, 3], [5, 4]], "prefetch": prefetch}
    sized = Pipeline(source=streams.Sized(10), num_epochs=2, **options)
    assert ids_of(sized) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9], [*range(100, 104)], [*range(104, 108)], [108, 109]]
    assert len(sized) == 5  # of the next run, from position 20 on
    padded = list(Pipeline(source=streams.Ending(8), pad_last="valid", **options))
    assert ids_of(padded) == [[0, 1, 2], [3, 4, 5], [6, 7, 7, 7]]
    assert padded[-1]["valid"].tolist() == [True, True, False, False]
    dropped = Pipeline(source=streams.Ending(8), drop_last=True, **options)
    assert ids_of(dropped) == [[0, 1, 2], [3, 4, 5]]
    assert "stream" in sized.get_state()
    resumed = Pipeline(source=streams.Sized(10), num_epochs=2, **options)
    sized.reset()
    loop = iter(sized)
    first = [next(loop) for _ in range(2)]
    resumed.set_state(sized.get_state())
    assert ids_of([*first, *resumed]) == ids_of([*first, *loop])


def written_and_stepped(pipeline: Pipeline, other: Pipeline) -> None:
    nnx.update(pipeline, nnx.state(other))
    pipeline.step()


class Offset:
    """A host stage."""

    on_host = True

    def element_spec(self, spec: Any) -> Any:
        return spec

    def __call__(self, batch: Any) -> Any:
        return {**batch, "id": batch["id"] + np.int32(1000)}


def test_host_stages_groups_and_graphs_take_every_size(make: Callable[..., Pipeline], make_source: MakeSource) -> None:
    plain = ids_of(make())
    assert ids_of(make(stages=[Offset(), double])) == [[i + 1000 for i in ids] for ids in plain]
    groups = make(stages=[Rebatch(2)], batch_size=[[0, 8], [30, 12]])
    assert [batch["id"].shape for batch in groups] == [(4, 2)] * 4 + [(6, 2)] * 5 + [(4, 2)]
    assert groups.element_spec()["id"].shape == (2,)
    graph = Pipeline.from_dag(
        source=make_source(LENGTH),
        nodes={"double": double},
        edges=[("source", "double")],
        sink="double",
        batch_size=SCHEDULE,
    )
    assert [len(batch["id"]) for batch in graph] == SIZES


def test_a_stage_that_cannot_take_a_later_size_is_refused_when_the_pipeline_is_built(
    make: Callable[..., Pipeline],
) -> None:
    with pytest.raises(
        SpecError, match=r"^Rebatch: field '\w+' has 5 rows, which groups of 4 do not divide"
    ) as refused:
        make(stages=[Rebatch(4)])
    assert "for batches of 5, one of the sizes 8, 12 from record 30 on, 5 from record 80 on" in str(
        refused.value.__notes__
    )


def test_what_has_one_shape_is_refused_by_name(make: Callable[..., Pipeline]) -> None:
    pipeline = make()
    with pytest.raises(SpecError, match=r"batches of several sizes \(8, 12 from .*\), and step\(\) in compiled code"):
        nnx.jit(lambda pipeline: pipeline.step())(pipeline)
    message = (
        r"^scan\(length=5\) from position 0 on has batches of 8 up to position 32, where its step 4 has 12 .*length=4,"
    )
    with pytest.raises(SpecError, match=message):
        pipeline.scan(double, length=5)
    assert pipeline.cursor.position == 0
    same_again = make(batch_size=[[0, 7], [30, 4], [34, 7]])  # a batch reaches over the stage between
    assert same_again.scan(lambda batch: batch["id"], length=9).shape == (9, 7)
    assert "Batches have 3 sizes; the step is compiled once for each" in make(stages=[double]).explain()
    assert "a scan() across a change of size" in pipeline.explain()


def test_each_size_is_compiled_once(make: Callable[..., Pipeline]) -> None:
    traced = []

    def noting(batch: Any) -> Any:
        traced.append(batch["id"].shape[0])
        return batch

    pipeline = make(stages=[noting], num_epochs=None)
    built = len(traced)
    for _ in range(20):
        pipeline.step()
    assert sorted(traced[built:]) == [5, 8, 12]


def test_reports_say_the_sizes(make: Callable[..., Pipeline]) -> None:
    pipeline = make(num_epochs=None)
    assert "batches of 8, 12 from record 30 on, 5 from record 80 on, endless" in repr(pipeline)
    assert pipeline.plan().splitlines()[:4] == [
        "batches without end (batches of 8, 12 from record 30 on, 5 from record 80 on, endless)",
        "  from position 0: 4 batches of 8",
        "  from position 32: 4 batches of 12",
        "  from position 80: batches without end of 5",
    ]
    for _ in range(9):
        pipeline.step()
    stats = pipeline.stats()
    assert (stats["batches"], stats["records"]) == (9, 85)
    assert pipeline.batch_sizes == ScheduledBatchSizes(SCHEDULE)
    assert pipeline.batch_sizes.position_of(9) == 85


def test_one_size_is_as_it_always_was(make: Callable[..., Pipeline]) -> None:
    number, schedule = make(batch_size=8), make(batch_size=[[0, 8], [50, 8]])
    assert schedule.get_state() == number.get_state()
    assert number.get_state()["fingerprint"]["batch_size"] == 8
    assert number.batch_sizes.constant == 8
    step = nnx.jit(lambda pipeline: pipeline.step())
    assert ids_of([step(schedule)]) == ids_of([number.step()])


# -- sizes that a source decides ----------------------------------------------------------------------------------------------


class Alternating(BatchSizes):
    """Batches of 4 and 6 in turn."""

    largest, distinct = 6, (4, 6)

    def at(self, position: int) -> int:
        return 6 if position % 10 else 4

    def batches_before(self, position: int) -> int:
        tens, rest = divmod(position, 10)
        return 2 * tens + (rest > 0) + (rest > 4)

    def position_of(self, step: int) -> int:
        return step // 2 * 10 + step % 2 * 4

    def fingerprint(self) -> str:
        return "4 and 6"


class Decides(DataSourceModule):
    """A source that decides the sizes of its batches."""

    batch_sizes = Alternating()

    def __len__(self) -> int:
        return 50

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def get_records(self, indices: Any) -> Any:
        return {"id": np.asarray(indices, np.int32)}


def test_a_source_may_decide_the_sizes(make_host_source: MakeSource) -> None:
    config = make_host_source(1).config
    pipeline = Pipeline(source=Decides(config), stages=[lambda batch: batch])
    assert ids_of(pipeline) == cut(list(range(50)), [4, 6] * 5)
    assert len(pipeline) == 10
    assert repr(pipeline).endswith("batches of 4, 6, 1 epoch)")
    assert pipeline.get_state()["fingerprint"]["batch_size"] == "4 and 6"
    pipeline.reset()
    assert [len(pipeline.step()["id"]) for _ in range(3)] == [4, 6, 4]
    pipeline.seek(step=5)
    assert ids_of([pipeline.step()]) == [[24, 25, 26, 27, 28, 29]]
    with pytest.raises(
        ValueError, match=r"^position=25 is in the middle of a batch: .* position=24 \(step=5\) or position=30"
    ):
        pipeline.seek(position=25)
    with pytest.raises(
        SpecError, match=r"^Decides decides the sizes of its batches, and step\(\) in compiled code has one"
    ):
        nnx.jit(lambda pipeline: pipeline.step())(pipeline)
    with pytest.raises(
        ValueError, match=r"^batch_size=8 is given, but Decides decides .* \(4, 6\); leave batch_size out"
    ):
        Pipeline(source=Decides(config), batch_size=8)
    with pytest.raises(
        ValueError, match=r"^batch_size is missing: HostRecords does not decide the sizes of its batches; give"
    ):
        Pipeline(source=make_host_source(10))
