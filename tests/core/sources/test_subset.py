"""Subsets are fixed sets of record indices: no order, epoch, route or resume serves a record of another subset."""

import json
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import grain
import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataSourceModule, Order, Pipeline, StateError, StructuralConfig

MakeSource = Callable[..., Any]
PARENTS = ["make_source", "make_host_source", "make_device_source"]
ROUTES = ["elements", "get_batch", "loop", "step", "traced step", "scan"]
SHUFFLED = StructuralConfig(stochastic=True, stream_name="shuffle")


def epochs_of(source: Any, route: str, epochs: int = 3, batch: int = 4) -> list[int]:
    """Return the ids of some epochs of a source, read by one route; ``batch`` divides the length of the source."""
    steps = epochs * len(source) // batch
    if route == "elements":
        return [int(element["id"]) for _ in range(epochs) for element in source]
    if route == "get_batch":
        return [int(i) for _ in range(steps) for i in source.get_batch(batch)["id"]]
    pipeline = Pipeline(source=source, batch_size=batch, num_epochs=epochs)
    if route == "loop":
        return [int(i) for served in pipeline for i in served["id"]]
    if route == "scan":
        return pipeline.scan(lambda served: served["id"], length=steps).ravel().tolist()
    step = nnx.jit(lambda pipeline: pipeline.step()["id"]) if route == "traced step" else lambda p: p.step()["id"]
    return [int(i) for _ in range(steps) for i in step(pipeline)]


def sorted_epochs(served: list[int], length: int) -> list[list[int]]:
    return [sorted(served[start : start + length]) for start in range(0, len(served), length)]


@pytest.fixture(params=PARENTS)
def make_parent(request: pytest.FixtureRequest) -> MakeSource:
    made: MakeSource = request.getfixturevalue(request.param)
    return made


# -- which records ------------------------------------------------------------------------------------------------------

TRACED = jax.jit(lambda read, arrays, rows: read(arrays, rows), static_argnums=0)
bounds = st.none() | st.integers(-30, 30)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cuts=st.lists(st.tuples(bounds, bounds, st.none() | st.integers(-4, 4).filter(bool)), min_size=1, max_size=3))
def test_a_slice_selects_what_a_slice_of_a_list_does(make_source: MakeSource, cuts: list[tuple[Any, Any, Any]]) -> None:
    subset, wanted = make_source(20), list(range(20))
    for start, stop, step in cuts:
        wanted = wanted[start:stop:step]
        if not wanted:
            with pytest.raises(
                ValueError, match=r"^\[.*\] of .* holds none of its \d+ records; a subset has one at least$"
            ):
                subset[start:stop:step]
            return
        subset = subset[start:stop:step]
    assert [int(subset[i]["id"]) for i in range(len(subset))] == wanted
    read, arrays = subset.compiled_records()
    rows = np.arange(20) % len(wanted)
    assert TRACED(read, arrays, rows)["id"].tolist() == np.asarray(wanted)[rows].tolist()


