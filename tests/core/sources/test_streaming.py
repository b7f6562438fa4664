"""Streams: batches, elements and a pipeline serve one order, and resuming is exact."""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Order, Pipeline, SpecError, StateError, StreamingSourceBase, StructuralConfig


class Opened:
    """The places at which readers were opened, and the number of readers that were closed."""

    def __init__(self) -> None:
        self.at: list[tuple[int, int]] = []
        self.closed = 0
        self.fails_at: int | None = None


class Numbers(StreamingSourceBase):
    """A stream of unknown length: record r of epoch e is 100 * e + r, where r is shuffled if ``shuffle`` is set."""

    def __init__(self, records: int = 10, *, shuffle: bool = False, seed: int = 0, name: str | None = None) -> None:
        config = StructuralConfig(stochastic=shuffle, stream_name="shuffle" if shuffle else None)
        super().__init__(config, rngs=nnx.Rngs(seed), name=name)
        self.records = records
        self._opened = Opened()

    @property
    def opened(self) -> Opened:
        return self._opened

    def constructor_data(self) -> tuple[Any, ...]:
        return ()

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int64), "text": jax.ShapeDtypeStruct((), np.dtype("<U6"))}

    def ids(self, epoch: int) -> list[int]:
        if self.order_key_data() is None:
            return list(range(self.records))
        return list(Order(self.records).record_indices(epoch * self.records, self.records, self.order_key_data()))

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        self._opened.at.append((epoch, start))
        try:
            for number in self.ids(epoch)[start:]:
                if number == self._opened.fails_at:
                    raise OSError("the line is dead")
                yield {"id": np.int64(100 * epoch + number), "text": f"t{number}"}
        finally:
            self._opened.closed += 1


class Sized(Numbers):
    """The same stream with a known length."""

    def __len__(self) -> int:
        return self.records


class Chunks(Sized):
    """The same stream, read three records at a time."""

    def batches_from(self, epoch: int, start: int) -> Iterator[Any]:
        ids = self.ids(epoch)
        for begin in range(start, len(ids), 3):
            part = np.array(ids[begin : begin + 3])
            yield {"id": 100 * epoch + part, "text": np.array([f"t{i}" for i in part], "<U6")}


