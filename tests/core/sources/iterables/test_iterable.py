"""Streams over functions and objects that are iterated: epochs, records, batches, resuming by replay, and live ones."""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import IterableSource, Pipeline, from_iterable
from datarax_core.errors import StateError
from datarax_core.records import Ragged


def documents(count: int = 23) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "id": number,
            "text": f"text {number}",
            "tokens": list(range(number % 4)),
            "x": np.full(2, number, np.float32),
        }


def by_epoch(epoch: int) -> Iterator[dict[str, Any]]:
    yield from ({"id": (number * 7 + epoch) % 23} for number in range(23))


def ids_of(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


def batches(size: int) -> Iterator[dict[str, Any]]:
    rows = list(documents())
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield {
            "id": np.asarray([row["id"] for row in part]),
            "text": [row["text"] for row in part],
            "tokens": [row["tokens"] for row in part],
            "x": np.stack([row["x"] for row in part]),
        }


def test_elements_are_records_as_from_sequence_reads_them() -> None:
    source = from_iterable(documents, name="docs")
    assert repr(source) == "IterableSource 'docs'(documents(): a stream)"
    spec = source.element_spec()
    assert spec["tokens"].shape == (None,)
    assert spec["text"].dtype == object
    batch = source.get_batch(5)
    assert batch["id"].tolist() == [0, 1, 2, 3, 4]
    assert batch["id"].dtype == np.int64
    assert batch["text"].tolist() == [f"text {number}" for number in range(5)]
    assert isinstance(batch["tokens"], Ragged)
    assert [row.tolist() for row in batch["tokens"].to_list()] == [[], [0], [0, 1], [0, 1, 2], []]
    np.testing.assert_array_equal(batch["x"], np.repeat(np.arange(5, dtype=np.float32)[:, None], 2, axis=1))
    assert repr(source) == "IterableSource 'docs'(documents(), resumes by replay: a stream)"
    pairs = from_iterable(lambda: ((number, np.ones(2)) for number in range(3))).get_batch(3)
    assert type(pairs) is tuple
    assert pairs[1].shape == (3, 2)
    assert from_iterable(lambda: range(4)).get_batch(4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 4, 23, 40])
def test_batches_are_cut_to_records(size: int) -> None:
    source = from_iterable(lambda: batches(size), batched=True)
    assert source.element_spec() == from_iterable(documents).element_spec()
    for found, expected in zip(source, from_iterable(documents), strict=True):
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in found)


class Tensor:
    """An array of another library, as PyTorch's loaders give them."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.shape = self._values.shape

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> "Tensor":
        return Tensor(self._values[index])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self._values, dtype)


def test_a_list_of_arrays_as_loaders_of_pytorch_give_it_is_a_batch_of_tuples() -> None:
    loader = [[Tensor(np.arange(start, start + 4)), Tensor(np.ones((4, 2), np.float32))] for start in (0, 4)]
    source = from_iterable(loader, batched=True)
    numbers, ones = source.get_batch(6)
    assert numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert ones.shape == (6, 2)


def test_an_epoch_is_made_anew() -> None:
    for make in (lambda: documents(5), list(documents(5)), by_epoch):
        pipeline = Pipeline(source=from_iterable(make), batch_size=4, num_epochs=2)
        served = [number for batch in pipeline for number in ids_of(batch)]
        count = len(served) // 2
        expected = [[element["id"] for element in (make(e) if make is by_epoch else documents(5))] for e in range(2)]
        assert [served[:count], served[count:]] == expected


class Shuffled:
    """Numbers whose order depends on the epoch that was set, as data sets of Hugging Face have it."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        return by_epoch(self.epoch)


def test_a_data_set_is_told_the_epoch() -> None:
    pipeline = Pipeline(source=from_iterable(Shuffled()), batch_size=23, num_epochs=3)
    assert [ids_of(batch) for batch in pipeline] == [[row["id"] for row in by_epoch(epoch)] for epoch in range(3)]


def test_with_a_length_batches_go_on_from_epoch_to_epoch() -> None:
    source = from_iterable(by_epoch, length=23)
    assert len(source) == 23
    assert len(Pipeline(source=source, batch_size=10, drop_last=True, num_epochs=2)) == 4
    served = [ids_of(batch) for batch in Pipeline(source=source, batch_size=10, num_epochs=2)]
    assert list(map(len, served)) == [10, 10, 10, 10, 6]
    assert list(chain.from_iterable(served)) == [row["id"] for epoch in range(2) for row in by_epoch(epoch)]
    assert len(source.copy()) == 23


MAKES: dict[str, Callable[[], IterableSource]] = {
    "records": lambda: from_iterable(by_epoch),
    "a length": lambda: from_iterable(by_epoch, length=23),
    "a list": lambda: from_iterable(list(documents())),
    "batches": lambda: from_iterable(lambda: batches(5), batched=True),
    "batches and a length": lambda: from_iterable(lambda: batches(5), batched=True, length=23),
}


