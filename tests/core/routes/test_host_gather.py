"""Batches that NumPy gathers from columns on a CPU device: those of the compiled gather, whatever is done with them."""

import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax.sharding import SingleDeviceSharding

from datarax_core import EagerSourceBase, Order, Pipeline, StructuralConfig, Subset, columns_of
from datarax_core.routes import host_gather

RECORDS = 700
RNG = np.random.default_rng(0)
SHAPES = {
    "bool": RNG.integers(0, 2, (RECORDS, 5), np.uint8).astype(bool),
    "uint8": RNG.integers(0, 255, (RECORDS, 64, 64), np.uint8),
    "int16": RNG.integers(-(2**15), 2**15, (RECORDS, 3), np.int16),
    "int64": RNG.integers(0, 2**30, RECORDS, np.int64),
    "float16": RNG.normal(size=(RECORDS, 2, 0)).astype(np.float16),
    "float32": RNG.normal(size=(RECORDS, 700)).astype(np.float32),
    "bfloat16": RNG.normal(size=(RECORDS, 33)).astype(ml_dtypes.bfloat16),
    "complex64": (RNG.normal(size=RECORDS) + 1j).astype(np.complex64),
    "id": np.arange(RECORDS, dtype=np.int32),
    "text": np.array([f"record {number}" for number in range(RECORDS)], object),
}

SMALL = {"id": SHAPES["id"], **{f"field {number}": SHAPES["int16"] for number in range(20)}}


def eager(data: Any, *, shuffle: bool = False) -> EagerSourceBase:
    config = StructuralConfig(stochastic=shuffle, stream_name="shuffle" if shuffle else None)
    columns = columns_of(data, "the test's data")
    return EagerSourceBase(
        config, columns, order=Order(columns.length), shuffle=shuffle, placement="device", rngs=nnx.Rngs(0)
    )


def pipeline_of(data: Any = SHAPES, **options: Any) -> Pipeline:
    source = eager(data, shuffle=True)
    return Pipeline(source=source, rngs=nnx.Rngs(0), **{"stages": [], "batch_size": 64, "num_epochs": 2, **options})


def require_batches(batches: Any, data: Any = SHAPES) -> list[int]:
    """Require that each batch holds the rows of its ids; return the ids."""
    seen: list[int] = []
    for batch in batches:
        rows = np.asarray(batch["id"])
        seen += rows.tolist()
        assert set(batch) == set(data)
        for name, column in data.items():
            made = batch[name]
            if name == "text":
                assert list(made) == list(column[rows])
                continue
            assert isinstance(made, jax.Array)
            stored = jax.dtypes.canonicalize_dtype(column.dtype)
            assert made.dtype == stored
            assert np.array_equal(np.asarray(made), column[rows].astype(stored))
    return seen


def gatherer_of(loop: Iterator[Any]) -> Any:
    return loop._route._gatherer  # type: ignore[attr-defined]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_gather, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("prefetch", [1, 2, 7, "auto"])
def test_batches_are_those_of_the_compiled_gather(prefetch: Any, drop_last: bool) -> None:  # noqa: FBT001
    pipeline = pipeline_of(prefetch=prefetch, drop_last=drop_last)
    loop = iter(pipeline)
    assert gatherer_of(loop) is not None
    assert gatherer_of(loop)._beside is not None
    ids = require_batches(loop)
    compiled = [batch["id"] for batch in pipeline_of(prefetch=0, drop_last=drop_last)]
    assert ids == np.concatenate(compiled).tolist()
    assert sorted(ids[:RECORDS]) == list(range(RECORDS))


@pytest.mark.parametrize("batch_size", [1, 3, 64, 699, 700])
def test_small_records_and_odd_sizes(batch_size: int) -> None:
    data = {"id": SHAPES["id"], "int16": SHAPES["int16"]}
    pipeline = pipeline_of(data, batch_size=batch_size, num_epochs=1)
    assert sorted(require_batches(pipeline, data)) == list(range(RECORDS))


@pytest.mark.usefixtures("two_cores")
def test_batches_that_are_kept_stay_as_they_are() -> None:
    kept = list(pipeline_of(num_epochs=5))
    assert len(require_batches(kept)) == 5 * RECORDS


@pytest.mark.usefixtures("two_cores")
def test_donated_batches_and_programs_under_way_see_their_own_values() -> None:
    @functools.partial(jax.jit, donate_argnums=0)
    def doubled(batch: Any) -> Any:
        return {name: leaf + leaf for name, leaf in batch.items()}

    names = ["uint8", "float32", "id"]
    data = {name: SHAPES[name] for name in names}
    ids, made = [], []
    for batch in pipeline_of(data, num_epochs=3):
        ids.append(np.array(batch["id"]))
        made.append(doubled(batch))
    for rows, batch in zip(ids, made, strict=True):
        for name in names:
            assert np.array_equal(np.asarray(batch[name]), data[name][rows] + data[name][rows])


@pytest.mark.usefixtures("two_cores")
def test_nobody_can_write_to_a_batch() -> None:
    batch = next(iter(pipeline_of()))
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(batch["uint8"])[...] = 0


