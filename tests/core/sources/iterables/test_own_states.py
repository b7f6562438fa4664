"""Iterables that say where they stand: real ones of Grain and TensorFlow, and the protocols of Hugging Face and PyTorch."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
import pytest

from datarax_core import IterableSource, Pipeline, from_iterable
from datarax_core.errors import StateError
from datarax_core.sources.iterables.own_states import decoded, encoded

LENGTH = 30


def ids_of(batch: Any) -> list[int]:
    return np.asarray(batch["x"]).tolist()


class Counted:
    """Numbers; it notes how many were read."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read += 1
        return {"x": (7 * index) % LENGTH, "text": str(index)}


def of_grain(data: Any = None) -> Any:
    records = grain.MapDataset.source(data or Counted())
    return records.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))


class Loader:
    """A data set with ``state_dict`` as those of Hugging Face: a state that was loaded is the start of each later iterator."""

    def __init__(self, data: Any = None) -> None:
        self.data = data or Counted()
        self.place = self.start = 0

    def __iter__(self) -> Iterator[Any]:
        self.place = self.start
        while self.place < LENGTH:
            self.place += 1
            yield self.data[self.place - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "seen": (self.place, b"\x00\xff"), 3: np.arange(2)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["seen"] == (state["place"], b"\x00\xff")
        np.testing.assert_array_equal(state[3], np.arange(2))
        self.start = state["place"]


class Node:
    """An iterable whose iterator has ``state_dict``, as PyTorch's loaders of nodes."""

    def __init__(self, data: Any = None) -> None:
        self.data = data or Counted()

    def __iter__(self) -> "NodeIterator":
        return NodeIterator(self.data)


class NodeIterator(Iterator[Any]):
    def __init__(self, data: Any) -> None:
        self.data, self.place = data, 0

    def __next__(self) -> Any:
        if self.place == LENGTH:
            raise StopIteration
        self.place += 1
        return self.data[self.place - 1]

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


MAKES: dict[str, tuple[Callable[[], IterableSource], str]] = {
    "grain": (lambda: from_iterable(of_grain()), "get_state"),
    "grain, a length": (lambda: from_iterable(of_grain(), length=LENGTH), "get_state"),
    "grain, shuffled in a window": (
        lambda: from_iterable(grain.experimental.WindowShuffleIterDataset(of_grain(), window_size=7, seed=3)),
        "get_state",
    ),
    "grain, batches": (lambda: from_iterable(of_grain().batch(4), batched=True), "get_state"),
    "grain, not asked": (lambda: from_iterable(of_grain(), own_state=False), "replay"),
    "a data set": (lambda: from_iterable(Loader()), "state_dict"),
    "a function": (lambda: from_iterable(Loader), "state_dict"),
    "a node": (lambda: from_iterable(Node()), "state_dict"),
}


def require_exact_resuming(make: Callable[[], IterableSource], stops: tuple[int, ...] = (1, 4, 5, 6, 8)) -> None:
    """Assert that a pipeline stopped after some batches goes on at the very next record, in another process and its own."""

    def pipeline() -> Pipeline:
        return Pipeline(source=make(), batch_size=7, num_epochs=2)

    expected = [ids_of(batch) for batch in pipeline()]
    assert sorted(number for batch in expected for number in batch) == sorted(2 * list(range(LENGTH)))
    for stop in stops:
        stopped = pipeline()
        loop = iter(stopped)
        assert [ids_of(next(loop)) for _ in range(stop)] == expected[:stop]
        state = json.loads(json.dumps(stopped.get_state()))
        resumed = pipeline()
        resumed.set_state(state)
        assert [ids_of(batch) for batch in resumed] == expected[stop:]
        stopped.set_state(state)
        assert [ids_of(batch) for batch in stopped] == expected[stop:]
    source, twin = make(), make()
    elements = iter(source)
    for _ in range(9):
        next(elements)
    twin.set_state(json.loads(json.dumps(source.get_state())))
    assert [int(e["x"]) for e in twin] == [int(e["x"]) for e in elements]
    assert [int(e["x"]) for e in twin] == [int(e["x"]) for e in make()], "the next epoch begins at its beginning"


@pytest.mark.parametrize(("make", "by"), MAKES.values(), ids=MAKES)
def test_it_resumes_at_the_very_next_record(make: Callable[[], IterableSource], by: str) -> None:
    assert make().resumes_by == by
    require_exact_resuming(make)


@pytest.mark.parametrize("make", [of_grain, Loader, Node])
def test_elements_before_the_place_are_not_read_again(make: Callable[[Any], Any]) -> None:
    source = from_iterable(make(Counted()))
    source.get_batch(20)
    state = source.get_state()
    assert state["iterable"]["index"] == 20
    data = Counted()
    resumed = from_iterable(make(data))
    resumed.set_state(state)
    before = data.read
    assert ids_of(resumed.get_batch(3)) == ids_of(source.get_batch(3))
    assert data.read - before <= 4
    replayed = from_iterable(make(data), own_state=False)
    replayed.set_state(state)
    before = data.read
    assert ids_of(replayed.get_batch(3)) == ids_of(resumed.get_batch(3)) or data.read - before >= 20
    assert data.read - before >= 20


def test_two_readers_of_one_data_set_do_not_take_one_anothers_state() -> None:
    data = Loader()
    first, second = from_iterable(data, name="first"), None
    first.get_batch(4)
    second = first.copy()
    second.get_batch(11)
    state = first.get_state()
    resumed = from_iterable(Loader(), name="first")
    resumed.set_state(state)
    assert ids_of(resumed.get_batch(3)) == [(7 * index) % LENGTH for index in (4, 5, 6)]


def test_it_says_by_what_it_resumes() -> None:
    source = from_iterable(of_grain())
    note = Pipeline(source=source, batch_size=3).explain()
    assert "It resumes by the own state of its PrefetchIterDataset (get_state). The state is taken so often" in note
    assert "resumes by get_state" in repr(source)


class Buffered:
    """A data set of Hugging Face that shuffles in a buffer, as far as its state shows it."""

    class BufferShuffledExamplesIterable:
        ex_iterable = None

    def __init__(self) -> None:
        self._ex_iterable = self.BufferShuffledExamplesIterable()

    def __iter__(self) -> Iterator[Any]:
        return iter(Loader())

    def state_dict(self) -> dict[str, Any]:
        raise AssertionError("its state is not exact")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError(state)


def test_a_state_that_leaves_out_a_buffer_is_not_used() -> None:
    source = from_iterable(Buffered())
    assert source.resumes_by == "replay"
    assert "its state leaves out what is in the buffer of shuffle()" in source.resume_note
    require_exact_resuming(lambda: from_iterable(Buffered()), stops=(4,))


class Odd(Loader):
    """A data set whose state is no JSON."""

    def state_dict(self) -> dict[str, Any]:
        return {"lock": object()}


def test_a_state_that_is_no_json_is_refused() -> None:
    with pytest.raises(
        StateError,
        match="the state of an iterable holds an object of type object, which is not saved as JSON; with own_state",
    ):
        from_iterable(Odd()).get_batch(3)
    require_exact_resuming(lambda: from_iterable(Odd(), own_state=False), stops=(4,))


def test_states_of_other_libraries_are_json_and_back() -> None:
    state = {"a": [1, 2.5, None, True, "x"], "b": (b"\x00", {3: np.float32(2)}), "$c": np.arange(3), "d": {}}
    back = decoded(json.loads(json.dumps(encoded(state))))
    np.testing.assert_array_equal(back.pop("$c"), state.pop("$c"))
    assert back == state


def test_tensorflow_data_sets_resume_by_save_where_their_graph_has_a_state() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = pytest.importorskip("tensorflow")
    whole = tf.data.Dataset.range(LENGTH)
    shuffled = whole.shuffle(9, seed=3, reshuffle_each_iteration=False)
    named = tf.data.Dataset.zip({"x": shuffled, "text": shuffled.map(tf.strings.as_string)})
    require_exact_resuming(lambda: from_iterable(named), stops=(3, 6))
    require_exact_resuming(lambda: from_iterable(named.batch(4), batched=True), stops=(3,))
    source = from_iterable(named)
    assert source.resumes_by == "save"
    assert source.element_spec()["text"].dtype == object
    generated = tf.data.Dataset.from_generator(
        lambda: iter(range(LENGTH)), output_signature=tf.TensorSpec((), tf.int64)
    )
    named = tf.data.Dataset.zip({"x": generated})
    assert from_iterable(named).resumes_by == "replay"
    assert "since GeneratorDataset does not support checkpointing." in from_iterable(named).resume_note
    require_exact_resuming(lambda: from_iterable(named), stops=(3,))
