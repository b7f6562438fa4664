"""Draws with replacement: in proportion, by any route, at any position, with copies that are told apart."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataSourceModule, Pipeline, columns_of
from datarax_core.order import fold_in
from datarax_core.pipeline import build_source
from datarax_core.sources import SourceView
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import SampleView, SampleViewConfig

MakeSource = Callable[..., DataSourceModule]
RNGS = 5


def sampled(source: DataSourceModule, given: Any = None, **options: Any) -> SampleView:
    return SampleView(SampleViewConfig(**options), source, given, rngs=nnx.Rngs(RNGS))


def indices(view: DataSourceModule, start: int, size: int) -> np.ndarray:
    return np.asarray(view.record_indices_at(start, size, view.order_key_data()))


def drawn_by_hand(weights: list[int], key: Any, position: int) -> int:
    """Return the record of one draw for small whole weights, by Python's integers: a column, and a point in it."""
    length, total = len(weights), sum(weights)
    low, high = np.array([position & 0xFFFFFFFF], np.uint32), np.array([position >> 32], np.uint32)
    upper, lower = np.asarray(fold_in(np.asarray(key), low, high))[:, 0].tolist()
    column, point = divmod((upper << 32 | lower) * length >> 32, 1 << 32)
    # fill the columns one by one, each from its own record and then from the first one with more than a column
    left = [weight * length * (1 << 32) // total for weight in weights]
    assert sum(left) == length << 32, "weights that need no rounding"
    light = [record for record in range(length) if left[record] < 1 << 32]
    heavy = [record for record in range(length) if left[record] > 1 << 32]
    bound, alias = {record: left[record] for record in light}, {}
    current = 0
    for record in light:
        while left[heavy[current]] <= 1 << 32:
            current += 1
        alias[record] = heavy[current]
        left[heavy[current]] -= (1 << 32) - bound[record]
        if left[heavy[current]] < 1 << 32:  # used up: this one's column is filled from the next
            bound[heavy[current]] = left[heavy[current]]
            while current + 1 < len(heavy) and left[heavy[current]] < 1 << 32:
                alias[heavy[current]] = heavy[current + 1]
                left[heavy[current + 1]] -= (1 << 32) - left[heavy[current]]
                current += 1
                if left[heavy[current]] < 1 << 32:
                    bound[heavy[current]] = left[heavy[current]]
    return column if point < bound.get(column, 1 << 32) else alias[column]


@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.integers(0, 9), min_size=1, max_size=8), position=st.integers(0, 2**62))
def test_a_draw_is_the_one_that_plain_integers_give(weights: list[int], position: int) -> None:
    total = sum(weights)
    if total not in (1, 2, 4, 8, 16, 32):
        weights = [*weights, next(2**k for k in range(10) if 2**k > total) - total]
    source = MemorySource(MemorySourceConfig(), columns_of({"id": np.arange(len(weights))}, "rows"))
    view = sampled(source, weights)
    expected = [drawn_by_hand(weights, view.order_key_data(), at) for at in range(position, position + 5)]
    assert indices(view, position, 5).tolist() == expected


@pytest.mark.parametrize("placement", ["device", "host"])
def test_every_route_serves_the_same_draws(placement: Any) -> None:
    columns = columns_of({"id": np.arange(40, dtype=np.int32)}, "rows")

    def pipeline() -> Pipeline:
        source = MemorySource(MemorySourceConfig(placement=placement), columns)
        return Pipeline(source=sampled(source, weights="id", draws=30), batch_size=7, num_epochs=None)

    looped = [np.asarray(batch["id"]) for batch, _ in zip(pipeline(), range(5), strict=False)]
    expected = indices(pipeline().source, 0, 35).reshape(5, 7)
    assert np.array_equal(looped, expected)
    assert np.array_equal(pipeline().scan(lambda batch: batch["id"], length=5), expected)
    stepped, under_jit = pipeline(), pipeline()
    step = nnx.jit(lambda pipeline: pipeline.step()["id"])
    assert np.array_equal([stepped.step()["id"] for _ in range(5)], expected)
    assert np.array_equal([step(under_jit) for _ in range(5)], expected)


@pytest.mark.parametrize("start", [0, 29, 2**31 - 50])
def test_traced_positions_and_keys_give_the_same_draws_and_epochs(source: DataSourceModule, start: int) -> None:
    view = sampled(source, weights="id")
    key = view.order_key_data()
    assert np.array_equal(jax.jit(lambda at: view.record_indices_at(at, 40, key))(start), indices(view, start, 40))
    traced = jax.jit(lambda key: view.record_indices_at(2**40 + start, 40, key))(key)
    assert np.array_equal(traced, indices(view, 2**40 + start, 40))
    assert np.array_equal(jax.jit(lambda at: view.epochs_at(at, 40))(start), view.epochs_at(start, 40))


