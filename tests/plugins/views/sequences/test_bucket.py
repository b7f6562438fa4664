"""Views of buckets: the batches that a pipeline serves, against the documents themselves."""

import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from datarax_core import Pipeline, build_source
from datarax_core.records import Ragged, joined_batches
from datarax_core.sources import SourceView
from datarax_core.stages import Pad
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import BucketView, BucketViewConfig

COUNT = 400
LENGTHS = np.minimum(np.random.default_rng(0).lognormal(2.5, 0.8, COUNT).astype(np.int64) + 1, 60)
TOKENS = Ragged(np.random.default_rng(1).integers(1, 1000, LENGTHS.sum(), np.int32), np.cumsum([0, *LENGTHS]))
BOUNDS = (8, 16, 32, 64)


def documents(*, shuffle: bool = True, **fields: Any) -> MemorySource:
    data = {"tokens": TOKENS, "id": np.arange(COUNT, dtype=np.int32), **fields}
    return MemorySource(MemorySourceConfig(shuffle=shuffle), data, rngs=nnx.Rngs(0))


def bucketed(source: Any = None, **options: Any) -> BucketView:
    config = BucketViewConfig(**{"field": "tokens", "bounds": BOUNDS, "batch_size": 12, **options})
    return BucketView(config, documents() if source is None else source)


def pipeline_of(view: Any, **options: Any) -> Pipeline:
    return Pipeline(source=view, batch_size=None, rngs=nnx.Rngs(0), **options)


def on_host(batch: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in batch.items()}


def bound_of(length: int, bounds: tuple[int, ...] = BOUNDS) -> int:
    return min(bound for bound in bounds if bound >= length)


def require_padded(batch: dict[str, np.ndarray], bound: int) -> None:
    for row, index in enumerate(batch["id"].tolist()):
        document = np.asarray(TOKENS[index])
        assert batch["tokens"][row].tolist() == [*document.tolist(), *[0] * (bound - len(document))]


# -- batches ----------------------------------------------------------------------------------------------------------------


def test_a_batch_is_padded_to_the_bound_of_its_bucket() -> None:
    served = []
    for batch in map(on_host, pipeline_of(bucketed(mask_field="is_token", lengths_as="length"))):
        bound = batch["tokens"].shape[1]
        assert {bound_of(LENGTHS[index]) for index in batch["id"]} == {bound}
        assert batch["is_token"].shape == batch["tokens"].shape
        assert np.array_equal(batch["is_token"], np.arange(bound) < LENGTHS[batch["id"]][:, None])
        assert batch["length"].tolist() == LENGTHS[batch["id"]].tolist()
        require_padded(batch, bound)
        served.append(batch["id"])
    assert sorted(np.concatenate(served).tolist()) == list(range(COUNT))


def test_a_mask_on_the_left_and_padding_of_another_value() -> None:
    view = bucketed(side="left", pad_value=-1, mask_field="m")
    batch = on_host(next(iter(pipeline_of(view))))
    assert (batch["tokens"][~batch["m"]] == -1).all()
    for row, index in enumerate(batch["id"].tolist()):
        assert batch["tokens"][row, batch["m"][row]].tolist() == TOKENS[index].tolist()
        assert batch["m"][row, -1]


def test_tokens_of_a_batch_decide_how_many_records_it_has() -> None:
    pipeline = pipeline_of(bucketed(batch_size=None, tokens=256, batch_multiple_of=3, remainder="drop"))
    shapes = {np.asarray(batch["tokens"]).shape for batch in pipeline}
    assert shapes == {(30, 8), (15, 16), (6, 32), (3, 64)}


@pytest.mark.parametrize("shuffle", [None, False])
def test_each_epoch_serves_each_record_once_and_batches_anew(shuffle: bool | None) -> None:  # noqa: FBT001 - a parameter
    pipeline = pipeline_of(bucketed(shuffle=shuffle), num_epochs=3)
    batches = [on_host(batch)["id"] for batch in pipeline]
    assert len(pipeline) == len(batches)
    per_epoch = len(batches) // 3
    epochs = [batches[start : start + per_epoch] for start in range(0, len(batches), per_epoch)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch).tolist()) == list(range(COUNT))
    together = [{tuple(sorted(batch.tolist())) for batch in epoch} for epoch in epochs]
    assert (together[0] == together[1]) == (shuffle is False)
    if shuffle is False:
        assert [max(batch) for batch in epochs[0][:-4]] == sorted(max(batch) for batch in epochs[0][:-4])


