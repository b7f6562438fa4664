"""Views that choose records of files: the pass over them, the table that it leaves, and files that change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule, write
from datarax_core import DataSourceModule, Pipeline, StateError, build_source
from datarax_views import FilterView, FilterViewConfig, GroupsView, GroupsViewConfig, k_fold

LENGTH = 60
IDS = np.arange(LENGTH)


@pytest.fixture(autouse=True)
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of tables."""
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def written(path: Path, labels: np.ndarray) -> DataSourceModule:
    """Write records with the given labels and names, and return their source."""
    names = [f"kind {label}" for label in labels]
    write(path, {"id": IDS, "label": labels, "name": np.array(names)}, "msgpack", overwrite=True)
    return ArrayRecordSourceModule(ArrayRecordSourceConfig(), str(path))


@pytest.fixture
def source(tmp_path: Path) -> DataSourceModule:
    return written(tmp_path / "rows.array_record", IDS % 3)


def ids(view: DataSourceModule) -> list[int]:
    return np.asarray(view.fetch(np.arange(view.num_records))["id"]).tolist()


def test_the_result_of_a_pass_is_kept_for_later_processes(
    source: DataSourceModule, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def view() -> FilterView:
        return FilterView(FilterViewConfig(where={"label": 1, "name": {"length": 6}}), source)

    assert ids(view()) == list(range(1, LENGTH, 3))
    assert len(list(tables.iterdir())) == 1
    found: list[DataSourceModule] = []
    with monkeypatch.context() as patched:
        patched.setattr(type(source), "get_records", lambda *_: found.append(source))
        assert len(view()) == 20
    assert not found, "the table was read, and no record"


def test_what_a_function_keeps_is_kept_by_a_key(source: DataSourceModule, tables: Path) -> None:
    calls: list[int] = []

    def keep(batch: Any) -> np.ndarray:
        calls.append(len(batch["id"]))
        return np.asarray(batch["id"]) > 40

    for _ in range(2):
        assert ids(FilterView(FilterViewConfig(), source, keep, fields=["id"])) == list(range(41, LENGTH))
    assert sum(calls) == 2 * LENGTH
    assert not tables.exists()
    for _ in range(2):
        assert ids(FilterView(FilterViewConfig(), source, keep, key="late")) == list(range(41, LENGTH))
    assert sum(calls) == 3 * LENGTH
    FilterView(FilterViewConfig(), source, keep, key="late, as of May")
    assert sum(calls) == 4 * LENGTH


def test_a_file_that_changed_is_read_anew_and_its_states_are_refused(source: DataSourceModule, tmp_path: Path) -> None:
    config = FilterViewConfig(where={"label": [1, 2]})
    pipeline = Pipeline(source=FilterView(config, source), batch_size=5)
    next(iter(pipeline))
    state = pipeline.get_state()
    changed = written(tmp_path / "rows.array_record", (IDS + 1) % 3)
    view = FilterView(config, changed)
    assert ids(view) == [number for number in range(LENGTH) if (number + 1) % 3]
    with pytest.raises(StateError, match="subset"):
        Pipeline(source=view, batch_size=5).set_state(state)


@pytest.mark.parametrize("by", ["label", "name"])
def test_classes_are_read_once_from_files(source: DataSourceModule, tables: Path, by: str) -> None:
    view = GroupsView(GroupsViewConfig(by=by), source)
    assert [len(group) for group in view.groups.values()] == [20, 20, 20]
    assert ids(view.parts()["1" if by == "label" else "kind 1"]) == list(range(1, LENGTH, 3))
    for _, fold in k_fold(source, 4, stratify=by):
        assert np.bincount(np.asarray(ids(fold)) % 3).tolist() == [5, 5, 5]
    assert len(list(tables.iterdir())) == 1


def test_a_config_mixes_the_groups_of_files(source: DataSourceModule, tmp_path: Path) -> None:
    assert len(source) == LENGTH
    rows = {"type": "arrayrecord", "paths": str(tmp_path / "rows.array_record"), "shuffle": True}
    groups = {"type": "groups", "by": "name", "source": rows}
    weights = {"kind 0": 0.5, "kind 1": 0.25, "kind 2": 0.25}
    mix = build_source({"type": "mix", "weights": weights, "sources": groups})
    batch = next(iter(Pipeline(source=mix, batch_size=20)))
    assert np.bincount(np.asarray(batch["label"])).tolist() == [10, 5, 5]