@pytest.mark.parametrize("length", [2, 3, 255, 256, 257, 1000, 4097])
def test_parts_of_a_split_are_disjoint_and_complete_and_the_same_on_host_and_device(
    make_source: MakeSource, length: int
) -> None:
    parts = make_source(length).split(train=0.6, test=0.4, seed=7)
    indices = {name: part.parent_indices(np.arange(len(part))) for name, part in parts.items()}
    assert sorted(np.concatenate(list(indices.values())).tolist()) == list(range(length))
    assert [len(part) for part in parts.values()] == [round(0.6 * length), length - round(0.6 * length)]
    for name, part in parts.items():
        select, arguments = part._selection.traced("part")
        assert jax.jit(select)(arguments, np.arange(len(part))).tolist() == indices[name].tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(length=st.integers(20, 10**18), weights=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_shares_that_sum_to_one_leave_no_record_out(length: int, weights: list[int]) -> None:
    source = Numbers(length * 3)
    parts = list(source.split(**{f"p{i}": weight / sum(weights) for i, weight in enumerate(weights)}).values())
    assert sum(map(len, parts)) == len(source)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(len(part) - len(source) * weight / sum(weights)) <= 1 + len(source) * 1e-15


def test_a_split_depends_on_the_seed_alone_and_is_drawn_at_random(make_source: MakeSource) -> None:
    def train(source: Any, **given: Any) -> list[int]:
        part = source.split(**given)["train"]
        return sorted(part.parent_indices(np.arange(len(part))).tolist())

    shares = {"train": 0.5, "test": 0.5}
    first = train(make_source(1000), **shares)
    assert first == train(make_source(1000, shuffle=True, seed=9, placement="host"), **shares, seed=0)
    assert first == train(make_source(1000), train=0.5, val=0.25, test=0.25), "shares after it make no difference"
    assert first == train(make_source(1000), train=500)
    other = train(make_source(1000), **shares, seed=1)
    assert 200 < len(set(first) & set(other)) < 300
    assert 400 < sum(first) / len(first) < 600


def test_a_split_is_independent_of_the_order_of_the_same_seed(make_source: MakeSource) -> None:
    source = make_source(1000, shuffle=True)
    split = source.split(all=1.0, seed=0)["all"].parent_indices(np.arange(1000)).tolist()
    for key in (jax.random.key(0), source.order_key_data(), nnx.Rngs(0).shuffle()):
        assert source.record_indices_at(0, 1000, key).tolist() != split


def test_integers_are_numbers_of_records_and_the_rest_is_in_no_part(make_source: MakeSource) -> None:
    parts = make_source(100).split(train=60, test=np.int64(10))
    assert {name: len(part) for name, part in parts.items()} == {"train": 60, "test": 10}
    assert [len(part) for part in make_source(100).split(a=0.25, b=np.float32(0.5)).values()] == [25, 50]
    assert len(make_source(100).split(one=1)["one"]) == 1
    assert len(make_source(100).split(all=1.0)["all"]) == 100


def test_parts_can_be_split_and_sliced_again(make_source: MakeSource) -> None:
    source = make_source(400, shuffle=True)
    train = source.split(train=0.75, test=0.25)["train"]
    inner = train[:200].split(fit=0.9, val=0.1, seed=4)
    nested = [
        train.parent_indices(part.parent.parent_indices(part.parent_indices(range(len(part)))))
        for part in inner.values()
    ]
    assert sorted(np.concatenate(nested).tolist()) == sorted(train.parent_indices(np.arange(200)).tolist())
    for part, wanted in zip(inner.values(), nested, strict=True):
        for route in ("loop", "scan"):
            assert sorted(set(epochs_of(part, route, batch=20))) == sorted(wanted.tolist())
    assert inner["val"].title == "Subset 'val' of Subset [0:200] of Subset 'train' of EagerSourceBase"


class Numbers(DataSourceModule):
    """A host source of any length whose record i is i."""

    def __init__(
        self,
        length: int,
        config: StructuralConfig | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config or StructuralConfig(), rngs=rngs, name=name)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int64)}

    def get_records(self, indices: Any) -> Any:
        return {"id": np.asarray(indices)}


def test_a_part_of_a_huge_source_costs_no_table() -> None:
    source = Numbers(2**62)
    train, test = source.split(train=0.9, test=0.1).values()
    assert len(train) + len(test) == 2**62
    served = [int(i) for part in (train, test) for i in part.get_batch(1000)["id"]]
    assert len(set(served)) == 2000
    assert max(served) > 2**61
    assert len(pickle.dumps(train)) < 10_000
    assert int(source[5 :: 2**61][1]["id"]) == 2**61 + 5
    assert int(source[-1 : 2**62 : 2**61][0]["id"]) == 2**62 - 1


# -- leaks -------------------------------------------------------------------------------------------------------------


def leaks(served: Iterable[int], allowed: set[int]) -> bool:
    return not set(served) <= allowed


def test_the_check_for_leaks_finds_the_one_in_grain() -> None:
    """Shuffle, slice, repeat serves held-out records from the second epoch on: google/grain#1200."""
    shuffled = grain.MapDataset.range(40).seed(0).shuffle()
    held_in = set(shuffled[:32])
    assert not leaks(shuffled[:32], held_in)
    assert leaks(shuffled[:32].repeat(3), held_in)