def ids(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


def elements(source: Any) -> list[int]:
    return [int(element["id"]) for element in source]


# -- batches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Sized, Chunks])
def test_a_batch_that_crosses_an_epoch_is_completed_from_the_next(kind: type[Numbers]) -> None:
    source = kind(5)
    assert [ids(source.get_batch(4)) for _ in range(3)] == [[0, 1, 2, 3], [4, 100, 101, 102], [103, 104, 200, 201]]
    assert ids(source.get_batch(12)) == [202, 203, 204, *range(300, 305), *range(400, 404)]
    assert (source.epoch, source.index, source.length) == (4, 4, 5)


def test_an_epoch_of_unknown_length_ends_with_the_records_that_are_left() -> None:
    source = Numbers(5)
    assert [ids(source.get_batch(3)) for _ in range(2)] == [[0, 1, 2], [3, 4]]
    for _ in range(2):
        with pytest.raises(StopIteration):
            source.get_batch(3)
    assert (source.epoch, source.index, source.length) == (0, 5, None)
    assert elements(source) == [100, 101, 102, 103, 104]
    source.reset()
    assert ids(source.get_batch(5)) == [0, 1, 2, 3, 4]
    with pytest.raises(StopIteration):
        source.get_batch(1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([Sized, Chunks]),
    records=st.integers(1, 12),
    shuffle=st.booleans(),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    stop=st.integers(0, 8),
)
def test_records_do_not_depend_on_batch_sizes_or_on_where_the_stream_was_stopped(
    kind: type[Numbers],
    records: int,
    shuffle: bool,  # noqa: FBT001 - hypothesis passes it by name
    sizes: list[int],
    stop: int,
) -> None:
    source, whole = kind(records, shuffle=shuffle), kind(records, shuffle=shuffle)
    served = []
    for number, size in enumerate(sizes):
        if number == stop:
            state = json.loads(json.dumps(source.get_state()))
            source = kind(records, shuffle=shuffle, seed=0)
            source.set_state(state)
        served += ids(source.get_batch(size))
    assert served == ids(whole.get_batch(sum(sizes)))
    expected = [100 * epoch + i for epoch in range(source.epoch + 1) for i in whole.ids(epoch)]
    assert served == expected[: sum(sizes)]


def test_a_batch_matches_its_element_spec() -> None:
    batch = Sized(12).get_batch(11)
    assert {name: str(column.dtype) for name, column in batch.items()} == {"id": "int64", "text": "<U6"}
    assert batch["text"].tolist() == [f"t{i}" for i in range(11)]


def test_a_reader_is_used_on_and_closed_when_it_is_replaced() -> None:
    source = Sized(10)
    for size in (3, 2, 4):
        source.get_batch(size)
    assert source.opened.at == [(0, 0)]
    source.reset()
    assert source.opened.closed == 1
    source.get_batch(2)
    assert source.opened.at == [(0, 0), (0, 0)]


def test_an_order_that_changes_holds_from_the_next_record_on() -> None:
    source = Sized(10, shuffle=True)
    first = ids(source.get_batch(4))
    source.set_random_order(False)
    assert ids(source.get_batch(6)) == [4, 5, 6, 7, 8, 9]
    source.reset(seed=0)
    source.set_random_order(True)
    assert ids(source.get_batch(4)) == first
    source.reset(seed=1)
    assert ids(source.get_batch(4)) != first


# -- elements -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Numbers, Sized, Chunks])
def test_each_loop_is_one_epoch_and_the_first_starts_at_the_place_of_the_source(kind: type[Numbers]) -> None:
    source = kind(5)
    source.get_batch(2)
    assert elements(source) == [2, 3, 4]
    assert elements(source) == [100, 101, 102, 103, 104]
    assert elements(islice(source, 2)) == [200, 201]
    assert elements(source) == [300, 301, 302, 303, 304]


@pytest.mark.parametrize("kind", [Numbers, Sized, Chunks])
def test_the_rest_of_a_loop_is_resumed(kind: type[Numbers]) -> None:
    source = kind(5)
    loop = iter(source)
    taken = [next(loop)["id"], next(loop)["id"]]
    state = json.loads(json.dumps(source.get_state()))
    twin = kind(5)
    twin.set_state(state)
    assert [*taken, *elements(twin)] == [0, 1, 2, 3, 4]
    over = json.loads(json.dumps(twin.get_state()))
    again = kind(5)
    again.set_state(over)
    assert elements(again) == [100, 101, 102, 103, 104]
    assert elements(loop) == [2, 3, 4]


@pytest.mark.parametrize("kind", [Numbers, Sized])
def test_elements_and_batches_are_of_one_order(kind: type[Numbers]) -> None:
    source, twin = kind(7, shuffle=True), kind(7, shuffle=True)
    assert elements(source) == ids(twin.get_batch(7)) != sorted(elements(kind(7)))


def test_a_loop_is_over_once_another_begins() -> None:
    source = Sized(5)
    old = iter(source)
    next(old)
    iter(source)
    with pytest.raises(RuntimeError, match="this loop is over: Sized was iterated anew"):
        next(old)


def test_a_clone_and_a_pickle_start_at_the_place_of_the_source_and_are_independent() -> None:
    source = Sized(10, shuffle=True)
    source.get_batch(3)
    twins = [source.clone(), pickle.loads(pickle.dumps(source))]  # noqa: S301 - our own
    rest = ids(source.get_batch(7))
    assert [ids(twin.get_batch(7)) for twin in twins] == [rest, rest]


# -- in a pipeline ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Numbers, Sized, Chunks])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_pipeline_serves_the_stream_and_resumes_it(kind: type[Numbers], prefetch: int) -> None:
    pipeline = Pipeline(source=kind(10), batch_size=4, prefetch=prefetch)
    batches = iter(pipeline)
    served = [ids(next(batches)), ids(next(batches))]
    state = json.loads(json.dumps(pipeline.get_state()))
    other = Pipeline(source=kind(10), batch_size=4, prefetch=prefetch)
    other.set_state(state)
    assert [*served, *map(ids, other)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    batches.close()


# -- mistakes -----------------------------------------------------------------------------------------------------------


def test_a_method_that_the_author_forgot_is_named() -> None:
    class Bare(StreamingSourceBase):
        def element_spec(self) -> Any:
            return {"x": jax.ShapeDtypeStruct((), np.int64)}

    with pytest.raises(
        NotImplementedError, match=r"Bare does not define records_from\(\); yield the records of an epoch"
    ):
        Bare(StructuralConfig()).get_batch(1)


class Given(StreamingSourceBase):
    """A stream of the given records."""

    def __init__(self, *records: Any) -> None:
        super().__init__(StructuralConfig(), name="mine")
        self._records = _Held(records)

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int64), "y": jax.ShapeDtypeStruct((2,), np.float32)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - the signature of the protocol
        return iter(self._records.records[start:])


class _Held:
    def __init__(self, records: Any) -> None:
        self.records = records


FINE = {"x": np.int64(1), "y": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"x": 1},
            r"element 1 of Given 'mine' does not have the fields \['x', 'y'\] that element_spec\(\) says: {'x': 1}",
        ),
        (3, r"element 1 of Given 'mine' does not have the fields \['x', 'y'\]"),
        (
            FINE | {"y": np.zeros(3, np.float32)},
            r"field 'y' of element 1 of Given 'mine' has shape \[3\] where element 0 has",
        ),
        (FINE | {"x": "a"}, "field 'x' of element 1 of Given 'mine' is text where element 0 is int64"),
        (
            FINE | {"x": 1.5},
            r"Given 'mine' gave a batch that its element_spec\(\) does not describe: field 'x' is float64",
        ),
    ],
)
def test_a_record_that_differs_from_the_spec_is_refused(record: Any, message: str) -> None:
    source = Given(FINE, record)
    with pytest.raises(SpecError, match=message):
        source.get_batch(2)
    assert source.index == 0