def test_records_that_are_left_out_differ_from_epoch_to_epoch() -> None:
    pipeline = pipeline_of(bucketed(remainder="drop"), num_epochs=4)
    served = [on_host(batch)["id"] for batch in pipeline]
    assert {len(ids) for ids in served} == {12}
    numbers = np.bincount(np.concatenate(served), minlength=COUNT)
    left_out = 4 * COUNT - numbers.sum()
    assert left_out == 4 * sum(
        int(np.count_nonzero([bound_of(length) == bound for length in LENGTHS])) % 12 for bound in BOUNDS
    )
    assert numbers.min() > 0


def test_bounds_that_are_found_need_the_least_padding() -> None:
    view = bucketed(bounds=None, buckets=3, multiple_of=4)
    possible = sorted({-(-length // 4) * 4 for length in LENGTHS.tolist()})
    best = min(
        sum(bound_of(length, (one, two, possible[-1])) for length in LENGTHS)
        for number, one in enumerate(possible)
        for two in possible[number:]
    )
    assert sum(bound_of(length, view.planned.bounds) for length in LENGTHS) == best
    assert view.planned.padding == pytest.approx(1 - LENGTHS.sum() / best)


def test_records_that_are_too_long_are_cut_or_left_out() -> None:
    cut = bucketed(bounds=(8, 20), too_long="truncate", lengths_as="length")
    served = [on_host(batch) for batch in pipeline_of(cut)]
    assert sorted(np.concatenate([batch["id"] for batch in served]).tolist()) == list(range(COUNT))
    for batch in served:
        assert batch["length"].tolist() == np.minimum(LENGTHS[batch["id"]], 20).tolist()
    left = bucketed(bounds=(8, 20), too_long="drop")
    ids = np.concatenate([on_host(batch)["id"] for batch in pipeline_of(left)])
    assert sorted(ids.tolist()) == np.flatnonzero(LENGTHS <= 20).tolist()
    assert left.epoch_length == len(ids)
    assert not left.verify_records(np.arange(COUNT)).errors
    longest = int(np.argmax(LENGTHS))
    with pytest.raises(
        ValueError, match=rf"^record {longest} of .* is longer than 20, and too_long='drop' leaves it out"
    ):
        left[longest]
    found = bucketed(bounds=None, buckets=2, max_length=24, too_long="drop")
    assert found.planned.bounds[-1] <= 24


def test_the_longest_field_of_a_record_decides_its_bucket() -> None:
    other = Ragged(np.ones(LENGTHS[::-1].sum(), np.float32), np.cumsum([0, *LENGTHS[::-1]]))
    view = bucketed(documents(target=other), field=("tokens", "target"), pad_value={"target": -100.0})
    longest = np.maximum(LENGTHS, LENGTHS[::-1])
    for batch in map(on_host, pipeline_of(view)):
        bound = batch["tokens"].shape[1]
        assert {bound_of(longest[index]) for index in batch["id"]} == {bound}
        assert batch["target"].shape == batch["tokens"].shape
        assert (batch["target"] == 1).sum(1).tolist() == LENGTHS[::-1][batch["id"]].tolist()
        assert set(np.unique(batch["target"]).tolist()) <= {1.0, -100.0}


def test_lengths_may_come_from_a_field() -> None:
    view = bucketed(documents(count=LENGTHS.astype(np.int32)), length_field="count")
    assert np.array_equal(view.planned.order.classes, bucketed().planned.order.classes)


def test_without_padding_columns_stay_ragged() -> None:
    for batch in pipeline_of(bucketed(pad=False)):
        assert isinstance(batch["tokens"], Ragged)
        ids = np.asarray(batch["id"])
        assert len({bound_of(LENGTHS[index]) for index in ids}) == 1
        assert batch["tokens"].equals(TOKENS[ids])
    stages = [Pad(field="tokens", lengths=BOUNDS)]
    shapes = {np.asarray(batch["tokens"]).shape[1] for batch in pipeline_of(bucketed(pad=False), stages=stages)}
    assert shapes == set(BOUNDS)


def test_records_by_index_are_those_of_the_parent_each_padded_to_its_own_bound() -> None:
    view = bucketed()
    for index in (0, 5, COUNT - 1):
        record = view[index]
        assert record["id"] == index
        assert record["tokens"].shape == (bound_of(LENGTHS[index]),)
    assert [len(record["tokens"]) for record in view.__getitems__(list(range(20)))] == list(map(bound_of, LENGTHS[:20]))
    assert view.fetch(np.arange(20))["tokens"].shape == (20, bound_of(max(LENGTHS[:20])))
    assert view.element_spec()["tokens"].shape == (64,)


# -- routes -----------------------------------------------------------------------------------------------------------------


class Doubled:
    """A host stage of this module, which worker processes import."""

    on_host = True

    def __call__(self, batch: Any) -> Any:
        return {**batch, "doubled": batch["tokens"] * 2}


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({"threads": 3}, []),
        ({"threads": 3}, [Doubled()]),
        ({"prefetch": 0}, [Doubled()]),
        ({"workers": 2}, []),
        ({"workers": 2, "threads": 2}, [Doubled()]),
    ],
)
def test_every_way_of_reading_serves_the_same_batches(options: dict[str, Any], stages: list[Any]) -> None:
    expected = [on_host(batch) for batch in pipeline_of(bucketed(mask_field="m"))]
    pipeline = pipeline_of(bucketed(mask_field="m"), stages=stages, **options)
    for wanted, batch in zip(expected, map(on_host, pipeline), strict=True):
        assert all(np.array_equal(wanted[name], batch[name]) for name in wanted)
        if stages:
            assert np.array_equal(batch["doubled"], wanted["tokens"] * 2)
    pipeline.close()


def test_steps_serve_what_a_loop_serves() -> None:
    pipeline, twin = pipeline_of(bucketed(), num_epochs=None), pipeline_of(bucketed(), num_epochs=2)
    for batch in twin:
        assert np.array_equal(np.asarray(pipeline.step()["id"]), np.asarray(batch["id"]))


def test_a_compiled_stage_is_compiled_once_for_each_shape() -> None:
    traced = []

    def summed(batch: Any) -> Any:
        traced.append(batch["tokens"].shape)
        return {"id": batch["id"], "sum": jnp.sum(jnp.where(batch["m"], batch["tokens"], 0), axis=1)}

    view = bucketed(remainder="drop", mask_field="m", pad_value=7)
    pipeline = pipeline_of(view, stages=[summed], num_epochs=3)
    sums = np.array([document.sum() for document in TOKENS])
    for batch in map(on_host, pipeline):
        assert batch["sum"].tolist() == sums[batch["id"]].tolist()
    in_loop = traced[-len(BOUNDS) :]
    assert sorted(in_loop) == [(12, bound) for bound in BOUNDS]
    assert "stages in compiled code are compiled once for each" in pipeline.explain()


def test_random_stages_draw_for_a_record_as_they_do_without_buckets() -> None:
    class Noise:
        stochastic = True

        def __call__(self, batch: Any, keys: Any) -> Any:
            return {"id": batch["id"], "noise": jax.vmap(jax.random.uniform)(keys)}

    plain = Pipeline(
        source=documents(), stages=[Pad(field="tokens", length=64), Noise()], batch_size=50, rngs=nnx.Rngs(0)
    )
    padded = pipeline_of(bucketed(bounds=(16, 64), batch_size=100), stages=[Pad(field="tokens", length=64), Noise()])
    noise = [joined_batches([on_host(batch) for batch in each]) for each in (plain, padded)]
    by_id = [each["noise"][np.argsort(each["id"])] for each in noise]
    assert np.array_equal(*by_id)


@pytest.mark.parametrize("cut", [0, 1, 17, 33, 60])
@pytest.mark.parametrize("pad_last", [None, "valid"])
def test_a_run_resumes_at_any_batch(cut: int, pad_last: str | None) -> None:
    def made() -> Pipeline:
        return pipeline_of(bucketed(batch_size=None, tokens=200), num_epochs=2, pad_last=pad_last)

    expected = [on_host(batch)["id"] for batch in made()]
    pipeline = made()
    loop = iter(pipeline)
    for _ in range(cut):
        next(loop)
    twin = made()
    twin.set_state(pipeline.get_state())
    found = [on_host(batch)["id"] for batch in twin]
    assert len(found) == len(expected) - cut
    assert all(map(np.array_equal, found, expected[cut:]))


def test_bytes_are_counted_as_they_were_served() -> None:
    pipeline = pipeline_of(bucketed())
    served = [on_host(batch) for batch in pipeline]
    assert pipeline.stats()["bytes"] == sum(column.nbytes for batch in served for column in batch.values())


def test_short_batches_can_be_completed() -> None:
    pipeline = pipeline_of(bucketed(), pad_last="valid")
    served = [on_host(batch) for batch in pipeline]
    assert {batch["tokens"].shape for batch in served} == {(12, bound) for bound in BOUNDS}
    real = np.concatenate([batch["id"][batch["valid"]] for batch in served])
    assert sorted(real.tolist()) == list(range(COUNT))
    assert sum((~batch["valid"]).any() for batch in served) == 4


def test_each_process_would_read_its_rows_of_a_batch_of_one_bucket() -> None:
    view = bucketed(batch_size=None, tokens=512, batch_multiple_of=4, remainder="drop")
    sizes, key = view.batch_sizes, view.order_key_data()
    position = 0
    for _ in range(2 * sizes.batches_before(view.epoch_length)):
        size = sizes.at(position)
        whole = view.fetch(view.record_indices_at(position, size, key))
        for hosts in (2, 4):
            twins = [bucketed(batch_size=None, tokens=512, batch_multiple_of=4, remainder="drop") for _ in range(hosts)]
            rows = np.arange(size).reshape(hosts, -1)
            parts = [
                twin.fetch(twin.record_indices_at(position, size, key)[own])
                for twin, own in zip(twins, rows, strict=True)
            ]
            assert np.array_equal(np.concatenate([part["tokens"] for part in parts]), whole["tokens"])
        position += size


def test_batches_are_laid_out_over_a_mesh() -> None:
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    view = bucketed(batch_size=None, tokens=64 * 2 * len(devices), batch_multiple_of=len(devices))
    served = [on_host(batch) for batch in pipeline_of(view, sharding=sharding, pad_last="valid")]
    real = np.concatenate([batch["id"][batch["valid"]] for batch in served])
    assert sorted(real.tolist()) == list(range(COUNT))


# -- configs, copies, reports -----------------------------------------------------------------------------------------------


def test_a_pipeline_of_a_config_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **{"tokens": TOKENS.values, "tokens.offsets": TOKENS.offsets, "id": np.arange(COUNT)})
    (tmp_path / "p.yaml").write_text(
        "seed: 1\nsource:\n  type: bucket\n  field: tokens\n  buckets: 4\n  tokens: 512\n  mask_field: m\n"
        "  source: {type: memory, path: d.npz, shuffle: true}\n"
        "stages:\n  - {type: rescale, field: m, scale: 0.5, dtype: float32}\n"
    )
    pipeline = Pipeline.from_config(tmp_path / "p.yaml")
    batches = [on_host(batch) for batch in pipeline]
    assert sorted(np.concatenate([batch["id"] for batch in batches]).tolist()) == list(range(COUNT))
    assert max(batch["tokens"].size for batch in batches) <= 512
    assert batches[0]["m"].dtype == np.float32