@given(made=st.sampled_from(list(MAKES)), stop=st.integers(0, 8), size=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_a_pipeline_resumes_at_the_very_next_record(made: str, stop: int, size: int) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=MAKES[made](), batch_size=size, num_epochs=3)

    expected = [ids_of(batch) for batch in pipeline()]
    stopped = pipeline()
    loop = iter(stopped)
    stop = min(stop, len(expected) - 1)
    assert [ids_of(next(loop)) for _ in range(stop)] == expected[:stop]
    state = json.loads(json.dumps(stopped.get_state()))
    resumed = pipeline()
    resumed.set_state(state)
    assert [ids_of(batch) for batch in resumed] == expected[stop:]
    stopped.set_state(state)
    assert [ids_of(batch) for batch in stopped] == expected[stop:]


@pytest.mark.parametrize("made", MAKES)
def test_copies_and_pickles_go_on_at_the_same_record(made: str) -> None:
    source = MAKES[made]()
    source.get_batch(7)
    twin = copy.deepcopy(source)
    assert ids_of(twin.get_batch(5)) == ids_of(source.get_batch(5))
    loaded = pickle.loads(pickle.dumps(from_iterable(by_epoch)))  # noqa: S301 - of this test
    assert ids_of(loaded.get_batch(3)) == ids_of(from_iterable(by_epoch).get_batch(3))


def test_a_state_of_other_elements_is_refused() -> None:
    state = from_iterable(documents).get_state()
    with pytest.raises(StateError, match=r"iterable"):
        from_iterable(lambda: ({**row, "id": row["id"] + 1} for row in documents())).set_state(state)
    with pytest.raises(StateError, match=r"'iterable' is a dict of \['index', 'kind', 'state'\], not 3"):
        from_iterable(documents).set_state({**state, "iterable": 3})


def test_it_says_how_it_resumes_and_at_what_cost() -> None:
    source = from_iterable(documents)
    assert source.resumes_by == "replay"
    words = "It resumes by replay: all elements of the epoch before the place are read again and left out, since a gen"
    assert words in source.resume_note
    assert words in source.plan()
    assert words in Pipeline(source=source, batch_size=3).explain()


def test_a_live_stream_is_read_once_and_nothing_of_it_is_lost() -> None:
    numbers, spec = documents(20), from_iterable(documents).element_spec()
    source = from_iterable(numbers, is_live=True, element_spec=spec)
    assert source.resumes_by == "nothing"
    pipeline = Pipeline(source=source, batch_size=4)
    loop = iter(pipeline)
    assert ids_of(next(loop)) == [0, 1, 2, 3]
    assert ids_of(next(iter(pipeline))) == [4, 5, 6, 7]
    assert next(numbers)["id"] == 8, "nothing is read ahead"
    assert [ids_of(batch) for batch in pipeline] == [[9, 10, 11, 12], [13, 14, 15, 16], [17, 18, 19]]
    with pytest.raises(StateError, match="is live"):
        source.get_state()
    parts = from_iterable(batches(5), is_live=True, batched=True)
    assert [number for batch in Pipeline(source=parts, batch_size=4) for number in ids_of(batch)] == list(range(23))


def test_a_spec_that_is_given_leaves_the_first_elements_unread() -> None:
    opened = []

    def counted() -> Iterator[Any]:
        opened.append(0)
        yield {"id": np.int32(5)}

    source = from_iterable(counted, element_spec={"id": jax.ShapeDtypeStruct((), np.int32)})
    assert not opened
    assert ids_of(source.get_batch(1)) == [5]
    assert len(opened) == 1


def rewritten(kind: str, rows: int = 0) -> Iterator[Any]:
    """Yield elements, or batches of rows, of the same array, record or list; or of two arrays in turn."""
    shape = (rows, 2) if rows else (2,)
    record: dict[str, Any] = {"x": np.zeros(shape, np.float32)}
    arrays = [np.zeros(shape, np.float32), np.zeros(shape, np.float32)]
    for number in range(20):
        if kind == "array":
            record["x"][:] = number
            yield {"x": record["x"][:]}  # another view of the same memory
        elif kind == "two":
            arrays[number % 2][:] = number
            yield {"x": arrays[number % 2]}
        else:
            record["x"] = np.full(shape, number, np.float32)
            yield record


@pytest.mark.parametrize("is_spec_given", [False, True])
@pytest.mark.parametrize("rows", [0, 3, 16])
@pytest.mark.parametrize("kind", ["array", "two", "record"])
def test_iterables_may_write_into_the_element_before(kind: str, rows: int, *, is_spec_given: bool) -> None:
    spec = {"x": jax.ShapeDtypeStruct((2,), np.float32)} if is_spec_given else None
    source = from_iterable(lambda: rewritten(kind, rows), batched=bool(rows), element_spec=spec)
    expected = np.repeat(np.arange(20), max(1, rows))
    for size in (1, 7, 16):
        pipeline = Pipeline(source=source.clone(), batch_size=size, prefetch=3)
        assert np.array_equal(np.concatenate([batch["x"] for batch in pipeline])[:, 1], expected)
    assert (
        source.fingerprint()
        == from_iterable(
            lambda: ({"x": np.array(element["x"])} for element in rewritten(kind, rows)),
            batched=bool(rows),
            element_spec=spec,
        ).fingerprint()
    )