@pytest.mark.parametrize("route", ROUTES)
def test_no_epoch_of_a_part_serves_a_record_of_another(make_parent: MakeSource, route: str) -> None:
    source = make_parent(40, shuffle=True)
    for parts in (source.split(train=0.8, test=0.2, seed=1), {"train": source[:32], "test": source[32:]}):
        own = {name: sorted(int(part[i]["id"]) for i in range(len(part))) for name, part in parts.items()}
        assert sorted(own["train"] + own["test"]) == list(range(40))
        for name, part in parts.items():
            served = epochs_of(part, route)
            assert not leaks(served, set(own[name]))
            assert sorted_epochs(served, len(part)) == [own[name]] * 3, "each record once an epoch"
            assert served[: len(part)] != served[len(part) : 2 * len(part)], "each epoch in an order of its own"


def test_parts_serve_the_same_while_parent_and_siblings_are_used(make_parent: MakeSource) -> None:
    source = make_parent(40, shuffle=True)
    train, test = source.split(train=0.8, test=0.2).values()
    wanted, wanted_test = epochs_of(train.copy(), "get_batch"), epochs_of(test.copy(), "get_batch")
    served = [int(i) for _ in range(4) for i in train.get_batch(4)["id"]]
    source.get_batch(7)
    source.reset(seed=5)
    source.set_random_order(enabled=False)
    test.reset(seed=3)
    test.set_random_order(enabled=False)
    epochs_of(test, "loop")
    test.clone().get_batch(3)
    served += [int(i) for _ in range(20) for i in train.get_batch(4)["id"]]
    assert served == wanted
    assert sorted(epochs_of(test, "get_batch", epochs=1)) == sorted(set(wanted_test))
    assert source.get_batch(3)["id"].tolist() == [0, 1, 2], "parts move nothing in their parent"


# -- the order ----------------------------------------------------------------------------------------------------------


def test_a_part_is_shuffled_by_the_parents_key_over_its_own_length(make_parent: MakeSource) -> None:
    source = make_parent(100, shuffle=True)
    part = source[20:60]
    rows = Order(40).record_indices(0, 80, source.order_key_data())
    assert [int(i) for i in part.get_batch(80)["id"]] == (rows + 20).tolist()
    assert [int(i) for i in make_parent(100)[20:60].get_batch(80)["id"]] == [*range(20, 60)] * 2


def test_a_part_has_an_order_of_its_own(make_source: MakeSource) -> None:
    part = make_source(100, shuffle=True)[:40]
    own = epochs_of(part.copy(), "loop")
    part.set_random_order(enabled=False)
    assert epochs_of(part.copy(), "loop", epochs=1) == list(range(40)), "a copy is in sequence as well"
    part.set_random_order(enabled=True)
    assert epochs_of(part.copy(), "loop") == own
    part.reset(seed=8)
    assert epochs_of(part, "loop") == epochs_of(make_source(100, shuffle=True, seed=8)[:40], "loop") != own
    redrawn = part.copy(rngs=nnx.Rngs(8))
    assert epochs_of(redrawn, "loop") == epochs_of(make_source(100, shuffle=True, seed=8)[:40], "loop")


def test_a_part_of_a_source_in_sequence_can_be_shuffled_by_itself(make_source: MakeSource) -> None:
    train, test = make_source(100).split(train=0.8, test=0.2).values()
    with pytest.raises(
        ValueError, match=r"^Subset 'train' of EagerSourceBase cannot shuffle: it was built without a ran"
    ):
        train.set_random_order(enabled=True)
    shuffled = train.copy(config=SHUFFLED, rngs=nnx.Rngs(0))
    served = epochs_of(shuffled, "loop")
    assert sorted_epochs(served, 80) == [sorted(epochs_of(train, "loop", epochs=1))] * 3
    assert served[:80] != served[80:160]
    assert epochs_of(test, "loop") == epochs_of(test, "loop")


