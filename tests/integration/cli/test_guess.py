"""Data files in place of configs: which source opens them is guessed, said, and never waited for without end."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from commands import invoke

from datarax_core import ConfigError, load_config
from datarax_core._cli.guessing import choice
from datarax_core._cli.guessing.ask import answer
from datarax_core._cli.guessing.asking import Answer, answers
from datarax_core.extensions import known
from datarax_core.extensions.defaults import set_aside
from datarax_core.extensions.known import opening
from datarax_core.files.formats import format_clause
from datarax_core.registry.sources import SourceRegistry

if TYPE_CHECKING:
    from conftest import Site

_THEIRS = """
import os, time
from typing import Literal

import jax
import numpy as np

from datarax_core import DataSourceModule, SourceConfig


class Config(SourceConfig):
    type: Literal["{name}"] = "{name}"
    paths: str


class Source(DataSourceModule):
    config_class = Config

    @classmethod
    def guess(cls, path):
        {guess}

    def __len__(self):
        return 3

    def element_spec(self):
        return {{"x": jax.ShapeDtypeStruct((), np.int32)}}

    def get_records(self, indices):
        return {{"x": np.asarray(indices, np.int32)}}
"""

MNIST = {"name": "mnist", "split": "train", "data_dir": "mnist"}

OPENS = 'return {"paths": path} if path.endswith(".rows") else None'


@pytest.fixture(autouse=True)
def _default_registry(site: "Site") -> Iterator[None]:  # noqa: ARG001 - what the site holds is read anew before and after
    with set_aside():
        yield


def install(site: "Site", name: str, guess: str = OPENS) -> None:
    dist = name.replace("_", "-")
    site.install(dist, {name: f"{name}:Source"}, code=_THEIRS.format(name=name, guess=guess))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with a data file of each kind that first parties open."""
    place = tmp_path / "data"
    place.mkdir()
    monkeypatch.chdir(place)
    np.savez(place / "train.npz", x=np.arange(10, dtype=np.int32))
    (place / "columns").mkdir()
    np.save(place / "columns/x.npy", np.arange(4))
    (place / "mnist").mkdir()
    info = {"name": "mnist", "version": "3.0.1", "splits": [{"name": "test"}, {"name": "train"}]}
    (place / "mnist/dataset_info.json").write_text(json.dumps(info))
    (place / "mnist/mnist-train.array_record-00000-of-00001").touch()
    for name in ("a.array_record", "train.tfrecord-00000-of-00002", "b.tfrecord.gz", "t.rows", "notes.txt"):
        (place / name).touch()
    return place


