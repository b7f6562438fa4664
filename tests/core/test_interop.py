"""Sources as data sets of Grain's and PyTorch's, and data sets of others as sources."""

import multiprocessing
import pickle
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import grain
import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, SequenceSource, SequenceSourceConfig, SpecError, StateError, from_sequence

MakeSource = Callable[..., Any]
PARENTS = ["make_source", "make_host_source", "make_device_source"]
Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - what people have, untyped


@pytest.fixture(params=[*PARENTS, "part", "sequence"])
def source(request: pytest.FixtureRequest) -> Any:
    """A source of 40 records, of each kind there is; none of them in sequence."""
    if request.param == "part":
        return request.getfixturevalue("make_source")(50, shuffle=True)[5:45]
    if request.param == "sequence":
        return from_sequence([{"id": i, "x": np.full(2, i, np.float32)} for i in range(40)], shuffle=True)
    return request.getfixturevalue(request.param)(40, shuffle=True)


def fields(elements: list[Any]) -> list[tuple[int, list[float]]]:
    return [(int(element["id"]), np.asarray(element["x"]).tolist()) for element in elements]


# -- sources in Grain ---------------------------------------------------------------------------------------------------


def test_a_source_is_a_grain_source_as_it_is(source: Any) -> None:
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
    """The samples of each batch, fetched as ``torch.utils.data._utils.fetch._MapDatasetFetcher`` does it."""
    sampler = list(range(len(dataset)))
    for start in range(0, len(dataset), batch_size):
        indices = sampler[start : start + batch_size]
        if hasattr(dataset, "__getitems__") and dataset.__getitems__:
            yield dataset.__getitems__(indices)
        else:
            yield [dataset[index] for index in indices]


def test_a_source_is_a_torch_data_set_as_it_is(source: Any) -> None:
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
        ([0.0], TypeError, r"^the records of HostRecords are named by a list of integers, not \[0\.0\]$"),
        ([True], TypeError, r"^the records of HostRecords are named by a list of integers, not \[True\]$"),
        (3, TypeError, r"^the records of HostRecords are named by a list of integers, not 3$"),
        (["a"], TypeError, r"^the records of HostRecords are named by a list of integers, not \['a'\]$"),
    ],
)
def test_a_list_that_names_no_records_is_refused(
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


# -- data sets as sources -----------------------------------------------------------------------------------------------


class Reads:
    """A data set that notes how it is read."""

    def __init__(self, elements: list[Any]) -> None:
        self.elements = elements
        self.calls: list[Any] = []

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, index: int) -> Any:
        self.calls.append(index)
        return self.elements[index]


class BatchReads(Reads):
    """The same with PyTorch's and Hugging Face's way to read a batch."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.calls.append(indices)
        return [self.elements[index] for index in indices]


class GrainReads(Reads):
    """The same with Grain's."""

    def _getitems(self, indices: list[int]) -> list[Any]:
        self.calls.append(indices)
        return [self.elements[index] for index in indices]


RECORDS = [{"id": i, "x": np.asarray([i, i], np.float32)} for i in range(20)]
DATASETS: dict[str, Callable[[], Any]] = {
    "a list": lambda: RECORDS,
    "a tuple": lambda: tuple(RECORDS),
    "a data set": lambda: Reads(RECORDS),
    "a data set read in batches": lambda: BatchReads(RECORDS),
    "Grain's": lambda: grain.MapDataset.source(RECORDS),
    "Grain's over a source read in batches": lambda: grain.MapDataset.source(GrainReads(RECORDS)).map(lambda e: e),
    "a source": lambda: from_sequence(RECORDS),
}
ROUTES = ["elements", "get_batch", "loop", "step", "traced step", "scan"]


def served(source: Any, route: str) -> list[int]:
    """The ids of two epochs of 20 records."""
    if route == "elements":
        return [int(element["id"]) for _ in range(2) for element in source]
    if route == "get_batch":
        return [int(i) for _ in range(10) for i in source.get_batch(4)["id"]]
    pipeline = Pipeline(source=source, batch_size=4, num_epochs=2)
    if route == "loop":
        return [int(i) for batch in pipeline for i in batch["id"]]
    if route == "scan":
        return pipeline.scan(lambda batch: batch["id"], length=10).ravel().tolist()
    step = nnx.jit(lambda pipeline: pipeline.step()["id"]) if route == "traced step" else lambda p: p.step()["id"]
    return [int(i) for _ in range(10) for i in step(pipeline)]


@pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS)
def test_a_data_set_is_a_source(make: Callable[[], Any]) -> None:
    source = from_sequence(make(), name="wrapped")
    assert (len(source), source.length, source.access, source.title) == (20, 20, "host", "SequenceSource 'wrapped'")
    assert source.element_spec() == {
        "id": jax.ShapeDtypeStruct((), np.int64),
        "x": jax.ShapeDtypeStruct((2,), np.float32),
    }
    batch = source.get_batch(3)
    assert (batch["id"].dtype, batch["id"].tolist(), batch["x"].tolist()) == (
        np.int64,
        [0, 1, 2],
        [[0, 0], [1, 1], [2, 2]],
    )
    assert fields(source.__getitems__([3, 1])) == fields([RECORDS[3], RECORDS[1]])
    assert served(source, "loop") == [*range(20)] * 2


@pytest.mark.parametrize("route", ROUTES)
def test_a_data_set_is_shuffled_by_its_seed_in_every_route(route: str) -> None:
    def ids(**given: Any) -> list[int]:
        return served(from_sequence(RECORDS, **given), route)

    shuffled = ids(shuffle=True, seed=3)
    assert sorted(shuffled[:20]) == sorted(shuffled[20:]) == list(range(20))
    assert shuffled[:20] != shuffled[20:]
    assert shuffled == served(from_sequence(RECORDS, shuffle=True, seed=3), "get_batch")
    assert shuffled != ids(shuffle=True, seed=4)
    assert ids() == [*range(20)] * 2


@pytest.mark.parametrize("kind", [BatchReads, GrainReads])
def test_a_batch_is_read_in_one_call_where_the_data_set_offers_it(kind: type[Reads]) -> None:
    data = kind(RECORDS)
    source = from_sequence(
        data if kind is BatchReads else grain.MapDataset.source(data).seed(0).shuffle().map(lambda e: e)
    )
    list(Pipeline(source=source, batch_size=8))
    assert [len(np.atleast_1d(call)) for call in data.calls if isinstance(call, list)] == [8, 8, 4]
    assert len(data.calls) == 4, "and the first record once, for what it looks like"


def test_a_private_name_of_another_class_is_not_called() -> None:
    data = GrainReads(RECORDS)
    from_sequence(data).get_batch(4)
    assert data.calls == [0, 0, 1, 2, 3]


def test_an_element_spec_spares_the_first_read_and_gives_numbers_their_dtypes() -> None:
    data = Reads([{"x": i, "y": [i, 0.5], "z": True, "t": "ab"} for i in range(4)])
    spec = {
        "x": jax.ShapeDtypeStruct((), np.uint8),
        "y": jax.ShapeDtypeStruct((2,), np.float32),
        "z": jax.ShapeDtypeStruct((), np.bool_),
        "t": jax.ShapeDtypeStruct((), np.dtype("<U4")),
    }
    source = from_sequence(data, element_spec=spec)
    assert Pipeline(source=source, batch_size=2).element_spec()["x"].dtype == np.uint8
    assert data.calls == []
    batch = source.get_batch(2)
    assert {name: str(column.dtype) for name, column in batch.items()} == {
        "x": "uint8", "y": "float32", "z": "bool", "t": "<U4"
    }  # fmt: skip
    assert (batch["y"].tolist(), batch["t"].tolist()) == ([[0.0, 0.5], [1.0, 0.5]], ["ab", "ab"])
    assert source.copy().element_spec() is spec


