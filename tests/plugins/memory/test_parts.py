"""Slices and splits of a memory source, and the source as a data set of Grain and PyTorch, also in other processes."""

import multiprocessing
from typing import Any

import grain
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_memory import MemorySource, MemorySourceConfig

N = 60
TEXTS = [{"id": i, "text": "t" * i} for i in range(N)]


def memory(data: Any = None, **config: Any) -> MemorySource:
    given = {"id": np.arange(N), "x": np.arange(2 * N).reshape(N, 2) * 0.5} if data is None else data
    return MemorySource(MemorySourceConfig(**config), given, rngs=nnx.Rngs(0), name="train")


def ids(source: Any, epochs: int = 2) -> list[int]:
    return [int(i) for batch in Pipeline(source=source, batch_size=4, num_epochs=epochs) for i in batch["id"]]


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("data", [None, TEXTS], ids=["columns", "elements"])
def test_parts_of_memory_are_disjoint_and_complete_in_every_epoch(data: Any, placement: str) -> None:
    parts = memory(data, shuffle=True, placement=placement).split(train=0.8, test=0.2, seed=2)
    train, test = ids(parts["train"]), ids(parts["test"])
    assert sorted(train[:48]) == sorted(train[48:])
    assert sorted(train[:48] + test[:12]) == list(range(N))
    one_by_one = [parts["test"][i]["id"] for i in range(12)]
    assert [e["id"] for e in parts["test"].__getitems__(range(12))] == one_by_one
    assert sorted(one_by_one) == sorted(test[:12])
    assert [e["id"] for e in memory(data, placement=placement)[-5:].__getitems__(range(5))] == list(range(55, 60))


def test_workers_share_the_records_of_a_part_and_no_others() -> None:
    workers = [memory(shuffle=True, num_workers=3, shard_id=k).split(train=0.8, test=0.2)["test"] for k in range(3)]
    served = [ids(worker, epochs=1) for worker in workers]
    assert [len(part) for part in served] == [4, 4, 4]
    whole = memory(shuffle=True).split(train=0.8, test=0.2)["test"]
    assert served == [ids(whole, epochs=1)[k::3] for k in range(3)]


def test_batches_kept_for_one_part_are_not_served_to_another() -> None:
    source = memory(placement="host", cache_size=50)
    first, second = source[:30], source[30:]
    for _ in range(2):
        assert (ids(first, 1), ids(second, 1)) == (list(range(30)), list(range(30, 60)))


@pytest.mark.parametrize("data", [None, TEXTS], ids=["columns", "elements"])
def test_memory_is_a_grain_source_as_it_is(data: Any) -> None:
    source = memory(data, shuffle=True)
    batches = list(grain.MapDataset.source(source).shuffle(0).batch(4))
    assert sorted(i for batch in batches for i in batch["id"].tolist()) == list(range(N))
    assert [int(e["id"]) for e in grain.MapDataset.source(source[::-1]).to_iter_dataset()] == list(range(N))[::-1]


def test_worker_processes_serve_the_same_records() -> None:
    source = memory(shuffle=True)
    part = source.split(train=0.8, test=0.2)["test"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for each in (source, part):
            served = pool.map(each.__getitems__, [[0, 1], [2, 3]])
            assert [int(e["id"]) for es in served for e in es] == [int(each[i]["id"]) for i in range(4)]
