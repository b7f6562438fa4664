"""Sources as data sets of Grain and PyTorch, without an adapter."""

import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import grain
import numpy as np
import pytest
from flax import nnx

from datarax_core import SequenceSourceConfig, from_sequence

MakeSource = Callable[..., Any]
PARENTS = ["make_source", "make_host_source", "make_device_source"]


@pytest.fixture(params=[*PARENTS, "part", "sequence"])
def source(request: pytest.FixtureRequest) -> Any:
    """A shuffled source of 40 records, of each class of sources."""
    if request.param == "part":
        return request.getfixturevalue("make_source")(50, shuffle=True)[5:45]
    if request.param == "sequence":
        return from_sequence([{"id": i, "x": np.full(2, i, np.float32)} for i in range(40)], shuffle=True)
    return request.getfixturevalue(request.param)(40, shuffle=True)


def fields(elements: list[Any]) -> list[tuple[int, list[float]]]:
    return [(int(element["id"]), np.asarray(element["x"]).tolist()) for element in elements]


# -- sources in Grain ---------------------------------------------------------------------------------------------------


def test_a_source_is_a_grain_source_without_an_adapter(source: Any) -> None:
    wanted = fields([source[i] for i in range(40)])
    dataset = grain.MapDataset.source(source)
    assert len(dataset) == 40
    assert fields([dataset[i] for i in range(40)]) == wanted
    assert fields(dataset._getitems([3, 41, 3])) == [wanted[3], wanted[1], wanted[3]], (
        "Grain takes indices modulo length"
    )
    assert fields(list(dataset.to_iter_dataset())) == wanted
    shuffled = dataset.shuffle(0)
    batches = list(shuffled.batch(4))
    assert [batch["id"].tolist() for batch in batches] == [
        [int(shuffled[i]["id"]) for i in range(start, start + 4)] for start in range(0, 40, 4)
    ]
    assert sorted(i for batch in batches for i in batch["id"].tolist()) == sorted(index for index, _ in wanted)
    assert batches[0]["x"].shape == (4, 2)


def test_grain_reads_many_elements_of_a_source_in_one_fetch(make_host_source: MakeSource) -> None:
    source = make_host_source(40)
    grain.MapDataset.source(source).seed(0).shuffle().map(lambda element: element)._getitems(list(range(16)))
    assert [len(call) for call in source.reads.calls] == [16]


# -- sources in PyTorch -------------------------------------------------------------------------------------------------


def torch_batches(dataset: Any, batch_size: int) -> Iterator[list[Any]]:
    """Yield the samples of each batch, fetched as ``torch.utils.data._utils.fetch._MapDatasetFetcher`` does."""
    sampler = list(range(len(dataset)))
    for start in range(0, len(dataset), batch_size):
        indices = sampler[start : start + batch_size]
        if hasattr(dataset, "__getitems__") and dataset.__getitems__:
            yield dataset.__getitems__(indices)
        else:
            yield [dataset[index] for index in indices]


def test_a_source_is_a_torch_data_set_without_an_adapter(source: Any) -> None:
    wanted = fields([source[i] for i in range(40)])
    served = list(torch_batches(source, 16))
    assert [len(samples) for samples in served] == [16, 16, 8]
    assert all(isinstance(samples, list) for samples in served)
    assert fields([sample for samples in served for sample in samples]) == wanted
    for samples in served:
        for sample in samples:
            sample["x"] += 1  # torch.as_tensor warns of an array that cannot be written to
    assert fields([source[i] for i in range(40)]) == wanted, "what is served is the reader's own"


def test_a_list_of_indices_is_read_in_one_fetch(make_host_source: MakeSource) -> None:
    source = make_host_source(40)
    assert [int(e["id"]) for e in source.__getitems__([5, -1, 5, np.int64(0)])] == [5, 39, 5, 0]
    assert source.reads.calls == [[5, 39, 5, 0]]
    assert source.__getitems__([]) == []
    assert source.__getitems__(range(2))[1]["id"] == 1


@pytest.mark.parametrize(
    ("indices", "kind", "message"),
    [
        ([0, 40], IndexError, r"^record 40 is out of range: HostRecords has 40 records$"),
        ([-41], IndexError, r"^record -41 is out of range: HostRecords has 40 records$"),
        ([0.0], TypeError, r"^the records of HostRecords are indexed by a list of integers, not \[0\.0\]$"),
        ([True], TypeError, r"^the records of HostRecords are indexed by a list of integers, not \[True\]$"),
        (3, TypeError, r"^the records of HostRecords are indexed by a list of integers, not 3$"),
        (["a"], TypeError, r"^the records of HostRecords are indexed by a list of integers, not \['a'\]$"),
    ],
)
def test_a_list_of_other_values_than_record_indices_is_refused(
    make_host_source: MakeSource, indices: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make_host_source(40).__getitems__(indices)


def test_a_pickled_source_serves_the_same(source: Any) -> None:
    source.get_batch(7)
    twin = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    assert fields(twin.__getitems__(range(40))) == fields(source.__getitems__(range(40)))
    assert twin.get_batch(9)["id"].tolist() == source.get_batch(9)["id"].tolist()


THIRD_PARTY = """
    import jax
    import numpy as np

    from datarax_core import DataSourceModule


    class Squares(DataSourceModule):
        def __len__(self):
            return 20

        def element_spec(self):
            return {"square": jax.ShapeDtypeStruct((), np.int32)}

        def get_records(self, indices):
            return {"square": (indices * indices).astype(np.int32)}
"""


def test_a_worker_process_serves_a_third_partys_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squares.py").write_text(dedent(THIRD_PARTY))
    monkeypatch.syspath_prepend(tmp_path)
    squares = __import__("squares")
    monkeypatch.setitem(sys.modules, "squares", squares)
    source = squares.Squares(SequenceSourceConfig(shuffle=True), rngs=nnx.Rngs(0))
    train = source.split(train=0.5)["train"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for each in (source, train):
            assert pool.apply(each.__getitems__, ([1, 2, 3],)) == each.__getitems__([1, 2, 3])