def test_copies_and_pickles_serve_the_same_batches() -> None:
    view = bucketed()
    expected = view.record_indices_at(0, 900, view.order_key_data())
    for twin in (view.copy(), pickle.loads(pickle.dumps(view)), nnx.clone(view)):  # noqa: S301 - made here
        assert np.array_equal(twin.record_indices_at(0, 900, twin.order_key_data()), expected)
    view.reset(seed=3)
    assert not np.array_equal(view.record_indices_at(0, 900, view.order_key_data()), expected)
    batch = on_host(next(iter(pipeline_of(view))))
    require_padded(batch, batch["tokens"].shape[1])


def test_an_order_that_is_changed_changes_the_sizes_too() -> None:
    view = bucketed(batch_size=None, tokens=256)
    pipeline = pipeline_of(view)
    view.set_random_order(False)
    for batch in map(on_host, pipeline):
        assert len({bound_of(LENGTHS[index]) for index in batch["id"]}) == 1


def test_a_wrapper_of_buckets_serves_their_batches() -> None:
    class Counted(SourceView):
        reads = 0

        def read_parent(self, indices: np.ndarray, parent: int = 0) -> Any:
            type(self).reads += 1
            return super().read_parent(indices, parent)

    wrapper = Counted(MemorySourceConfig(), bucketed())
    found = [on_host(batch) for batch in pipeline_of(wrapper, stages=[Doubled()])]
    for wanted, batch in zip(map(on_host, pipeline_of(bucketed())), found, strict=True):
        assert np.array_equal(wanted["tokens"], batch["tokens"])
    assert Counted.reads >= len(found)


