"""Repeat, concat and zip by every route: the same records, in an order that NumPy computes independently."""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Order, Pipeline
from datarax_core.order import fold_in
from datarax_views import (
    ConcatView,
    ConcatViewConfig,
    RepeatView,
    RepeatViewConfig,
    SampleView,
    SampleViewConfig,
    ZipView,
    ZipViewConfig,
)

MakeSource = Callable[..., DataSourceModule]

PLACEMENTS = [("device", "device"), ("device", "host"), ("host", "host")]


def shuffled(length: int, epoch: int, key: Any) -> list[int]:
    return Order(length).record_indices(epoch * length, length, key).tolist()


def repeat_passes(make: MakeSource, placements: Any) -> tuple[DataSourceModule, Callable[[Any], list[int]]]:
    view = RepeatView(RepeatViewConfig(times=3), make(10, shuffle=True, placement=placements[0]))
    return view, lambda key: [index for epoch in range(6) for index in shuffled(10, epoch, key)]


def repeat_adjacent(make: MakeSource, placements: Any) -> tuple[DataSourceModule, Callable[[Any], list[int]]]:
    config = RepeatViewConfig(times=3, order="adjacent")
    view = RepeatView(config, make(10, shuffle=True, placement=placements[0]))
    return view, lambda key: [index for epoch in range(2) for index in shuffled(10, epoch, key) for _ in range(3)]


def concat_in_turn(make: MakeSource, placements: Any) -> tuple[DataSourceModule, Callable[[Any], list[int]]]:
    sources = [
        make(10, shuffle=True, placement=placements[0]),
        make(3, 100, placement=placements[1]),
        make(17, 200, shuffle=True, placement=placements[0]),
    ]

    def expected(key: Any) -> list[int]:
        keys = np.asarray(fold_in(np.asarray(key), np.arange(3, dtype=np.uint32))).T
        in_turn = []
        for epoch in range(2):
            in_turn += [*shuffled(10, epoch, keys[0]), 100, 101, 102]
            in_turn += [200 + index for index in shuffled(17, epoch, keys[2])]
        return in_turn

    return ConcatView(ConcatViewConfig(), sources), expected


def concat_shuffled(make: MakeSource, placements: Any) -> tuple[DataSourceModule, Callable[[Any], list[int]]]:
    sources = {"a": make(10, placement=placements[0]), "b": make(20, 100, shuffle=True, placement=placements[1])}
    view = ConcatView(ConcatViewConfig(shuffle=True), sources, rngs=nnx.Rngs(4))
    ids = [*range(10), *range(100, 120)]
    return view, lambda key: [ids[index] for epoch in range(2) for index in shuffled(30, epoch, key)]


def zipped(make: MakeSource, placements: Any) -> tuple[DataSourceModule, Callable[[Any], list[int]]]:
    sources = [make(30, shuffle=True, placement=placements[0]), make(30, 50, seed=9, placement=placements[1])]
    view = ZipView(ZipViewConfig(prefix=("", "other_")), sources)
    return view, lambda key: [index for epoch in range(2) for index in shuffled(30, epoch, key)]


VIEWS = [repeat_passes, repeat_adjacent, concat_in_turn, concat_shuffled, zipped]


def everything(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize("placements", PLACEMENTS, ids=" and ".join)
@pytest.mark.parametrize("make_view", VIEWS)
def test_every_route_serves_the_order(make_source: MakeSource, make_view: Any, placements: Any) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=make_view(make_source, placements)[0], batch_size=12, num_epochs=None)

    view, expected_ids = make_view(make_source, placements)
    on_device = placements == ("device", "device") or (isinstance(view, RepeatView) and placements[0] == "device")
    assert view.access == ("device" if on_device else "host")
    assert view.epoch_length == len(view) == 30
    stepped = pipeline()
    ids = np.array(expected_ids(view.order_key_data()))[:60].reshape(5, 12)
    for served in (
        [batch for batch, _ in zip(pipeline(), range(5), strict=False)],
        [
            jax.tree.map(lambda leaf, row=row: leaf[row], stacked)
            for stacked in [pipeline().scan(everything, length=5)]
            for row in range(5)
        ],
        [stepped.step() for _ in range(5)],
    ):
        assert np.array_equal([batch["id"] for batch in served], ids)
        for batch in served:
            assert np.array_equal(batch["x"], np.stack([batch["id"] * 0.5, batch["id"] + 1.0], 1))
            if "other_id" in batch:
                assert np.array_equal(batch["other_id"], batch["id"] + 50)


@pytest.mark.parametrize("make_view", VIEWS)
@pytest.mark.parametrize("size", [7, 61])
def test_traced_positions_give_the_same_indices_and_epochs(make_source: MakeSource, make_view: Any, size: int) -> None:
    view, _ = make_view(make_source, ("device", "device"))
    key = view.order_key_data()
    indices = jax.jit(lambda at, key: view.record_indices_at(at, size, key))
    epochs = jax.jit(lambda at: view.epochs_at(at, size))
    for start in (0, 9, 12, 13, 29, 30, 35, 1000, 2**31 - 100):
        assert np.array_equal(indices(start, key), view.record_indices_at(start, size, key)), start
        assert np.array_equal(epochs(start), view.epochs_at(start, size)), start


