"""One sequence, served by loops, ``get_batch_at``, the pipeline's loop, ``step`` and ``scan``, and Grain's view."""

from collections import Counter
from itertools import chain, pairwise
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataSourceModule, Pipeline, from_sequence
from datarax_mix import MixDataSourcesNode

KINDS = ["device", "host", "memory on the host"]
MILLION = 1_000_000


def ids_of(batches: Any) -> list[int]:
    return np.concatenate([np.asarray(batch["id"]) for batch in batches]).tolist()


def nested(child: Any, mix: Any, kind: str) -> MixDataSourcesNode:
    """Return a mixture of a mixture of a mixture, of seven children in all."""
    inner = mix([child(0, 7, kind=kind), child(1, 30, kind=kind)], (0.25, 0.75), seed=5)
    middle = mix([inner, child(2, 300), child(3, 12, shuffle=False)], (3, 2, 1), seed=6)
    return mix([child(4, 50, kind=kind), middle, child(5, 9), child(6, 33)], (0.1, 0.6, 0.1, 0.2), seed=7)


def differing_routes(made: MixDataSourcesNode, starts: list[int], size: int) -> dict[tuple[int, str], list[int]]:
    """Return the ids by (start, route) of each route that serves other records than ``get_batch_at``; none should."""
    key, pipeline = made.order_key_data(), Pipeline(source=made, batch_size=size)
    traced_start = jax.jit(lambda start, key: made.get_batch_at(start, size, key)["id"])
    traced_step = nnx.jit(lambda pipeline: pipeline.step()["id"])

    def scan(pipeline: Pipeline) -> Any:
        return pipeline.scan(batch_ids, length=1).ravel()

    differing = {}
    for start in starts:
        expected = np.asarray(made.get_batch_at(start, size, key)["id"]).tolist()
        at = {**pipeline.get_state(), "position": start, "run_start": 0}
        served = {
            "indices": made.fetch(made.record_indices_at(start, size, key))["id"],
            "traced": traced_start(np.int32(start), key),
        }
        for name, route in {"step": lambda p: p.step()["id"], "scan": scan, "traced step": traced_step}.items():
            pipeline.set_state(at)
            served[name] = route(pipeline)
        found = {(start, name): np.asarray(ids).tolist() for name, ids in served.items()}
        differing |= {name: ids for name, ids in found.items() if ids != expected}
    return differing


def batch_ids(batch: Any) -> Any:
    return batch["id"]


@pytest.mark.parametrize("sampling", ["proportional", "categorical"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_route_serves_the_same(child: Any, mix: Any, kind: str, sampling: str) -> None:
    made = mix([child(0, 40, kind=kind), child(1, 300)], (0.7, 0.3), sampling=sampling)
    assert differing_routes(made, [0, 37, 1000], 64) == {}


@pytest.mark.parametrize(("kind", "sampling"), [("device", "proportional"), ("host", "categorical")])
def test_every_route_serves_the_same_at_every_depth(child: Any, mix: Any, kind: str, sampling: str) -> None:
    inner = mix([child(0, 7, kind=kind), child(1, 30)], (0.25, 0.75), seed=5)
    middle = mix([inner, child(2, 300)], (3, 2), seed=6, sampling=sampling)
    assert differing_routes(mix([child(4, 50), middle], (0.3, 0.7), sampling=sampling), [0, 1000], 32) == {}


@pytest.mark.parametrize("options", [{"at_end": (1, "repeat", 3)}, {"stop": "all_seen"}])
def test_every_route_serves_the_same_for_every_end_of_an_epoch(child: Any, mix: Any, options: dict[str, Any]) -> None:
    made = mix([child(0, 10), child(1, 25, kind="host"), child(2, 300)], (0.5, 0.3, 0.2), **options)
    assert differing_routes(made, [0, 33, len(made) - 5, 7 * len(made) + 3], 40) == {}


def test_a_traced_key_selects_the_same_order(child: Any, mix: Any) -> None:
    made = mix([child(0, 40), child(1, 70)], (0.7, 0.3))
    for key in (jax.random.key(3), jax.random.key(3, impl="rbg")):
        traced = jax.jit(lambda key: made.record_indices_at(5, 50, key))(key)
        assert traced.tolist() == made.record_indices_at(5, 50, key).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"sampling": "categorical"}, {"at_end": "drop"}, {"stop": "all_seen"}])