ELEMENTS: dict[str, tuple[list[Any], dict[str, str], Any]] = {
    "integers": ([1, 2, 3], {"record": "int64[]"}, [1, 2]),
    "floats, some whole": ([1.5, 2, 3.5], {"record": "float64[]"}, [1.5, 2.0]),
    "arrays": (list(np.eye(3, dtype=np.float32)), {"record": "float32[3]"}, [[1, 0, 0], [0, 1, 0]]),
    "jax arrays": ([jax.numpy.ones(2), jax.numpy.zeros(2)], {"record": "float32[2]"}, [[1, 1], [0, 0]]),
    "lists": ([[1, 2], [3, 4]], {"record": "int64[2]"}, [[1, 2], [3, 4]]),
    "tuples": ([(1, 2.0), (3, 4.0)], {"0": "int64[]", "1": "float64[]"}, ([1, 3], [2.0, 4.0])),
    "named tuples": ([Pair(1, 2), Pair(3, 4)], {"left": "int64[]", "right": "int64[]"}, Pair([1, 3], [2, 4])),
    "nested": (
        [{"a": {"b": 1, "c": (np.int8(2), True)}}] * 2,
        {"a.b": "int64[]", "a.c.0": "int8[]", "a.c.1": "bool[]"},
        {"a": {"b": [1, 1], "c": ([2, 2], [True, True])}},
    ),
    "text of any length": ([{"t": "a"}, {"t": "longer"}], {"t": "object[]"}, {"t": ["a", "longer"]}),
    "arrays of text": ([{"t": np.array(["a"])}, {"t": ["longer"]}], {"t": "object[1]"}, {"t": [["a"], ["longer"]]}),
    "bytes with zeros at the end": ([{"b": b"a\0"}, {"b": b""}], {"b": "object[]"}, {"b": [b"a\0", b""]}),
}


@pytest.mark.parametrize(("data", "spec", "batch"), ELEMENTS.values(), ids=ELEMENTS)
def test_elements_of_many_kinds_become_batches(data: list[Any], spec: dict[str, str], batch: Any) -> None:
    source = from_sequence(data)
    assert source.fingerprint()["element_spec"] == spec
    found = source.get_batch(2)
    assert jax.tree.map(np.ndarray.tolist, found) == batch
    assert jax.tree.all(jax.tree.map(lambda leaf: type(leaf) is not np.ndarray, jax.tree.map(np.ndarray.tolist, found)))
    assert type(found) is (np.ndarray if isinstance(batch, list) else type(batch))


def test_text_of_a_data_set_rides_beside_and_nested_fields_go_to_the_device() -> None:
    data = [{"text": "t" * i, "x": {"y": i}} for i in range(4)]
    batches = list(Pipeline(source=from_sequence(data), batch_size=2))
    assert [batch["text"].tolist() for batch in batches] == [["", "t"], ["tt", "ttt"]]
    assert isinstance(batches[1]["x"]["y"], jax.Array)
    assert batches[1]["x"]["y"].tolist() == [2, 3]


def test_a_data_set_resumes_and_its_copies_read_the_same_data() -> None:
    data = Reads(RECORDS)
    source = from_sequence(data, shuffle=True, name="train")
    list(Pipeline(source=source, batch_size=8))
    pipeline = Pipeline(source=source, batch_size=8)
    pipeline.step()
    twin = source.copy(name="twin")
    resumed = Pipeline(source=twin, batch_size=8)
    resumed.set_state(pipeline.get_state())
    assert [batch["id"].tolist() for batch in resumed] == [batch["id"].tolist() for batch in pipeline]
    assert (twin.data is data, source.clone().data is data) == (True, True)
    data.calls.clear()
    assert source.copy().element_spec() == source.element_spec()
    assert data.calls == [], "the first record is read once, for all copies together"
    with pytest.raises(StateError, match="length was 20 and is 19"):
        from_sequence(RECORDS[:19], shuffle=True).set_state(source.get_state())


def test_a_cacheable_data_set_is_read_once() -> None:
    data = Reads(RECORDS)
    source = SequenceSource(SequenceSourceConfig(cacheable=True), data)
    for route in ROUTES:
        served(source, route)
    assert sorted(data.calls) == [0, *range(20)]


def test_parts_of_a_data_set_are_parts() -> None:
    train, test = from_sequence(RECORDS, shuffle=True).split(train=0.8, test=0.2).values()
    assert sorted(served(train, "get_batch")[:16] + served(test, "get_batch")[:4]) == list(range(20))


# -- data sets that are none --------------------------------------------------------------------------------------------


def odd(element: Any, *, kind: type[Reads] = Reads) -> SequenceSource:
    """A source whose record 3 is ``element``; the others are numbers, arrays and text."""
    data = [{"n": i, "a": np.zeros(2, np.float32), "t": "x"} for i in range(5)]
    data[3] = element
    return from_sequence(kind(data), name="odd")


