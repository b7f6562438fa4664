"""Pickles and states of an earlier layout, whose classes stood in other modules, load and go on as they did."""

import json
import pickle
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import old_files
import old_pickles
import old_stages
import old_streams
import pytest

from datarax_core.errors import DataFileError

WRITTEN = json.loads(Path(old_pickles.__file__).with_suffix(".json").read_text())
PIPELINES = {
    (subject, name): entry
    for subject in (old_stages, old_streams)
    for name, entry in json.loads(Path(subject.__file__).with_suffix(".json").read_text()).items()
}
OVER_FILES = json.loads(Path(old_files.__file__).with_suffix(".json").read_text())
UNCHANGED_ONLY = [name for name in OVER_FILES["pickles"] if "eager" not in name and "tf.data" not in name]
"""Subjects that read the files which they were built with, and no others: neither those in memory nor those of TensorFlow."""


def _fields_of(seen: Any, earlier: Any) -> Any:
    """Return what an earlier release saw too: fields that were added since have their defaults."""
    if isinstance(earlier, dict) and isinstance(seen, dict):
        return {field: _fields_of(seen[field], value) for field, value in earlier.items()}
    if isinstance(earlier, list) and isinstance(seen, list) and len(seen) == len(earlier):
        return [_fields_of(one, other) for one, other in zip(seen, earlier, strict=True)]
    return seen


@old_pickles.not_in_an_older_jax
@pytest.mark.filterwarnings("ignore:datarax_core.*was moved:DeprecationWarning")
@pytest.mark.parametrize("name", WRITTEN)
def test_what_an_earlier_release_pickled_goes_on_as_it_did(name: str) -> None:
    entry: dict[str, Any] = WRITTEN[name]
    restored = old_pickles.load(entry["pickle"])
    seen = json.loads(json.dumps(old_pickles.SEEN[name](restored)))
    if name.endswith(("config", "configs", "stages")):
        seen = _fields_of(seen, entry["seen"])
    assert seen == entry["seen"]


@old_pickles.not_in_an_older_jax
@pytest.mark.filterwarnings("ignore:datarax_core.*was moved:DeprecationWarning")
@pytest.mark.parametrize(("subject", "name"), PIPELINES, ids=[name for _, name in PIPELINES])
def test_a_pipeline_of_an_earlier_release_goes_on_as_it_did(subject: ModuleType, name: str) -> None:
    entry = PIPELINES[subject, name]
    restored = old_pickles.load(entry["pickle"])
    assert subject.served(restored) == entry["served"]


@old_pickles.not_in_an_older_jax
@pytest.mark.filterwarnings("ignore:datarax_core.*was moved:DeprecationWarning")
@pytest.mark.parametrize("name", OVER_FILES["pickles"])
def test_a_source_over_files_of_an_earlier_release_goes_on_as_it_did(name: str, tmp_path: Path) -> None:
    old_files.put_files(OVER_FILES["files"], tmp_path)
    entry = OVER_FILES["pickles"][name]
    restored = old_files.load(entry["pickle"], tmp_path)
    assert old_files.served(restored) == entry["served"]
    restored.set_state(old_files.load_state(entry["state"]))  # back to the same position
    assert old_files.served(restored) == entry["served"]
    assert old_files.served(pickle.loads(pickle.dumps(restored))) == old_files.served(restored)  # noqa: S301 - just written


@old_pickles.not_in_an_older_jax
@pytest.mark.filterwarnings("ignore:datarax_core.*was moved:DeprecationWarning")
@pytest.mark.parametrize("name", UNCHANGED_ONLY)
def test_a_source_of_an_earlier_release_refuses_files_that_were_changed_since(name: str, tmp_path: Path) -> None:
    old_files.put_files(OVER_FILES["files"], tmp_path)
    for path in tmp_path.rglob("*record*-of-*"):
        path.touch()
    for path in tmp_path.glob("*.array_record"):
        path.touch()
    with pytest.raises(DataFileError, match=r"changed while a source read it: it was written to or replaced"):
        old_files.served(old_files.load(OVER_FILES["pickles"][name]["pickle"], tmp_path))


def test_every_kind_of_subject_was_written() -> None:
    assert set(WRITTEN) == set(old_pickles.SEEN)


@pytest.mark.parametrize(
    ("old", "name", "face"),
    [("source", "DataSourceModule", "sources"), ("spec", "spec_of", "records"), ("blocks", "record_blocks", "sources")],
)
def test_a_module_of_old_imports_with_a_warning_that_names_the_new_one(old: str, name: str, face: str) -> None:
    import importlib  # noqa: PLC0415
    import sys  # noqa: PLC0415

    sys.modules.pop(f"datarax_core.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"^datarax_core\.{old} was moved: import from datarax_core\.{face}"):
        module = importlib.import_module(f"datarax_core.{old}")
    assert getattr(module, name) is getattr(importlib.import_module(f"datarax_core.{face}"), name)


@pytest.mark.filterwarnings("ignore:datarax_core.spec was moved:DeprecationWarning")
def test_a_function_that_was_renamed_is_found_by_its_old_name() -> None:
    from datarax_core import records, spec  # type: ignore[attr-defined]  # noqa: PLC0415

    assert spec.split_beside is records.split_host_fields
    assert spec.with_beside is records.with_host_fields
    with pytest.raises(
        AttributeError, match=r"^module 'datarax_core\.spec' has no attribute 'splits'; it was moved to "
    ):
        spec.splits  # noqa: B018


def test_names_that_left_a_package_are_found_where_they_were() -> None:
    from datarax_core import config, extensions, order, registry, stages  # noqa: PLC0415

    assert config.load_config is registry.load_config
    assert stages.Stage is registry.Stage
    assert registry.PluginRegistry is extensions.PluginRegistry
    assert registry.PluginInfo is registry.SourceInfo is extensions.PluginInfo
    assert registry.PluginListing is extensions.PluginRegistry
    assert order.key_words is order.key_data
    assert order.Integers
    assert config.SHUFFLE_STREAM == "shuffle"
    assert callable(config.named_by_type)
    with pytest.raises(AttributeError, match=r"^module 'datarax_core\.config' has no attribute 'loads'$"):
        config.loads  # noqa: B018


@pytest.mark.parametrize(
    ("path", "name", "home"),
    [
        ("sources.files", "FileTable", "files"),
        ("sources.files", "OpenFiles", "files"),
        ("sources.files", "not_on_this_machine", "files"),
        ("sources.host_state", "HostState", "modules"),
        ("sources.memory", "host_memory", "devices"),
        ("sources.module", "DataraxModule", "modules"),
        ("sources.state", "Cursor", "modules.cursor"),
        ("sources.state", "variable_state", "modules.state"),
    ],
)
def test_a_module_that_moved_to_another_package_is_found_where_it_was(path: str, name: str, home: str) -> None:
    sys.modules.pop(f"datarax_core.{path}", None)  # it warns only when it is first imported
    with pytest.warns(DeprecationWarning, match=rf"^datarax_core\.{path} was moved: import from datarax_core\."):
        old = import_module(f"datarax_core.{path}")
    assert getattr(old, name) is getattr(import_module(f"datarax_core.{home}"), name)
