"""A view over a mixture is the mixture of that view over each child; views are children like any source."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import DataSourceModule, Pipeline, StateError
from datarax_views import FilterView, FilterViewConfig, SubsetView, SubsetViewConfig, WindowView, WindowViewConfig


def ids_of(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


def even(source: DataSourceModule) -> DataSourceModule:
    """Return the records with an even index."""
    return source[::2]


@pytest.mark.parametrize("kind", ["device", "host", "memory on the host"])
def test_a_mixture_over_views_of_its_children_keeps_weights_key_and_name(child: Any, mix: Any, kind: str) -> None:
    whole = mix({"a": child(0, 40, kind=kind), "b": child(1, 9, kind=kind)}, (0.75, 0.25), seed=3, name="both")
    whole.get_batch(7)
    halves = whole.over_children(even)
    assert (halves.weights, halves.names, halves.name) == (whole.weights, whole.names, "both")
    np.testing.assert_array_equal(halves.order_key_data(), whole.order_key_data())
    assert (halves.access, len(halves), int(halves.index)) == (whole.access, 25, 0)
    by_hand = mix({"a": even(child(0, 40, kind=kind)), "b": even(child(1, 9, kind=kind))}, (0.75, 0.25), seed=3)
    served = [ids_of(batch) for batch in Pipeline(source=halves, batch_size=6, num_epochs=2)]
    assert served == [ids_of(batch) for batch in Pipeline(source=by_hand, batch_size=6, num_epochs=2)]
    assert all(number % 2 == 0 for batch in served for number in batch)


def test_a_mixture_does_not_serve_each_record_once(child: Any, mix: Any) -> None:
    assert mix([child(0, 5), child(1, 5)]).serves_each_once is False


def test_temperature_makes_weights_of_the_new_lengths(child: Any, mix: Any) -> None:
    whole = mix([child(0, 30), child(1, 10)], temperature=1.0)
    assert whole.weights == (0.75, 0.25)
    assert whole.over_children(lambda source: source[:5]).weights == (0.5, 0.5)


def test_an_error_of_a_view_names_the_child(child: Any, mix: Any) -> None:
    whole = mix({"long": child(0, 30), "short": child(1, 10)})
    with pytest.raises(ValueError, match="holds none of its 10 records") as caught:
        whole.over_children(lambda source: source[20:])
    assert caught.value.__notes__[0].startswith("for child 'short' of MixDataSourcesNode")


VIEWS: dict[str, Callable[[DataSourceModule], DataSourceModule]] = {
    "subset": lambda source: SubsetView.over(SubsetViewConfig(slice=(3, 30)), source),
    "filter": lambda source: source.filter(lambda batch: np.asarray(batch["id"]) % 3 == 0),
    "where": lambda source: FilterView.over(FilterViewConfig(where={"id": {"max": 1_000_020}}), source),
    "window": lambda source: WindowView.over(WindowViewConfig(length=4, stride=2), source),
    "table": lambda source: source[np.arange(30)[::-2]],
}


@pytest.mark.parametrize("kind", ["device", "host"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_are_children_like_any_source(
    child: Any, mix: Any, kind: str, view: Callable[[DataSourceModule], DataSourceModule]
) -> None:
    def build() -> Any:
        return mix(
            {"view": view(child(0, 40, kind=kind)), "other": view(child(1, 33, kind=kind))}, (0.75, 0.25), seed=4
        )

    made = build()
    assert made.access == kind
    own, length = made.children[0], len(made.children[0])
    key = jax.random.fold_in(jax.random.wrap_key_data(made.order_key_data()), 0)
    expected = own.get_batch_at(0, length, jax.random.key_data(key))
    batches = list(Pipeline(source=made, batch_size=8, num_epochs=3))
    ids = np.concatenate([np.asarray(batch["id"]) for batch in batches])
    first = ids.reshape(len(ids), -1)[:, 0] < 1_000_000
    np.testing.assert_array_equal(ids[first][:length], expected["id"])
    assert abs(int(first.sum()) - 0.75 * len(ids)) < 1
    scanned = Pipeline(source=build(), batch_size=8, num_epochs=None).scan(lambda batch: batch["id"], length=4)
    assert ids_of({"id": np.concatenate(jax.tree.leaves(scanned)[0])}) == ids[:32].tolist()


@pytest.mark.parametrize("fields", [{}, {"source_field": "child"}])
@pytest.mark.parametrize("kind", ["device", "host"])
def test_a_view_over_a_mixture_sees_the_fields_of_the_mixture(
    child: Any, mix: Any, kind: str, fields: dict[str, Any]
) -> None:
    children = {"a": child(0, 40, kind=kind), "b": child(1, 20, kind=kind)}
    whole = mix(children, (0.5, 0.5), rename={"a": {"id": "number"}, "b": {"id": "number"}}, **fields)
    windows = WindowView.over(WindowViewConfig(length=4, shift=1, target_of="number", target_field="next"), whole)
    assert set(windows.element_spec()) == {"number", "x", "next", *fields.values()}
    rows = windows.get_batch(3)
    np.testing.assert_array_equal(rows["number"][:, 1:], rows["next"][:, :-1])
    kept = whole.where(number=range(1_000_005))
    assert kept.access == ("host" if fields else whole.access)
    assert [len(one) for one in kept.children] == [40, 5]
    batch = kept.get_batch(12)
    numbers = np.asarray(batch["number"])
    assert (numbers < 1_000_005).all()
    np.testing.assert_array_equal(np.asarray(batch["x"])[:, 0], numbers)
    if fields:
        np.testing.assert_array_equal(batch["child"], numbers // 1_000_000)
    again = [pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept)]  # noqa: S301 - of this test
    expected = np.asarray(kept.get_batch(7)["number"]).tolist()
    assert [np.asarray(one.get_batch(7)["number"]).tolist() for one in again] == [expected, expected]
    assert int(kept[41]["number"]) == 1_000_001
    renamed_otherwise = mix(children, (0.5, 0.5), rename={"a": {"id": "n"}, "b": {"id": "n"}}, **fields)
    with pytest.raises(StateError, match="fields"):
        renamed_otherwise.where(n=range(1_000_005)).set_state(kept.get_state())
