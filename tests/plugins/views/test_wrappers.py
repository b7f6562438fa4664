"""Wrappers serve bit for bit what they wrap, whatever that is; index views and views that make records follow from it."""

import contextlib
import json
import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import pytest
import view_sources
from flax import nnx
from view_sources import (
    COLUMNS,
    COUNT,
    PARENTS,
    EveryOther,
    EveryOtherConfig,
    Logged,
    LoggedConfig,
    LookedUp,
    Pairs,
    memory,
)

from datarax_core import DataSourceModule, Pipeline, Ragged, SourceView, StateError, from_sequence
from datarax_views import PackView, PackViewConfig, WindowView, WindowViewConfig


class LoudConfig(LoggedConfig):
    level: int = 0


Make = Callable[[], DataSourceModule]
WRAPPERS = {"plain": SourceView, "logged": Logged}


def plain(batch: Any) -> Any:
    """Return a batch, or batches, as lists."""
    if isinstance(batch, dict):
        return {name: plain(column) for name, column in batch.items()}
    if isinstance(batch, list):
        return [plain(each) for each in batch]
    if isinstance(batch, Ragged):
        return [each.tolist() for each in batch]
    return np.asarray(batch).tolist()


def pipeline_of(source: DataSourceModule, **options: Any) -> Pipeline:
    return Pipeline(source=source, stages=[], batch_size=8, rngs=nnx.Rngs(0), **{"num_epochs": 2, **options})