def test_a_part_of_a_sharded_source_serves_that_shard_of_itself(make_source: MakeSource) -> None:
    shards = [make_source(100, shuffle=True, shard=(k, 3)) for k in range(3)]
    tests = [shard.split(train=0.8, test=0.2)["test"] for shard in shards]
    served = [epochs_of(test, "get_batch", epochs=1, batch=1)[: test.order().epoch_length] for test in tests]
    whole = make_source(100, shuffle=True).split(train=0.8, test=0.2)["test"]
    assert [len(test) for test in tests] == [20, 20, 20]
    assert served == [epochs_of(whole, "loop", epochs=1)[k::3] for k in range(3)]
    with pytest.raises(ValueError, match=r"^shard 2 of 3 is empty: there are 2 records only$"):
        shards[2][:2]


# -- state --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipeline", "source"])
def test_a_part_resumes_with_its_next_record_and_no_other(make_parent: MakeSource, kind: str) -> None:
    def make(name: str = "train", *, length: int = 40, seed: int = 0) -> Any:
        part = make_parent(length, shuffle=True).split(train=0.8, test=0.2, seed=seed)[name]
        return Pipeline(source=part, batch_size=4, num_epochs=None) if kind == "pipeline" else part

    def serve(made: Any, batches: int) -> list[list[int]]:
        step = made.step if kind == "pipeline" else lambda: made.get_batch(4)
        return [step()["id"].tolist() for _ in range(batches)]

    wanted = serve(make(), 20)
    first = make()
    serve(first, 11)
    state = json.loads(json.dumps(first.get_state()))
    resumed = make()
    resumed.set_state(state)
    assert serve(resumed, 9) == wanted[11:]
    with pytest.raises(
        StateError, match=r"length was 32 and is 8; .*subset was '\[0:32\] of 40 shuffled with seed 0, rule"
    ):
        make("test").set_state(state)
    with pytest.raises(
        StateError, match=r"than .*: subset was '.* seed 0, rule 1' and is '.* seed 1, rule 1'; restore"
    ):
        make(seed=1).set_state(state)
    with pytest.raises(StateError, match=r"parent.length was 40 and is 41"):
        make(length=41).set_state(state)


def test_states_of_equal_selections_of_other_data_differ_and_of_equal_slices_do_not(make_source: MakeSource) -> None:
    state = make_source(40)[5:20:3].get_state()
    make_source(40, shuffle=True, seed=4)[5:18:3].copy()
    make_source(40)[5:18:3].set_state(state)
    other = {"id": np.arange(40, dtype=np.int32)[::-1], "x": np.zeros((40, 2), np.float32)}
    with pytest.raises(StateError, match=r"parent.sample was '\w+' and is '\w+'"):
        make_source(other)[5:20:3].set_state(state)
    with pytest.raises(StateError, match=r"subset was '\[5:18:3\]' and is '\[2::-1\]'"):
        make_source(40)[2::-1].set_state(state)


def test_the_state_of_a_part_has_no_data_and_does_not_move_the_parent(make_device_source: MakeSource) -> None:
    source = make_device_source(5000, shuffle=True)
    part = source[:4000]
    state = part.get_state()
    assert len(json.dumps(state)) < 1000
    source.get_batch(5)
    part.set_state(state)
    assert source.get_batch(5)["id"].tolist() == Order(5000).record_indices(5, 5, source.order_key_data()).tolist()


@pytest.mark.parametrize("twin", ["clone", "pickle"])
def test_twins_of_a_part_have_progress_of_their_own(make_parent: MakeSource, twin: str) -> None:
    part = make_parent(100, shuffle=True).split(train=0.8, test=0.2)["train"]
    wanted = epochs_of(part.copy(), "get_batch", epochs=1)
    part.get_batch(8)
    other: Any = pickle.loads(pickle.dumps(part)) if twin == "pickle" else part.clone()  # noqa: S301 - our own bytes
    for each in (other, part):
        assert each.get_batch(4)["id"].tolist() == wanted[8:12]
    assert other.title == part.title
