"""Views of type filter: records that fulfil conditions, or that a function keeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import ConfigError, DataSourceModule, Pipeline, SpecError, StateError, build_source, from_sequence
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import FilterView, FilterViewConfig, SubsetView, SubsetViewConfig

MakeSource = Callable[..., DataSourceModule]
LABELS = np.resize([3, 1, 1, 7, 3, 1, 3, 1, 1, 7], 40)
IDS = np.arange(40)


def ids(source: DataSourceModule) -> list[int]:
    return np.asarray(source.fetch_on_host(np.arange(source.num_records))["id"]).tolist()


def filtered(source: DataSourceModule, where: dict[str, Any]) -> FilterView:
    return FilterView(FilterViewConfig(where=where), source)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"label": 3}, LABELS == 3),
        ({"label": [3, 7]}, LABELS != 1),
        ({"label": {"not": [3, 7]}}, LABELS == 1),
        ({"id": {"min": 10}}, IDS >= 10),
        ({"id": {"min": 10, "max": 20}, "label": [1, 3]}, (IDS >= 10) & (IDS <= 20) & (LABELS != 7)),
        ({"score": {"max": 1.05}}, (IDS < 11) & (IDS % 7 != 3)),
        ({"score": {"missing": True}}, IDS % 7 == 3),
        ({"score": {"missing": False, "min": 2.0}}, (IDS % 7 != 3) & (IDS >= 20)),
        ({"name": "name 2"}, IDS % 4 == 2),
        ({"name": {"length": {"min": 7}}, "id": {"max": 3}}, IDS < 0),
        ({"tokens": {"length": {"min": 2, "max": 3}}}, np.isin(IDS % 5, [2, 3])),
        ({"tokens": {"length": 4}}, IDS % 5 == 4),
        ({"tokens": {"length": {"min": 1}}}, IDS % 5 > 0),
    ],
)
def test_records_that_fulfil_all_conditions_are_kept(
    source: DataSourceModule, where: dict[str, Any], expected: np.ndarray
) -> None:
    if not expected.any():
        with pytest.raises(ValueError, match="keeps none of the 40 records of MemorySource 'rows'"):
            filtered(source, where)
        return
    view = filtered(source, where)
    assert ids(view) == np.flatnonzero(expected).tolist()
    assert view.access == source.access


def test_pipelines_serve_what_is_kept_on_every_route(make_source: MakeSource) -> None:
    source = make_source(40, shuffle=True)
    view = filtered(source, {"label": [1, 7]})
    served = list(Pipeline(source=view, batch_size=7))
    found = np.concatenate([batch["id"] for batch in served])
    assert sorted(found) == np.flatnonzero(LABELS != 3).tolist()
    for batch in served:
        rows = np.asarray(batch["id"])
        np.testing.assert_array_equal(batch["label"], LABELS[rows])
        assert batch["name"].tolist() == [f"name {row % 4}" for row in rows]
        assert [len(tokens) for tokens in batch["tokens"]] == [row % 5 for row in rows]
    steps = Pipeline(source=view, batch_size=7)
    np.testing.assert_array_equal(np.concatenate([steps.step()["id"] for _ in range(4)]), found)
    explained = Pipeline(source=view, batch_size=7).explain()
    assert ("one compiled step" in explained) == (source.access == "device")


def test_a_function_keeps_records(source: DataSourceModule) -> None:
    calls: list[Any] = []

    def odd(batch: Any) -> np.ndarray:
        calls.append(batch)
        return np.asarray(batch["id"]) % 2 == 1

    view = FilterView(FilterViewConfig(), source, odd)
    assert ids(view) == list(range(1, 40, 2))
    assert view.describe_view() == "keeps 20 of 40 records that odd keeps"
    assert ids(nnx.clone(view)) == ids(view.copy()) == ids(view)
    calls.clear()
    FilterView(FilterViewConfig(), source, odd, fields=["id"])
    assert {tuple(batch) for batch in calls} == {("id",)}


def test_arguments_take_conditions_that_no_config_names(source: DataSourceModule) -> None:
    view = FilterView(FilterViewConfig(), source, where={"id": range(0, 40, 3), "label": lambda column: column > 1})
    assert ids(view) == np.flatnonzero((IDS % 3 == 0) & (LABELS > 1)).tolist()
    assert "where id is from 0 to 39 in steps of 3, and label is kept by <lambda>" in view.describe_view()
    assert ids(view.copy()) == ids(view)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"label": [3, 7]}, "keeps 20 of 40 records where label is 3 or 7"),
        ({"label": 3}, "keeps 12 of 40 records where label is 3"),
        ({"name": "name 1"}, "keeps 10 of 40 records where name is 'name 1'"),
        ({"id": {"min": 3, "max": 5}}, "keeps 3 of 40 records where id is from 3 to 5"),
        ({"id": {"max": 5}}, "keeps 6 of 40 records where id is at most 5"),
        ({"id": {"min": 5, "max": None}}, "keeps 35 of 40 records where id is at least 5"),
        ({"id": list(range(30))}, "keeps 30 of 40 records where id is one of 30 values"),
        ({"score": {"missing": False}}, "where score is not missing"),
        ({"label": {"not": 3}, "id": 2}, "where label is not 3, and id is 2"),
        ({"label": {"not": [3, 7]}}, "where label is not 3 or 7"),
        ({"tokens": {"not": {"length": 2}}}, "where tokens is not as in (has a length that is 2)"),
        ({"tokens": {"length": {"min": 2}}}, "where tokens has a length that is at least 2"),
    ],
)
def test_plans_say_what_is_kept(source: DataSourceModule, where: dict[str, Any], words: str) -> None:
    assert words in filtered(source, where).describe_view()


def test_configs_filter_and_nest(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", id=IDS, label=LABELS)
    (tmp_path / "train.yaml").write_text(
        "batch_size: 5\nsource:\n  type: filter\n  where: {label: [3, 7], id: {min: 20}}\n"
        "  source: {type: memory, path: rows.npz}\n"
    )
    pipeline = Pipeline.from_config(tmp_path / "train.yaml")
    served = np.concatenate([batch["id"] for batch in pipeline])
    np.testing.assert_array_equal(served, np.flatnonzero((LABELS != 1) & (IDS >= 20)))
    with pytest.raises(
        ConfigError, match=r"a filter keeps the records that `where` in its config says.*nothing says it"
    ):
        build_source({"type": "filter", "source": {"type": "memory", "path": str(tmp_path / "rows.npz")}})


def test_views_of_views_keep_what_all_keep(make_source: MakeSource) -> None:
    source = make_source(40, shuffle=True)
    part = SubsetView(SubsetViewConfig(slice=[10, 35]), source)
    view = filtered(filtered(part, {"label": [1, 3]}), {"tokens": {"length": {"min": 1}}})
    expected = [number for number in range(10, 35) if LABELS[number] != 7 and number % 5]
    assert ids(view) == expected
    assert view.access == source.access
    served = np.concatenate([batch["id"] for batch in Pipeline(source=view, batch_size=6)])
    assert sorted(served) == expected


def test_runs_go_on_after_a_stop(make_source: MakeSource) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=filtered(make_source(40, shuffle=True), {"label": [1, 3]}), batch_size=5, num_epochs=2)

    whole = [np.asarray(batch["id"]) for batch in pipeline()]
    first = pipeline()
    loop = iter(first)
    head = [np.asarray(next(loop)["id"]) for _ in range(4)]
    state = first.get_state()
    again = pipeline()
    again.set_state(state)
    np.testing.assert_array_equal(np.concatenate([*head, *(batch["id"] for batch in again)]), np.concatenate(whole))


def test_states_refuse_other_records(make_source: MakeSource) -> None:
    state = filtered(make_source(), {"label": 3}).get_state()
    with pytest.raises(StateError, match="subset"):
        filtered(make_source(), {"label": 7}).set_state(state)
    filtered(make_source(), {"label": {"not": [1, 7]}}).set_state(state)  # other words for the same records
    with pytest.raises(StateError):
        filtered(make_source(label=np.roll(LABELS, 1)), {"label": 3}).set_state(state)


def test_a_filter_of_a_mixture_is_the_mixture_of_filters(make_source: MakeSource) -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25), names=("a", "b"))
    mix = MixDataSourcesNode(config, [make_source(40), make_source(20)], rngs=nnx.Rngs(0))
    view = FilterView.over(FilterViewConfig(where={"label": [1, 7]}), mix)
    assert isinstance(view, MixDataSourcesNode)
    assert view.weights == mix.weights
    assert [len(child) for child in view.children] == [28, 14]
    by_function = FilterView.over(FilterViewConfig(), mix, lambda batch: np.asarray(batch["id"]) > 15)
    assert [len(child) for child in by_function.children] == [24, 4]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="keeps none of the 20 records") as raised:
        FilterView.over(FilterViewConfig(where={"id": {"min": 30}}), mix)
    assert raised.value.__notes__ == [f"for child 'b' of {mix.title}"]
    with pytest.raises(ValueError, match="FilterView has an order of its own, which would lose how often"):
        FilterView(FilterViewConfig(where={"label": 1}), mix)


@pytest.mark.parametrize(
    ("where", "kind", "message"),
    [
        ({"lable": 3}, SpecError, "no field 'lable'; did you mean 'label'"),
        ({"label": 4}, ValueError, r"keeps none of the 40 records of MemorySource 'rows'"),
        ({"label": "cat"}, SpecError, "'label' .* is int64, and the condition compares it with 'cat'"),
        ({"label": {"length": 3}}, SpecError, "'label' .* which has no length"),
        ({"tokens": 3}, SpecError, "'tokens' .* compares? .*length"),
    ],
)
def test_conditions_that_cannot_work_are_refused(
    source: DataSourceModule, where: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        filtered(source, where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "where"),
        ({"label": []}, "the condition on 'label' is an empty list"),
        ({"label": None}, "compares with a number, text or bytes, not with None"),
        ({"label": {"most": 3}}, "has the rule 'most'"),
        ({"label": {"min": 5, "max": 3}}, "goes from 5 to 3, and nothing is between; swap them"),
        ({"label": {"min": "a", "max": 3}}, "are of two kinds"),
        ({"label": {"missing": "no"}}, "missing: of the condition on 'label' is true or false"),
        ({"label": float("nan")}, "compares with NaN, which equals nothing"),
    ],
)
def test_configs_without_conditions_are_refused(where: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilterViewConfig(where=where)


def test_functions_that_give_no_booleans_are_refused(source: DataSourceModule) -> None:
    for wrong, message in (
        (lambda batch: batch["label"], "the filter gave int64"),
        (lambda batch: batch["label"][:3] > 1, r"of shape \[3\] for records 0 .. 31"),
        (lambda batch: True, "return one boolean a record"),  # noqa: ARG005 - of no use
    ):
        with pytest.raises(TypeError, match=message):
            FilterView(FilterViewConfig(), source, wrong)


def test_the_record_on_which_a_function_fails_is_named(source: DataSourceModule) -> None:
    def keep(batch: Any) -> np.ndarray:
        if (np.asarray(batch["id"]) == 23).any():
            raise ZeroDivisionError("by nothing")
        return np.ones(len(batch["id"]), bool)

    with pytest.raises(ZeroDivisionError, match="by nothing") as raised:
        FilterView(FilterViewConfig(), source, keep)
    assert "record 23 fails by itself: ZeroDivisionError: by nothing" in raised.value.__notes__


def test_one_argument_says_which_records_are_kept(source: DataSourceModule, stream: DataSourceModule) -> None:
    def keep(batch: Any) -> Any:
        return batch["id"] > 3

    with pytest.raises(ConfigError, match="nothing says it; give one of them"):
        FilterView(FilterViewConfig(), source)
    with pytest.raises(ConfigError, match="the config's `where` and `predicate` say it"):
        FilterView(FilterViewConfig(where={"label": 3}), source, keep)
    with pytest.raises(ValueError, match="key has no use without a predicate"):
        FilterView(FilterViewConfig(where={"label": 3}), source, key="odd")
    with pytest.raises(NotImplementedError, match="FilterView needs records by index, and Counted is a stream"):
        FilterView(FilterViewConfig(), stream, keep)
    with pytest.raises(TypeError, match="FilterView needs a FilterViewConfig, not "):
        FilterView(SubsetViewConfig(slice=[3]), source, keep)


def test_objects_may_be_missing_and_dates_are_written_as_text() -> None:
    names = np.array([None if number % 5 == 0 else f"t{number}" for number in range(10)], object)
    dates = np.arange(10).astype("datetime64[D]")
    source = MemorySource(MemorySourceConfig(), {"id": np.arange(10), "name": names, "date": dates})
    assert ids(filtered(source, {"name": {"missing": True}})) == [0, 5]
    assert ids(filtered(source, {"name": {"min": "t6"}})) == [6, 7, 8, 9]
    assert ids(filtered(source, {"name": ["t3", "t5"]})) == [3]
    assert ids(filtered(source, {"date": {"min": "1970-01-09"}})) == [8, 9]
    assert ids(filtered(source, {"date": ["1970-01-03", "1970-01-02"]})) == [1, 2]
    with pytest.raises(SpecError, match="it is a date, and the condition compares it with 'May'; write dates as"):
        filtered(source, {"date": "May"})


def test_an_empty_text_is_a_value() -> None:
    rows = [{"id": number, "name": name} for number, name in enumerate(["a", "", "b"])]
    assert ids(filtered(from_sequence(rows), {"name": {"missing": False}})) == [0, 1, 2]
    assert ids(filtered(from_sequence(rows), {"name": {"length": {"min": 1}}})) == [0, 2]