@pytest.fixture(params=PARENTS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return lambda: PARENTS[request.param](tmp_path)


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_serves_the_stream_of_its_parent(make: Make, wrapper: type[SourceView]) -> None:
    view, parent = wrapper(LoggedConfig(), make()), make()
    assert plain(list(pipeline_of(view.copy()))) == plain(list(pipeline_of(parent.copy())))
    assert plain(list(islice(view, 30))) == plain(list(islice(parent, 30)))
    assert plain(view.get_batch(5)) == plain(parent.get_batch(5))
    for what in ("epoch_length", "serves_each_once", "is_random_order", "is_live", "run_length"):
        assert getattr(view, what) == getattr(parent, what), what
    assert view.stats_at(11) == parent.stats_at(11)
    assert view.capabilities.resumable == parent.capabilities.resumable
    if parent.access != "stream":
        assert len(view) == len(parent)
        assert view.order_title == parent.order_title
        assert plain(view.get_batch_at(5, 9, parent.order_key_data())) == plain(
            parent.get_batch_at(5, 9, parent.order_key_data())
        )
        assert view.num_records == parent.num_records
        assert view.epochs_at(30, 20).tolist() == parent.epochs_at(30, 20).tolist()
        assert plain(view[3]) == plain(parent[3])
        assert view.verify_records(np.arange(7)) == parent.verify_records(np.arange(7))


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_resumes_where_it_stood(make: Make, wrapper: type[SourceView]) -> None:
    whole = plain(list(pipeline_of(wrapper(LoggedConfig(), make()))))
    first = pipeline_of(wrapper(LoggedConfig(), make()))
    batches = iter(first)
    served = [plain(next(batches)) for _ in range(3)]
    state = json.loads(json.dumps(first.get_state()))
    second = pipeline_of(wrapper(LoggedConfig(), make()))
    second.set_state(state)
    assert [*served, *map(plain, second)] == whole


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_is_pickled_cloned_and_split_with_its_parent(make: Make, wrapper: type[SourceView]) -> None:
    view = wrapper(LoggedConfig(), make(), name="it")
    expected = plain(view.copy().get_batch(6))
    nnx.split(view)
    twins = [pickle.loads(pickle.dumps(view)), view.clone(), view.copy()]  # noqa: S301
    for twin in twins:
        assert plain(twin.get_batch(6)) == expected
        assert twin.name == "it"
    state = view.get_state()
    assert not [name for name in state["variables"] if name.startswith("parents.")]
    view.get_batch(4)
    view.set_state(state)
    assert plain(view.get_batch(6)) == expected


@pytest.mark.parametrize("kind", ["on the device", "mixture", "part", "view"])
def test_a_wrapper_of_a_device_source_is_on_the_device(kind: str, tmp_path: Path) -> None:
    view, parent = SourceView(LoggedConfig(), PARENTS[kind](tmp_path)), PARENTS[kind](tmp_path)
    assert view.access == "device"
    assert Logged(LoggedConfig(), parent).access == "host"
    key = parent.order_key_data()
    traced = jax.jit(lambda start: view.get_batch_at(start, 6, key))(4)
    assert plain(traced) == plain(parent.get_batch_at(4, 6, key))
    sums = [
        pipeline_of(source, num_epochs=None).scan(lambda batch: batch["id"].sum(), length=5)
        for source in (view, Logged(LoggedConfig(), parent), parent)
    ]
    assert sums[0].tolist() == sums[1].tolist() == sums[2].tolist()
    steps = pipeline_of(view)
    assert [plain(steps.step()) for _ in range(3)] == plain(list(pipeline_of(parent)))[:3]


@pytest.mark.parametrize("kind", ["on the host", "array record", "text and ragged"])
def test_worker_processes_and_threads_read_through_a_wrapper(kind: str, tmp_path: Path) -> None:
    parent = PARENTS[kind](tmp_path)
    expected = plain(list(pipeline_of(parent)))
    view = Logged(LoggedConfig(), PARENTS[kind](tmp_path))
    assert plain(list(pipeline_of(view, threads=3))) == expected
    if kind == "text and ragged":  # starting processes takes long
        with contextlib.closing(pipeline_of(view, workers=1)) as pipeline:
            assert plain(list(pipeline)) == expected


def test_a_hook_sees_every_read_of_the_host() -> None:
    Logged.reads.clear()
    view = Logged(LoggedConfig(), view_sources.memory(shuffle=True))
    list(pipeline_of(view, num_epochs=1))
    assert sum(Logged.reads) == COUNT
    assert view.get_operation_stats()["skipped_count"] == 0


@pytest.mark.parametrize("kind", [EveryOther, LookedUp])
@pytest.mark.parametrize("placement", ["device", "host"])
def test_an_index_view_is_read_where_its_parent_is(kind: type[SourceView], placement: str) -> None:
    parent = view_sources.memory(shuffle=True, placement=placement)
    view = kind(EveryOtherConfig(shuffle=False), parent)
    assert view.access == placement
    expected = {name: column[1::2].tolist() for name, column in COLUMNS.items()}
    batches = list(pipeline_of(view, num_epochs=1))
    assert {name: [v for batch in batches for v in plain(batch[name])] for name in expected} == expected
    assert plain(jax.jit(lambda start: view.get_batch_at(start, 4))(5))["id"] == expected["id"][5:9]
    assert plain(list(view))[2]["id"] == 5
    total = pipeline_of(view, num_epochs=None).scan(lambda batch: batch["id"].sum(), length=2)
    assert total.tolist() == [sum(expected["id"][:8]), sum(expected["id"][8:16])]
    assert view.whole_column("id").tolist() == expected["id"]


def test_an_index_view_is_shuffled_with_the_key_of_its_parent() -> None:
    parent = view_sources.memory(shuffle=True)
    view = EveryOther(EveryOtherConfig(), parent)
    assert view.order_key_data().tolist() == parent.order_key_data().tolist()
    assert (
        view.record_indices_at(0, 18, view.order_key_data()).tolist()
        == view.order().record_indices(0, 18, parent.order_key_data()).tolist()
    )
    assert not EveryOther(EveryOtherConfig(), view_sources.memory()).is_random_order
    assert EveryOther(EveryOtherConfig(shuffle=True), view_sources.memory(), rngs=nnx.Rngs(0)).is_random_order
    with pytest.raises(ValueError, match="is stochastic and needs random numbers"):
        EveryOther(EveryOtherConfig(shuffle=True), view_sources.memory())


def test_a_view_that_makes_records_reads_its_parent_by_index() -> None:
    view = Pairs(LoggedConfig(), view_sources.memory())
    assert view.access == "host"
    assert plain(list(pipeline_of(view, num_epochs=1)))[0]["ids"][:3] == [[0, 1], [2, 3], [4, 5]]
    assert len(view) == COUNT // 2
    nested = EveryOther(
        EveryOtherConfig(), Pairs(LoggedConfig(), EveryOther(EveryOtherConfig(), view_sources.memory()))
    )
    assert plain(nested.get_batch(2)) == {"ids": [[5, 7], [13, 15]]}


def test_a_view_of_a_mixture_is_the_mixture_of_views() -> None:
    children = view_sources.memory(shuffle=True), view_sources.memory()
    for parent in (view_sources.mixture(*children), Logged(LoggedConfig(), view_sources.mixture(*children))):
        view = EveryOther.over(EveryOtherConfig(), parent)
        expected = view_sources.mixture(*(EveryOther(EveryOtherConfig(), child) for child in children))
        assert plain(list(pipeline_of(view))) == plain(list(pipeline_of(expected)))
    with pytest.raises(
        ValueError, match=r"^EveryOther has an order of its own, which would lose how often Logged of Mix"
    ):
        EveryOther(EveryOtherConfig(), parent)


def test_a_view_refuses_what_it_cannot_be_of() -> None:
    with pytest.raises(NotImplementedError, match=r"^EveryOther 'it' needs records by index, and Numbers is a stream"):
        EveryOther(EveryOtherConfig(), view_sources.Numbers(view_sources.NumbersConfig()), name="it")
    for choose, name in ((lambda source: source.where(id=3), "where"), (lambda source: source.filter(len), "filter")):
        with pytest.raises(NotImplementedError, match=rf"^{name}\(\) needs records by index, and Numbers is a stream"):
            choose(view_sources.Numbers(view_sources.NumbersConfig()))
    with pytest.raises(ValueError, match=r"^cacheable=True has no use in SourceView of MemorySource"):
        SourceView(LoggedConfig(cacheable=True), view_sources.memory())
    with pytest.raises(TypeError, match=r"^SourceView is a view of one source, and was given 0$"):
        SourceView(LoggedConfig())
    with pytest.raises(TypeError, match=r"^SourceView is a view of one source, and was given 2$"):
        SourceView(LoggedConfig(), view_sources.memory(), view_sources.memory())
    not_a_source: Any = [1, 2]
    with pytest.raises(TypeError, match=r"^SourceView is a view of .*, not of a LoggedConfig: the config goes first$"):
        SourceView(LoggedConfig(), LoggedConfig())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^SourceView is a view of a source, not of .*from_sequence"):
        SourceView(LoggedConfig(), not_a_source)


def test_wrong_indices_of_an_author_are_named() -> None:
    class Beyond(EveryOther):
        def parent_indices(self, indices: np.ndarray) -> np.ndarray:
            return indices + 30

        traced_map = SourceView.traced_map

    class Short(Beyond):
        def parent_indices(self, indices: np.ndarray) -> np.ndarray:
            return indices[1:]

    view = Beyond(EveryOtherConfig(), view_sources.memory())
    with pytest.raises(IndexError, match=r"maps its record 7 to record 37 of its parent, which has 37 records$"):
        view.fetch(np.array([2, 7]))
    with pytest.raises(IndexError, match=r"^record 18 is out of range: Beyond of MemorySource has 18 records$"):
        view.fetch(np.array([18]))
    with pytest.raises(TypeError, match=r"returned int64 \(1,\) for 2 indices; return the parent's record index"):
        Short(EveryOtherConfig(), view_sources.memory()).fetch(np.array([2, 7]))


def test_a_view_without_a_length_says_so() -> None:
    class Unsized(SourceView):
        renumbers = True

    with pytest.raises(TypeError, match=r"^Unsized of MemorySource has no length: it does not define __len__\(\)$"):
        len(Unsized(LoggedConfig(), view_sources.memory()))
    with pytest.raises(TypeError, match=r"^SourceView of Numbers has no length: Numbers has none$"):
        len(SourceView(LoggedConfig(), view_sources.Numbers(view_sources.NumbersConfig())))


def test_a_state_of_another_parent_is_refused() -> None:
    one = SourceView(LoggedConfig(), view_sources.memory(shuffle=True))
    other = SourceView(LoggedConfig(), view_sources.memory({"id": np.arange(9)}, shuffle=True))
    with pytest.raises(StateError, match=r"parents\.0\.length"):
        other.set_state(one.get_state())
    view = EveryOther(EveryOtherConfig(), view_sources.memory(shuffle=True), name="a")
    unshuffled = EveryOther(EveryOtherConfig(shuffle=False), view_sources.memory(shuffle=True))
    with pytest.raises(StateError, match="order"):
        unshuffled.set_state(view.get_state())


def test_reset_with_a_seed_reseeds_the_order_that_is_served() -> None:
    view, parent = SourceView(LoggedConfig(), view_sources.memory(shuffle=True)), view_sources.memory(shuffle=True)
    view.reset(7)
    parent.reset(7)
    assert plain(view.get_batch(9)) == plain(parent.get_batch(9))


def test_records_are_cached_by_a_view_on_the_host() -> None:
    Logged.reads.clear()
    view = Logged(LoggedConfig(cacheable=True), view_sources.memory(placement="host"))
    for _ in range(3):
        assert plain(view.fetch(np.arange(5)))["id"] == list(range(5))
    assert Logged.reads == [5]
    view.reset_cache()
    view.fetch(np.arange(5))
    assert Logged.reads == [5, 5]


def test_records_that_vary_by_epoch_do_so_through_views() -> None:
    data = grain.MapDataset.source([{"id": np.int64(i)} for i in range(12)]).seed(3)
    varying = data.random_map(lambda record, rng: {"id": record["id"] * 100 + rng.integers(100)})
    source = from_sequence(varying)
    served = [plain(batch["id"]) for batch in pipeline_of(source, num_epochs=3)]
    epochs = np.concatenate(served).reshape(3, 12)
    assert len(np.unique(epochs)) > 30
    for view, rows in (
        (SourceView(LoggedConfig(), source), range(12)),
        (Logged(LoggedConfig(), source), range(12)),
        (EveryOther(EveryOtherConfig(), source), range(1, 12, 2)),
        (source[[3, 5, 1]], [3, 5, 1]),
    ):
        found = np.concatenate([plain(batch["id"]) for batch in pipeline_of(view, num_epochs=3)])
        assert found.tolist() == epochs[:, list(rows)].ravel().tolist()
        steps = pipeline_of(view, num_epochs=None)
        assert steps.step()["id"].tolist() == found[:8].tolist()
    with pytest.raises(
        ValueError, match="differ from epoch to epoch, so that a filter of them would hold for the first"
    ):
        source.where(id=3)


def test_a_filter_of_files_is_kept_for_later_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "cache"))
    for _ in range(2):
        part = view_sources.array_record(tmp_path).where(label=[3, 4])
        assert sorted(int(record["id"]) for record in islice(part, len(part))) == [i for i in range(COUNT) if i % 5 > 2]
    wrapped = Logged(LoggedConfig(), view_sources.array_record(tmp_path))
    Logged.reads.clear()
    assert len(wrapped.where(label=1)) == 8
    assert sum(Logged.reads) == COUNT
    assert len(wrapped.where(label=1)) == 8
    assert sum(Logged.reads) == COUNT
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 2