def test_a_loop_of_an_epoch_has_as_many_draws_as_the_config_says(source: DataSourceModule) -> None:
    assert len(list(sampled(source))) == len(source) == len(sampled(source))
    view = sampled(source, draws=17)
    assert (len(view), view.num_records, len(list(view)), view.serves_each_once) == (17, len(source), 17, False)
    pipeline = Pipeline(source=view, batch_size=5)
    assert [len(batch["id"]) for batch in pipeline] == [5, 5, 5, 2]
    again = [int(index) for batch in pipeline for index in batch["id"]]
    assert again == indices(view, 17, 17).tolist()  # the second epoch draws anew


def test_balanced_classes_come_equally_often(source: DataSourceModule) -> None:
    view = sampled(source, balanced="label")
    counts = view.class_counts_at(40_000)
    assert counts.keys() == {1, 3, 7}
    assert sum((count - 40_000 / 3) ** 2 for count in counts.values()) / (40_000 / 3) < 13.8  # one in a thousand
    within = view.counts_at(40_000)[np.asarray(source.whole_column("label")) == 7]
    assert ((within - within.mean()) ** 2).sum() / within.mean() < 26  # each of eight records of the class alike
    assert view.stats_at(300) == {"expected_by_class": {"1": 100.0, "3": 100.0, "7": 100.0}}
    assert "about 13.3 of each of 3 classes, 1 (of 20), 3 (of 12), 7 (of 8)" in view.describe_view()


def test_text_is_balanced_too(source: DataSourceModule) -> None:
    counts = sampled(source, balanced="name").class_counts_at(4000)
    assert counts.keys() == {f"name {number}" for number in range(4)}


def test_weights_are_a_field_a_file_or_an_array(source: DataSourceModule, tmp_path: Path) -> None:
    weights = np.arange(40) ** 2
    np.save(tmp_path / "weights.npy", weights)
    views = [
        sampled(source, weights),
        sampled(source, weights.tolist()),
        sampled(source, weights=tmp_path / "weights.npy"),
        sampled(source, weights / 7),
    ]
    for view in views:
        assert np.array_equal(indices(view, 0, 1000), indices(views[0], 0, 1000))
        assert view.fingerprint()["weights"] == views[0].fingerprint()["weights"]
    by_field = sampled(source, weights="id")
    assert np.array_equal(indices(by_field, 0, 1000), indices(sampled(source, np.arange(40)), 0, 1000))
    assert 0 not in indices(by_field, 0, 10_000)
    assert "1 is never drawn" in by_field.describe_view()


def test_a_field_that_the_source_does_not_hold_in_one_piece_is_read_once(source: DataSourceModule) -> None:
    class Read(SourceView):
        reads = 0

        def read_parent(self, indices: np.ndarray, parent: int = 0) -> Any:
            type(self).reads += len(indices)
            return super().read_parent(indices, parent)

    hooked = Read(source.config, source)
    view = sampled(hooked, weights="id")
    assert Read.reads <= len(source)
    assert np.array_equal(indices(view, 0, 99), indices(sampled(source, weights="id"), 0, 99))


def test_copies_of_a_record_are_augmented_differently(source: DataSourceModule) -> None:
    class Noise(nnx.Module):
        stochastic = True

        def __call__(self, batch: Any, keys: jax.Array) -> Any:
            return {"id": batch["id"], "noise": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}

    weights = np.zeros(len(source))
    weights[[3, 4]] = 1
    pipeline = Pipeline(source=sampled(source, weights), stages=[Noise()], batch_size=20, rngs=nnx.Rngs(0))
    batches = list(pipeline)
    noise = np.concatenate([np.asarray(batch["noise"]) for batch in batches])
    assert set(np.concatenate([np.asarray(batch["id"]) for batch in batches]).tolist()) == {3, 4}
    assert len(np.unique(noise)) == len(noise) == 40


def test_a_mixture_is_drawn_from_by_the_weights_of_the_view(make_source: MakeSource) -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.9, 0.1))
    mix = MixDataSourcesNode(config, [make_source(40), make_source(20)], rngs=nnx.Rngs(0))
    counts = sampled(mix, np.repeat([1, 2], [40, 20])).counts_at(30_000)
    assert abs(counts[:40].sum() / 30_000 - 0.5) < 0.02