@pytest.mark.parametrize("make_view", VIEWS)
def test_each_serving_has_an_epoch_of_its_own(make_source: MakeSource, make_view: Any) -> None:
    view, _ = make_view(make_source, ("host", "host"))
    servings = zip(
        view.record_indices_at(0, 200, view.order_key_data()).tolist(), view.epochs_at(0, 200).tolist(), strict=True
    )
    assert len(set(servings)) == 200


@pytest.mark.parametrize("make_view", VIEWS)
def test_hosts_share_a_batch_and_resume_as_another_number_of_them(make_source: MakeSource, make_view: Any) -> None:
    def host() -> DataSourceModule:
        return make_view(make_source, ("host", "host"))[0]

    whole = host().get_batch_at(0, 36, host().order_key_data())["id"]
    state, served = None, []
    for count in (1, 2, 4):  # a run on one host, which two take over, and then four
        rows = []
        for number in range(count):
            source = host()
            if state is not None:
                source.set_state(state)
            at = source.cursor.position
            indices = np.asarray(source.record_indices_at(at, 12, source.order_key_data()))
            to_read = source.indices_to_read(at, indices)
            rows.append(source.fetch(np.array_split(to_read, count)[number])["id"])
            source.get_batch(12)
        state = source.get_state()
        served.append(np.concatenate(rows))
    assert np.array_equal(np.concatenate(served), whole)


@pytest.mark.parametrize("make_view", VIEWS)
def test_copies_clones_and_pickles_serve_the_same(make_source: MakeSource, make_view: Any) -> None:
    view, _ = make_view(make_source, ("device", "host"))
    expected = view.get_batch_at(5, 40, view.order_key_data())
    unpickled = pickle.loads(pickle.dumps(view))  # noqa: S301 - of this test
    for twin in (view.copy(), nnx.clone(view), unpickled, view.over_parents(*view.parents)):
        jax.tree.map(np.testing.assert_array_equal, twin.get_batch_at(5, 40, twin.order_key_data()), expected)
        assert twin.fingerprint() == view.fingerprint()


@pytest.mark.parametrize("placements", PLACEMENTS, ids=" and ".join)
def test_text_and_varying_lengths_come_along(make_source: MakeSource, placements: Any) -> None:
    first, second = (
        make_source(10, 1000 * number, ragged=True, placement=placement) for number, placement in enumerate(placements)
    )
    views = [
        RepeatView(RepeatViewConfig(times=2), first),
        ConcatView(ConcatViewConfig(shuffle=True), first, second, rngs=nnx.Rngs(0)),
        ZipView(ZipViewConfig(), {"one": first, "two": second}),
        SampleView(SampleViewConfig(), ConcatView(ConcatViewConfig(), first, second), rngs=nnx.Rngs(0)),
    ]
    for view in views:
        for batch in Pipeline(source=view, batch_size=6):
            for part in [batch] if "id" in batch else [batch["one"], batch["two"]]:
                assert [f"name {number}" for number in part["id"]] == part["name"].tolist()
                assert [len(tokens) for tokens in part["tokens"]] == (np.asarray(part["id"]) % 4).tolist()
    lengths = views[1].record_lengths("tokens")
    assert lengths.tolist() == [number % 4 for number in (*range(10), *range(1000, 1010))]
    assert views[2].record_lengths("two.tokens").tolist() == [number % 4 for number in range(1000, 1010)]
    assert views[1].whole_column("name").tolist()[9:11] == ["name 9", "name 1000"]
    assert views[2].whole_column("two.id").tolist() == list(range(1000, 1010))
    assert views[1][12]["name"] == "name 1002"
    assert views[2][3]["two"]["name"] == "name 1003"


@pytest.mark.parametrize("is_read_in_a_trace", [False, True])
def test_a_source_stands_beside_itself(make_source: MakeSource, is_read_in_a_trace: bool) -> None:  # noqa: FBT001
    source = make_source(12)
    parts = source.split(a=0.5, b=0.5)
    views = [
        ZipView(ZipViewConfig(prefix=("", "again_")), source, source),
        ConcatView(ConcatViewConfig(), source, source),
        ConcatView(ConcatViewConfig(), parts),
    ]
    for view in views:
        key = view.order_key_data()
        if is_read_in_a_trace:  # which makes references of its columns, and a reference is an argument only once
            jax.jit(lambda at, view=view, key=key: view.get_batch_at(at, 3, key))(0)
        expected = view.record_indices_at(0, 12, key)
        assert np.array_equal(view.get_batch_at(0, 12, key)["id"], [view[index]["id"] for index in expected.tolist()])
        batch = next(iter(Pipeline(source=view, batch_size=12)))
        assert np.array_equal(batch["id"], [view[index]["id"] for index in expected.tolist()])