def test_an_epoch_that_is_shorter_than_the_length_is_refused() -> None:
    class Short(Sized):
        def __len__(self) -> int:
            return self.records + 1

    source = Short(3)
    with pytest.raises(
        SpecError, match=r"epoch 0 of Short ended after 3 records, where __len__\(\) says 4; leave that out"
    ):
        source.get_batch(4)
    assert source.index == 0


@pytest.mark.parametrize("use", [lambda source: source.get_batch(1), list])
def test_a_stream_of_length_0_is_refused(use: Any) -> None:
    with pytest.raises(ValueError, match="Sized 'none' is empty: it has no records to serve"):
        use(Sized(0, name="none"))


def test_records_whose_read_failed_are_read_again() -> None:
    source = Sized(10)
    source.get_batch(2)
    source.opened.fails_at = 5
    for _ in range(2):
        with pytest.raises(OSError, match="the line is dead"):
            source.get_batch(4)
    source.opened.fails_at = None
    assert ids(source.get_batch(4)) == [2, 3, 4, 5]


def test_there_is_no_random_access() -> None:
    source: Any = Sized(10)
    for use in (lambda: source[0], lambda: source.get_batch_at(0, 2), lambda: source.get_records([0])):
        with pytest.raises(NotImplementedError, match=r"Sized (is a stream without|has no) random access"):
            use()
    assert source.capabilities.resumable
    assert source.access == "stream"


def test_a_stream_reports_its_info_and_its_counts() -> None:
    assert Numbers(name="n").get_dataset_info()["num_records"] is None
    info = Sized(4, name="n").get_dataset_info()
    assert (info["name"], info["num_records"], sorted(info["element_spec"])) == ("n", 4, ["id", "text"])
    source = Sized(4)
    source.get_batch(2)
    source.read_batch(2)
    assert source.get_operation_stats() == {"applied_count": 1, "skipped_count": 0}


PLACES: list[dict[str, Any]] = [
    {"epoch": -1},
    {"epoch": 1.5},
    {"epoch": True},
    {"index": -1},
    {"index": 10},
    {"index": None},
    {"run_epoch": 1},
    {"has_ended": 1},
]


@pytest.mark.parametrize("wrong", PLACES)
def test_a_state_without_a_valid_place_is_refused_and_nothing_moves(wrong: dict[str, Any]) -> None:
    source = Sized(10)
    source.get_batch(3)
    with pytest.raises(StateError, match="the state of Sized stands at no place in its stream: "):
        source.set_state(source.get_state() | wrong)
    assert ids(source.get_batch(1)) == [3]


def test_the_state_of_another_stream_is_refused() -> None:
    source = Sized(10, shuffle=True)
    with pytest.raises(StateError, match="length was 9 and is 10"):
        source.set_state(Sized(9, shuffle=True).get_state())
    with pytest.raises(StateError, match=r"seed was .* and is"):
        source.set_state(Sized(10, shuffle=True, seed=1).get_state())
    with pytest.raises(StateError, match="'epoch' is missing"):
        source.set_state({name: value for name, value in source.get_state().items() if name != "epoch"})
    with pytest.raises(TypeError, match="the state of Sized is a dict"):
        source.set_state([])  # type: ignore[arg-type]  # on purpose


def test_a_closed_stream_goes_on_at_the_same_place() -> None:
    with Sized(5) as source:
        assert not source.is_reading
        assert ids(source.get_batch(2)) == [0, 1]
        assert source.is_reading
    assert (source.is_reading, source.opened.closed) == (False, 1)
    assert ids(source.get_batch(2)) == [2, 3]


def pickled(source: Numbers) -> Numbers:
    twin: Numbers = pickle.loads(pickle.dumps(source))  # noqa: S301 - of this test
    return twin


@pytest.mark.parametrize("copied", [Numbers.clone, copy.deepcopy, pickled])
def test_a_copy_in_mid_epoch_goes_on_with_the_epoch(copied: Callable[[Numbers], Numbers]) -> None:
    source = Numbers(4)
    loop = iter(source)
    next(loop)
    twin = copied(source)
    for stream in (loop, twin):
        assert [element["id"] for element in stream] == [1, 2, 3]
    assert [element["id"] for element in twin] == [100, 101, 102, 103]
