"""Views of type groups: one source a value, and all records by themselves."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import (
    DataSourceModule,
    Pipeline,
    SpecError,
    StateError,
    StructuralConfig,
    build_source,
    from_sequence,
)
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import GroupsView, GroupsViewConfig

MakeSource = Callable[..., DataSourceModule]


def groups(source: DataSourceModule, by: str = "label") -> GroupsView:
    return GroupsView(GroupsViewConfig(by=by), source)


def ids(source: DataSourceModule) -> list[int]:
    return [int(source[number]["id"]) for number in range(source.num_records)]


def labels(source: DataSourceModule) -> np.ndarray:
    return np.concatenate([np.asarray(batch["label"]) for batch in Pipeline(source=source, batch_size=8)])


def test_a_group_has_all_records_of_one_value(source: DataSourceModule) -> None:
    view = groups(source)
    assert list(view.groups) == [1, 3, 7]
    label = np.resize([3, 1, 1, 7, 3, 1, 3, 1, 1, 7], 40)
    for value, group in view.groups.items():
        assert ids(group) == np.flatnonzero(label == value).tolist()
        assert group.access == source.access
        assert set(labels(group)) == {value}
    assert 3 in view.groups
    assert np.int64(3) in view.groups
    assert 4 not in view.groups


def test_by_itself_it_serves_what_its_parent_serves(make_source: MakeSource) -> None:
    source = make_source(40, shuffle=True)
    view = groups(source)
    assert view.access == source.access
    assert [int(element["id"]) for element in view] == [int(element["id"]) for element in source]
    served = [batch["id"] for batch in Pipeline(source=view, batch_size=7)]
    np.testing.assert_array_equal(
        np.concatenate(served), np.concatenate([b["id"] for b in Pipeline(source=source, batch_size=7)])
    )


def test_text_and_booleans_are_values_too(make_source: MakeSource) -> None:
    source = make_source(40, odd=np.arange(40) % 2 == 1, raw=np.array([b"a", b"b"] * 20))
    names = groups(source, "name")
    assert list(names.groups) == ["name 0", "name 1", "name 2", "name 3"]
    assert ids(names.groups["name 2"]) == list(range(2, 40, 4))
    odd = groups(source, "odd")
    assert list(odd.groups) == [False, True]
    assert list(odd.parts()) == ["false", "true"]
    assert 1 not in odd.groups
    assert True not in groups(source).groups
    assert ids(groups(source, "raw").groups["b"]) == ids(odd.parts()["true"])


def test_labels_far_apart_and_unsigned_are_grouped(make_source: MakeSource) -> None:
    far = np.resize(np.array([-(2**40), 5, 2**62]), 40)
    large = np.resize(np.array([2**64 - 1, 2**64 - 3], np.uint64), 40)
    source = make_source(40, far=far, large=large)
    if source.access == "host":
        assert list(groups(source, "far").groups) == [-(2**40), 5, 2**62]
        assert ids(groups(source, "far").groups[5]) == list(range(1, 40, 3))
        assert list(groups(source, "large").groups) == [2**64 - 3, 2**64 - 1]
        assert ids(groups(source, "large").groups[2**64 - 1]) == list(range(0, 40, 2))


def test_records_of_files_and_sequences_are_read_once() -> None:
    rows = [{"id": number, "label": number % 3, "kind": ["cat", "dog"][number % 2]} for number in range(30)]
    source = from_sequence(rows)
    assert {value: ids(group) for value, group in groups(source).groups.items()} == {
        value: list(range(value, 30, 3)) for value in range(3)
    }
    kinds = groups(source, "kind").groups
    assert list(kinds) == ["cat", "dog"]
    assert ids(kinds["dog"]) == list(range(1, 30, 2))


def test_groups_are_the_parts_of_a_balanced_mixture(make_source: MakeSource) -> None:
    parts = groups(make_source(40, shuffle=True)).parts()
    config = MixDataSourcesConfig(num_sources=3, names=tuple(parts))
    mix = MixDataSourcesNode(config, parts, rngs=nnx.Rngs(0))
    batch = next(iter(Pipeline(source=mix, batch_size=9)))
    assert np.bincount(np.asarray(batch["label"]), minlength=8)[[1, 3, 7]].tolist() == [3, 3, 3]


def test_configs_serve_one_group(tmp_path: Any) -> None:
    np.savez(tmp_path / "rows.npz", id=np.arange(30), label=np.arange(30) % 3)
    rows = {"type": "memory", "path": str(tmp_path / "rows.npz")}
    one = build_source({"type": "groups", "by": "label", "group": 2, "source": rows})
    assert ids(one) == list(range(2, 30, 3))
    everything = build_source({"type": "groups", "by": "label", "source": rows})
    assert isinstance(everything, GroupsView)
    assert ids(everything) == list(range(30))


def test_plans_count_the_records_of_each_group(source: DataSourceModule) -> None:
    view = groups(source)
    assert view.describe_view() == "3 groups by 'label', records in each: 1: 20, 3: 12, 7: 8"
    assert view.groups[3].describe_view() == "keeps 12 of 40 records where label is 3"  # type: ignore[attr-defined]
    assert "groups by 'id', records in each: 0: 1, 1: 1" in groups(source, "id").describe_view()
    assert groups(source, "id").describe_view().endswith("19: 1 and 20 more")


def test_states_refuse_other_groups(make_source: MakeSource) -> None:
    source = make_source(40)
    state = groups(source).groups[3].get_state()
    with pytest.raises(StateError, match="subset"):
        groups(source).groups[7].set_state(state)
    with pytest.raises(StateError, match="groups"):
        groups(source, "name").set_state(groups(source).get_state())


def test_a_group_of_a_mixture_is_the_mixture_of_the_groups(make_source: MakeSource) -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25), names=("a", "b"))
    mix = MixDataSourcesNode(config, [make_source(40), make_source(20)], rngs=nnx.Rngs(0))
    view = groups(mix)
    assert view.describe_view() == "3 groups by 'label', records in each: 1: 30, 3: 18, 7: 12"
    group = view.groups[3]
    assert isinstance(group, MixDataSourcesNode)
    assert group.weights == mix.weights
    assert set(labels(group)) == {3}
    with pytest.raises(ValueError, match="no record of MemorySource 'rows' has id 30") as raised:
        groups(mix, "id").groups[30]
    assert raised.value.__notes__ == [f"for child 'b' of {mix.title}"]


@pytest.mark.parametrize("shuffle", [True, False])
def test_groups_without_one_that_is_named_have_no_order_to_set(source: DataSourceModule, *, shuffle: bool) -> None:
    with pytest.raises(ValueError, match=r"shuffle has no use without a group: .* set shuffle there"):
        GroupsViewConfig(by="label", shuffle=shuffle)
    one = GroupsView.over(GroupsViewConfig(by="label", group=3, shuffle=shuffle), source, rngs=nnx.Rngs(0))
    assert one.is_random_order is shuffle


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("lable", "no field 'lable'; did you mean 'label'"),
        ("score", "'score' of MemorySource 'rows' is float32.*, which has no classes: classes are whole numbers"),
        ("tokens", "'tokens' of .* has no classes"),
    ],
)
def test_fields_without_classes_are_refused(source: DataSourceModule, by: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        groups(source, by)


class Named(DataSourceModule):
    """A source whose name is an object."""

    names = np.array(["a", "b", None, "a"], object)

    def __len__(self) -> int:
        return len(self.names)

    def element_spec(self) -> Any:
        return {"name": jax.ShapeDtypeStruct((), np.dtype(object))}

    def get_records(self, indices: Any) -> Any:
        return {"name": self.names[indices]}


def test_values_that_are_no_text_are_named_by_record() -> None:
    with pytest.raises(SpecError, match=r"record 2 of Named has None as 'name', which is no class"):
        groups(Named(StructuralConfig()), "name")


def test_values_that_no_record_has_are_named(source: DataSourceModule) -> None:
    with pytest.raises(
        ValueError, match="no record of MemorySource 'rows' has label 4; the values of label are 1, 3, 7"
    ):
        GroupsView.over(GroupsViewConfig(by="label", group=4), source)
    with pytest.raises(KeyError, match="has name 'name 9'; did you mean 'name"):
        groups(source, "name").groups["name 9"]
    with pytest.raises(KeyError, match="has label '3'; did you mean 3, which is no text"):
        groups(source, "label").groups["3"]
    with pytest.raises(ValueError, match=r"group=3 names one of the groups: take GroupsView.over\(config, source\)"):
        GroupsView(GroupsViewConfig(by="label", group=3), source)


def test_streams_have_no_groups(stream: DataSourceModule) -> None:
    with pytest.raises(NotImplementedError, match="Counted is a stream"):
        groups(stream)