def test_a_config_that_says_what_a_record_is_cannot_be_named_as_changed() -> None:
    """Windows of another stride, or documents packed otherwise, may be as many: then the config alone tells them apart."""
    records = {"x": np.arange(60)}
    documents = from_sequence([{"x": np.arange(1 + 7 * number % 9)} for number in range(60)])
    changed = [
        [WindowView(WindowViewConfig(length=30, stride=stride), memory(records)) for stride in (20, 30)],
        [PackView(PackViewConfig(length=16, strategy=strategy), documents) for strategy in ("concat", "fit")],
    ]
    for before, after in changed:
        assert len(before) == len(after)
        state = pipeline_of(before).get_state()
        for name in ("config", *(f"config.{key}" for key in ("stride", "strategy") if hasattr(before.config, key))):
            with pytest.raises(
                ValueError, match=f"but cannot name '{name}' of .*: it decides which record a position means"
            ):
                pipeline_of(after).set_state(state, but={name})
        with pytest.raises(StateError, match=r"config was .* and is .* start anew with reset\(\)$"):
            pipeline_of(after).set_state(state)
    wrappers = [Logged(LoudConfig(level=level), memory(records)) for level in (1, 2)]  # what it logs decides no record
    after = pipeline_of(wrappers[1])
    after.set_state(pipeline_of(wrappers[0]).get_state(), but={"config.level"})
    assert after.get_state()["changed"] == [{"at": 0, "config.level": [1, 2]}]
