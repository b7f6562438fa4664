"""Records by index, loops, seeds, copies and pickles, and caches of records."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Order, Pipeline, StructuralConfig

MakeSource = Callable[..., Any]


def joined(batches: Any) -> list[int]:
    return [int(i) for batch in batches for i in batch["id"]]


# -- one by one ---------------------------------------------------------------------------------------------------------


def test_a_record_is_found_by_its_index_whatever_the_order(make_host_source: MakeSource) -> None:
    source = make_host_source(100, shuffle=True)
    for index, record in ((0, 0), (99, 99), (-1, 99), (-100, 0), (np.int64(7), 7)):
        found = source[index]
        assert (found["id"], found["x"].tolist()) == (record, [record * 0.5, record + 1.0])


@pytest.mark.parametrize(
    ("index", "kind", "message"),
    [
        (100, IndexError, r"^record 100 is out of range: HostRecords has 100 records$"),
        (-101, IndexError, r"^record -101 is out of range: HostRecords has 100 records$"),
        (
            1.0,
            TypeError,
            r"^HostRecords is indexed by an integer, a slice, or an array of integers or booleans, not 1\.0$",
        ),
        (
            True,
            TypeError,
            r"^HostRecords is indexed by an integer, a slice, or an array of integers or booleans, not True$",
        ),
        (
            [0.5, 2],
            TypeError,
            r"^records of HostRecords are selected by integers, or by one boolean a record, .*float64",
        ),
        (
            "id",
            TypeError,
            r"^HostRecords is indexed by an integer, a slice, or an array of integers or booleans, not 'id'$",
        ),
    ],
)
def test_an_index_without_a_record_is_refused(
    make_host_source: MakeSource, index: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make_host_source(100)[index]


def test_a_loop_over_a_source_is_an_epoch_and_the_second_one_the_next(make_host_source: MakeSource) -> None:
    source = make_host_source(100, shuffle=True)
    epochs = [[int(record["id"]) for record in source] for _ in range(2)]
    assert epochs[0] + epochs[1] == Order(100).record_indices(0, 200, source.order_key_data()).tolist()
    source.reset()
    next(iter(source))
    assert [int(record["id"]) for record in source] == epochs[1], "a loop that was left is followed by the next epoch"


@pytest.mark.parametrize(
    ("size", "kind", "message"),
    [
        (0, ValueError, "is at least 1, not 0"),
        (-3, ValueError, "is at least 1, not -3"),
        (4.0, TypeError, r"is an integer, not 4\.0"),
        (True, TypeError, "is an integer, not True"),
    ],
)
def test_the_size_of_a_batch_is_a_whole_number_from_1(
    make_host_source: MakeSource, size: Any, kind: type[Exception], message: str
) -> None:
    source = make_host_source()
    for read in (source.get_batch, lambda size: source.get_batch_at(0, size)):
        with pytest.raises(kind, match=message):
            read(size)
    assert source.get_batch(2)["id"].tolist() == [0, 1]


def test_a_position_before_the_start_is_refused(make_host_source: MakeSource) -> None:
    with pytest.raises(ValueError, match="position -1 is before the start of the stream; positions count from 0"):
        make_host_source().get_batch_at(-1, 4)


def test_a_shuffled_order_needs_its_key(make_host_source: MakeSource) -> None:
    source = make_host_source(shuffle=True, name="train")
    message = (
        r"^HostRecords 'train' is shuffled: pass the key that selects the order, such as jax.random.key\(0\), or sour"
    )
    with pytest.raises(ValueError, match=message):
        source.get_batch_at(0, 4)


def test_shuffling_can_be_switched_off_and_on(make_host_source: MakeSource) -> None:
    source = make_host_source(shuffle=True)
    shuffled = source.get_batch_at(0, 8, source.order_key_data())["id"].tolist()
    source.set_random_order(enabled=False)
    assert source.get_batch(8)["id"].tolist() == list(range(8))
    source.set_random_order(enabled=True)
    source.reset()
    assert source.get_batch(8)["id"].tolist() == shuffled
    with pytest.raises(
        ValueError, match=r"^HostRecords cannot shuffle: it was built without a random stream; build it as"
    ):
        make_host_source().set_random_order(enabled=True)


# -- seeds, copies and pickles ------------------------------------------------------------------------------------------


def test_reset_with_a_seed_is_building_with_that_seed(make_host_source: MakeSource) -> None:
    source = make_host_source(shuffle=True, seed=3)
    pipeline = Pipeline(source=source, batch_size=32)
    own = joined(pipeline)
    source.reset(seed=8)
    pipeline.reset()
    assert joined(pipeline) == joined(Pipeline(source=make_host_source(shuffle=True, seed=8), batch_size=32)) != own
    source.reset(seed=3)
    assert [int(record["id"]) for record in source] == own


@pytest.mark.parametrize("twin", ["clone", "pickle"])
@pytest.mark.parametrize("kind", ["make_source", "make_host_source", "make_device_source"])
def test_twins_of_a_source_have_progress_of_their_own(request: pytest.FixtureRequest, kind: str, twin: str) -> None:
    source = request.getfixturevalue(kind)(100, shuffle=True)
    source.get_batch(10)
    next(iter(source))
    joined(Pipeline(source=source, batch_size=32))
    twins: list[Any] = [
        pickle.loads(pickle.dumps(source)) if twin == "pickle" else source.clone()  # noqa: S301 - our own bytes
        for _ in range(2)
    ]
    wanted = Order(100).record_indices(0, 100, source.order_key_data()).tolist()
    for each in [twins[0], source, twins[1]]:
        assert each.get_batch(9)["id"].tolist() == wanted[11:20]
        assert int(next(each)["id"]) == wanted[20]
        assert joined(Pipeline(source=each, batch_size=100)) == wanted


def test_a_copy_of_a_source_starts_anew_over_the_same_data(make_source: MakeSource) -> None:
    source = make_source(100, shuffle=True, name="train")
    served = source.get_batch(10)["id"].tolist()
    twin = source.copy(name="twin")
    assert twin.data["x"] is source.data["x"]
    assert (twin.name, twin.config, source.name) == ("twin", source.config, "train")
    assert twin.get_batch(10)["id"].tolist() == served
    assert source.copy(rngs=nnx.Rngs(5)).get_batch(10)["id"].tolist() != served


def test_a_pickle_of_a_source_holds_no_saved_work(make_host_source: MakeSource) -> None:
    source = make_host_source(10_000, shuffle=True, cacheable=True)
    before = len(pickle.dumps(source))
    joined(Pipeline(source=source, batch_size=100))
    source.reads.calls.clear()
    assert len(pickle.dumps(source)) < before + 100


def test_a_pickle_of_an_eager_source_holds_its_data_once(make_source: MakeSource) -> None:
    source = make_source(10_000, shuffle=True)
    pipeline = Pipeline(source=source, batch_size=100)
    pipeline.step()
    nnx.jit(lambda pipeline: pipeline.step()["id"])(pipeline)
    size = sum(column.nbytes for column in source.data.values())
    assert len(pickle.dumps(source)) < size + 10_000


# -- cacheable ----------------------------------------------------------------------------------------------------------


def test_a_cacheable_source_reads_each_record_once(make_host_source: MakeSource) -> None:
    source = make_host_source(100, shuffle=True, cacheable=True)
    pipeline = Pipeline(source=source, batch_size=32)
    first = joined(pipeline)
    assert sorted(i for call in source.reads.calls for i in call) == list(range(100))
    second = joined(pipeline)
    assert source.get_batch_at(0, 100, source.order_key_data())["id"].tolist() == first
    assert [int(record["id"]) for record in source] == first
    assert sum(map(len, source.reads.calls)) == 100
    assert sorted(second) == list(range(100)) != second
    source.reset_cache()
    joined(pipeline)
    assert sum(map(len, source.reads.calls)) == 200


def test_a_source_that_is_not_cacheable_reads_again(make_host_source: MakeSource) -> None:
    source = make_host_source(100)
    for _ in range(2):
        joined(Pipeline(source=source, batch_size=32))
    assert sum(map(len, source.reads.calls)) == 200


def test_a_cache_keeps_text(make_source: MakeSource) -> None:
    class Words(DataSourceModule):
        def __len__(self) -> int:
            return 3

        def element_spec(self) -> Any:
            return {"word": jax.ShapeDtypeStruct((), np.dtype("<U5"))}

        def get_records(self, indices: Any) -> Any:
            return {"word": np.array(["one", "two", "three"])[indices]}

    source = Words(StructuralConfig(cacheable=True))
    for _ in range(2):
        assert [record["word"] for record in source] == ["one", "two", "three"]
    assert json.dumps(source.get_state())
    assert make_source({"word": np.array(["a"])})[0]["word"] == "a"


def test_the_state_of_a_source_in_compiled_code_is_refused(make_host_source: MakeSource) -> None:
    source = make_host_source(20)
    with pytest.raises(
        RuntimeError, match=r"^cannot get the state of \w+.* inside a compiled function; call it between"
    ):
        nnx.jit(lambda source: source.get_state())(source)


class Numbers(DataSourceModule):
    """Records 0 to 9; a stream in one subclass, other records in each epoch in the other."""

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}


class Forward(Numbers):
    def get_batch(self, batch_size: int) -> Any:
        return {"id": np.arange(batch_size, dtype=np.int32)}


class Varying(Numbers):
    varies_by_epoch = True

    def __len__(self) -> int:
        return 10

    def get_records(self, indices: Any) -> Any:
        return {"id": np.asarray(indices, np.int32)}


@pytest.mark.parametrize(
    ("cls", "reason"),
    [(Forward, "is read forward only"), (Varying, r"reads its records otherwise in each epoch \(varies")],
)
def test_records_that_cannot_be_kept_are_not_cacheable(cls: type[Numbers], reason: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{cls.__name__} {reason}.*cacheable=True cannot keep its records; leave it out$"
    ):
        Pipeline(source=cls(StructuralConfig(cacheable=True)), batch_size=5)
    assert joined([next(iter(Pipeline(source=cls(StructuralConfig()), batch_size=5)))]) == [0, 1, 2, 3, 4]