@pytest.fixture
def _asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Third parties are asked in this process, which is quicker; one test asks them as a command does."""

    def answers_here(path: str, names: Sequence[str]) -> list[Answer]:
        return [Answer(name, **answer(SourceRegistry.from_environment(), name, path)) for name in names]

    monkeypatch.setattr(choice, "answers", answers_here)


# -- what first parties say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train.npz", {"memory": {"path": "train.npz"}}),
        ("columns", {"memory": {"path": "columns"}}),
        ("a.array_record", {"arrayrecord": {"paths": "a.array_record"}}),
        ("train.tfrecord-00000-of-00002", {"tfrecord": {"paths": "train.tfrecord-00000-of-00002"}}),
        ("b.tfrecord.gz", {"tfrecord": {"paths": "b.tfrecord.gz"}}),
        (
            "mnist",
            {
                **dict.fromkeys(("tfds", "tfds_eager", "tfds_streaming"), MNIST),
                "arrayrecord": {"paths": "mnist"},
            },
        ),
        ("notes.txt", {}),
        (".", {"arrayrecord": {"paths": "."}, "tfrecord": {"paths": "."}}),
    ],
)
@pytest.mark.usefixtures("folder")
def test_first_parties_guess_what_the_table_says(path: str, expected: Mapping[str, Any]) -> None:
    registry = SourceRegistry.from_environment()
    guessed = {name: registry.get(name).guess(path) for name in registry.names()}
    assert {name: fields for name, fields in guessed.items() if fields is not None} == expected
    found = [one.name for one in opening(path)]
    assert set(expected) <= set(found)
    assert found[: len(expected)] == list(expected)  # the first one is taken


def test_a_folder_of_tfds_without_a_split_or_with_a_damaged_description_is_none(folder: Path) -> None:
    tfds = SourceRegistry.from_environment().get("tfds")
    (folder / "mnist/dataset_info.json").write_text('{"name": "mnist", "splits": []}')
    assert tfds.guess("mnist") is None
    (folder / "mnist/dataset_info.json").write_text("{")
    assert tfds.guess("mnist") is None


# -- commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["peek", "plan", "verify", "run"])
@pytest.mark.usefixtures("folder")
def test_a_command_takes_a_data_file_and_prints_the_config(command: str) -> None:
    done = invoke(command, "train.npz")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("config:\n\n  batch_size: 128\n  source: {type: memory, path: train.npz}\n\n"), (
        done.stdout
    )
    assert "10 records" in done.stdout
    shown = json.loads(invoke(command, "train.npz", "--json").stdout)
    assert shown["guessed"]["config"]["source"] == {"type": "memory", "path": "train.npz"}


@pytest.mark.usefixtures("folder")
def test_records_of_a_data_file_are_converted() -> None:
    done = invoke("convert", "train.npz", "out/train.array_record")
    assert done.exit_code == 0, done.output
    again = invoke("peek", "out/train.array_record", "--json")
    assert json.loads(again.stdout)["records"] == 10


@pytest.mark.usefixtures("folder")
def test_a_pattern_names_the_files_of_one_data_set() -> None:
    assert invoke("convert", "train.npz", "out/x.array_record").exit_code == 0
    shown = json.loads(invoke("peek", "out/*.array_record", "--json").stdout)
    assert shown["guessed"]["config"]["source"] == {"type": "arrayrecord", "paths": "out/*.array_record"}
    assert shown["records"] == 10


@pytest.mark.usefixtures("folder")
def test_a_third_party_is_asked_and_others_that_could_open_the_file_are_named(site: "Site") -> None:
    install(site, "acme_rows")
    install(site, "acme_more", 'return {"paths": path}')
    done = invoke("peek", "t.rows")
    assert done.exit_code == 0, done.output
    assert "source: {type: acme_more, paths: t.rows}" in done.stdout
    assert "opened by 'acme_more'; so could 'acme_rows': --type NAME chooses one" in done.stdout
    chosen = invoke("peek", "t.rows", "--type", "acme_rows")
    assert "source: {type: acme_rows, paths: t.rows}" in chosen.stdout
    assert "so could" not in chosen.stdout
    assert "source: {type: memory, path: train.npz}" in invoke("plan", "train.npz").stdout  # first parties first


def test_a_plugin_that_hangs_raises_exits_or_crashes_does_not_matter(site: "Site", folder: Path) -> None:
    bad = {
        "acme_hangs": ("time.sleep(60)", "gave no answer within 2 s"),
        "acme_raises": ("raise OSError('tired')", "OSError: tired"),
        "acme_exits": ("raise SystemExit(3)", "SystemExit: 3"),
        "acme_dies": ("os._exit(4)", r"ended the process (4)"),
        "acme_lies": ("return path", "guess() returned"),
        "acme_odd": ("return {'paths': cls}", "which no config file can hold: Object of type"),
    }
    for name, (guess, _) in bad.items():
        install(site, name, guess)
    site.install("acme-broken", {"acme_broken": "acme_broken:Source"}, code="1 / 0")
    install(site, "acme_rows")
    names = [*bad, "acme_broken", "acme_rows"]
    found = {answer.name: answer for answer in answers(str(folder / "t.rows"), names, timeout=2)}
    assert list(found) == names
    assert found["acme_rows"].fields == {"paths": str(folder / "t.rows")}
    for name, (_, error) in bad.items():
        assert found[name].fields is None
        assert error in found[name].error
    assert "ZeroDivisionError" in found["acme_broken"].error


# -- errors -------------------------------------------------------------------------------------------------------------


def refused(*args: str) -> str:
    done = invoke(*args)
    assert done.exit_code == 1
    return done.stderr.strip()


@pytest.mark.usefixtures("folder", "_asked_here")
def test_a_file_that_nothing_opens(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "acme_raises", "raise OSError('tired')")
    assert refused("peek", "notes.txt") == (
        "notes.txt: no installed source opens this file (asked: acme_raises); write a config that names a source, see drx "
        "sources, or write one: drx new; source 'acme_raises' was asked, and OSError: tired"
    )
    monkeypatch.setattr(known, "THIRD_PARTIES", (("source", "acme_txt", "acme-txt", "lines of text", ("*.txt",)),))
    assert "opens this file; 'acme_txt' of acme-txt would: drx install acme-txt" in refused("peek", "notes.txt")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-raises")
    with set_aside():
        assert "asked" not in refused("peek", "notes.txt")


@pytest.mark.usefixtures("folder")
def test_mistakes_around_data_files() -> None:
    assert refused("peek", "gone.npz") == (
        "gone.npz: no such file; a config (.yaml, .yml, .toml or .json), or a file or folder of records, is wanted"
    )
    assert refused("peek", "s3://bucket/train.npz") == (
        "s3:/bucket/train.npz: records at an address are named in a config; see drx describe memory, for example"
    )
    said = "train.npz: source 'tfrecord' does not say that it opens this; write a config, see drx describe tfrecord"
    assert refused("peek", "train.npz", "--type", "tfrecord") == said
    assert "unknown source 'memry'; did you mean 'memory'?" in refused("peek", "train.npz", "--type", "memry")
    Path("train.yaml").write_text("batch_size: 4\nsource: {type: memory, path: train.npz}\n")
    assert "--type memory is for data files; train.yaml is a config" in refused(
        "peek", "train.yaml", "--type", "memory"
    )


@pytest.mark.usefixtures("folder")
def test_loading_a_data_file_as_a_config_says_what_it_is() -> None:
    said = "this holds records, which type: memory of datarax-memory reads: a config names it, see drx peek train.npz"
    with pytest.raises(ConfigError, match=f"^train.npz: {said}$"):
        load_config("train.npz")
    with pytest.raises(ConfigError, match=r"type: tfds of datarax-tfds or type: tfds_eager .* read: a config names it"):
        load_config("mnist")


@pytest.mark.usefixtures("folder", "_asked_here")
def test_a_guess_that_is_no_config_names_its_source(site: "Site") -> None:
    install(site, "acme_rows", 'return {"path": path}')
    wrong = "guess of source 'acme_rows' for t.rows: source.path"
    assert f"source 'acme_rows' was asked, and its answer is wrong: {wrong}" in refused("peek", "t.rows")
    assert refused("peek", "t.rows", "--type", "acme_rows").startswith(wrong)


@pytest.mark.usefixtures("folder", "_asked_here")
def test_a_wrong_guess_does_not_keep_others_from_opening_the_file(site: "Site") -> None:
    install(site, "acme_names_another", 'return {"type": "memory", "path": path}')
    install(site, "acme_lies", 'return {"path": path}')
    install(site, "acme_rows")
    shown = invoke("peek", "t.rows").stdout
    assert "source: {type: acme_rows, paths: t.rows}" in shown
    assert "source 'acme_lies' was asked, and its answer is wrong: guess of source 'acme_lies'" in shown
    said = "source 'acme_names_another' was asked, and guess() returned a `type`, 'memory'; it returns the other fields"
    assert said in shown
    assert said in refused("peek", "t.rows", "--type", "acme_names_another")


@pytest.mark.usefixtures("_asked_here")
def test_pictures_and_tables_of_text_are_told_how_they_are_read(folder: Path) -> None:
    (folder / "photos/train/cat").mkdir(parents=True)
    (folder / "photos/train/cat/1.JPG").touch()
    (folder / "people.csv").touch()
    says = ": no installed source opens this "
    for path in ("photos", "photos/train", "photos/train/cat"):
        assert refused("peek", path).startswith(
            f"{path}{says}folder; pictures are read by {{type: tfds, name: image_folder,"
        )
    assert refused("peek", "people.csv").startswith(
        f"people.csv{says}file; read tables of text by pandas or polars, and"
    )


@pytest.mark.usefixtures("_asked_here")
def test_what_no_source_can_open_is_refused_at_once(site: "Site", folder: Path) -> None:
    install(site, "acme_rows", "return print(open(path).read())")
    os.mkfifo(folder / "pipe.rows")
    said = "pipe.rows is neither a file nor a folder, but a pipe or a device; copy its records to a file"
    assert refused("peek", "pipe.rows") == said
    assert format_clause(str(folder / "pipe.rows")) == ""
    assert refused("peek", "train*.npz").startswith("train*.npz: no installed source opens this pattern")
    (folder / "b.array_record").write_bytes(b"no records")
    assert "which 'tfrecord' could open too: --type NAME chooses one" in refused("peek", ".")