def test_a_description_of_the_buckets() -> None:
    lines = bucketed(remainder="drop").describe_view().splitlines()
    assert lines[0].startswith("4 buckets: ")
    assert "padding" in lines[0]
    assert "if all were as long as 64" in lines[0]
    assert len(lines) == 5
    assert lines[1].startswith("  up to 8: ")
    assert lines[2].startswith("  9 to 16: ")
    assert "left out each epoch" in "".join(lines)
    cut = bucketed(bounds=(20,), too_long="truncate").describe_view()
    assert f"{np.count_nonzero(LENGTHS > 20)} records longer than 20, cut" in cut


def test_a_state_of_other_buckets_is_refused() -> None:
    state = pipeline_of(bucketed()).get_state()
    with pytest.raises(ValueError, match=r"batch_size"):
        pipeline_of(bucketed(batch_size=10)).set_state(state)
    longer = Ragged(TOKENS.values, np.append(TOKENS.offsets[:-2], [TOKENS.offsets[-2] - 5, TOKENS.offsets[-1]]))
    assert bucketed(documents(tokens=longer)).view_fingerprint() != bucketed().view_fingerprint()


def test_build_source_of_a_mapping() -> None:
    with pytest.raises(ValueError, match=r"bucket in a config needs its 'source'"):
        build_source({"type": "bucket", "field": "tokens", "bounds": [8], "batch_size": 2})