@pytest.mark.parametrize("sampling", ["proportional", "categorical"])
def test_a_mixture_of_draws_keeps_the_weights(make_source: MakeSource, sampling: Any) -> None:
    weights = np.zeros(40)
    weights[[1, 5]] = 1, 3
    config = MixDataSourcesConfig(num_sources=2, weights=(0.5, 0.5), sampling=sampling)
    mix = MixDataSourcesNode(config, [sampled(make_source(), weights), make_source(20)], rngs=nnx.Rngs(0))
    drawn = np.bincount(indices(mix, 0, 8000), minlength=60)
    assert set(np.flatnonzero(drawn[:40]).tolist()) == {1, 5}
    assert abs(drawn[5] / drawn[1] - 3) < 0.4
    traced = jax.jit(lambda at: mix.record_indices_at(at, 64, mix.order_key_data()))(100)
    assert np.array_equal(traced, indices(mix, 100, 64))


def test_parts_keep_the_weights_of_their_records(source: DataSourceModule, tmp_path: Path) -> None:
    weights = np.arange(40) % 2
    np.save(tmp_path / "weights.npy", weights)
    for view in (sampled(source, weights), sampled(source, weights=tmp_path / "weights.npy")):
        parts = [*view.split(a=0.5, b=0.5).values(), view[10:30], view[[3, 5, 6]], view.where(label=[1, 3])]
        for part in parts:
            ids = {int(element["id"]) for _ in range(5) for element in part}
            assert all(number % 2 for number in ids), part
        halves = [{int(element["id"]) for element in part} for part in parts[:2]]
        assert not halves[0] & halves[1]
    assert view[7]["id"] == 7
    windows = sampled(source, weights="id").where(label=7)
    assert {int(element["label"]) for element in windows} == {7}


def test_it_resumes_in_the_middle(make_source: MakeSource) -> None:
    def pipeline(size: int) -> Pipeline:
        return Pipeline(source=sampled(make_source(), balanced="label"), batch_size=size, num_epochs=3)

    whole = [int(number) for batch in pipeline(8) for number in batch["id"]]
    first = pipeline(8)
    for _, _ in zip(first, range(4), strict=False):
        pass
    state = first.get_state()
    second = pipeline(8)
    second.set_state(state)
    assert [int(number) for batch in second for number in batch["id"]] == whole[first.cursor.position :]


def test_copies_and_pickles_draw_the_same(source: DataSourceModule) -> None:
    view = sampled(source, np.arange(40))
    unpickled = pickle.loads(pickle.dumps(view))  # noqa: S301 - of this test
    for twin in (view.copy(), nnx.clone(view), unpickled, view.over_parents(source)):
        assert np.array_equal(indices(twin, 5, 100), indices(view, 5, 100))
        assert twin.fingerprint() == view.fingerprint()
    assert not np.array_equal(indices(view.copy(rngs=nnx.Rngs(6)), 5, 100), indices(view, 5, 100))


def test_a_config_names_its_file_and_its_source(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    np.save(tmp_path / "rows" / "id.npy", np.arange(10, dtype=np.int32))
    np.save(tmp_path / "weights.npy", np.arange(10) == 4)
    (tmp_path / "pipeline.yaml").write_text(
        "batch_size: 5\n"
        "source:\n  type: sample\n  weights: weights.npy\n  draws: 12\n  source: {type: memory, path: rows}\n"
    )
    pipeline = Pipeline.from_config(tmp_path / "pipeline.yaml")
    assert [np.asarray(batch["id"]).tolist() for batch in pipeline] == [[4] * 5, [4] * 5, [4] * 2]
    built = build_source({"type": "sample", "source": {"type": "memory", "path": str(tmp_path / "rows")}})
    assert "each equally often" in built.order_title


def test_a_state_of_other_weights_is_refused(source: DataSourceModule) -> None:
    state = sampled(source, np.arange(40)).get_state()
    with pytest.raises(Exception, match="weights"):
        sampled(source, np.arange(40) + 1).set_state(state)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_shards_share_the_draws(num_shards: int) -> None:
    columns = columns_of({"id": np.arange(10, dtype=np.int32)}, "rows")
    whole = sampled(MemorySource(MemorySourceConfig(), columns), weights="id", draws=20)
    together = np.full((num_shards, 21), -1)
    for number in range(num_shards):
        source = MemorySource(MemorySourceConfig(num_workers=num_shards, shard_id=number), columns)
        view = sampled(source, weights="id", draws=20)
        assert len(view) == len(range(number, 20, num_shards))
        together[number] = indices(view, 0, 21)
        epochs = view.epochs_at(0, 21)
        assert np.array_equal(epochs, np.arange(21) * num_shards + number)
        for start in (0, 2**31 - 100):
            key = view.order_key_data()
            traced = jax.jit(lambda at, view=view, key=key: view.record_indices_at(at, 30, key))(start)
            assert np.array_equal(traced, indices(view, start, 30))
            assert np.array_equal(
                jax.jit(lambda at, view=view: view.epochs_at(at, 30))(start), view.epochs_at(start, 30)
            )
    assert np.array_equal(together.T.ravel(), indices(whole, 0, 21 * num_shards))