@pytest.mark.usefixtures("two_cores")
def test_a_step_a_new_order_and_a_new_position_between_batches() -> None:
    pipeline = pipeline_of(num_epochs=None)
    loop = iter(pipeline)
    ids = require_batches(next(loop) for _ in range(3))
    ids += np.asarray(pipeline.step()["id"]).tolist()
    ids += require_batches(next(loop) for _ in range(5))
    pure = [batch["id"] for _, batch in zip(range(9), pipeline_of(num_epochs=None, prefetch=0), strict=False)]
    assert ids == np.concatenate(pure).tolist()
    pipeline.source.set_random_order(False)
    assert require_batches([next(loop)]) == [number % RECORDS for number in range(9 * 64, 10 * 64)]
    state = pipeline.get_state()
    other = pipeline_of(num_epochs=None)
    other.source.set_random_order(False)
    other.set_state(state)
    assert require_batches([next(iter(other))]) == require_batches([next(loop)])


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_loses_no_batch(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = iter(pipeline_of())
    ids = require_batches(next(loop) for _ in range(2))
    beside = gatherer_of(loop)._beside
    finish, fails = beside.finish, [True]

    def interrupted(job: Any) -> None:
        if fails.pop() if fails else False:
            beside._worker.jobs.get_nowait() if not beside._worker.jobs.empty() else None
            raise error
        finish(job)

    monkeypatch.setattr(beside, "finish", interrupted)
    with pytest.raises(error):
        ids += require_batches(loop)
    position = loop._pipeline.cursor.position  # type: ignore[attr-defined]
    assert position % 64 == 0
    rest = require_batches(loop)
    whole = require_batches(pipeline_of())
    assert rest == whole[position:]
    assert ids == whole[: len(ids)]


@pytest.mark.usefixtures("two_cores")
def test_the_thread_ends_with_the_loop() -> None:
    def running() -> bool:
        return any(thread.name == "datarax-gather" for thread in threading.enumerate())

    def ended() -> bool:
        for _ in range(300):
            if not running():
                return True
            time.sleep(0.01)
        return False

    pipeline = pipeline_of(num_epochs=1)
    loop = iter(pipeline)
    next(loop)
    assert running()
    require_batches(loop)
    assert ended()
    loop = iter(pipeline)
    next(loop)
    loop.close()
    assert ended()
    loop = iter(pipeline)
    next(loop)
    del loop
    assert ended()


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("data", [SHAPES, SMALL])
def test_the_compiled_gather_is_chosen_where_it_is_much_quicker(
    monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]
) -> None:
    monkeypatch.setattr(host_gather, "_COMPARED_AFTER", -1.0)
    for quicker, is_slower in ((1e9, True), (0.0, False)):
        monkeypatch.setattr(host_gather, "_MUCH_QUICKER", quicker)
        monkeypatch.setattr(host_gather, "_found_slower", {})
        loop = iter(pipeline_of(data))
        ids = require_batches(loop, data)
        assert ids == require_batches(pipeline_of(data), data)
        assert set(host_gather._found_slower.values()) == {is_slower}


def test_batches_lie_where_they_lay() -> None:
    compiled, gathered = (next(iter(pipeline_of(prefetch=prefetch))) for prefetch in (0, 2))
    for name, leaf in compiled.items():
        if name == "text":
            continue
        mine = gathered[name]
        assert (mine.aval, mine.sharding, mine.committed) == (leaf.aval, leaf.sharding, leaf.committed)
    sharding = SingleDeviceSharding(jax.devices()[0])
    batch = next(iter(pipeline_of(sharding=sharding)))
    assert batch["uint8"].sharding == sharding
    assert batch["uint8"].committed


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch": 0},
        {"stages": [lambda batch: {**batch, "id": batch["id"] + jnp.int32(0)}]},
        {"pad_last": "valid"},
    ],
)
def test_compiled_code_makes_what_is_more_than_rows(options: dict[str, Any]) -> None:
    loop = iter(pipeline_of(**options))
    assert gatherer_of(loop) is None
    next(loop)


def test_subsets_are_gathered_by_the_rows_of_the_whole() -> None:
    whole = eager(SHAPES)
    part = Subset.of(whole, range(10, 610, 3), seed=1)
    loop = iter(Pipeline(source=part, stages=[], batch_size=64, rngs=nnx.Rngs(0)))
    assert gatherer_of(loop) is not None
    assert require_batches(loop) == part.parent_indices(np.arange(len(part))).tolist()


def test_wide_numbers_stay_wide_with_x64() -> None:
    data = {"id": np.arange(300, dtype=np.int64) + 2**40, "x": RNG.normal(size=300)}
    with jax.enable_x64(True):  # noqa: FBT003
        batches = list(pipeline_of(data, num_epochs=1))
        assert {batch["id"].dtype for batch in batches} == {np.dtype(np.int64)}
        assert {batch["x"].dtype for batch in batches} == {np.dtype(np.float64)}
        ids = np.concatenate([batch["id"] for batch in batches])
        assert np.array_equal(np.concatenate([batch["x"] for batch in batches]), data["x"][ids - 2**40])


def test_fields_are_in_the_order_of_compiled_batches() -> None:
    data = {"id": np.arange(8), "f": np.zeros((8, 2), np.float32), "b": np.zeros(8, np.int32)}
    orders = {tuple(batch) for prefetch in (0, 2) for batch in pipeline_of(data, batch_size=4, prefetch=prefetch)}
    assert orders == {("b", "f", "id")}