GOOD = {"n": 1, "a": np.zeros(2, np.float32), "t": "x"}
DIFFERENT: dict[str, tuple[Any, str]] = {
    "dtype": (GOOD | {"a": np.zeros(2)}, r"field 'a' is float64\[2\] where float32\[2\] is expected"),
    "shape": (GOOD | {"a": np.zeros(3, np.float32)}, r"field 'a' is float32\[3\] where float32\[2\] is expected"),
    "a fraction": (GOOD | {"n": 0.5}, r"field 'n' is float64\[\] \(0\.5\) where int64\[\] is expected"),
    "too large": (
        GOOD | {"n": 2**70},
        r"field 'n' is object\[\] \(1180591620717411303424\) where int64\[\] is expected",
    ),
    "text for a number": (GOOD | {"n": "1"}, r"field 'n' is object\[\] \('1'\) where int64\[\] is expected"),
    "a number for text": (GOOD | {"t": 5}, r"field 't' is int64\[\] \(5\) where object\[\] is expected"),
    "a typed number": (
        GOOD | {"n": np.int32(1)},
        r"field 'n' is int32\[\] \(np.int32\(1\)\) where int64\[\] is expected",
    ),
    "missing": ({"n": 1, "t": "x"}, r"field 'a' \(float32\[2\]\) is missing$"),
    "unexpected": (GOOD | {"m": 1}, r"field 'm' \(int64\[\]\) is not expected$"),
    "no dict": (7, r"field 'a' \(float32\[2\]\) is missing; .*field 'record' \(int64\[\]\) is not expected"),
}


@pytest.mark.parametrize("kind", [Reads, BatchReads])
@pytest.mark.parametrize(("element", "message"), DIFFERENT.values(), ids=DIFFERENT)
def test_an_element_that_differs_is_named_with_what_differs(element: Any, message: str, kind: type[Reads]) -> None:
    with pytest.raises(
        SpecError, match=r"^record 3 of SequenceSource 'odd' is not what the element spec says: .*" + message
    ):
        odd(element, kind=kind).get_batch(5)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (
        None,
        SpecError,
        r"^record 3 of SequenceSource 'odd' is None: the data set has no such record, as when Grain",
    ),
    "None in it": (
        GOOD | {"n": None},
        SpecError,
        r"^field 'n' of record 3 of SequenceSource 'odd' is None, which no arr",
    ),
    "ragged": (GOOD | {"a": [[1], [1, 2]]}, SpecError, r"^field 'a' of record 3 of SequenceSource 'odd' is no array: "),
    "masked": (
        GOOD | {"a": np.ma.array([1, 2])},
        TypeError,
        r"^field 'a' of record 3 of SequenceSource 'odd' is masked",
    ),
    "names": ({3: 1}, SpecError, r"^the fields of record 3 of SequenceSource 'odd' have names, which are text, not 3$"),
}


@pytest.mark.parametrize(("element", "kind", "message"), BAD.values(), ids=BAD)
def test_an_element_that_is_none_is_refused(element: Any, kind: type[Exception], message: str) -> None:
    source = odd(element)
    source.get_batch(3)
    with pytest.raises(kind, match=message):
        source.get_batch(2)


def test_a_declared_dtype_that_a_number_does_not_fit_is_an_error() -> None:
    for dtype, value in ((np.uint8, 300), (np.uint8, -1), (np.int8, 0.5), (np.float32, 1e300), ("<U2", "abc")):
        source = from_sequence([value], element_spec=jax.ShapeDtypeStruct((), np.dtype(dtype)))
        with pytest.raises(
            SpecError, match=r"^record 0 of SequenceSource .* field 'record' is \w+\[\] \(.*\) where .* is ex"
        ):
            source.get_batch(1)


def test_a_record_that_grain_filtered_out_is_refused_by_its_index() -> None:
    source = from_sequence(grain.MapDataset.range(10).filter(lambda i: i != 6), name="filtered")
    with pytest.raises(
        SpecError, match=r"^record 6 of SequenceSource 'filtered' is None: .*filter.* filter records before t"
    ):
        list(Pipeline(source=source, batch_size=5))
    with pytest.raises(SpecError, match=r"^record 0 of SequenceSource is None"):
        from_sequence(grain.MapDataset.range(4).filter(lambda i: i > 0)).element_spec()


def test_an_index_that_grain_would_wrap_is_refused() -> None:
    source = from_sequence(grain.MapDataset.range(10))
    for wrong in (10, -1):
        with pytest.raises(IndexError, match=rf"^record {wrong} is out of range: SequenceSource has 10 records$"):
            source.get_records(np.asarray([0, wrong]))


