"""A cache of a host stage: each record is made once, bounded by bytes if asked, read by any number of threads."""

import gc
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.records import Ragged
from datarax_core.stages import Cache, Pad
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH, SIZE, EPOCHS = 30, 7, 3


@pytest.fixture(scope="module")
def given() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "importable")
        yield import_module("host_stages")
        sys.modules.pop("host_stages")


def memory() -> MemorySource:
    return MemorySource(MemorySourceConfig(shuffle=True), {"id": np.arange(LENGTH)}, rngs=nnx.Rngs(1))


class Counted:
    """A host stage that counts for each record how often it was called with it."""

    on_host = True

    def __init__(self, stage: Any) -> None:
        self.stage, self.calls = stage, Counter[int]()

    def element_spec(self, spec: Any) -> Any:
        return self.stage.element_spec(spec)

    def __call__(self, batch: Any) -> Any:
        self.calls.update(batch["id"].tolist())
        return self.stage(batch)


def pipeline(*stages: Any, **options: Any) -> Pipeline:
    return Pipeline(
        source=memory(),
        stages=stages,
        batch_size=SIZE,
        num_epochs=EPOCHS,
        rngs=nnx.Rngs(0),
        pad_last="valid",
        **options,
    )


def rows(one: Pipeline) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for batch in one:
        for name, column in batch.items():
            values = column.to_list() if isinstance(column, Ragged) else np.asarray(column).tolist()
            found.setdefault(name, []).extend(value.tolist() if hasattr(value, "tolist") else value for value in values)
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_each_record_is_made_once(given: Any, threads: int) -> None:
    counted = Counted(given.Tokens())
    cache = Cache(counted, LENGTH)
    cached = rows(pipeline(cache, given.Draws(), threads=threads))
    assert cached == rows(pipeline(given.Tokens(), given.Draws()))
    assert set(counted.calls) == set(range(LENGTH))
    if threads == 1:  # two threads may make a record at the same time
        assert set(counted.calls.values()) == {1}
    assert cache.num_known == LENGTH
    tokens = sum(index % 5 for index in range(LENGTH)) * 8
    texts = sum(len(f"record {index}") for index in range(LENGTH))
    assert cache.nbytes == tokens + texts + LENGTH * 8


def test_results_that_do_not_fit_are_made_again(given: Any) -> None:
    counted = Counted(given.Tokens())
    one = pipeline(Cache(counted, LENGTH, max_bytes=600), given.Draws())
    assert rows(one) == rows(pipeline(given.Tokens(), given.Draws()))
    cache = one.stages[0]
    assert 0 < cache.num_known < LENGTH
    assert cache.nbytes <= 600
    assert sorted(set(counted.calls.values())) == [1, EPOCHS]
    assert f"keeps {cache.num_known} of {LENGTH} records" in one.explain()
    assert "of host memory, of 600 at most" in one.explain()


def test_two_caches_and_a_stage_of_whole_batches(given: Any) -> None:
    first, second = Counted(given.Tokens()), Counted(Pad(field="tokens", length=6))
    stages = [Cache(first, LENGTH), Cache(second, LENGTH, max_bytes=900)]
    found = rows(pipeline(*stages, Pad(field="tokens", lengths=(8, 10))))
    assert found == rows(pipeline(given.Tokens(), Pad(field="tokens", length=6), Pad(field="tokens", lengths=(8, 10))))
    assert set(first.calls.values()) == {1}


def test_reset_and_copies_forget(given: Any) -> None:
    counted = Counted(given.Tokens())
    one = pipeline(Cache(counted, LENGTH))
    expected = rows(one)
    one.stages[0].reset()
    assert one.stages[0].num_known == 0
    again = rows(one)
    served = (
        [row for row, valid in zip(each["tokens"], each["valid"], strict=True) if valid] for each in (again, expected)
    )
    assert sorted(next(served)) == sorted(next(served))
    assert set(counted.calls.values()) == {2}
    twin = one.clone()
    assert (twin.stages[0].num_known, one.stages[0].num_known) == (0, LENGTH)
    assert pickle.loads(pickle.dumps(Cache(given.Tokens(), LENGTH))).num_known == 0  # noqa: S301 - our own


def test_a_cache_is_filled_by_many_threads(given: Any) -> None:
    cache = Cache(given.Tokens(), LENGTH, max_bytes=800)
    reader = pipeline(cache)._definition().reader
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, LENGTH, 9) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for indices, batch in zip(asked, pool.map(reader.fetch, asked), strict=True):
            assert batch["id"].tolist() == indices.tolist()
            assert batch["tokens"].lengths.tolist() == (indices % 5).tolist()
            assert batch["text"].tolist() == [f"record {index}" for index in indices]


def test_with_workers_this_process_keeps_the_results(given: Any) -> None:
    cache = Cache(given.Tokens(), LENGTH)
    one = pipeline(cache, given.Draws(), given.Dense(), workers=1)
    assert "Worker processes call the stages before Draws; this process calls Draws, Dense." in one.explain()
    found = rows(one)
    one.close()
    assert found == rows(pipeline(given.Tokens(), given.Draws(), given.Dense()))
    assert cache.num_known == LENGTH


def test_results_are_freed_with_the_pipeline(given: Any) -> None:
    one = pipeline(Cache(given.Tokens(), LENGTH), given.Dense())
    nnx.jit(lambda each: each.step())(one)  # which keeps the graph of the pipeline
    kept = ref(one.stages[0].host_table.store({}))
    assert one.stages[0].num_known == SIZE
    del one
    gc.collect()
    assert kept() is None