def test_each_loop_serves_the_next_epoch(child: Any, mix: Any, kind: str, options: dict[str, Any]) -> None:
    made = mix([child(0, 20, kind=kind), child(1, 35)], (0.6, 0.4), **options)
    epochs = [[int(element["id"]) for element in made] for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [len(made)] * 3
    pipeline = Pipeline(source=made, batch_size=16, num_epochs=3)
    assert ids_of(pipeline) == list(chain(*epochs))
    assert epochs[0] != epochs[1] != epochs[2]
    made.reset()
    batches = [made.get_batch(8) for _ in range(5)]
    assert ids_of(batches) == list(chain(*epochs))[:40]
    assert (made.index, made.epoch) == (40 % len(made), 40 // len(made))


@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0.05, 0.2, 1, 1, 2.5])), min_size=1, max_size=5),
    st.integers(0, 10**12),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_batch_sizes_do_not_matter_and_no_record_repeats_within_an_epoch_of_its_child(
    child: Any, mix: Any, children: list[tuple[int, float]], start: int, data: st.DataObject
) -> None:
    made = mix([child(n, length) for n, (length, _) in enumerate(children)], [weight for _, weight in children])
    key, size = made.order_key_data(), 1000
    whole = made.record_indices_at(start, size, key)
    cuts = sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=4))})
    parts = [made.record_indices_at(start + a, b - a, key) for a, b in pairwise(cuts) if b > a]
    assert np.concatenate(parts).tolist() == whole.tolist()
    epochs = made.epochs_at(start, size)
    served = list(zip(epochs.tolist(), whole.tolist(), strict=True))
    assert len(set(served)) == size  # an epoch and a record come together once
    counts = made.timeline.counts(start + size) - made.timeline.counts(start)
    offsets = np.cumsum([0, *(length for length, _ in children)])
    found = np.bincount(np.searchsorted(offsets[1:], whole, side="right"), minlength=len(children))
    assert found.tolist() == counts.tolist()