def test_a_data_set_without_an_end_is_refused_and_a_finite_part_of_one_is_not() -> None:
    endless = grain.MapDataset.range(10).seed(0).shuffle().repeat()
    for data in (endless, endless.map(lambda i: i), endless.batch(4), endless.batch(4).map(lambda batch: batch)):
        with pytest.raises(
            ValueError, match=r"^SequenceSource was given a \w+ without an end; leave out its repeat\(\): a p"
        ):
            from_sequence(data)
    source = from_sequence(endless.slice(slice(0, 25)))
    assert [int(i) for i in source.get_batch(25)] == [endless[i] for i in range(25)]
    assert len(from_sequence(grain.MapDataset.range(10).repeat(3))) == 30


NO_DATA_SETS: dict[str, tuple[Any, str]] = {
    "text": ("abc", "^SequenceSource 'x' was given a str; pass a list, or a data set that has len"),
    "a dict": ({"a": [1]}, "^SequenceSource 'x' was given a dict; pass"),
    "an iterator": (
        iter([1]),
        r"^SequenceSource 'x' was given a list_iterator, which has no len\(\) or no index; pass",
    ),
    "a stream": (grain.MapDataset.range(3).to_iter_dataset(), r"which has no len\(\) or no index; pass a list"),
    "a number": (3, r"^SequenceSource 'x' was given a int, which has no len\(\) or no index"),
}


@pytest.mark.parametrize(("data", "message"), NO_DATA_SETS.values(), ids=NO_DATA_SETS)
def test_what_is_no_data_set_is_refused(data: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        from_sequence(data, name="x")


def test_an_empty_data_set_is_refused_where_records_are_wanted() -> None:
    assert len(from_sequence([])) == 0
    with pytest.raises(
        ValueError, match=r"^SequenceSource is empty: it has no record that says what records look like$"
    ):
        from_sequence([]).element_spec()
    for nothing in ({}, (), {"a": {}}):
        with pytest.raises(
            SpecError, match=r"^record 0 of SequenceSource is empty, like .*; each needs a field at least$"
        ):
            from_sequence([nothing]).element_spec()


def test_mistakes_in_how_a_source_is_made_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^SequenceSource needs a SequenceSourceConfig, not "):
        SequenceSource({"shuffle": True}, [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shuffle=True draws random numbers, which stochastic=False forbids"):
        SequenceSourceConfig(shuffle=True, stochastic=False)
    with pytest.raises(
        TypeError, match=r"^the element_spec of SequenceSource has a jax.ShapeDtypeStruct for each field"
    ):
        from_sequence([1], element_spec={"x": np.int32})
    with pytest.raises(ValueError, match=r"^seed is at least 0, not -1$"):
        from_sequence([1], seed=-1)


class Breaks(Reads):
    """A data set of which record 7 cannot be read."""

    def __getitem__(self, index: int) -> Any:
        if index == 7:
            raise OSError("bad sector")
        return super().__getitem__(index)


class BreaksInBatches(Breaks):
    """The same, read in batches."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("make", [Breaks, BreaksInBatches, lambda data: grain.MapDataset.source(Breaks(data))])
def test_an_error_of_the_data_set_says_at_which_record(make: Callable[[Any], Any], prefetch: int) -> None:
    source = from_sequence(make(RECORDS), name="disk")
    with pytest.raises(OSError, match="bad sector") as caught:
        list(Pipeline(source=source, batch_size=4, prefetch=prefetch))
    assert [
        note for note in caught.value.__notes__ if "read record 7 of its" in note and "SequenceSource 'disk'" in note
    ]


def test_an_error_that_no_single_record_has_names_those_that_were_read() -> None:
    class Refuses(Reads):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            raise MemoryError(len(indices))

    with pytest.raises(MemoryError) as caught:
        from_sequence(Refuses(RECORDS)).get_batch(3)
    assert caught.value.__notes__ == ["while SequenceSource read one of the records [0, 1, 2] of its Refuses"]


@pytest.mark.parametrize("answer", [{"id": [0, 1, 2]}, [RECORDS[0]]])
def test_a_batch_that_is_no_list_of_as_many_elements_is_refused(answer: Any) -> None:
    class Wrong(Reads):
        def __getitems__(self, indices: list[int]) -> Any:
            del indices
            return answer

    with pytest.raises(
        SpecError, match=r"^SequenceSource asked its Wrong for 3 elements in one call and was given \w+ of 1; "
    ):
        from_sequence(Wrong(RECORDS)).get_batch(3)
