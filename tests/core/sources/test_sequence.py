"""Other libraries' data sets as sources: lists, Grain's ``MapDataset``, data sets of PyTorch and Hugging Face."""

from collections import namedtuple
from collections.abc import Callable
from typing import Any, ClassVar

import grain
import jax
import numpy as np
import pytest
from flax import nnx
from recorded_reads import BatchReads, Reads

from datarax_core import Pipeline, SequenceSource, SequenceSourceConfig, StateError, from_sequence

Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - what people have, untyped


def fields(elements: list[Any]) -> list[tuple[int, list[float]]]:
    return [(int(element["id"]), np.asarray(element["x"]).tolist()) for element in elements]


class GrainReads(Reads):
    """A data set that reads a batch by the method of Grain."""

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
    """Return the ids of two epochs of 20 records."""
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
def test_a_batch_is_read_in_one_call_if_the_data_set_supports_it(kind: type[Reads]) -> None:
    data = kind(RECORDS)
    source = from_sequence(
        data if kind is BatchReads else grain.MapDataset.source(data).seed(0).shuffle().map(lambda e: e)
    )
    list(Pipeline(source=source, batch_size=8, threads=1))
    assert [len(np.atleast_1d(call)) for call in data.calls if isinstance(call, list)] == [1, 7, 8, 8, 4]
    assert len(data.calls) == 5, "and the first records once, for what they look like"


def test_a_private_name_of_another_class_is_not_called() -> None:
    data = GrainReads(RECORDS)
    from_sequence(data).get_batch(4)
    assert data.calls == [*range(8), 0, 1, 2, 3]


def test_an_element_spec_saves_the_first_read_and_sets_the_dtypes_of_numbers() -> None:
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
def test_elements_of_many_types_become_batches(data: list[Any], spec: dict[str, str], batch: Any) -> None:
    source = from_sequence(data)
    assert source.fingerprint()["element_spec"] == spec
    found = source.get_batch(2)
    assert jax.tree.map(np.ndarray.tolist, found) == batch
    assert jax.tree.all(jax.tree.map(lambda leaf: type(leaf) is not np.ndarray, jax.tree.map(np.ndarray.tolist, found)))
    assert type(found) is (np.ndarray if isinstance(batch, list) else type(batch))


def test_text_of_a_data_set_is_a_host_field_and_nested_fields_go_to_the_device() -> None:
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
    assert sorted(data.calls) == sorted([*range(8), *range(20)]), "the first records once more, for what they look like"


def test_a_data_set_can_be_split_and_sliced() -> None:
    train, test = from_sequence(RECORDS, shuffle=True).split(train=0.8, test=0.2).values()
    assert sorted(served(train, "get_batch")[:16] + served(test, "get_batch")[:4]) == list(range(20))


@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("spec", [None, {"x": jax.ShapeDtypeStruct((2,), np.int64)}])
def test_elements_that_are_written_into_one_array_are_copied(buffers: int, spec: Any) -> None:
    class Scratch:
        arrays: ClassVar = [np.zeros(2, np.int64) for _ in range(buffers)]

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> dict[str, np.ndarray]:
            array = self.arrays[index % buffers]
            array[:] = index
            return {"x": array}

    source = from_sequence(Scratch(), element_spec=spec)
    for rows in ([3, 1, 2, 9, 5, 4], [7, 8], list(range(40)), [6], [30, 31, 33]):
        assert source.fetch(np.asarray(rows))["x"].tolist() == [[row, row] for row in rows]