def test_every_epoch_of_a_child_is_complete(child: Any, mix: Any) -> None:
    made = nested(child, mix, "host")
    key = made.order_key_data()
    served: Counter[tuple[int, int]] = Counter()
    indices, epochs = made.record_indices_at(0, 20_000, key), made.epochs_at(0, 20_000)
    for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True):
        served[epoch, index] += 1
    assert set(served.values()) == {1}
    ids = np.asarray(made.fetch(np.arange(made.num_records))["id"])
    for number, length in enumerate((7, 30, 300, 12, 50, 9, 33)):
        own = [epoch for (epoch, index) in served if ids[index] // MILLION == number]
        assert all(count == length for epoch, count in Counter(own).items() if epoch < max(own))


def test_a_child_is_served_in_its_own_order_with_the_key_of_its_place(child: Any, mix: Any) -> None:
    first, second = child(0, 50), child(1, 70, shuffle=False)
    made = mix([first, second], (0.5, 0.5))
    served = made.record_indices_at(0, 100, made.order_key_data())
    key = jax.random.fold_in(jax.random.wrap_key_data(made.order_key_data()), 0)
    assert [r for r in served if r < 50] == first.record_indices_at(0, 50, key).tolist()
    assert [r - 50 for r in served if r >= 50] == list(range(50))


def test_another_seed_is_another_order_of_the_same_schedule(child: Any, mix: Any) -> None:
    one, other = (mix([child(0, 40), child(1, 40)], seed=seed) for seed in (0, 1))
    (a, b) = ([int(element["id"]) for element in made] for made in (one, other))
    assert a != b
    assert [i // MILLION for i in a] == [i // MILLION for i in b]
    one.reset(seed=1)
    assert [int(element["id"]) for element in one] == b


def test_two_like_children_are_shuffled_differently(child: Any, mix: Any) -> None:
    made = mix([child(0, 60), child(0, 60)])
    indices = made.record_indices_at(0, 120, made.order_key_data())
    assert [i for i in indices if i < 60] != [i - 60 for i in indices if i >= 60]


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_grain_s_view_is_the_same_sequence(child: Any, mix: Any, num_epochs: int) -> None:
    for made in (
        nested(child, mix, "host"),
        mix([child(0, 20), child(1, 50)], (0.8, 0.2), sampling="categorical"),
        mix([child(0, 20), child(1, 50)], (0.8, 0.2), at_end="drop", source_field="source"),
    ):
        served = [element for _ in range(num_epochs) for element in made]
        viewed = list(made.to_grain_iter_dataset(num_epochs))
        assert [int(e["id"]) for e in viewed] == [int(e["id"]) for e in served]
        assert [sorted(e) for e in viewed] == [sorted(e) for e in served]
        endless = iter(made.to_grain_iter_dataset(None))
        assert [int(next(endless)["id"]) for _ in range(len(made) + 5)][: len(served)] == [
            int(e["id"]) for e in served[: len(made) + 5]
        ]


def test_grain_batches_and_resumes_our_view(child: Any, mix: Any) -> None:
    made = mix([child(0, 20), child(1, 50)], (0.8, 0.2))
    data = made.to_grain_iter_dataset().batch(10)
    iterator = iter(data)
    first = [next(iterator)["id"].tolist() for _ in range(3)]
    state = iterator.get_state()
    rest = [batch["id"].tolist() for batch in iterator]
    resumed = iter(data)
    resumed.set_state(state)
    assert [batch["id"].tolist() for batch in resumed] == rest
    assert list(chain(*first, *rest)) == [int(element["id"]) for element in made]


def test_any_data_set_of_grain_s_is_a_child(child: Any, mix: Any) -> None:
    import grain  # noqa: PLC0415 - only here

    def record(i: int) -> dict[str, np.ndarray]:
        return {"id": np.int32(9 * MILLION + i), "x": np.zeros(2, np.float32)}

    theirs = grain.MapDataset.range(40).map(record)
    made = mix([child(0, 60), from_sequence(theirs, shuffle=True)], (0.5, 0.5))
    ids = ids_of(Pipeline(source=made, batch_size=10))
    assert len(ids) == 100
    own = [i for i in ids if i >= 9 * MILLION]
    assert (sorted(own[:40]), len(own)) == ([9 * MILLION + i for i in range(40)], 50)


def test_parts_of_sources_are_children(child: Any, mix: Any) -> None:
    parts = child(0, 100).split(train=0.8, test=0.2)
    made = mix([parts["train"], child(1, 50, kind="host")[10:30]], (0.5, 0.5))
    ids = ids_of(Pipeline(source=made, batch_size=20))
    train = {int(element["id"]) for element in parts["train"]}
    assert {i for i in ids if i < MILLION} <= train
    assert {i for i in ids if i >= MILLION} == {MILLION + i for i in range(10, 30)}
    on_device = mix([parts["train"], parts["test"], child(1, 9)], (1, 1, 1))
    assert on_device.access == "device"
    assert {i for i in ids_of(Pipeline(source=on_device, batch_size=10, num_epochs=4)) if i < MILLION} == set(
        range(100)
    )


def test_a_split_of_a_mixture_is_mixtures_of_the_same_proportions(child: Any, mix: Any) -> None:
    made = mix([child(0, 100), child(1, 50, kind="host")], (0.8, 0.2))
    parts = made.split(train=0.8, test=0.2, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 120, "test": 30}
    assert parts["train"].counts_at(100) == {"0": 80, "1": 20}
    served = {name: {int(e["id"]) for _ in range(9) for e in part} for name, part in parts.items()}
    assert served["train"] & served["test"] == set()
    assert len(served["train"] | served["test"]) == 150


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_named_by_their_index_through_the_children(child: Any, mix: Any, kind: str) -> None:
    made = mix([child(0, 10, kind=kind), child(1, 20)], (0.9, 0.1))
    assert [int(made[i]["id"]) for i in (0, 9, 10, -1)] == [0, 9, MILLION, MILLION + 19]
    batch = made.fetch(np.asarray([12, 3, 29, 3]))
    assert np.asarray(batch["id"]).tolist() == [MILLION + 2, 3, MILLION + 19, 3]
    with pytest.raises(IndexError, match="record 30 is out of range"):
        made[30]


def test_a_zero_weight_means_never(child: Any, mix: Any) -> None:
    made = mix([child(0, 10), child(1, 20), child(2, 5)], (0.5, 0, 0.5))
    assert len(made) == 35
    assert made.counts_at(10**12) == {"0": 5 * 10**11, "1": 0, "2": 5 * 10**11}
    assert 1 not in {int(e["id"]) // MILLION for e in made}
    drawn = mix([child(0, 10), child(1, 20)], (1, 0), sampling="categorical")
    assert {int(e["id"]) // MILLION for e in drawn} == {0}


def test_children_of_very_different_sizes_and_weights_stay_exact(child: Any, mix: Any) -> None:
    made = mix([child(0, 3), child(1, 1_000_000, kind="host")], (1e-6, 1 - 1e-6))
    assert made.counts_at(10**12) == {"0": 10**6, "1": 10**12 - 10**6}
    for epochs in (1, 7, 10**6):
        assert made.counts_at(epochs * 10**6) == {"0": epochs, "1": epochs * 999_999}
    position = made.timeline.position_after(0, 10**6 - 2) - 1
    assert made.record_indices_at(position, 1, made.order_key_data())[0] < 3
    assert made.epochs_at(position, 1).tolist() == [(10**6 - 3) // 3]


def test_the_children_s_own_positions_are_not_moved(child: Any, mix: Any) -> None:
    children: list[DataSourceModule] = [child(0, 10), child(1, 20)]
    made = mix(children)
    list(made)
    assert [one.cursor.position for one in children] == [0, 0]
    next(children[0])
    made.reset()
    assert [one.cursor.position for one in children] == [0, 0]
